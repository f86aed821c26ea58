"""How a worker is a member of its group: static or not, what it keeps in a rebalance, and what ends it by name."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import structlog
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient

from tests.contracts.worlds import InKafka, events, positions, settled, take, until, values
from worker.broker import BrokerError, KafkaSource, Member
from worker.pipeline.ports import FencedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SESSION = 6.0


@pytest.fixture
def member(in_kafka: InKafka) -> Iterator[Callable[..., KafkaSource]]:
    """Join the group on some terms; all leave after the test."""
    joined: list[KafkaSource] = []

    def join(name: str = "member", **terms: str) -> KafkaSource:
        link = in_kafka.place.as_client(f"{name}-{len(joined)}")
        source = KafkaSource(
            link,
            in_kafka.input,
            in_kafka.place.group,
            session_timeout=SESSION,
            max_poll_interval=30,
            member=Member(**terms),  # type: ignore[arg-type]
        )
        joined.append(source)
        return source

    try:
        yield join
    finally:
        for source in joined:
            source.close()


def feed_all_partitions(world: InKafka, count: int) -> None:
    world.feed(*(event for number in range(count) for event in events(number, key=f"k{number}")))


def test_a_static_member_that_comes_back_within_its_session_disturbs_nobody(
    in_kafka: InKafka, member: Callable[..., KafkaSource]
) -> None:
    first, second = member(static_name="first"), member(static_name="second")
    settled(in_kafka, first, second)
    held = first.assignment()

    first.close()
    again = member(static_name="first")
    until(lambda: not again.poll(0.1) and bool(again.assignment()))

    assert again.assignment() == held
    for _ in range(5):
        second.poll(0.1)
    assert not second.rebalanced()


def test_the_older_of_two_static_members_of_one_name_is_fenced_even_when_there_is_nothing_to_read(
    in_kafka: InKafka, member: Callable[..., KafkaSource]
) -> None:
    older = member(static_name="same")
    settled(in_kafka, older)
    newer = member(static_name="same")
    until(lambda: not newer.poll(0.1) and bool(newer.assignment()))

    def is_fenced() -> bool:
        try:
            older.poll(0.1)
        except FencedError:
            return True
        return False

    until(is_fenced)


def test_a_cooperative_member_goes_on_with_what_it_keeps_while_another_joins_slowly(
    in_kafka: InKafka, member: Callable[..., KafkaSource]
) -> None:
    first = member(rebalance="cooperative")
    settled(in_kafka, first)
    feed_all_partitions(in_kafka, 40)
    read = len(take(first, 40))
    second = member(rebalance="cooperative")
    second.poll(0.01)  # asks to join, and is then busy elsewhere
    sink = in_kafka.sink()
    deadline = time.monotonic() + 3
    more = 40
    while time.monotonic() < deadline:
        feed_all_partitions(in_kafka, 8)
        more += 8
        polled = first.poll(0.2)
        if polled:
            sink.write([], [], positions(polled), first.group_metadata())
        read += len(polled)

    assert more - read <= 16, "it stood still for as long as the other took to join"


def test_partitions_kept_in_a_cooperative_rebalance_are_neither_lost_nor_read_again(
    in_kafka: InKafka, member: Callable[..., KafkaSource]
) -> None:
    first = member(rebalance="cooperative")
    settled(in_kafka, first)
    feed_all_partitions(in_kafka, 40)
    before = {(record.partition, record.offset) for record in take(first, 40)}

    second = member(rebalance="cooperative")
    kept: list[frozenset[tuple[str, int]]] = []
    after = []

    def shared_out() -> bool:
        second.poll(0.05)
        records = first.poll(0.05)
        if first.rebalanced():
            kept.append(first.kept())
            first.rewind(first.kept())
        after.extend(records)
        return len(first.assignment()) == len(second.assignment()) == in_kafka.partitions / 2

    until(shared_out)

    assert kept
    assert frozenset.intersection(*kept) == first.assignment()
    assert not before & {(record.partition, record.offset) for record in after}


def test_partitions_are_kept_also_when_one_poll_goes_through_both_rounds_of_a_cooperative_rebalance(
    in_kafka: InKafka, member: Callable[..., KafkaSource]
) -> None:
    first, second = member(rebalance="cooperative"), member(rebalance="cooperative")
    settled(in_kafka, first)

    def join() -> None:
        until(lambda: not second.poll(0.1) and len(second.assignment()) == in_kafka.partitions / 2)
        feed_all_partitions(in_kafka, 20)  # which ends the poll

    with ThreadPoolExecutor() as threads:
        joining = threads.submit(join)
        assert first.poll(20) == []
        joining.result()

    assert first.rebalanced()
    assert len(first.kept()) == in_kafka.partitions / 2
    assert first.kept() == first.assignment()


def delete_up_to(world: InKafka, partition: int, offset: int) -> None:
    with KafkaAdminClient(**world.place.link.options()) as admin:
        admin.delete_records({TopicPartition(world.input, partition): offset})


@pytest.fixture
def beheaded(in_kafka: InKafka, member: Callable[..., KafkaSource]) -> Callable[..., KafkaSource]:
    """A member whose next record was deleted: it is at 2 of 6 where the first four are gone."""

    def of_policy(policy: str) -> KafkaSource:
        in_kafka.feed(*events(*range(6)))
        source, sink = member("first"), in_kafka.sink()
        settled(in_kafka, source)
        taken = take(source, 6)
        sink.write([], [], positions(taken[:2]), source.group_metadata())
        source.close()
        delete_up_to(in_kafka, taken[0].partition, 4)
        return member("second", out_of_range=policy)

    return of_policy


def test_a_next_record_that_is_gone_stops_the_worker_by_name(
    in_kafka: InKafka, beheaded: Callable[..., KafkaSource]
) -> None:
    source = beheaded("fail")

    with pytest.raises(BrokerError, match=rf"offset 2 of {in_kafka.input}:\d.*HAMGATE_OFFSET_OUT_OF_RANGE"):
        until(lambda: bool(source.poll(0.1)))


@pytest.mark.parametrize(("policy", "left"), [("earliest", [b"4", b"5", b"new"]), ("latest", [b"new"])])
def test_a_next_record_that_is_gone_is_passed_over_loudly_where_that_is_the_policy(
    in_kafka: InKafka, beheaded: Callable[..., KafkaSource], policy: str, left: list[bytes]
) -> None:
    source = beheaded(policy)
    read: list[bytes | None] = []

    with structlog.testing.capture_logs() as said:
        until(lambda: read.extend(values(source.poll(0.1))) or any(e["event"] == "offset out of range" for e in said))
        for _ in range(5):
            read += values(source.poll(0.1))
    in_kafka.feed(*(event for event in events(0)))
    until(lambda: read.extend(values(source.poll(0.1))) or len(read) >= len(left))

    [loud] = [entry for entry in said if entry["event"] == "offset out of range"]
    assert (loud["log_level"], loud["offset"], loud["goes_on_from"]) == ("error", 2, policy)
    assert read[:-1] == left[:-1]
