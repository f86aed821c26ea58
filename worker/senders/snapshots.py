"""What one worker knows of the senders that matter, for whoever gets their partition next: a compacted topic.

Written at best, at most PER_STEP a second, of senders that are half-way to a limit; read when the group gives this
worker partitions. Nothing waits for it: where the topic cannot be read or written, senders are cold, and that is all.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol, Self

import msgspec

from worker.messages import Outgoing
from worker.process.outage import Outage
from worker.senders.table import BITS, HALF_WINDOW, SPAN, Lately

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from worker.messages import Record, TopicPartition
    from worker.metrics import Metrics
    from worker.policy.hashing import Hashing
    from worker.senders.behaviour import Behaviour
    from worker.senders.table import SenderTable

KIND: Final = "sender"
"""Of the hash that is a snapshot's key."""
WINDOW: Final = 3600.0
"""Seconds that a partition is watched before a stranger is called one."""
PER_STEP: Final = 200
"""Snapshots published at most with each step."""
EVERY: Final = 1.0
"""Seconds between two steps."""
OLDEST: Final = 86_400.0
"""Seconds after which a snapshot says nothing any more."""
MOST: Final = 100_000
"""Senders taken over at most, the latest ones."""

_AHEAD: Final = 300.0
"""Seconds that another worker's clock may be ahead: a sender whose last message is yet to come would never fade."""
_LONGEST_KEY: Final = 64
"""Characters of a record's key: a hash."""


class SenderSnapshot(msgspec.Struct, frozen=True, gc=False):
    """One sender as of `at` (Unix seconds of his last message), on the wire: shares and counts, nobody's address.

    `recipients` are the bits that he has set of 64 (table.RECIPIENTS says how many that means), in the window of `at`.
    """

    at: float
    first: float
    count: float
    recipients: int
    spam: float
    judged: int
    strangers: float
    counted: int

    @classmethod
    def of(cls, table: SenderTable, slot: int, bits: int) -> Self:
        """What the table has in a slot."""
        its, (spam, judged), (first, *_) = table.lately(slot), table.judged(slot), table.standing(slot)
        return cls(
            at=its.last,
            first=first,
            count=round(its.weight, 3),
            recipients=bits,
            spam=round(spam, 4),
            judged=judged,
            strangers=round(its.strangers, 4),
            counted=its.counted,
        )

    def restore(self, table: SenderTable, slot: int) -> None:
        """Put it into a slot. Which recipients they were is not known, and need not be: as many bits are set."""
        recent, half_hour = (1 << self.recipients) - 1, int(self.at) // HALF_WINDOW
        table.put(slot, Lately(self.at, recent, 0, self.count, half_hour, self.strangers, self.counted))
        table.put_judged(slot, self.spam, self.judged)

    def is_sound(self, now: float) -> bool:
        """Whether it can have been written by a worker."""
        return (
            0 < self.first <= self.at <= now + _AHEAD
            and 0 <= self.count < 1e9  # noqa: PLR2004 more than anybody sends in five minutes
            and 0 <= self.recipients <= BITS
            and all(0 <= share <= 1 for share in (self.spam, self.strangers))
            and all(0 <= count <= SPAN for count in (self.judged, self.counted))
        )


@dataclass(frozen=True, slots=True)
class Held:
    """Since when the worker has held its partitions (Unix seconds), and what others knew of senders, by keyed hash."""

    since: Mapping[TopicPartition, float] = field(default_factory=lambda: MappingProxyType({}))
    snapshots: Mapping[str, SenderSnapshot] = field(default_factory=lambda: MappingProxyType({}))
    generation: int = 0


NOBODY: Final = Held()
_decode: Final = msgspec.json.Decoder(SenderSnapshot).decode
_encode: Final = msgspec.json.Encoder().encode


def read(
    records: Iterable[Record], now: float, unsound: Callable[[], object] = lambda: None
) -> dict[str, SenderSnapshot]:
    """The latest snapshot of each sender; what is too old is left out, and so is what is none: it is `unsound`."""
    found: dict[str, SenderSnapshot] = {}
    for record in records:
        if record.key is None or record.value is None:
            continue
        try:
            snapshot = _decode(record.value)
        except (msgspec.DecodeError, RecursionError):
            unsound()
            continue
        if not snapshot.is_sound(now) or len(record.key) > _LONGEST_KEY:
            unsound()
        elif snapshot.at >= now - OLDEST:
            name = record.key.decode("ascii", "replace")
            found.pop(name, None)
            found[name] = snapshot
            if len(found) > MOST:
                del found[next(iter(found))]
    return found


class SnapshotsAwayError(Exception):
    """The topic cannot be written or read now; says why."""


class Snapshots(Protocol):
    """Where snapshots are kept. Both raise SnapshotsAwayError."""

    @property
    def name(self) -> str:
        """The topic's name."""

    def publish(self, records: Sequence[Outgoing]) -> None:
        """Write."""

    def read(self) -> Iterable[Record]:
        """All that is there now."""


@dataclass(slots=True)
class SenderSnapshots:
    """The companion: publishes what is due, notices partitions that are gained, and reads what is known of them."""

    behaviour: Behaviour
    assignment: Callable[[], frozenset[TopicPartition]]
    topic: Snapshots
    hashing: Hashing
    metrics: Metrics
    every: float = EVERY
    clock: Callable[[], float] = time.time
    name: str = "senders"
    _stopping: threading.Event = field(default_factory=threading.Event)
    _unread: bool = False
    _writing: Outage = field(init=False)
    _reading: Outage = field(init=False)

    def __post_init__(self) -> None:
        """Name the topic in what is logged."""
        self._writing = Outage("sender snapshots for writing", {"topic": self.topic.name})
        self._reading = Outage("sender snapshots for reading", {"topic": self.topic.name})

    def step(self) -> bool:
        """Wait, then publish and look once. False when it is time to stop."""
        if self._stopping.wait(self.every):
            return False
        self.send()
        self.follow()
        return True

    def stop(self) -> None:
        """Take no more steps."""
        self._stopping.set()

    def send(self) -> None:
        """Publish what is due, a bounded number; what the brokers do not take is dropped."""
        due: deque[tuple[str, SenderSnapshot]] = self.behaviour.due
        some = [due.popleft() for _ in range(min(len(due), PER_STEP))]
        if not some:
            return
        outgoing = [Outgoing(self.hashing.of(KIND, who).encode(), _encode(its)) for who, its in some]
        try:
            self.topic.publish(outgoing)
        except SnapshotsAwayError as error:
            self.metrics.sender_snapshots.labels("dropped").inc(len(some))
            self._writing.goes_on(str(error))
        else:
            self.metrics.sender_snapshots.labels("published").inc(len(some))
            self._writing.is_over()

    def follow(self) -> None:
        """Tell the observer of partitions that are gained, at once; then of their senders, once they are read."""
        behaviour, now, assigned = self.behaviour, self.clock(), self.assignment()
        before = behaviour.held
        if gained := assigned - before.since.keys():
            self._unread = True
        if gained or before.since.keys() - assigned:
            since = {partition: before.since.get(partition, now) for partition in assigned}
            behaviour.held = Held(since, before.snapshots, before.generation)
        if self._unread and assigned:
            self._take_over()
        elif before.snapshots and now - max(before.since.values(), default=now) > WINDOW:
            behaviour.held = Held(behaviour.held.since, generation=before.generation)  # of no more use

    def _take_over(self) -> None:
        try:
            found = read(self.topic.read(), self.clock(), self.metrics.sender_snapshots.labels("unsound").inc)
        except SnapshotsAwayError as error:
            self.metrics.sender_snapshots.labels("unread").inc()
            self._reading.goes_on(str(error))
            return
        self._reading.is_over()
        self._unread = False
        before = self.behaviour.held
        self.behaviour.held = Held(before.since, found, before.generation % 0xFFFF + 1)
        self.metrics.sender_snapshots.labels("read").inc(len(found))
