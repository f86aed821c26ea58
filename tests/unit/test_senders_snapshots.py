"""What is published of senders and read again: bounded, without an address, and never in anybody's way."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.messages import Outgoing, Record
from worker.metrics import Metrics
from worker.policy.hashing import Hashing
from worker.senders import Behaviour, SenderLimits, SenderSnapshots, SnapshotsAwayError
from worker.senders import snapshots as kept
from worker.senders.contacts import Contacts
from worker.senders.snapshots import KIND, OLDEST, PER_STEP, WINDOW, SenderSnapshot, read
from worker.senders.table import BITS, SPAN, SenderTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.messages import TopicPartition

NOON = 1_790_000_000.0
KEYS = Hashing((b"a key for these tests",))
ONE = SenderSnapshot(NOON, NOON - 60, 3.5, 12, 0.25, 8, 0.75, 20)


def record(value: bytes | None, key: bytes | None = b"k", offset: int = 0) -> Record:
    return Record("sms.senders", 0, offset, NOON, key, value)


@dataclass
class Shelf:
    """A topic in memory, which may be away."""

    name: str = "sms.senders"
    is_away: bool = False
    records: list[Outgoing] = field(default_factory=list)

    def publish(self, records: Sequence[Outgoing]) -> None:
        self._ask()
        self.records += records

    def read(self) -> list[Record]:
        self._ask()
        return [record(each.value, each.key) for each in self.records]

    def _ask(self) -> None:
        if self.is_away:
            message = "no broker answers"
            raise SnapshotsAwayError(message)


@dataclass
class Beside:
    """The companion with its surroundings."""

    shelf: Shelf = field(default_factory=Shelf)
    assigned: frozenset[TopicPartition] = frozenset()
    now: float = NOON
    behaviour: Behaviour = field(init=False)
    companion: SenderSnapshots = field(init=False)
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.behaviour = Behaviour(SenderLimits(15, 20), KEYS, table=SenderTable(64), contacts=Contacts(100))
        self.companion = SenderSnapshots(
            self.behaviour, lambda: self.assigned, self.shelf, KEYS, self.metrics, every=0.0, clock=lambda: self.now
        )

    def count(self, outcome: str) -> float:
        return self.metrics.registry.get_sample_value("hamgate_sender_snapshots_total", {"outcome": outcome}) or 0.0


@given(st.integers(0, BITS), st.floats(0, 1e6), st.floats(0, 1, width=32), st.integers(0, SPAN))
def test_what_is_restored_is_what_was_kept(recipients: int, count: float, share: float, counted: int) -> None:
    one = SenderSnapshot(NOON, NOON - 60, count, recipients, share, counted, share, counted)
    table = SenderTable(64)
    slot = table.slot(1, NOON - 60)

    one.restore(table, slot)
    again = SenderSnapshot.of(table, slot, recipients)

    assert again.at == one.at
    assert again.count == pytest.approx(count, rel=1e-6, abs=1e-3)
    assert (again.spam, again.strangers) == (pytest.approx(share, abs=1e-4),) * 2
    assert (again.judged, again.counted) == (counted, counted)
    assert table.add(slot, NOON, None, is_stranger=None)[1] == recipients


@given(st.lists(st.binary(max_size=40) | st.none(), max_size=5))
def test_what_is_no_snapshot_is_left_out(values: list[bytes | None]) -> None:
    good = record(msgspec.json.encode(ONE), b"good")

    assert read([*map(record, values), good], NOON) == {"good": ONE}


@pytest.mark.parametrize(
    "change",
    [{"at": NOON - OLDEST - 1}, {"at": NOON + 600}, {"first": 0}, {"first": NOON + 1}, {"count": -1},
     {"count": 1e12}, {"recipients": 65}, {"spam": 1.5}, {"strangers": -0.1}, {"judged": 300}, {"counted": -1}],
)  # fmt: skip
def test_a_snapshot_that_cannot_be_one_is_left_out(change: dict[str, float]) -> None:
    value = json.dumps(json.loads(msgspec.json.encode(ONE)) | change).encode()

    assert read([record(value)], NOON) == {}


def test_what_is_nested_too_deep_to_be_read_and_what_no_worker_would_key_so_is_left_out() -> None:
    deep = record(b'{"x":' + b"[" * 100_000)

    assert read([deep, record(msgspec.json.encode(ONE), b"k" * 65)], NOON) == {}


def test_the_latest_snapshot_counts_and_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST", 2)
    made = [(b"a", 1), (b"b", 2), (b"c", 3), (b"b", 4)]

    found = read(
        [record(msgspec.json.encode(ONE.__class__(NOON, 1.0, n, 1, 0, 0, 0, 0)), key) for key, n in made], NOON
    )

    assert {name: each.count for name, each in found.items()} == {"c": 3, "b": 4}


def test_a_bounded_number_is_published_under_hashes_alone() -> None:
    beside = Beside()
    beside.behaviour.due.extend((f"4477009{each:05}", ONE) for each in range(PER_STEP + 5))

    assert beside.companion.step()

    assert len(beside.shelf.records) == PER_STEP
    assert beside.shelf.records[0].key == KEYS.of(KIND, "447700900000").encode()
    assert not any(b"4477009" in (each.key or b"") + (each.value or b"") for each in beside.shelf.records)
    assert beside.count("published") == PER_STEP


def test_a_partition_that_is_gained_brings_what_was_known() -> None:
    beside = Beside()
    beside.behaviour.due.append(("447700900001", ONE))
    beside.companion.step()

    beside.assigned = frozenset({("sms.events", 0)})
    beside.companion.step()
    first = beside.behaviour.held
    beside.now += 60
    beside.assigned |= {("sms.events", 1)}
    beside.companion.step()
    second = beside.behaviour.held

    assert first.snapshots == second.snapshots == {KEYS.of(KIND, "447700900001"): ONE}
    assert second.since == {("sms.events", 0): NOON, ("sms.events", 1): NOON + 60}
    assert (first.generation, second.generation) == (1, 2)


def test_what_is_no_snapshot_is_counted_and_what_is_too_old_is_not() -> None:
    beside = Beside(assigned=frozenset({("sms.events", 0)}))
    for value in (b"{}", b"[" * 100_000, b'{"at":1e308}', None, msgspec.json.encode(ONE)):
        beside.shelf.records.append(record(value))
    old = msgspec.structs.replace(ONE, at=NOON - OLDEST - 1, first=NOON - OLDEST - 60)
    beside.shelf.records.append(record(msgspec.json.encode(old)))

    beside.companion.step()

    assert (beside.count("unsound"), beside.count("read")) == (3, 1)


def test_a_partition_that_is_lost_and_gained_again_is_new() -> None:
    beside = Beside(assigned=frozenset({("sms.events", 0)}))
    beside.companion.step()
    beside.assigned = frozenset()
    beside.companion.step()
    beside.now += 60
    beside.assigned = frozenset({("sms.events", 0)})
    beside.companion.step()

    assert beside.behaviour.held.since == {("sms.events", 0): NOON + 60}


def test_what_was_read_is_dropped_when_it_is_of_no_more_use() -> None:
    beside = Beside(Shelf(records=[Outgoing(b"k", msgspec.json.encode(ONE))]), frozenset({("sms.events", 0)}))
    beside.companion.step()
    assert beside.behaviour.held.snapshots

    beside.now += WINDOW + 1
    beside.companion.step()

    assert not beside.behaviour.held.snapshots


def test_a_topic_that_is_away_costs_nothing_but_what_it_would_have_said() -> None:
    beside = Beside(Shelf(is_away=True), frozenset({("sms.events", 0)}))
    beside.behaviour.due.append(("447700900001", ONE))

    assert all(beside.companion.step() for _ in range(3))
    assert beside.behaviour.held.since == {("sms.events", 0): NOON}
    assert (beside.count("dropped"), beside.count("unread")) == (1, 3)

    beside.shelf.is_away = False
    beside.companion.step()

    assert beside.behaviour.held.generation == 1


def test_it_stops_when_told() -> None:
    beside = Beside()
    beside.companion.stop()

    assert not beside.companion.step()
