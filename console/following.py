"""Lists, campaigns and senders as their topics have them: each topic that is set is followed by a thread of its own.

A topic that is missing or cannot be read keeps nothing else from working: `state` says since when, and why.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
import structlog

from worker.broker import BrokerError, Reader
from worker.campaigns.signature import LENGTH
from worker.campaigns.summaries import decode_summary
from worker.campaigns.totals import added_up
from worker.policy.lists.following import Listed
from worker.policy.lists.matching import Snapshot
from worker.process.outage import Outage
from worker.senders import snapshots

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from worker.broker import KafkaLink
    from worker.campaigns.summaries import CampaignSummary
    from worker.campaigns.totals import CampaignTotal
    from worker.messages import Record
    from worker.policy.hashing import Hashing
    from worker.policy.lists.entries import ListEntry
    from worker.senders.snapshots import SenderSnapshot

CAMPAIGNS: Final = 100_000
"""Records of campaigns that are kept; those not written for longest go first."""
_EVERY: Final = 1.0
_AGAIN: Final = 3.0
_WITHIN: Final = 5.0
"""Seconds without progress after which the brokers count as away."""
_ADD_UP_EVERY: Final = 1.0
_MINUTE: Final = 60.0
_NO_SIGNATURE: Final = bytes(LENGTH)
_NEVER: Final = 0.0

log = structlog.get_logger()


class TopicContent(Protocol):
    """What a topic holds, as its records make it."""

    def take(self, records: Iterable[Record], now: float) -> None:
        """Take up what is new."""

    def forget(self) -> None:
        """Begin anew: what follows is read from the topic's start."""


class Following:
    """Keeps a content up to date until it is closed."""

    def __init__(self, link: KafkaLink, topic: str, content: TopicContent, every: float = _EVERY) -> None:
        self._link, self._topic, self._content, self._every = link, topic, content, every
        self._changed = threading.Condition()
        self._begun = self._ended = 0
        self._is_wanted = self._is_closed = False
        self._read_at: float | None = None
        self._away_since: float | None = None
        self._cause = ""
        self._outage = Outage(f"{topic} for the console", {"topic": topic})
        self._thread = threading.Thread(target=self._run, name=f"following {topic}", daemon=True)

    def start(self) -> None:
        """Read from now on."""
        self._thread.start()

    def close(self) -> None:
        """Read no more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(10)

    def state(self) -> dict[str, Any]:
        """Return the topic, when it was last read to its end, since when it cannot be read (Unix seconds), and why."""
        return {
            "topic": self._topic,
            "read_at": self._read_at,
            "away_since": self._away_since,
            "cause": self._cause if self._away_since else "",
        }

    def catch_up(self, within: float = 3.0) -> bool:
        """Wait until all is read that is there now; False where that takes longer, or the topic cannot be read."""
        if self._away_since or not self._thread.is_alive():
            return False
        with self._changed:
            wanted, self._is_wanted = self._begun + 1, True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._ended >= wanted or self._is_closed, within)

    def _run(self) -> None:
        while not self._is_closed:
            try:
                with Reader(self._link, self._topic) as reader:
                    self._follow(reader)
            except (BrokerError, TimeoutError) as error:
                self._is_away(str(error))
            except Exception as error:
                log.exception("following failed", topic=self._topic)
                self._is_away(type(error).__name__)
            self._wait(_AGAIN)

    def _is_away(self, cause: str) -> None:
        self._away_since = self._away_since or time.time()
        self._cause = cause
        self._outage.goes_on(cause)

    def _follow(self, reader: Reader) -> None:
        """Read again and again; return when it is time to stop, or when the topic was made anew."""
        topic_id = reader.topic_id(self._topic)
        self._content.forget()
        while not self._is_closed and reader.topic_id(self._topic) == topic_id:
            with self._changed:
                self._begun += 1
            self._content.take(reader.to_end(_WITHIN), time.time())
            self._read_at, self._away_since = time.time(), None
            self._outage.is_over()
            with self._changed:
                self._ended = self._begun
                self._changed.notify_all()
            self._wait(self._every)

    def _wait(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_wanted or self._is_closed, seconds)
            self._is_wanted = False


class KnownLists:
    """The entries of the lists' topic; what has expired stays, for it is shown."""

    def __init__(self, hashing: Hashing) -> None:
        self._hashing, self._lock = hashing, threading.Lock()
        self._listed = Listed(Snapshot(hashing))
        self._newest: list[ListEntry] | None = None
        self._by_rule: dict[str, ListEntry] | None = None

    def take(self, records: Iterable[Record], now: float) -> None:  # noqa: ARG002 what has expired is not forgotten
        """Take up entries and tombstones."""
        found = list(records)
        with self._lock:
            if self._listed.read(found, _NEVER):
                self._newest = self._by_rule = None

    def forget(self) -> None:
        """Begin anew."""
        with self._lock:
            self._listed = Listed(Snapshot(self._hashing))
            self._newest = self._by_rule = None

    def newest(self) -> Sequence[ListEntry]:
        """Return all of them as they are now, the newest first; sorted once for each change."""
        with self._lock:
            if self._newest is None:
                found = self._listed.entries.values()
                self._newest = sorted(found, key=lambda entry: (entry.added_at.timestamp(), entry.name), reverse=True)
            return self._newest

    def by_rule(self, rule: str) -> ListEntry | None:
        """Return the entry that verdicts name so."""
        every = self.newest()
        with self._lock:
            if self._by_rule is None:
                self._by_rule = {entry.rule: entry for entry in every}
            return self._by_rule.get(rule)

    def unreadable(self) -> int:
        """Return how many records are no entries; workers skip them."""
        return len(self._listed.unreadable)

    @property
    def snapshot(self) -> Snapshot:
        """For looking up; it leaves out what has expired."""
        return self._listed.snapshot


class _Pace:
    """How fast a worker's count of a campaign grows: by what it was one to two minutes ago."""

    __slots__ = ("at", "before", "count")

    def __init__(self, began: float, at: float, count: int) -> None:
        self.before, self.at, self.count = (began, 0), at, count

    def take(self, now: float, count: int) -> None:
        if now - self.at >= _MINUTE:
            self.before, self.at, self.count = (self.at, self.count), now, count

    def a_minute(self, now: float, count: int) -> float:
        since, before = self.before
        return _MINUTE * max(0, count - before) / max(_MINUTE, now - since)


class KnownCampaigns:
    """The records of the campaigns' topic, added up over the workers. Without their signatures."""

    def __init__(self, most: int = CAMPAIGNS) -> None:
        self._most, self._lock = most, threading.Lock()
        self._found: dict[str, tuple[CampaignSummary, _Pace]] = {}
        self._version = self._added_up = -1
        self._totals: list[CampaignTotal] = []
        self._by_name: dict[str, CampaignTotal] = {}
        self._fresh_until = 0.0
        self.unreadable = 0
        """Records that are no summaries."""
        self.forgotten = 0
        """Records that were too many."""

    def take(self, records: Iterable[Record], now: float) -> None:
        """Take up summaries and tombstones."""
        for record in records:
            key = (record.key or b"").decode(errors="replace")
            try:
                told = decode_summary(record.value) if record.value is not None else None
            except msgspec.DecodeError:
                self.unreadable += 1
                continue
            with self._lock:
                self._version += 1
                known = self._found.pop(key, None)
                if told is None:
                    continue
                pace = known[1] if known else _Pace(told.first.timestamp(), now, told.size)
                pace.take(now, told.size)
                self._found[key] = msgspec.structs.replace(told, signature=_NO_SIGNATURE), pace
                if len(self._found) > self._most:
                    del self._found[next(iter(self._found))]
                    self.forgotten += 1

    def forget(self) -> None:
        """Begin anew."""
        with self._lock:
            self._found, self.unreadable, self.forgotten = {}, 0, 0
            self._version += 1

    def totals(self) -> list[CampaignTotal]:
        """Return all campaigns, the largest first; a second old at most, of very many some seconds."""
        with self._lock:
            now = time.monotonic()
            if self._version != self._added_up and now >= self._fresh_until:
                self._totals = added_up(each for each, _ in self._found.values())
                self._by_name = {name: total for total in self._totals for name in total.names}
                took = time.monotonic() - now
                self._added_up, self._fresh_until = self._version, now + max(_ADD_UP_EVERY, 20 * took)
            return self._totals

    def total(self, name: str) -> CampaignTotal | None:
        """Return a campaign by any of its ids."""
        self.totals()
        return self._by_name.get(name)

    def rate(self, total: CampaignTotal, now: float) -> float:
        """Return its messages a minute over the last one or two, as all workers have told them."""
        with self._lock:
            return self._rate(total, now)

    def fastest(self, totals: Iterable[CampaignTotal], now: float) -> list[CampaignTotal]:
        """Return these by their rates, the fastest first."""
        with self._lock:
            rated = [(self._rate(total, now), total) for total in totals]
        return [total for _, total in sorted(rated, key=lambda each: -each[0])]

    def _rate(self, total: CampaignTotal, now: float) -> float:
        rate = 0.0
        for part in total.parts:
            if found := self._found.get(part.key):
                told, pace = found
                rate += pace.a_minute(now, told.size)
        return rate


class KnownSenders:
    """The latest snapshots of senders, by keyed hash; as many as a worker takes over."""

    def __init__(self, most: int = snapshots.MOST) -> None:
        self._most = most
        self._found: dict[str, SenderSnapshot] = {}
        self.unsound = 0
        """Records that are none."""

    def take(self, records: Iterable[Record], now: float) -> None:
        """Take up snapshots."""
        for name, snapshot in snapshots.read(records, now, self._count).items():
            self._found.pop(name, None)
            self._found[name] = snapshot
            if len(self._found) > self._most:
                del self._found[next(iter(self._found))]

    def forget(self) -> None:
        """Begin anew."""
        self._found, self.unsound = {}, 0

    def latest(self, names: Iterable[str], now: float) -> SenderSnapshot | None:
        """Return the latest snapshot of any of these hashes; None where there is none of the last day."""
        found: Mapping[str, SenderSnapshot] = self._found
        known = [snapshot for name in names if (snapshot := found.get(name))]
        latest = max(known, key=lambda each: each.at, default=None)
        return latest if latest and latest.at >= now - snapshots.OLDEST else None

    def _count(self) -> None:
        self.unsound += 1
