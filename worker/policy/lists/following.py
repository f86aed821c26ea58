"""Reads the lists' topic before the worker's first message, and follows it on a thread of its own.

Every look asks the brokers for the topic's end, and reads up to it: so what is in force is known to be all there is as
of that moment, which `hamgate_lists_read_timestamp_seconds` shows. When the brokers are away, or the topic is, the last
state stays in force. It is read anew from its start when they are back, for a tombstone may be gone by then.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from worker.policy.lists.entries import ACTIONS, ListEntry, UnreadableEntryError, What, decode
from worker.policy.lists.matching import Snapshot
from worker.process.outage import Outage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from worker.messages import Record
    from worker.metrics import Metrics
    from worker.policy.hashing import Hashing

EVERY: Final = 0.25
"""Seconds between two looks."""
_AT_START, _PATIENCE = 60.0, 5.0
_AFTER_AN_OUTAGE: Final = 1.0

log = structlog.get_logger()


@dataclass(slots=True)
class Listed:
    """The entries in force of a topic, as its records make them, and a snapshot of them. Expired ones are forgotten."""

    snapshot: Snapshot
    entries: dict[bytes, ListEntry] = field(default_factory=dict)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many, by what they match and their action."""
    unreadable: dict[tuple[int, int], str] = field(default_factory=dict)
    """Records that are no entries, by partition and offset: why."""
    _expiries: list[tuple[float, bytes]] = field(default_factory=list)

    def read(self, records: Iterable[Record], now: float) -> bool:
        """Take up records, in their order, and forget what has expired; whether anything changed."""
        before: dict[bytes, ListEntry | None] = {}
        for record in records:
            key, entry = record.key or b"", None
            if record.value is not None:
                try:
                    entry = decode(record.key, record.value)
                except UnreadableEntryError as error:
                    self.unreadable[record.partition, record.offset] = str(error)
                    continue
            before.setdefault(key, self.entries.get(key))
            self._put(key, entry)
        while self._expiries and self._expiries[0][0] <= now:
            _, key = heapq.heappop(self._expiries)
            if (entry := self.entries.get(key)) and entry.has_expired(now):
                before.setdefault(key, entry)
                self._put(key, None)
        if before:
            gone = [entry for entry in before.values() if entry]
            self.snapshot = self.snapshot.changed(gone, [self.entries[key] for key in before if key in self.entries])
        return bool(before)

    def _put(self, key: bytes, entry: ListEntry | None) -> None:
        if old := self.entries.pop(key, None):
            self.counts[old.what.value, old.action] -= 1
        if entry:
            self.entries[key] = entry
            self.counts[entry.what.value, entry.action] += 1
            if entry.until:
                heapq.heappush(self._expiries, (entry.until.timestamp(), key))


class TopicReader(Protocol):
    """What is asked of a connection: `worker.broker.Reader` is one."""

    def topic_id(self, topic: str) -> str:
        """The id of the topic; another one once it was made anew."""

    def to_end(self, within: float = 60.0) -> Iterable[Record]:
        """What is committed as of now and not yet read. May raise."""

    def close(self) -> None:
        """Disconnect."""


@dataclass(slots=True)
class ListFollower:
    """Keeps `snapshot` up to date. Made, it has read the whole topic, or raises what `connect` and its reader raise.

    `connect` is given the seconds that an outage may last.
    """

    connect: Callable[[float], TopicReader]
    topic: str
    hashing: Hashing
    metrics: Metrics
    clock: Callable[[], float] = time.time
    name: str = "lists"
    snapshot: Snapshot = field(init=False)
    _listed: Listed = field(init=False)
    _reader: TopicReader | None = field(init=False, default=None)
    _topic_id: str = ""
    _told: set[tuple[str, int, int]] = field(default_factory=set)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _outage: Outage = field(init=False)

    def __post_init__(self) -> None:
        """Read all of it, with the patience of a start."""
        self._outage = Outage("lists", {"topic": self.topic})
        self._read_anew(_AT_START)
        entries = len(self._listed.entries)
        log.info("lists read", topic=self.topic, entries=entries, unreadable=len(self._listed.unreadable))

    def step(self) -> bool:
        """Wait, then look once. False when it is time to stop."""
        if self._stopping.wait(_AFTER_AN_OUTAGE if self._outage.is_on else EVERY):
            self._disconnect()
            return False
        try:
            self.look()
        except Exception as error:  # noqa: BLE001 whatever it is, the last lists stay in force and no verdict stops
            self._outage.goes_on(str(error))
            self._disconnect()
        else:
            self._outage.is_over()
        return True

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()

    def look(self) -> None:
        """Read what is new; from the start where the connection is new, or the topic is. May raise."""
        if self._reader is None or self._reader.topic_id(self.topic) != self._topic_id:
            self._disconnect()
            self._read_anew(_PATIENCE)
            return
        if self._listed.read(self._reader.to_end(_PATIENCE), self.clock()):
            self._put_in_force()
        self._account()

    def _read_anew(self, patience: float) -> None:
        self._reader = self.connect(patience)
        self._topic_id = self._reader.topic_id(self.topic)
        listed = Listed(Snapshot(self.hashing))
        listed.read(self._reader.to_end(patience), self.clock())
        self._listed = listed
        self._put_in_force()
        self._account()

    def _put_in_force(self) -> None:
        self.snapshot = self._listed.snapshot
        for what in What:
            for action in ACTIONS:
                self.metrics.list_entries.labels(what, action).set(self._listed.counts[what.value, action])

    def _account(self) -> None:
        for (partition, offset), why in self._listed.unreadable.items():
            if (place := (self._topic_id, partition, offset)) not in self._told:
                self._told.add(place)
                self.metrics.lists_unreadable.inc()
                log.warning("list entry unreadable", topic=self.topic, partition=partition, offset=offset, cause=why)
        self._listed.unreadable.clear()
        self.metrics.lists_read.set(self.clock())

    def _disconnect(self) -> None:
        if self._reader:
            self._reader.close()
        self._reader = None
