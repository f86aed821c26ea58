"""The audit's rounds on topics in lists: silent on whatever a right worker does, and it finds what a wrong one did."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.audited import NOON, POISON, TOPICS, Audited, World, letter, verdict
from worker.audit.starting import Start, StartError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.messages import Record

EVENT = b"event"
SETTLED = 6
"""Rounds after which all that is there has been read, however long reading was refused."""


class RightWorker:
    """Answers every record of its partitions once, in order; some transactions are aborted; in the smallest steps."""

    def __init__(self, world: World, dice: random.Random, partitions: Sequence[int], most: int = 4) -> None:
        self.world, self.dice, self.partitions, self.most = world, dice, partitions, most
        self._steps: Iterator[None] = iter(())

    def step(self) -> None:
        """One step of a transaction; of a new one, when the last has ended."""
        try:
            next(self._steps)
        except StopIteration:
            self._steps = self._transaction()

    def finish(self) -> None:
        """Answer all that there is."""
        for _ in self._steps:
            pass
        while any(self._next(partition) < self._end(partition) for partition in self.partitions):
            for _ in self._transaction():
                pass

    def _next(self, partition: int) -> int:
        return self.world.group.get((TOPICS.events, partition), 0)

    def _end(self, partition: int) -> int:
        return len(self.world.logs[TOPICS.events, partition].entries)

    def _transaction(self) -> Iterator[None]:
        spans = {
            partition: (at := self._next(partition), min(self._end(partition), at + self.dice.randint(0, self.most)))
            for partition in self.partitions
        }
        touched, is_aborted = set(), self.dice.random() < 0.2
        offsets = [(partition, offset) for partition, (at, end) in spans.items() for offset in range(at, end)]
        for partition, offset in offsets:
            record = self.world.logs[TOPICS.events, partition].entries[offset]
            if record is None or record.value is None:
                continue
            is_poison = record.value == POISON
            place = (TOPICS.dead_letters, 0) if is_poison else (TOPICS.verdicts, hash((partition, offset % 5)) % 2)
            log = self.world.logs[place]
            log.open.setdefault(self, len(log.entries))
            touched.add(place)
            answer = letter(partition, offset) if is_poison else verdict(partition, offset)
            self.world.append(*place, None if is_aborted else answer)
            yield
        if not is_aborted:  # its offsets can be seen before its records
            self.world.group |= {(TOPICS.events, partition): end for partition, (_, end) in spans.items()}
        for place in self.dice.sample(sorted(touched), len(touched)):
            yield
            self.world.append(*place, None)
            del self.world.logs[place].open[self]


def feed(world: World, dice: random.Random) -> None:
    for _ in range(dice.randint(1, 6)):
        partition = dice.randrange(world.events)
        kind = dice.choices([EVENT, POISON, None, "marker"], [10, 2, 2, 1])[0]
        if kind == "marker":
            world.append(TOPICS.events, partition, None)
        else:
            world.feed(partition, kind)  # type: ignore[arg-type]


def right_workers(world: World, dice: random.Random) -> list[RightWorker]:
    """One for all partitions, or one for each: then their transactions are open side by side."""
    if dice.random() < 0.3:
        return [RightWorker(world, dice, range(world.events))]
    return [RightWorker(world, dice, [partition]) for partition in range(world.events)]


def finish(workers: list[RightWorker]) -> None:
    for worker in workers:
        worker.finish()


def lived(world: World, dice: random.Random, steps: int, window: int) -> Audited:
    """A history: traffic, a right worker, and an audit that now and then is cut off or starts again."""
    workers, audited = right_workers(world, dice), Audited(world, window=window)
    world.failures = random.Random(dice.random())
    for _ in range(steps):
        chosen = dice.random()
        if chosen < 0.1:
            feed(world, dice)
        elif chosen < 0.7:
            dice.choice(workers).step()
        elif chosen < 0.95:
            audited.turn()
        elif chosen < 0.98:
            audited.commit()
        else:
            assert audited.found() == []
            audited = Audited(world, window=window)
    world.failures = None
    finish(workers)
    return audited


@settings(max_examples=200)
@given(st.integers(0, 2**32), st.sampled_from([16, 20, 40, 1000]))
def test_whatever_a_right_worker_does_there_is_no_mismatch_and_all_is_proven(seed: int, window: int) -> None:
    world, dice = World(), random.Random(seed)
    audited = lived(world, dice, 300, window)

    audited.turn(400 if window < 1000 else SETTLED)

    assert audited.found() == []
    ends = {partition: len(world.logs[TOPICS.events, partition].entries) for partition in range(world.events)}
    assert audited.ledger.progress() == ends
    assert audited.ledger.waiting() == audited.ledger.skipped == 0


PLANTS = ["lost", "missing-dead-letter", "duplicated", "reordered", "wrong-source"]


@settings(max_examples=100)
@given(
    seed=st.integers(0, 2**32),
    window=st.sampled_from([20, 1000]),
    plant=st.sampled_from(PLANTS),
    is_restarted=st.booleans(),
)
def test_one_wrong_answer_in_a_right_history_is_found_and_nothing_else_is(
    *, seed: int, window: int, plant: str, is_restarted: bool
) -> None:
    world, dice = World(), random.Random(seed)
    audited = lived(world, dice, 200, window)
    audited.turn(400)
    assert audited.found() == []
    if is_restarted:
        audited.commit()
        audited = Audited(world, window=window)

    entries = world.logs[TOPICS.events, 0].entries
    at = len(entries)
    world.feed(0, EVENT, POISON if plant == "missing-dead-letter" else EVENT, None, EVENT)
    order = {"reordered": [1, 0, 3], "lost": [0, 3], "missing-dead-letter": [0, 3], "duplicated": [0, 1, 0, 3]}
    for index in order.get(plant, [0, 1, 3]):
        world.answered(0, at + index)
    if plant == "wrong-source":
        world.append(TOPICS.verdicts, 1, verdict(0, at + 2))
    world.commit_group(0, at + 4)
    finish(right_workers(world, dice))
    audited.turn(SETTLED)

    index = {"lost": 1, "missing-dead-letter": 1, "wrong-source": 2}.get(plant, 0)
    assert audited.found() == [(plant, 0, at + index)]
    assert audited.ledger.progress()[0] == len(entries)


def test_a_restart_after_its_progress_repeats_nothing_and_misses_nothing() -> None:
    world = World()
    world.feed(0, EVENT, EVENT, EVENT)
    audited = Audited(world)
    for offset in (0, 2):
        world.answered(0, offset, output=1)
    audited.turn()
    audited.commit()
    world.answered(0, 1, output=1)
    world.answered(0, 0, output=1)
    world.commit_group(0, 3)

    after = Audited(world)
    after.turn(SETTLED)

    assert after.found() == [("reordered", 0, 1), ("duplicated", 0, 0)]


def test_a_worker_that_stands_still_pauses_the_audit_which_loses_nothing_by_it() -> None:
    world = World()
    audited = Audited(world, window=20)
    for _ in range(50):
        world.feed(0, EVENT)
    audited.turn(3)
    assert audited.ledger.is_paused()
    assert audited.ledger.waiting() == 10

    RightWorker(world, random.Random(1), [0]).finish()
    audited.turn(50)

    assert audited.found() == []
    assert (audited.ledger.proven, audited.ledger.is_paused()) == (50, False)


def test_a_skip_of_more_than_the_window_is_lost_and_found() -> None:
    world = World()
    audited = Audited(world, window=20)
    for _ in range(60):
        world.feed(0, EVENT)
    for offset in (*range(5), *range(55, 60)):
        world.answered(0, offset)
    world.commit_group(0, 60)

    audited.turn(60)

    assert audited.found() == [("lost", 0, offset) for offset in range(5, 55)]
    assert audited.ledger.proven == 10


def test_a_full_window_waits_for_answers_that_another_workers_transaction_keeps_from_being_read() -> None:
    world = World()
    audited = Audited(world, window=10)
    first, second = world.logs[TOPICS.verdicts, 0], world.logs[TOPICS.verdicts, 1]
    world.feed(0, *[EVENT] * 8)
    world.feed(1, EVENT, EVENT)
    first.open["b"] = 0
    world.answered(1, 0, output=0)
    audited.turn()  # asks how far all is written while nothing can be read
    second.open["c"] = 0
    world.answered(1, 1, output=1)
    for offset in range(8):
        world.answered(0, offset, output=int(offset < 4))
    world.commit_group(0, 8)
    first.open.clear()

    audited.turn(5)
    assert audited.found() == []
    second.open.clear()
    world.commit_group(1, 2)
    audited.turn(SETTLED)

    assert audited.found() == []
    assert audited.ledger.proven == 10


def test_records_deleted_before_they_were_read_are_not_audited() -> None:
    world = World()
    audited = Audited(world)
    world.feed(0, *[EVENT] * 10)
    for offset in range(10):
        world.answered(0, offset)
    world.commit_group(0, 10)
    world.delete(TOPICS.events, 0, below=6)

    audited.turn(SETTLED)

    assert audited.found() == []
    assert (audited.ledger.skipped, audited.ledger.proven) == (6, 4)


def test_answers_deleted_before_they_were_read_make_nothing_look_lost() -> None:
    world = World()
    audited = Audited(world)
    world.feed(0, *[EVENT] * 10)
    for offset in range(10):
        world.answered(0, offset)
    world.commit_group(0, 10)
    world.delete(TOPICS.verdicts, 0, below=6)
    audited.turn(SETTLED)
    world.feed(0, EVENT)
    world.answered(0, 10)
    world.commit_group(0, 11)

    audited.turn(SETTLED)

    assert audited.found() == []
    assert (audited.ledger.skipped, audited.ledger.progress()[0]) == (6, 11)


def test_offsets_that_are_seen_before_their_verdicts_are_make_nothing_look_lost() -> None:
    world = World()
    audited = Audited(world)
    world.feed(0, EVENT)
    world.answered(0, 0)
    world.logs[TOPICS.verdicts, 0].open["worker"] = 0
    world.commit_group(0, 1)

    audited.turn(SETTLED)
    assert audited.found() == []
    world.logs[TOPICS.verdicts, 0].open.clear()
    audited.turn(SETTLED)

    assert audited.found() == []
    assert audited.ledger.proven == 1


def test_partitions_that_are_added_are_audited_from_their_beginning() -> None:
    world = World()
    audited = Audited(world)
    audited.turn()
    more = World(events=3, outputs=3)
    world.logs |= {place: log for place, log in more.logs.items() if place not in world.logs}
    world.feed(2, EVENT, EVENT)
    world.answered(2, 0, output=2)
    world.commit_group(2, 2)

    audited.turn(SETTLED)

    assert audited.found() == [("lost", 2, 1)]


def old_traffic() -> World:
    """Ten records, one a day, of which the fourth and the eighth have no answer."""
    world = World(events=1)
    for day in range(10):
        entries = world.logs[TOPICS.events, 0].entries
        world.feed(0, EVENT)
        entries[-1] = entries[-1] and _at(entries[-1], NOON + 86_400 * day)
        if day not in {3, 7}:
            world.answered(0, day)
            log = world.logs[TOPICS.verdicts, 0].entries
            log[-1] = log[-1] and _at(log[-1], NOON + 86_400 * day + 1)
    world.commit_group(0, 10)
    return world


def _at(record: Record, timestamp: float) -> Record:
    return msgspec.structs.replace(record, timestamp=timestamp)


@pytest.mark.parametrize(
    ("start", "proven", "lost"),
    [
        (Start(), 0, []),
        (Start(since=NOON), 8, [3, 7]),
        (Start(since=NOON + 86_400 * 5 - 60), 4, [7]),
        (Start({0: 0}), 8, [3, 7]),
        (Start({0: 4}), 5, [7]),
        (Start({0: 10}), 0, []),
    ],
)
def test_it_begins_where_the_group_is_or_at_an_offset_or_a_time(start: Start, proven: int, lost: list[int]) -> None:
    audited = Audited(old_traffic(), start=start)

    audited.turn(SETTLED)

    assert audited.found() == [("lost", 0, offset) for offset in lost]
    assert audited.ledger.proven == proven


def test_a_start_whose_answers_may_be_deleted_or_whose_offset_is_not_there_is_refused() -> None:
    world = old_traffic()
    world.delete(TOPICS.verdicts, 0, below=4)

    with pytest.raises(StartError, match=r"partition 0 of verdicts may have had answers .* begins only at 4 now"):
        Audited(world, start=Start({0: 4}))
    with pytest.raises(StartError, match=r"--from-offset 0:11: the partition ends at 10"):
        Audited(world, start=Start({0: 11}))
    with pytest.raises(StartError, match=r"--from-offset 5:0: there is no such partition; there are \[0\]"):
        Audited(world, start=Start({5: 0}))


def test_progress_beyond_the_end_is_of_another_topic() -> None:
    world = old_traffic()
    world.audit_group[TOPICS.events, 0] = (11, "")

    with pytest.raises(StartError, match="the topic was created again"):
        Audited(world)


@pytest.mark.parametrize(
    ("offsets", "since", "start"),
    [
        ([], None, Start()),
        (["0:12", "3:0"], None, Start({0: 12, 3: 0})),
        ([], "2027-01-15T08:00:00Z", Start(since=NOON)),
        ([], "1800000000", Start(since=NOON)),
        ([], "1800000000.5", Start(since=NOON + 0.5)),
    ],
)
def test_a_start_is_read_from_the_command_line(offsets: list[str], since: str | None, start: Start) -> None:
    assert Start.parse(offsets, since) == start


@pytest.mark.parametrize(
    ("offsets", "since"),
    [(["12"], None), (["a:1"], None), (["1:-2"], None), ([], "yesterday"), ([], "2027-01-15T08:00:00"), ([], "12")],
)
def test_a_start_that_cannot_be_meant_is_refused_by_its_option(offsets: list[str], since: str | None) -> None:
    with pytest.raises(ValueError, match=r"--from-(offset|time)"):
        Start.parse(offsets, since)
