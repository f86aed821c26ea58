"""The contract between pipeline and broker: the fake and Kafka pass the same tests."""

from __future__ import annotations

from itertools import groupby

import pytest

from tests.contracts.worlds import World, events, positions, settled, take, until, values
from worker.messages import Outgoing
from worker.pipeline.ports import FencedError, RolledBackError


def test_records_of_a_partition_come_in_offset_order_and_each_once(world: World) -> None:
    world.feed(*(event for number in range(100) for event in events(number, key=f"k{number % 7}")))
    source = world.source()
    settled(world, source)

    taken = take(source, 100)

    ordered = sorted(taken, key=lambda record: record.partition)
    for _, records in groupby(ordered, key=lambda record: record.partition):
        offsets = [record.offset for record in records]
        assert offsets == list(range(len(offsets)))
    assert sorted(int(record.value or b"") for record in taken) == list(range(100))


def test_there_is_more_at_hand_after_a_poll_that_brought_as_many_as_one_may(world: World) -> None:
    world.feed(*events(*range(250)))
    source = world.source(max_poll_records=100)
    settled(world, source)
    polled: list[tuple[int, bool]] = []

    def all_there() -> bool:
        polled.append((len(source.poll(0.1)), source.has_more()))
        return sum(count for count, _ in polled) == 250

    until(all_there)
    assert {has_more for count, has_more in polled if count == 100} == {True}
    assert {has_more for count, has_more in polled if count < 100} == {False}


def test_a_record_arrives_as_it_was_sent(world: World) -> None:
    sent = [
        Outgoing(b"key", None, (("first", b"1"), ("first", None), ("empty", b""))),
        Outgoing(b"key", b"\xff\x00", ()),
        Outgoing(None, b"no key", ()),
    ]
    world.feed(*sent)
    source = world.source()
    settled(world, source)

    taken = take(source, 3)

    arrived = [Outgoing(record.key, record.value, record.headers) for record in taken]
    assert sorted(arrived, key=repr) == sorted(sent, key=repr)


def test_what_was_written_is_seen_as_soon_as_write_returns_and_not_before(world: World) -> None:
    world.feed(*events(1, 2, 3))
    source, sink = world.source(), world.sink()
    settled(world, source)
    taken = take(source, 3)
    assert world.read(world.verdicts) == []

    letter = Outgoing(None, b"\xff", (("reason", b"invalid-utf8"), ("theirs", None)))
    sink.write([Outgoing(b"a", b"1"), Outgoing(b"a", b"2")], [letter], positions(taken), source.group_metadata())

    assert values(world.read(world.verdicts)) == [b"1", b"2"]
    [buried] = world.read(world.dead_letters)
    assert Outgoing(buried.key, buried.value, buried.headers) == letter


def test_what_is_committed_is_where_the_next_member_begins(world: World) -> None:
    world.feed(*events(1, 2, 3, 4))
    source, sink = world.source(), world.sink()
    settled(world, source)
    taken = take(source, 4)
    sink.write([], [], positions(taken[:3]), source.group_metadata())
    source.close()

    heir = world.source()
    settled(world, heir)

    assert values(take(heir, 1)) == [b"4"]


def test_offsets_are_committed_also_when_there_is_nothing_to_publish(world: World) -> None:
    world.feed(*events(1, 2))
    source, sink = world.source(), world.sink()
    settled(world, source)
    taken = take(source, 2)

    sink.write([], [], positions(taken), source.group_metadata())
    source.rewind()

    assert source.poll(0.5) == []


def test_rewinding_goes_back_to_what_is_committed_and_to_the_start_where_nothing_is(world: World) -> None:
    world.feed(*events(1, 2, 3))
    source, sink = world.source(), world.sink()
    settled(world, source)
    taken = take(source, 3)

    source.rewind()
    assert values(take(source, 3)) == [b"1", b"2", b"3"]

    sink.write([], [], positions(taken[:2]), source.group_metadata())
    source.rewind()
    assert values(take(source, 1)) == [b"3"]


def test_a_claim_from_before_a_rebalance_is_refused_and_nothing_of_it_is_seen(world: World) -> None:
    world.feed(*events(1, 2, 3))
    source, sink = world.source(), world.sink()
    settled(world, source)
    taken = take(source, 3)
    stale = source.group_metadata()

    other = world.source()
    settled(world, source, other)

    with pytest.raises(RolledBackError):
        sink.write([Outgoing(b"a", b"never seen")], [], positions(taken), stale)
    assert world.read(world.verdicts) == []
    other.close()
    settled(world, source)
    assert values(take(source, 3)) == [b"1", b"2", b"3"]


def test_a_sink_goes_on_after_a_rollback(world: World) -> None:
    world.feed(*events(1, 2, 3))
    source, sink = world.source(), world.sink()
    settled(world, source)
    stale = source.group_metadata()
    other = world.source()
    settled(world, source, other)
    with pytest.raises(RolledBackError):
        sink.write([Outgoing(b"a", b"never seen")], [], {(world.input, 0): 0}, stale)

    sink.write([Outgoing(b"a", b"seen")], [], dict.fromkeys(source.assignment(), 0), source.group_metadata())

    assert values(world.read(world.verdicts)) == [b"seen"]


def test_a_newer_writer_of_the_same_name_fences_the_older(world: World) -> None:
    source, older = world.source(), world.sink("same")
    settled(world, source)
    newer = world.sink("same")

    with pytest.raises(FencedError):
        older.write([Outgoing(b"a", b"the older's")], [], {(world.input, 0): 0}, source.group_metadata())
    newer.write([Outgoing(b"a", b"the newer's")], [], {(world.input, 0): 0}, source.group_metadata())

    assert values(world.read(world.verdicts)) == [b"the newer's"]


def test_two_members_share_the_partitions_and_one_that_leaves_gives_its_own_back(world: World) -> None:
    first, second = world.source(), world.source()
    settled(world, first, second)
    assert len(first.assignment()) == len(second.assignment()) == world.partitions / 2
    assert not first.assignment() & second.assignment()

    second.close()
    settled(world, first)

    assert len(first.assignment()) == world.partitions


def test_no_record_of_a_new_assignment_comes_before_the_news_of_it(world: World) -> None:
    world.feed(*(event for number in range(40) for event in events(number, key=f"k{number}")))
    source = world.source()
    settled(world, source)
    taken = take(source, 40)

    other = world.source()
    was_rebalanced = False

    def both_have_theirs() -> bool:
        nonlocal was_rebalanced
        other.poll(0.05)
        records = source.poll(0.05)
        was_rebalanced = source.rebalanced() or was_rebalanced
        assert was_rebalanced or not records, "records were given again before the news"
        return bool(other.assignment()) and len(source.assignment()) == world.partitions / 2

    until(both_have_theirs)
    assert was_rebalanced
    assert {record.partition for record in taken} == set(range(world.partitions))


def test_the_claim_stays_that_of_the_last_poll(world: World) -> None:
    source = world.source()
    settled(world, source)
    before = source.group_metadata()

    other = world.source()
    for _ in range(5):
        other.poll(0.1)

    assert source.group_metadata() == before


def test_staying_alive_reads_nothing_and_loses_nothing(world: World) -> None:
    source = world.source()
    settled(world, source)
    world.feed(*events(*range(30)))
    first = take(source, 30)

    world.feed(*events(*range(30, 60)))
    for _ in range(20):
        source.keep_alive()

    assert values(first) + values(take(source, 30)) == [b"%d" % number for number in range(60)]


def test_staying_alive_answers_a_rebalance(world: World) -> None:
    first = world.source()
    settled(world, first)
    second = world.source()

    def shared_out() -> bool:
        first.keep_alive()
        second.poll(0.1)
        return len(first.assignment()) == len(second.assignment()) == world.partitions / 2

    until(shared_out)

    assert first.rebalanced()


def test_the_lag_is_what_lies_between_the_last_polled_and_the_end(world: World) -> None:
    world.feed(*events(1, 2, 3))
    source, sink = world.source(), world.sink()
    settled(world, source)
    taken = take(source, 3)
    partition = (taken[0].topic, taken[0].partition)
    assert source.lag()[partition] == 0

    sink.write([], [], positions(taken[:1]), source.group_metadata())
    source.rewind()

    assert source.lag()[partition] == 2


def test_a_key_has_one_partition_and_its_order_holds_across_writes(world: World) -> None:
    source, sink = world.source(), world.sink()
    settled(world, source)
    keys = [b"+4477%05d" % number for number in range(50)]

    for turn in range(3):
        sink.write([Outgoing(key, b"%d" % turn) for key in keys], [], {(world.input, 0): 0}, source.group_metadata())

    by_key: dict[bytes | None, list[tuple[int, bytes | None]]] = {}
    for record in world.read(world.verdicts):
        by_key.setdefault(record.key, []).append((record.partition, record.value))
    assert len(by_key) == 50
    for found in by_key.values():
        assert len({partition for partition, _ in found}) == 1
        assert [value for _, value in found] == [b"0", b"1", b"2"]
