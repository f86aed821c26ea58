"""The follower reads all before it is used, follows, and keeps the last lists in force whatever befalls the topic."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.listed import HASHING, NOW, listed, message
from worker.messages import Record
from worker.metrics import Metrics
from worker.policy import following
from worker.policy.lists.entries import ListEntry, encode
from worker.policy.lists.following import ListFollower

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.messages import Headers

BLOCK = listed("block", "sender", "MyBank")
FACTS = message(sender="MYBANK")


@dataclass
class FakeTopic:
    """A topic in memory, which may be away, and the readers that are connected to it."""

    records: list[Record] = field(default_factory=list)
    name: str = "sms.lists"
    identity: str = "a"
    is_away: bool = False
    opened: int = 0
    closed: int = 0

    def put(self, key: bytes, value: bytes | None, headers: Headers = ()) -> None:
        self.records.append(Record(self.name, 0, len(self.records), NOW, key, value, headers))

    def add(self, entry: ListEntry) -> None:
        self.put(*encode(entry))

    def remove(self, entry: ListEntry) -> None:
        self.put(encode(entry)[0], None)

    def connect(self, patience: float) -> FakeTopicReader:
        del patience
        if self.is_away:
            raise TimeoutError
        self.opened += 1
        return FakeTopicReader(self)


@dataclass
class FakeTopicReader:
    topic: FakeTopic
    at: int = 0

    def topic_id(self, topic: str) -> str:
        assert topic == self.topic.name
        return self.topic.identity

    def to_end(self, within: float = 60.0) -> Iterator[Record]:
        del within
        while self.at < len(self.topic.records):
            self.at += 1
            yield self.topic.records[self.at - 1]
            if self.topic.is_away:
                raise ConnectionError
        if self.topic.is_away:
            raise TimeoutError

    def close(self) -> None:
        self.topic.closed += 1


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "EVERY", 0.0)
    monkeypatch.setattr(following, "_AFTER_AN_OUTAGE", 0.0)


def follower(topic: FakeTopic, metrics: Metrics | None = None, now: float = NOW) -> ListFollower:
    return ListFollower(topic.connect, "sms.lists", HASHING, metrics or Metrics(), clock=lambda: now)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_all_is_read_before_it_is_used() -> None:
    topic = FakeTopic()
    topic.add(BLOCK)

    assert follower(topic).snapshot.rulings(FACTS, NOW)


def test_a_topic_that_cannot_be_read_at_the_start_is_an_error() -> None:
    with pytest.raises(TimeoutError):
        follower(FakeTopic(is_away=True))


def test_a_change_is_in_force_after_the_next_look_and_counted() -> None:
    topic, metrics = FakeTopic(), Metrics()
    lists = follower(topic, metrics)
    before = lists.snapshot

    topic.add(BLOCK)
    assert lists.step()
    assert lists.snapshot.rulings(FACTS, NOW)
    assert not before.rulings(FACTS, NOW)
    assert value(metrics, "hamgate_list_entries", what="sender", action="block") == 1
    topic.remove(BLOCK)
    assert lists.step()
    assert not lists.snapshot.rulings(FACTS, NOW)
    assert value(metrics, "hamgate_list_entries", what="sender", action="block") == 0
    assert topic.opened == 1


def test_a_snapshot_is_the_same_while_nothing_changes() -> None:
    topic = FakeTopic()
    topic.add(BLOCK)
    lists = follower(topic)
    before = lists.snapshot

    assert lists.step()
    assert lists.snapshot is before


def test_the_last_lists_stay_in_force_in_an_outage_and_all_is_read_anew_after_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    topic = FakeTopic()
    topic.add(BLOCK)
    lists = follower(topic)

    topic.is_away = True
    topic.add(listed("block", "sender", "other"))
    for _ in range(3):
        assert lists.step()
        assert lists.snapshot.rulings(FACTS, NOW)
    topic.records.clear()  # a tombstone that was compacted away meanwhile
    topic.is_away = False
    assert lists.step()
    assert not lists.snapshot.rulings(FACTS, NOW)
    said = capsys.readouterr().out
    assert (said.count("lists away"), said.count("lists back")) == (1, 1)


def test_a_topic_that_was_made_anew_is_read_from_its_start() -> None:
    topic = FakeTopic()
    topic.add(BLOCK)
    lists = follower(topic)

    topic.identity, topic.records = "b", []
    topic.add(listed("flag", "sender", "MyBank"))
    assert lists.step()
    assert [each.action for each in lists.snapshot.rulings(FACTS, NOW)] == ["flag"]
    assert topic.closed == 1


def test_a_record_that_is_no_entry_is_counted_and_logged_once_by_its_offset(capsys: pytest.CaptureFixture[str]) -> None:
    topic, metrics = FakeTopic(), Metrics()
    topic.put(b"sender:exact:x", b"{}")
    topic.add(BLOCK)
    lists = follower(topic, metrics)

    topic.is_away = True
    assert lists.step()
    topic.is_away = False
    assert lists.step()
    assert lists.step()
    assert lists.snapshot.rulings(FACTS, NOW)
    assert value(metrics, "hamgate_lists_unreadable_total") == 1
    assert capsys.readouterr().out.count("list entry unreadable") == 1


def test_the_time_of_the_last_reading_stands_still_in_an_outage() -> None:
    topic, metrics = FakeTopic(), Metrics()
    lists = follower(topic, metrics)
    assert value(metrics, "hamgate_lists_read_timestamp_seconds") == NOW

    topic.is_away = True
    lists.clock = lambda: NOW + 60
    assert lists.step()
    assert value(metrics, "hamgate_lists_read_timestamp_seconds") == NOW


def test_it_ends_when_it_is_told_to() -> None:
    topic = FakeTopic()
    lists = follower(topic)

    lists.stop()
    assert not lists.step()
    assert topic.closed == 1
