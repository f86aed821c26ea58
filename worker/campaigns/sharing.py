"""Beside the pipeline: publishes what this worker has seen of campaigns, and reads what the others have.

The topic is read from its beginning before anything is published, so that a worker that is started anew goes on from
its own records. What cannot be published stays among the changed, and goes out as it is then; so an outage costs
nothing but freshness. It is logged when it begins and when it is over.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
import structlog

from worker.campaigns.summaries import decode_summary, encode_summary
from worker.campaigns.watching import Heard
from worker.messages import Outgoing
from worker.process.outage import Outage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from worker.campaigns.index import KnownCampaign
    from worker.campaigns.watching import CampaignWatch
    from worker.messages import Record

PUBLISH_EVERY: Final = 5.0
_READ_EVERY: Final = 1.0
_ANSWERED_WITHIN: Final = 10.0
_AT_ONCE: Final = 500
"""Records published by one request."""
_WAITING: Final = 10_000
"""Records read that the writer has not taken up, at most."""

log = structlog.get_logger()


class SummaryReader(Protocol):
    """Reads a topic from its beginning: `worker.broker.Reader`."""

    def to_end(self, within: float = ...) -> Iterable[Record]:
        """Yield what is committed as of now and not yet read."""

    def close(self) -> None:
        """Close the connections."""


class SummaryPublisher(Protocol):
    """Publishes without a transaction: `worker.broker.Publisher`."""

    def publish(self, topic: str, records: Sequence[Outgoing], /) -> None:
        """Publish, and return when all is acknowledged."""

    def close(self) -> None:
        """Close the connections."""


@dataclass(slots=True)
class CampaignSharing:
    """A `Companion` of the pipeline (worker/pipeline/service.py).

    `read` and `publish` connect; `outages` is what they, and what they return, raise while the brokers do not answer.
    """

    watch: CampaignWatch
    topic: str
    read: Callable[[], SummaryReader]
    publish: Callable[[], SummaryPublisher]
    outages: tuple[type[Exception], ...]
    failed: Callable[[], None]
    every: float = PUBLISH_EVERY
    wait: float = _READ_EVERY
    name: str = "campaigns"
    _reader: SummaryReader | None = None
    _publisher: SummaryPublisher | None = None
    _own: set[str] = field(default_factory=set)
    """Keys of this worker's records that are taken up or published: what is read under them is no news."""
    _published_at: float = float("-inf")
    _has_read: bool = False
    """Whether all that was there at the start has been read."""
    _is_caught_up: bool = False
    """Whether the writer has taken up all that was there at the start, this worker's own records among it."""
    _is_garbage_told: bool = False
    _stopping: threading.Event = field(default_factory=threading.Event)
    _outage: Outage = field(init=False)

    def __post_init__(self) -> None:
        """Name the topic in the log."""
        self._outage = Outage("campaigns' topic", {"topic": self.topic})

    def step(self) -> bool:
        """Read, publish when it is time, and wait. False when it is time to stop."""
        try:
            # Before what is new is read: else others' news would keep it from ever being so while no message comes.
            self._is_caught_up = self._is_caught_up or (self._has_read and not self.watch.heard)
            self._read()
            self._has_read = True
            self._is_caught_up = self._is_caught_up or not self.watch.heard
            if self._is_caught_up and time.monotonic() - self._published_at >= self.every:
                self._publish()
                self._published_at = time.monotonic()
        except self.outages as error:
            self.failed()
            self._outage.goes_on(str(error))
            self._disconnect()
        else:
            self._outage.is_over()
        if self._stopping.wait(self.wait):
            self._disconnect()
            return False
        return True

    def stop(self) -> None:
        """Share no more."""
        self._stopping.set()

    def _read(self) -> None:
        self._reader = self._reader or self.read()
        for record in self._reader.to_end(_ANSWERED_WITHIN):
            while len(self.watch.heard) >= _WAITING and not self._stopping.wait(self.wait):
                pass
            if self._stopping.is_set():
                return
            if (heard := self._heard(record)) is not None:
                self.watch.heard.append(heard)

    def _heard(self, record: Record) -> Heard | None:
        key = (record.key or b"").decode(errors="replace")
        is_own = key.partition(":")[2] == self.watch.worker
        if is_own and (key in self._own or record.value is None):
            return None
        if record.value is None:
            return Heard(key, None)
        try:
            told = decode_summary(record.value)
            if told.key != key:
                self._tell_garbage(record, "its key is not its campaign and worker")
                return None
        except msgspec.DecodeError as error:
            self._tell_garbage(record, str(error))
            return None
        if is_own:
            self._own.add(key)
        return Heard(key, told, is_own)

    def _tell_garbage(self, record: Record, cause: str) -> None:
        self.failed()
        if not self._is_garbage_told:
            self._is_garbage_told = True
            log.warning("not a campaign's summary; further ones are counted only", topic=record.topic,
                        partition=record.partition, offset=record.offset, cause=cause)  # fmt: skip

    def _publish(self) -> None:
        while (ended := self._some_forgotten()) or self.watch.changed:
            changed = self._some_changed()
            told: list[tuple[KnownCampaign, str, bytes]] = []
            for campaign in changed:
                summary = self.watch.summary(campaign)
                if summary is None:
                    continue
                told.append((campaign, summary.key, encode_summary(summary)))
                if campaign.key and campaign.key != summary.key:
                    ended.append(campaign.key)
            self._own.update(key for _, key, _ in told)
            records = [Outgoing(key.encode(), None) for key in ended]
            records += [Outgoing(key.encode(), value) for _, key, value in told]
            try:
                self._publisher = self._publisher or self.publish()
                self._publisher.publish(self.topic, records)
            except self.outages:
                self.watch.changed.update(dict.fromkeys(changed))
                self.watch.forgotten.extend(ended)
                raise
            self._own.difference_update(ended)
            for campaign, key, _ in told:
                campaign.key = key
                if not campaign.place:  # forgotten meanwhile
                    self.watch.forgotten.append(key)

    def _some_forgotten(self) -> list[str]:
        forgotten = self.watch.forgotten
        return [forgotten.popleft() for _ in range(min(_AT_ONCE, len(forgotten)))]

    def _some_changed(self) -> list[KnownCampaign]:
        changed: list[KnownCampaign] = []
        while len(changed) < _AT_ONCE:
            try:
                changed.append(self.watch.changed.popitem()[0])
            except KeyError:  # none is left, or the writer has forgotten the last
                break
        return changed

    def _disconnect(self) -> None:
        for each in (self._reader, self._publisher):
            if each:
                each.close()
        self._reader = self._publisher = None
