"""A topic that the console follows: read to its end, said when it is away, read anew when it is another."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Self

import pytest

pytest.importorskip("uvicorn", reason="the console needs the extra `console`")

from console import following
from console.following import Following
from worker.broker import BrokerError, KafkaLink
from worker.messages import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


def until(condition: Callable[[], object], within: float) -> None:
    give_up = time.monotonic() + within
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.002)


class Compacted:
    """A topic in memory, and the connections to it."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.topic_id = "one"
        self.error: Exception | None = None

    def connect(self, *_: object) -> CompactedReader:
        if self.error:
            raise self.error
        return CompactedReader(self)


class CompactedReader:
    def __init__(self, topic: Compacted) -> None:
        self._topic, self._at = topic, 0

    def topic_id(self, _: str) -> str:
        return self._topic.topic_id

    def to_end(self, _: float) -> Iterator[Record]:
        if self._topic.error:
            raise self._topic.error
        new, self._at = self._topic.records[self._at :], len(self._topic.records)
        return (Record("t", 0, n, 0.0, each, each, ()) for n, each in enumerate(new))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Kept:
    def __init__(self) -> None:
        self.found: list[bytes | None] = []

    def take(self, records: Iterable[Record], now: float) -> None:  # noqa: ARG002 as contents have it
        self.found += [record.key for record in records]

    def forget(self) -> None:
        self.found = []


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Compacted:
    topic = Compacted()
    monkeypatch.setattr(following, "Reader", topic.connect)
    monkeypatch.setattr(following, "_AGAIN", 0.01)
    return topic


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def followed(topic: Compacted, kept: Kept) -> Iterator[Following]:  # noqa: ARG001 which it connects to
    made = Following(KafkaLink("127.0.0.1:1"), "sms.lists", kept, every=60)
    made.start()
    until(lambda: made.state()["read_at"], within=10)
    yield made
    made.close()


def test_what_is_there_when_it_is_asked_for_is_read_before_it_is_shown(
    topic: Compacted, kept: Kept, followed: Following
) -> None:
    for each in (b"a", b"b"):
        topic.records.append(each)
        assert followed.catch_up(10)
        assert kept.found[-1] == each
    assert kept.found == [b"a", b"b"]


@pytest.mark.parametrize("error", [BrokerError("sms.lists does not exist"), TimeoutError("no progress"), KeyError("x")])
def test_a_topic_that_is_away_keeps_what_was_read_and_is_read_anew_when_it_is_back(
    topic: Compacted, kept: Kept, followed: Following, error: Exception
) -> None:
    topic.records.append(b"a")
    assert followed.catch_up(10)
    topic.error = error
    followed.catch_up(0.05)
    until(lambda: followed.state()["away_since"], within=10)
    assert followed.state()["cause"] in (str(error), type(error).__name__)
    assert kept.found == [b"a"]
    assert not followed.catch_up(10)  # at once
    topic.error = None
    until(lambda: followed.state()["away_since"] is None, within=10)
    assert kept.found == [b"a"]


def test_a_topic_that_was_made_anew_is_read_from_its_start(topic: Compacted, kept: Kept, followed: Following) -> None:
    topic.records.append(b"a")
    assert followed.catch_up(10)
    topic.records, topic.topic_id = [b"c"], "two"
    until(lambda: followed.catch_up(0.2) and kept.found == [b"c"], within=10)


def test_one_that_is_not_started_or_closed_keeps_nobody_waiting(topic: Compacted, kept: Kept) -> None:
    made: Any = Following(KafkaLink("127.0.0.1:1"), "sms.lists", kept)
    assert not made.catch_up(10)
    made.close()
    assert topic.records == []
    assert not [each for each in threading.enumerate() if each.name == "following sms.lists"]
