"""A group without a committed offset: new, new in a partition, or forgotten."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from kafka.admin import KafkaAdminClient

from tests.contracts.test_kafka_traps import committed
from tests.contracts.worlds import InKafka, events, positions, settled, take, until, values
from worker.broker import BrokerError, KafkaSource
from worker.broker.transactions import Transactions
from worker.messages import Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VERDICT = Outgoing(b"k", b"{}")


@pytest.fixture
def member(in_kafka: InKafka) -> Iterator[Callable[..., KafkaSource]]:
    """Join as the worker does: it tells the source where its verdicts go."""
    joined: list[KafkaSource] = []

    def join(group: str = "") -> KafkaSource:
        link, terms = in_kafka.place.as_client(f"member-{len(joined)}"), {"session_timeout": 6, "max_poll_interval": 30}
        group = group or in_kafka.place.group
        joined.append(KafkaSource(link, in_kafka.input, group, verdict_topic=in_kafka.verdicts, **terms))  # type: ignore[arg-type]
        return joined[-1]

    yield join
    for source in joined:
        source.close()


def test_a_group_that_is_new_says_so_before_it_judges(in_kafka: InKafka, member: Callable[..., KafkaSource]) -> None:
    in_kafka.feed(*events(1, 2))

    source = member()
    settled(in_kafka, source)

    assert committed(in_kafka) == {(in_kafka.input, number): 0 for number in range(in_kafka.partitions)}
    assert values(take(source, 2)) == [b"1", b"2"]


def test_a_first_start_whose_first_transaction_was_rolled_back_is_still_a_first_start(
    in_kafka: InKafka, member: Callable[..., KafkaSource]
) -> None:
    in_kafka.feed(*events(1, 2))
    first = member()
    settled(in_kafka, first)
    taken = take(first, 2)
    transactions, until_ = Transactions(in_kafka.place.link, f"{in_kafka.place.group}.w", 10), time.monotonic() + 20
    transactions.send({in_kafka.verdicts: [VERDICT]}, positions(taken), first.group_metadata(), until=until_)
    transactions.abort(until=until_)
    transactions.close()
    first.close()

    second = member()
    settled(in_kafka, second)

    assert values(take(second, 2)) == [b"1", b"2"]


def test_a_mistyped_group_stops_by_name_and_count(in_kafka: InKafka, member: Callable[..., KafkaSource]) -> None:
    in_kafka.feed(*events(1, 2, 3))
    source = member()
    settled(in_kafka, source)
    taken = take(source, 3)
    in_kafka.sink().write([VERDICT], [], positions(taken), source.group_metadata())

    other = member(group=f"{in_kafka.place.group}-typo")

    place = rf"{in_kafka.input}:{taken[0].partition} \(3 messages\)"
    with pytest.raises(BrokerError, match=rf"-typo has no position in {place}, but .*OFFSET_OUT_OF_RANGE"):
        settled(in_kafka, other)


def test_a_partition_that_is_added_is_no_forgotten_one(
    in_kafka: InKafka, member: Callable[..., KafkaSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.broker.link._METADATA_AGE", 0.5)
    in_kafka.feed(*events(1))
    source = member()
    settled(in_kafka, source)
    in_kafka.sink().write([VERDICT], [], positions(take(source, 1)), source.group_metadata())
    with KafkaAdminClient(**in_kafka.place.link.options()) as admin:
        admin.create_partitions({in_kafka.input: in_kafka.partitions + 1})
    time.sleep(1)
    in_kafka.feed(*(each for number in range(40) for each in events(number, key=f"k{number}")))

    found: list[Any] = []

    def all_read() -> bool:
        polled = source.poll(0.1)
        if source.rebalanced():
            source.rewind(source.kept())
            found.clear()
        else:
            found.extend(polled)
        return {each.partition for each in found} >= {in_kafka.partitions}

    until(all_read)
    assert min(each.offset for each in found if each.partition == in_kafka.partitions) == 0


def test_an_offset_that_is_there_is_left_as_it_is(in_kafka: InKafka, member: Callable[..., KafkaSource]) -> None:
    in_kafka.feed(*events(1, 2, 3))
    first = member()
    settled(in_kafka, first)
    in_kafka.sink().write([VERDICT], [], positions(take(first, 3)), first.group_metadata())
    before = committed(in_kafka)

    second = member()
    settled(in_kafka, first, second)

    assert committed(in_kafka) == before
