"""The hand-over from reading to judging, across threads and epochs."""

from __future__ import annotations

import threading
import time

from worker.messages import Record
from worker.pipeline.batch import Batch, Waiting
from worker.pipeline.batching import MicroBatcher
from worker.pipeline.inbox import Inbox

METADATA, LATER = object(), object()


def waiting(offset: int, *, partition: int = 0, timestamp: float = 0.0) -> Waiting:
    return Waiting(Record("in", partition, offset, timestamp, None, b"{}"), polled_at=timestamp)


def inbox(*, max_messages: int = 2, latency_budget: float = 10.0, now: float = 0.0) -> Inbox:
    return Inbox(MicroBatcher(1000, max_messages, latency_budget), clock=lambda: now)


def take_soon(box: Inbox) -> list[Batch | None]:
    taken: list[Batch | None] = []
    thread = threading.Thread(target=lambda: taken.append(box.take()), daemon=True)
    thread.start()
    thread.join(5)
    return taken


def test_a_batch_holds_what_to_commit_next_for_each_partition() -> None:
    box = inbox(max_messages=3)
    box.offer([waiting(4), waiting(9, partition=1), waiting(5)], ownership=0, metadata=METADATA)

    [batch] = take_soon(box)

    assert batch is not None
    assert batch.positions == {("in", 0): 6, ("in", 1): 10}
    assert (batch.metadata, batch.ownership) == (METADATA, 0)


def test_what_waits_leaves_as_soon_as_nothing_more_is_at_hand() -> None:
    box = inbox(max_messages=100)
    box.offer([waiting(0)], ownership=0, metadata=METADATA, more=True)
    taken: list[Batch | None] = []
    thread = threading.Thread(target=lambda: taken.append(box.take()), daemon=True)
    thread.start()
    time.sleep(0.05)
    assert taken == []

    box.offer([waiting(1)], ownership=0, metadata=METADATA)
    thread.join(5)

    assert [item.record.offset for batch in taken if batch for item in batch.items] == [0, 1]


def test_nothing_that_is_at_hand_releases_what_waits_too() -> None:
    box = inbox(max_messages=100)
    box.offer([waiting(0)], ownership=0, metadata=METADATA, more=True)
    box.offer([], ownership=0, metadata=METADATA)

    [batch] = take_soon(box)

    assert batch is not None
    assert [item.record.offset for item in batch.items] == [0]


def test_what_was_polled_in_an_earlier_epoch_is_let_go() -> None:
    box = inbox()
    box.offer([waiting(0)], ownership=0, metadata=METADATA)

    box.restart()
    box.offer([waiting(1)], ownership=0, metadata=METADATA)
    box.offer([waiting(0), waiting(1)], ownership=1, metadata=LATER)
    [batch] = take_soon(box)

    assert batch is not None
    assert [item.record.offset for item in batch.items] == [0, 1]
    assert (batch.ownership, batch.metadata) == (1, LATER)


def test_a_batch_is_fenced_by_the_first_claim_of_its_epoch() -> None:
    box = inbox()
    box.offer([waiting(0)], ownership=0, metadata=METADATA)
    box.offer([waiting(1)], ownership=0, metadata=LATER)

    [batch] = take_soon(box)

    assert batch is not None
    assert batch.metadata is METADATA


def test_the_source_is_told_to_rewind_once_for_each_epoch_that_ended() -> None:
    box = inbox()
    assert box.begin() == (0, None)

    box.restart()
    box.restart()

    assert box.begin() == (2, frozenset())
    assert box.begin() == (2, None)


def test_a_kept_partition_goes_on_under_the_new_claim_and_a_lost_one_does_not() -> None:
    box = inbox(max_messages=2)
    box.offer(
        [waiting(0), waiting(7, partition=1), waiting(1), waiting(8, partition=1)], ownership=0, metadata=METADATA
    )
    [taken] = take_soon(box)
    assert taken is not None

    box.move(frozenset({("in", 1)}), LATER)

    ours = box.still_owned(taken)
    assert ours is not None
    assert (ours.positions, ours.metadata) == ({("in", 1): 8}, LATER)
    box.offer([], ownership=1, metadata=LATER)
    [left] = take_soon(box)
    assert left is not None
    assert (left.positions, left.metadata) == ({("in", 1): 9}, LATER)
    assert box.begin() == (1, frozenset({("in", 1)}))


def test_a_partition_that_was_lost_and_came_back_is_not_ours_as_it_was() -> None:
    box = inbox(max_messages=1)
    box.offer([waiting(0)], ownership=0, metadata=METADATA)
    [taken] = take_soon(box)
    assert taken is not None

    box.move(frozenset(), LATER)
    box.move(frozenset({("in", 0)}), LATER)

    assert box.still_owned(taken) is None


def test_after_a_restart_nothing_is_kept_until_the_reader_has_gone_back() -> None:
    box = inbox()

    box.restart()
    box.move(frozenset({("in", 0)}), LATER)

    assert box.begin() == (2, frozenset())


def test_there_is_room_for_two_batches_and_no_more() -> None:
    box = inbox(max_messages=2)

    box.offer([waiting(n) for n in range(3)], ownership=0, metadata=METADATA)
    assert box.has_room(wait=0)
    box.offer([waiting(3)], ownership=0, metadata=METADATA)
    assert not box.has_room(wait=0)
    take_soon(box)
    assert box.has_room(wait=0)


def test_a_closed_inbox_hands_out_nothing_more() -> None:
    box = inbox()
    box.offer([waiting(0), waiting(1)], ownership=0, metadata=METADATA)

    box.close()

    assert take_soon(box) == [None]


def held_back(box: Inbox) -> None:
    """Have the writer at work on one batch, when it has learnt that it takes a second."""
    box.offer([waiting(0)], ownership=0, metadata=METADATA)
    [first] = take_soon(box)
    assert first is not None
    box.judged(first, 0.001)
    box.begin_writing(1)
    box.end_writing(1, 5.0)
    box.judged(first, 0.001)
    box.begin_writing(1)
    box.offer([waiting(1)], ownership=0, metadata=METADATA)


def test_a_batch_goes_on_filling_while_it_would_only_wait_for_the_writer() -> None:
    box = inbox(max_messages=100)
    held_back(box)
    taken: list[Batch | None] = []
    thread = threading.Thread(target=lambda: taken.append(box.take()), daemon=True)
    thread.start()
    box.offer([waiting(2)], ownership=0, metadata=METADATA)
    assert taken == []

    box.end_writing(1, 0.001)
    thread.join(5)

    assert [item.record.offset for batch in taken if batch for item in batch.items] == [1, 2]


def test_a_full_batch_is_not_held_back() -> None:
    box = inbox(max_messages=2)
    held_back(box)
    box.offer([waiting(2)], ownership=0, metadata=METADATA)

    [batch] = take_soon(box)

    assert batch is not None
    assert [item.record.offset for item in batch.items] == [1, 2]
