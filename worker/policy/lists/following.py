"""Keeps the lists of a topic in force, by `worker.policy.following`.

Every look reads up to the topic's end: so what is in force is known to be all there is as of that moment, which
`hamgate_lists_read_timestamp_seconds` shows.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import structlog

from worker.policy.following import TopicFollower
from worker.policy.lists.entries import ACTIONS, ListEntry, UnreadableEntryError, What, decode
from worker.policy.lists.matching import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from worker.messages import Record
    from worker.metrics import Metrics
    from worker.policy.hashing import Hashing

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


@dataclass(slots=True)
class ListFollower(TopicFollower):
    """Keeps `snapshot` up to date."""

    name: ClassVar[str] = "lists"
    hashing: Hashing
    metrics: Metrics
    clock: Callable[[], float] = time.time
    snapshot: Snapshot = field(init=False)
    _listed: Listed = field(init=False)
    _told: set[tuple[str, int, int]] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        """Read all of it."""
        TopicFollower.__post_init__(self)
        log.info("lists read", topic=self.topic, entries=len(self._listed.entries))

    def take(self, records: Iterable[Record], topic_id: str, *, is_anew: bool) -> None:
        """Take up entries and tombstones, and put what has changed in force."""
        listed = Listed(Snapshot(self.hashing)) if is_anew else self._listed
        if listed.read(records, self.clock()) or is_anew:
            self._listed = listed
            self._put_in_force()
        self._account(topic_id)

    def _put_in_force(self) -> None:
        self.snapshot = self._listed.snapshot
        for what in What:
            for action in ACTIONS:
                self.metrics.list_entries.labels(what, action).set(self._listed.counts[what.value, action])

    def _account(self, topic_id: str) -> None:
        for (partition, offset), why in self._listed.unreadable.items():
            if (place := (topic_id, partition, offset)) not in self._told:
                self._told.add(place)
                self.metrics.lists_unreadable.inc()
                log.warning("list entry unreadable", topic=self.topic, partition=partition, offset=offset, cause=why)
        self._listed.unreadable.clear()
        self.metrics.lists_read.set(self.clock())
