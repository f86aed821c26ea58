"""The audit's reads of Kafka: three topics from any position, and the offsets of two groups."""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING, Any, Final, Self

from kafka import TopicPartition as Partition
from kafka import errors
from kafka.admin import KafkaAdminClient, OffsetSpec
from kafka.structs import OffsetAndMetadata

from worker.audit.brokers import AwayError, FetchedRecords
from worker.broker import incarnation
from worker.broker.client.connecting import is_refusal
from worker.broker.link import BrokerError, explain, milliseconds
from worker.broker.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from worker.audit.auditor import Topics
    from worker.broker.link import KafkaLink
    from worker.messages import Positions, Record, TopicPartition

_PATIENCE: Final = 5.0
"""Seconds that one question may take: a broker that is away is noticed, and a signal heard, soon."""
_RIGHTS: Final = {
    errors.TopicAuthorizationFailedError: "grant this user READ on the input, verdict and dead-letter topics",
    errors.GroupAuthorizationFailedError: "grant this user READ on the audit's group and DESCRIBE on the worker's",
}
_HOPELESS: Final = (errors.AuthorizationError, errors.InvalidTopicError, errors.UnsupportedVersionError)


class AuditedTopics:
    """The input and output topics, the worker's group and the audit's own, which it joins none of."""

    def __init__(
        self,
        link: KafkaLink,
        topics: Topics,
        *,
        worker_group: str,
        audit_group: str,
        topic_ids: dict[str, str] | None = None,
    ) -> None:
        """Connect. Raises AwayError, or BrokerError when that is no use to repeat.

        `topic_ids` are those that an earlier connection has found; what is not among them is added.
        """
        self._link, self._topics = link, topics
        self._worker_group, self._audit_group = worker_group, audit_group
        with answered(link), contextlib.ExitStack() as opened:
            self._admin = opened.enter_context(
                contextlib.closing(link.connect(KafkaAdminClient, bootstrap_timeout_ms=milliseconds(_PATIENCE)))
            )
            self.events = opened.enter_context(KafkaTail(link, topics.events, group_id=worker_group))
            self.answers = opened.enter_context(KafkaTail(link, topics.verdicts, topics.dead_letters))
            self._opened = opened.pop_all()
        self._topic_ids = {} if topic_ids is None else topic_ids
        self._topic_ids.setdefault(topics.events, self.events.topic_id(topics.events))
        for topic in (topics.verdicts, topics.dead_letters):
            self._topic_ids.setdefault(topic, self.answers.topic_id(topic))

    def partitions(self) -> frozenset[TopicPartition]:
        """Return every partition of the three topics, as of now."""
        names = [self._topics.events, self._topics.verdicts, self._topics.dead_letters]
        with answered(self._link):
            found = self._admin.describe_topics(names)
            for topic in found:
                if topic["error_code"]:
                    raise errors.for_code(topic["error_code"])(topic["name"])
        for topic in found:
            self._require_same(topic["name"], _id_of(topic))
        return frozenset((topic["name"], each["partition_index"]) for topic in found for each in topic["partitions"])

    def written(self) -> Positions:
        """Return the ends of the output topics' partitions, with what open transactions have written."""
        with answered(self._link):
            ends = self._admin.list_partition_offsets(
                {Partition(*each): OffsetSpec.LATEST for each in self.answers.places}
            )
        return {tuple(place): end.offset for place, end in ends.items()}

    def committed(self) -> Positions:
        """Return what the worker's group has committed. Of a transaction that is about to end it may have the old."""
        return {place: offset for place, (offset, _) in self._offsets(self._worker_group, self.events.places).items()}

    def settled(self) -> Positions:
        """Return the same, once no open transaction can change it."""
        return self.events.settled()

    def progress(self) -> Mapping[TopicPartition, tuple[int, str]]:
        """Return what the audit's group has committed, with its notes."""
        found = {}
        for place, (offset, note) in self._offsets(self._audit_group, self.events.places + self.answers.places).items():
            topic_id, rest = incarnation.read(note)
            self._require_same(place[0], topic_id)
            found[place] = offset, rest
        return found

    def commit(self, progress: Mapping[TopicPartition, tuple[int, str]]) -> None:
        """Commit the same."""
        offsets = {
            Partition(*place): OffsetAndMetadata(offset, incarnation.note(self._topic_ids[place[0]], note), -1)
            for place, (offset, note) in progress.items()
        }
        with answered(self._link):
            for place, error in self._admin.alter_group_offsets(self._audit_group, offsets).items():
                if error is not errors.NoError:
                    message = f"{self._audit_group}, {place.topic}:{place.partition}"
                    raise error(message)

    def close(self) -> None:
        """Disconnect."""
        self._opened.close()

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self.close()

    def _require_same(self, topic: str, topic_id: str) -> None:
        if incarnation.is_another(self._topic_ids[topic], topic_id):
            message = (
                f"topic {topic} was deleted and created again: what the audit knows is of the old one; delete the "
                f"audit's group {self._audit_group} and start it anew"
            )
            raise BrokerError(message)

    def _offsets(self, group: str, places: list[TopicPartition]) -> dict[TopicPartition, tuple[int, str]]:
        with answered(self._link):
            found = self._admin.list_group_offsets({group: [Partition(*place) for place in places]})[group]
        return {tuple(place): (each.offset, each.metadata or "") for place, each in found.items() if each.offset >= 0}


def _id_of(topic: Mapping[str, Any]) -> str:
    described = topic.get("topic_id")
    return incarnation.written(uuid.UUID(described) if described else None)


class KafkaTail(Reader):
    """Topics read from positions that are kept elsewhere."""

    def __init__(self, link: KafkaLink, *topics: str, group_id: str | None = None) -> None:
        """Connect; `group_id` only for whose offsets to ask. Raises BrokerError."""
        super().__init__(link, *topics, group_id=group_id)
        self.places: list[TopicPartition] = [tuple(each) for each in self._partitions]
        self._at: dict[TopicPartition, int] = {}
        self._wanted: set[TopicPartition] = set()

    def starts(self) -> Positions:
        """Return where each partition begins."""
        return self._starts(self.places)

    def ends(self) -> Positions:
        """Return for each partition its last stable offset."""
        with answered(self._link):
            found = self._consumer.end_offsets(self._partitions, timeout_ms=milliseconds(_PATIENCE))
        return {tuple(place): end for place, end in found.items()}

    def at(self, seconds: float) -> Positions:
        """Return for each partition its first record of this Unix time or later; its end where there is none."""
        ends = self.ends()
        with answered(self._link):
            moment = dict.fromkeys(self._partitions, milliseconds(seconds))
            found = self._consumer.offsets_for_times(moment, timeout_ms=milliseconds(_PATIENCE))
        return {tuple(place): each.offset if each else ends[tuple(place)] for place, each in found.items()}

    def settled(self) -> Positions:
        """Return the offsets of the group, once no open transaction can change them."""
        found = {}
        with answered(self._link):
            for place in self._partitions:
                offset = self._consumer.committed(place, timeout_ms=milliseconds(_PATIENCE))
                if offset is not None:
                    found[tuple(place)] = offset
        return found

    def position(self, place: TopicPartition) -> int:
        """Return the next offset that a poll will bring, or its successors."""
        return self._at[place]

    def seek(self, place: TopicPartition, offset: int) -> None:
        """Go on from this offset."""
        if place in self._wanted:
            self._consumer.seek(Partition(*place), offset)
        self._at[place] = offset

    def only(self, places: Iterable[TopicPartition]) -> None:
        """Poll these, and no others."""
        # Not by pausing the others: of several that had records at hand, the client resumes but one.
        before, self._wanted = self._wanted, set(places)
        if self._wanted != before:
            self._consumer.assign([Partition(*place) for place in self._wanted])
            for place in self._wanted - before:
                self._consumer.seek(Partition(*place), self._at[place])

    def chunks(self, wait: float) -> list[FetchedRecords]:
        """Return the next records by partition; nothing after `wait` seconds."""
        found: dict[TopicPartition, list[Record]] = {}
        with answered(self._link):
            for record in self.poll(wait):
                found.setdefault((record.topic, record.partition), []).append(record)
            came_to = {place: self._come_to(place) for place in self._wanted}
        heads = {place: found[place][0].offset if place in found else at for place, at in came_to.items()}
        gaps = self._gaps({place: head for place, head in heads.items() if head != self._at[place]})
        self._at |= came_to
        for place, begins in gaps.items():
            if heads[place] < begins:
                self.seek(place, begins)
                found.pop(place, None)
        return [FetchedRecords(place, found.get(place, ()), gaps.get(place)) for place in found.keys() | gaps.keys()]

    def _gaps(self, heads: Positions) -> Positions:
        """For each place whose next records are gone: where it goes on. A marker of a transaction leaves no gap."""
        if not heads:
            return {}
        starts = self._starts(list(heads))
        gaps = {place: start for place, start in starts.items() if start > self._at[place]}
        if gone_back := [place for place, head in heads.items() if head < self._at[place]]:
            ends = self.ends()
            gaps |= {place: ends[place] for place in gone_back}
        return gaps

    def _starts(self, places: list[TopicPartition]) -> Positions:
        with answered(self._link):
            asked = [Partition(*place) for place in places]
            found = self._consumer.beginning_offsets(asked, timeout_ms=milliseconds(_PATIENCE))
        return {tuple(place): start for place, start in found.items()}

    def _come_to(self, place: TopicPartition) -> int:
        at: int | None = self._consumer.position(Partition(*place), timeout_ms=milliseconds(_PATIENCE))
        return self._at[place] if at is None else at


@contextlib.contextmanager
def answered(link: KafkaLink) -> Iterator[None]:
    """Tell brokers that are away, which may come back, from those that refuse."""
    try:
        yield
    except BrokerError as error:
        if error.__cause__ is None or _is_hopeless(error.__cause__):
            raise
        raise AwayError(str(error)) from error
    except errors.KafkaError as error:
        if _is_hopeless(error):
            raise BrokerError(_RIGHTS.get(type(error)) or explain(error, link)) from error
        raise AwayError(explain(error, link)) from error


def _is_hopeless(error: BaseException) -> bool:
    return isinstance(error, _HOPELESS) or is_refusal(error)
