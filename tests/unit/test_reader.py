"""Reading a topic to its end takes as long as it takes; only getting nowhere is an error."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition, errors

from worker.broker import BrokerError, KafkaLink, Reader

PARTITION = TopicPartition("letters", 0)


class FakeConsumer:
    """Each poll gets `step` offsets further, without records, as over the markers of transactions."""

    def __init__(self, step: int) -> None:
        self.at, self.step = 0, step
        self._fetcher = SimpleNamespace()
        self.topics = {PARTITION.topic}
        self.is_answered = True

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {PARTITION.partition} if topic in self.topics else set()

    def assign(self, _: object) -> None: ...
    def seek_to_beginning(self) -> None: ...

    def end_offsets(self, _: object) -> dict[TopicPartition, int]:
        if not self.is_answered:
            raise errors.KafkaTimeoutError
        return {PARTITION: 10}

    def position(self, _: object) -> int:
        return self.at

    def poll(self, _: int) -> dict[TopicPartition, list[Any]]:
        self.at += self.step
        return {}


@pytest.fixture
def half_a_minute_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.broker.reader.time.monotonic", itertools.count(0, 30.0).__next__)


def reader(monkeypatch: pytest.MonkeyPatch, step: int, consumer: FakeConsumer | None = None) -> Reader:
    monkeypatch.setattr(KafkaLink, "connect", lambda *_, **__: consumer or FakeConsumer(step))
    monkeypatch.setattr("worker.broker.reader.pause_lookups", lambda _: None)
    return Reader(KafkaLink("nowhere:1"), PARTITION.topic)


@pytest.mark.usefixtures("half_a_minute_a_look")
def test_five_minutes_of_reading_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(reader(monkeypatch, step=1).to_end(within=60)) == []


@pytest.mark.usefixtures("half_a_minute_a_look")
def test_a_minute_without_getting_further_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TimeoutError, match=r"no progress towards the end of .* for 60 s"):
        list(reader(monkeypatch, step=0).to_end(within=60))


@pytest.mark.parametrize(("gone", "named"), [(True, "topic letters does not exist"), (False, "HAMGATE_BROKERS")])
def test_a_topic_that_was_deleted_is_named_in_place_of_the_time_out_that_it_leads_to(
    monkeypatch: pytest.MonkeyPatch, *, gone: bool, named: str
) -> None:
    consumer = FakeConsumer(step=1)
    made = reader(monkeypatch, step=1, consumer=consumer)
    consumer.is_answered = False
    if gone:
        consumer.topics.clear()

    with pytest.raises(BrokerError, match=named):
        list(made.to_end())
