"""Behaviour of the Kafka client that would lose or repeat messages, or hang: each found by running it, each averted."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.future import Future
from kafka.structs import ConsumerGroupMetadata

from tests.contracts.worlds import InKafka, configured, events, positions, settled, take, until, values
from worker.broker import AtLeastOnceSink, BrokerError, ExactlyOnceSink, KafkaSource
from worker.broker.client.network import Network, TooLateError
from worker.broker.transactions import Transactions
from worker.messages import Outgoing
from worker.pipeline.ports import RolledBackError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deploy.kafka.node import Node
    from worker.broker import KafkaLink
    from worker.messages import Record


def committed(world: InKafka) -> dict[tuple[str, int], int | None]:
    # Only so does it wait for a transaction whose markers are still being written.
    stable = world.place.link.options(isolation_level="read_committed", enable_auto_commit=False)
    consumer = KafkaConsumer(group_id=world.place.group, **stable)
    try:
        partitions = [TopicPartition(world.input, number) for number in range(world.partitions)]
        return {(world.input, each.partition): consumer.committed(each, timeout_ms=10_000) for each in partitions}
    finally:
        consumer.close(autocommit=False)


@contextmanager
def paused(node: Node, *, for_seconds: float) -> Iterator[None]:
    """A broker that does not answer for a while, its connections open."""
    node.pause()
    timer = threading.Timer(for_seconds, node.resume)
    timer.start()
    try:
        yield
    finally:
        timer.join()


class Slow(list[Outgoing]):
    """Records that take their time: a transaction that outlives its timeout."""

    def __iter__(self) -> Iterator[Outgoing]:
        time.sleep(4)
        return super().__iter__()


class NoText(str):
    """A header's name as C clients may write it: any bytes."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:  # type: ignore[override]
        return b"\xff\xfe"


def test_a_header_whose_name_is_no_text_stops_nobody(in_kafka: InKafka) -> None:
    source = in_kafka.source()
    settled(in_kafka, source)
    in_kafka.feed(Outgoing(b"k", b"0", ((NoText("x"), b"y"),)), *events(1))

    odd, ordinary = take(source, 2)

    assert (odd.headers, odd.value) == ((("\ufffd\ufffd", b"y"),), b"0")
    assert ordinary.value == b"1"


def sink_of(world: InKafka, transaction_timeout: float, link: KafkaLink | None = None) -> ExactlyOnceSink:
    return ExactlyOnceSink(
        link or world.place.as_client("writer"),
        verdict_topic=world.verdicts,
        dead_letter_topic=world.dead_letters,
        transactional_id=f"{world.place.group}.writer",
        transaction_timeout=transaction_timeout,
    )


def test_offsets_of_a_refused_transaction_do_not_leak_into_the_next(in_kafka: InKafka) -> None:
    in_kafka.feed(*(event for number in range(8) for event in events(number, key=f"k{number}")))
    source, sink = in_kafka.source(), in_kafka.sink()
    settled(in_kafka, source)
    stale = source.group_metadata()
    other = in_kafka.source()
    settled(in_kafka, source, other)
    refused = {(in_kafka.input, number): 1 for number in range(in_kafka.partitions)}
    with pytest.raises(RolledBackError):
        sink.write([Outgoing(b"a", b"refused")], [], refused, stale)

    [one, *_] = sorted(source.assignment())
    sink.write([Outgoing(b"a", b"taken")], [], {one: 1}, source.group_metadata())

    assert committed(in_kafka) == {partition: 1 if partition == one else None for partition in refused}


def test_a_claim_of_no_member_is_refused_though_the_broker_would_take_it(in_kafka: InKafka) -> None:
    sink = in_kafka.sink()

    with pytest.raises(RolledBackError):
        sink.write([], [], {(in_kafka.input, 0): 1}, ConsumerGroupMetadata(in_kafka.place.group))


def test_a_broker_that_does_not_answer_is_waited_for_and_its_transaction_rolled_back(
    in_kafka: InKafka, kafka: Node
) -> None:
    in_kafka.feed(*events(1))
    source, sink = in_kafka.source(), sink_of(in_kafka, transaction_timeout=1)
    settled(in_kafka, source)
    taken = take(source, 1)

    with paused(kafka, for_seconds=3), pytest.raises(RolledBackError):
        sink.write([Outgoing(b"a", b"1")], [], positions(taken), source.group_metadata())

    source.rewind()  # it may have been committed, the answer lost: what is committed decides
    again = source.poll(1.0)
    if again:
        sink.write([Outgoing(b"a", b"1")], [], positions(again), source.group_metadata())
    assert values(in_kafka.read(in_kafka.verdicts)) == [b"1"]
    sink.close()


@pytest.mark.long
def test_a_broker_that_stays_away_ends_the_worker_after_its_patience(in_kafka: InKafka, kafka: Node) -> None:
    in_kafka.feed(*events(1))
    impatient = replace(in_kafka.place.link, patience=2)
    source, sink = in_kafka.source(), sink_of(in_kafka, transaction_timeout=1, link=impatient)
    settled(in_kafka, source)
    taken = take(source, 1)

    began = time.monotonic()
    with paused(kafka, for_seconds=8), pytest.raises(BrokerError, match="Timeout"):
        sink.write([Outgoing(b"a", b"1")], [], positions(taken), source.group_metadata())

    assert time.monotonic() - began < 12
    sink.close()


def test_a_transaction_that_outlived_its_timeout_is_rolled_back_not_taken_for_fenced(in_kafka: InKafka) -> None:
    in_kafka.feed(*events(1))
    source, sink = in_kafka.source(), sink_of(in_kafka, transaction_timeout=1)
    settled(in_kafka, source)
    taken = take(source, 1)

    with pytest.raises(RolledBackError):
        sink.write(Slow([Outgoing(b"a", b"late")]), [], positions(taken), source.group_metadata())

    assert in_kafka.read(in_kafka.verdicts) == []
    sink.write([Outgoing(b"a", b"in time")], [], positions(taken), source.group_metadata())
    assert values(in_kafka.read(in_kafka.verdicts)) == [b"in time"]
    sink.close()


def test_a_batch_that_is_refused_is_not_committed_without(in_kafka: InKafka) -> None:
    source, sink = in_kafka.source(), in_kafka.sink()
    settled(in_kafka, source)
    too_large = Outgoing(b"a", os.urandom(2 << 20))

    with pytest.raises(BrokerError, match="TooLarge"):
        sink.write([Outgoing(b"b", b"fits"), too_large], [], {(in_kafka.input, 0): 0}, source.group_metadata())

    assert in_kafka.read(in_kafka.verdicts) == []


@pytest.mark.parametrize(
    ("config", "record", "remedy"),
    [
        ({"cleanup.policy": "compact"}, Outgoing(None, b"v"), "cleanup.policy"),
        ({"message.timestamp.before.max.ms": "0"}, Outgoing(b"k", b"v"), "NTP"),
    ],
    ids=["compacted, without a key", "a clock that is behind"],
)
def test_a_record_that_the_topic_will_never_take_ends_the_worker_at_once_with_what_to_do(
    in_kafka: InKafka, config: dict[str, str], record: Outgoing, remedy: str
) -> None:
    configured(in_kafka.place, in_kafka.verdicts, config)
    source, sink = in_kafka.source(), in_kafka.sink()
    settled(in_kafka, source)
    began = time.monotonic()

    with pytest.raises(BrokerError, match=f"{in_kafka.verdicts}.*{remedy}"):
        sink.write([record], [], {}, source.group_metadata())

    assert time.monotonic() - began < 5


def test_a_poll_of_large_events_brings_what_can_be_read_at_once_and_loses_none(in_kafka: InKafka) -> None:
    source = in_kafka.source()
    settled(in_kafka, source)
    sent = [Outgoing(b"%d" % (number % 7), b"%06d" % number + bytes(150_000)) for number in range(60)]
    in_kafka.feed(*sent)
    polled: list[Sequence[Record]] = []
    more: list[bool] = []

    def all_there() -> bool:
        polled.append(source.poll(0.1))
        more.append(source.has_more())
        return sum(map(len, polled)) >= len(sent)

    until(all_there)
    assert (any(more), more[-1]) == (True, False)
    assert max(sum(len(record.value or b"") for record in poll) for poll in polled) < 5 << 20
    assert sorted(record.value or b"" for poll in polled for record in poll) == [each.value for each in sent]


def test_the_largest_event_fits_as_a_dead_letter(in_kafka: InKafka) -> None:
    source, sink = in_kafka.source(), in_kafka.sink()
    settled(in_kafka, source)
    letter = Outgoing(b"k", bytes(range(256)) * 4096, (("reason", b"too-large"),))

    sink.write([], [letter], {(in_kafka.input, 0): 0}, source.group_metadata())

    [buried] = in_kafka.read(in_kafka.dead_letters)
    assert buried.value == letter.value


def test_what_an_open_transaction_is_about_to_commit_is_waited_for_not_read_past(in_kafka: InKafka) -> None:
    in_kafka.feed(*events(1, 2))
    source = in_kafka.source()
    settled(in_kafka, source)
    taken = take(source, 2)
    other = Transactions(in_kafka.place.as_client("slow"), f"{in_kafka.place.group}.slow", 10)
    deadline = time.monotonic() + 10
    other.send({}, positions(taken), source.group_metadata(), until=deadline)

    rewound = threading.Thread(target=source.rewind)
    rewound.start()
    rewound.join(1)
    assert rewound.is_alive()
    other.commit(until=deadline)
    rewound.join(5)

    assert not rewound.is_alive()
    assert source.poll(0.5) == []
    other.close()


def test_a_transaction_that_never_ends_is_named_as_what_holds_the_offsets(in_kafka: InKafka) -> None:
    in_kafka.feed(*events(1))
    impatient = replace(in_kafka.place.as_client("impatient"), patience=1)
    source = KafkaSource(impatient, in_kafka.input, in_kafka.place.group, session_timeout=6, max_poll_interval=30)
    settled(in_kafka, source)
    taken = take(source, 1)
    other = Transactions(in_kafka.place.as_client("slow"), f"{in_kafka.place.group}.slow", 60)
    other.send({}, positions(taken), source.group_metadata(), until=time.monotonic() + 10)

    with pytest.raises(BrokerError, match="find-hanging"):
        source.rewind()

    other.abort(until=time.monotonic() + 10)
    source.rewind()
    assert values(take(source, 1)) == [b"1"]
    other.close()
    source.close()


def test_partitions_added_while_it_runs_are_picked_up_also_by_short_polls(
    in_kafka: InKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.broker.link._METADATA_AGE", 0.5)
    source = in_kafka.source()
    settled(in_kafka, source)

    with KafkaAdminClient(**in_kafka.place.link.options()) as admin:
        admin.create_partitions({in_kafka.input: in_kafka.partitions + 2})

    def all_held() -> bool:
        source.poll(0.001)
        time.sleep(0.005)
        return len(source.assignment()) == in_kafka.partitions + 2

    until(all_held)
    assert source.rebalanced()


def test_a_partition_that_is_added_waits_seconds_for_its_first_poll_not_a_minute(in_kafka: InKafka) -> None:
    source = in_kafka.source()
    settled(in_kafka, source)

    with KafkaAdminClient(**in_kafka.place.link.options()) as admin:
        admin.create_partitions({in_kafka.input: in_kafka.partitions + 1})

    def all_held() -> bool:
        source.poll(0.1)
        return len(source.assignment()) == in_kafka.partitions + 1

    until(all_held, within=20)


def test_a_member_that_was_put_out_of_the_group_is_told_before_it_is_given_records_again(in_kafka: InKafka) -> None:
    in_kafka.feed(*events(1, 2, 3))
    link = in_kafka.place.as_client("sleeper")
    source = KafkaSource(link, in_kafka.input, in_kafka.place.group, session_timeout=6, max_poll_interval=2)
    sink = in_kafka.sink()
    settled(in_kafka, source)
    taken = take(source, 3)
    stale = source.group_metadata()

    time.sleep(3.5)

    with pytest.raises(RolledBackError):
        sink.write([Outgoing(b"a", b"never seen")], [], positions(taken), stale)
    polled: Sequence[object] = []

    def told() -> bool:
        nonlocal polled
        polled = source.poll(0.1)
        assert not polled
        return source.rebalanced()

    until(told)
    assert values(take(source, 3)) == [b"1", b"2", b"3"]
    source.close()


def test_at_least_once_publishes_then_commits_and_refuses_a_stale_claim(in_kafka: InKafka) -> None:
    in_kafka.feed(*events(1, 2))
    source = in_kafka.source()
    topics = {"verdict_topic": in_kafka.verdicts, "dead_letter_topic": in_kafka.dead_letters}
    sink = AtLeastOnceSink(in_kafka.place.as_client("writer"), **topics)
    settled(in_kafka, source)
    taken = take(source, 2)

    sink.write([Outgoing(b"a", b"1")], [Outgoing(None, b"bad")], positions(taken[:1]), source.group_metadata())
    source.rewind()
    assert values(take(source, 1)) == [b"2"]
    stale = source.group_metadata()
    other = in_kafka.source()
    settled(in_kafka, source, other)
    before = committed(in_kafka)
    with pytest.raises(RolledBackError):
        sink.write([Outgoing(b"a", b"2")], [], positions(taken), stale)

    assert committed(in_kafka) == before
    assert values(in_kafka.read(in_kafka.verdicts)) == [b"1", b"2"]
    assert values(in_kafka.read(in_kafka.dead_letters)) == [b"bad"]
    sink.close()


def test_an_answer_that_came_between_two_commits_is_not_taken_for_one_that_is_late(
    in_kafka: InKafka, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("worker.broker.link._METADATA_AGE", 0.2)
    monkeypatch.setattr("worker.broker.link.REQUEST_TIMEOUT", 2.0)
    in_kafka.feed(*events(1))
    source = in_kafka.source()
    topics = {"verdict_topic": in_kafka.verdicts, "dead_letter_topic": in_kafka.dead_letters}
    sink = AtLeastOnceSink(in_kafka.place.as_client("writer"), **topics)
    settled(in_kafka, source)
    taken = take(source, 1)

    for pause in (0.5, 2.5, 0.0):  # the second commit asks for metadata, too; the third has its answer there
        sink.write([], [], positions(taken), source.group_metadata())
        time.sleep(pause)

    assert not [each.message for each in caplog.records if "timed out" in each.message]
    sink.close()


def test_waiting_for_an_answer_ends_at_its_deadline(in_kafka: InKafka) -> None:
    network = Network(in_kafka.place.as_client("waits"))

    with pytest.raises(TooLateError):
        network.run(Future, until=time.monotonic() + 0.05)

    network.close()
