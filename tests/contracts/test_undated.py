"""A producer's timestamp that cannot be a time is no message's age."""

from __future__ import annotations

import time

import pytest

from tests.contracts.worlds import InKafka, events, settled, take
from worker.broker import KafkaSource, Publisher


@pytest.mark.parametrize("stamp", [-0.001, 1_700_000.0], ids=["none", "seconds for milliseconds"])
def test_a_record_without_a_timestamp_is_as_old_as_its_poll_and_is_counted(in_kafka: InKafka, stamp: float) -> None:
    counts: list[int] = []
    terms = {"session_timeout": 6, "max_poll_interval": 30, "undated": counts.append}
    source = KafkaSource(in_kafka.place.link, in_kafka.input, in_kafka.place.group, **terms)  # type: ignore[arg-type]
    try:
        settled(in_kafka, source)
        with Publisher(in_kafka.place.link) as publisher:
            publisher.publish(in_kafka.input, events(1), timestamp=stamp)
            publisher.publish(in_kafka.input, events(2))
        began, polled = time.time(), take(source, 2)
    finally:
        source.close()

    undated, ordinary = sorted(polled, key=lambda record: record.value or b"")
    assert began <= undated.timestamp <= time.time()
    assert undated.broker_ms == round(stamp * 1000)
    assert ordinary.stamped is None
    assert sum(counts) == 1
