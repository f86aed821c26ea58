"""The reads and writes of `hamgate feedback`: reports, recent messages and verdicts in; decisions out, exactly once."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from kafka import errors
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.structs import ConsumerGroupMetadata

from worker.audit.brokers import AwayError
from worker.broker import incarnation
from worker.broker.audit import KafkaTail, answered
from worker.broker.compacted import CLEANUP, feedback_decisions_topic
from worker.broker.link import BrokerError, explain, milliseconds
from worker.broker.reader import Reader
from worker.broker.refusals import Fate, fate, lasting
from worker.broker.transactions import Transactions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.broker.link import KafkaLink
    from worker.messages import Outgoing, Positions, Record

_TIMEOUT: Final = 10.0
_WAIT: Final = 0.2
_PATIENCE: Final = 5.0


@dataclass(frozen=True, slots=True)
class FeedbackNames:
    """The topics and the group; each decision is written under a key, so that compaction keeps the last."""

    reports: str
    decisions: str
    events: str
    verdicts: str
    group: str

    @property
    def writer(self) -> str:
        """The transactional id."""
        return f"{self.group}.decisions"


class InputLookup:
    """Single records of the input topic, while it keeps them."""

    def __init__(self, link: KafkaLink, topic: str) -> None:
        """Connect. Raises AwayError, BrokerError."""
        self._link, self._topic = link, topic
        with answered(link):
            self._tail = KafkaTail(link, topic)

    def at(self, partition: int, offset: int) -> Record | None:
        """Return the record at this place; None: it is not there any more, or was never. Raises AwayError."""
        place = self._topic, partition
        if place not in self._tail.places or not self._tail.starts()[place] <= offset < self._tail.ends()[place]:
            return None
        self._tail.seek(place, offset)
        self._tail.only([place])
        until = time.monotonic() + _PATIENCE
        while self._tail.position(place) <= offset:
            for chunk in self._tail.chunks(_WAIT):
                if chunk.records:
                    return chunk.records[0] if chunk.records[0].offset == offset else None
            if time.monotonic() > until:
                message = f"{self._topic}:{partition}:{offset} could not be read within {_PATIENCE:g} s"
                raise AwayError(message)
        return None

    def close(self) -> None:
        """Disconnect."""
        self._tail.close()

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self.close()


class FeedbackTopics:
    """What `hamgate feedback` asks of the brokers. A second one of the same group fences the first."""

    def __init__(self, link: KafkaLink, names: FeedbackNames) -> None:
        """Connect, the writer first: what an earlier one has left open is aborted before anything is read.

        Raises AwayError, or BrokerError when that is no use to repeat.
        """
        self._link, self._names = link, names
        self._group = ConsumerGroupMetadata(names.group)
        with answered(link):
            _require_compacted(link, names.decisions)
        with answered(link), contextlib.ExitStack() as opened:
            self._transactions = opened.enter_context(contextlib.closing(Transactions(link, names.writer, _TIMEOUT)))
            self.reports = opened.enter_context(KafkaTail(link, names.reports, group_id=names.group))
            self.recent = opened.enter_context(KafkaTail(link, names.events, names.verdicts))
            self.input = opened.enter_context(InputLookup(link, names.events))
            self._note = incarnation.note(self.reports.topic_id(names.reports))
            self._opened = opened.pop_all()

    def decisions(self) -> Iterator[tuple[bytes | None, bytes | None]]:
        """Yield key and value of each record of the decisions topic. Raises AwayError, BrokerError."""
        with answered(self._link):
            try:
                yield from decisions(self._link, self._names.decisions)
            except TimeoutError as error:
                raise AwayError(str(error)) from error

    def begin(self) -> Positions:
        """Go on with the reports that no decision has taken in; the first time with the oldest. Return from where.

        Raises AwayError, or BrokerError where the topic is another than the one that was read.
        """
        with answered(self._link):
            for place, note in self.reports.notes().items():
                if incarnation.is_another(incarnation.read(note)[0], incarnation.read(self._note)[0]):
                    message = (
                        f"topic {place[0]} was deleted and created again; delete the group {self._names.group} "
                        "to begin with its first report"
                    )
                    raise BrokerError(message)
        begins = self.reports.starts() | self.reports.settled()
        for place, offset in begins.items():
            self.reports.seek(place, offset)
        self.reports.only(begins)
        return begins

    def write(self, records: Sequence[Outgoing], positions: Positions) -> None:
        """Write decisions and how far the reports are taken in, in one transaction. Raises AwayError, BrokerError."""
        began = time.monotonic()
        until, notes = began + _TIMEOUT, dict.fromkeys(positions, self._note)
        try:
            self._transactions.send({self._names.decisions: records}, positions, self._group, notes, until=until)
            self._transactions.commit(until=until)
        except errors.KafkaError as error:
            if fate(error) is Fate.FENCING and time.monotonic() - began < _TIMEOUT:
                message = f"another `hamgate feedback` has taken over as {self._names.group}"
                raise BrokerError(message) from error
            if lasting(error) is Fate.PERMANENT:
                raise BrokerError(explain(error, self._link)) from error
            raise AwayError(explain(error, self._link)) from error

    def close(self) -> None:
        """Disconnect."""
        self._opened.close()


def _require_compacted(link: KafkaLink, topic: str) -> None:
    """Raise BrokerError where what is decided would be deleted. Who may not ask for a topic's settings is not told."""
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, [CLEANUP])
    with contextlib.closing(link.connect(KafkaAdminClient, bootstrap_timeout_ms=milliseconds(_PATIENCE))) as admin:
        try:
            policy = str(admin.describe_configs([resource], config_filter="all")["topic"][topic][CLEANUP]["value"])
        except (errors.TopicAuthorizationFailedError, errors.UnknownTopicOrPartitionError, KeyError):
            return  # one that is not there is told by who reads it
    if "compact" not in policy:
        message = (
            f"topic {topic} has {CLEANUP}={policy}: what analysts have decided, and what is known of reporters, would "
            f"be deleted; set it to compact ({feedback_decisions_topic(topic).correction(link)})"
        )
        raise BrokerError(message)


def decisions(link: KafkaLink, topic: str) -> Iterator[tuple[bytes | None, bytes | None]]:
    """Yield key and value of each record of a decisions topic. Raises BrokerError, TimeoutError."""
    with Reader(link, topic) as reader:
        for record in reader.to_end():
            yield record.key, record.value
