"""The audit's rules, one by one: what is a mismatch, what is none, and what is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.audited import letter, verdict
from worker.audit.answers import Where, dead_letter_source, verdict_source
from worker.audit.ledger import Ledger, MismatchKind
from worker.audit.window import OffsetState, OffsetWindow
from worker.messages import Record

OUT = ("verdicts", 0)
LETTERS = ("letters", 0)


class OnePartition:
    """A ledger of one partition, told things in short; answers take the next offset of their topic."""

    def __init__(self, window: int = 100, floor: int = 0, known: dict[tuple[str, int], int] | None = None) -> None:
        self.ledger = Ledger("events", window)
        self.ledger.begin(0, floor, known)
        self.positions: dict[tuple[str, int], int] = {}

    def read(self, *offsets: int, is_readable: bool | None = True) -> list[bool]:
        self.ledger.visible({0: max(offsets) + 1})
        return [self.ledger.read(0, offset, float(offset), is_readable=is_readable) for offset in offsets]

    def answer(
        self, *offsets: int, place: tuple[str, int] = OUT, topic: str = "events", partition: int = 0
    ) -> list[bool]:
        taken = []
        for offset in offsets:
            at = self.positions.get(place, 0)
            self.positions[place] = at + 1
            taken.append(self.ledger.answer(Where(*place, at), Where(topic, partition, offset)))
        return taken

    def committed(self, offset: int) -> None:
        self.ledger.committed({0: offset}, self.positions)

    def found(self) -> list[tuple[MismatchKind, int | None, int]]:
        return [(each.kind, each.source and each.source.offset, each.count) for each in self.ledger.found()]


def test_records_answered_once_in_order_are_proven() -> None:
    audited = OnePartition()
    audited.read(0, 1, 2)
    audited.answer(0, 1, 2)
    audited.committed(3)

    assert audited.found() == []
    assert (audited.ledger.proven, audited.ledger.progress()) == (3, {0: 3})


def test_a_record_below_the_committed_offset_without_an_answer_is_lost() -> None:
    audited = OnePartition()
    audited.read(0, 1, 2, 3, 4, 5)
    audited.answer(0, 3)
    audited.committed(5)

    assert audited.found() == [(MismatchKind.LOST, 1, 2), (MismatchKind.LOST, 4, 1)]
    assert audited.ledger.mismatches[MismatchKind.LOST] == 3
    assert audited.ledger.progress() == {0: 5}


def test_committed_offsets_of_long_ago_say_nothing_of_what_came_since() -> None:
    audited = OnePartition(window=4)
    for offset in range(20):
        audited.read(offset)
        audited.answer(offset)
    audited.read(20, 21)
    audited.committed(2)

    assert audited.found() == []
    assert audited.ledger.waiting() == 2


def test_an_unreadable_record_without_an_answer_misses_its_dead_letter() -> None:
    audited = OnePartition()
    audited.read(0)
    audited.read(1, is_readable=False)
    audited.committed(2)

    assert audited.found() == [(MismatchKind.LOST, 0, 1), (MismatchKind.MISSING_DEAD_LETTER, 1, 1)]


def test_a_record_answered_again_is_duplicated_once_for_each_time() -> None:
    audited = OnePartition()
    audited.read(0, 1)
    audited.answer(0, 1, 0)
    audited.answer(1, place=LETTERS)

    assert audited.found() == [(MismatchKind.DUPLICATED, 0, 1), (MismatchKind.DUPLICATED, 1, 1)]
    assert audited.ledger.proven == 2


def test_what_was_settled_long_ago_is_still_told_to_be_duplicated() -> None:
    audited = OnePartition(window=10)
    for offset in range(100):
        audited.read(offset)
        audited.answer(offset)

    audited.answer(3)

    assert audited.found() == [(MismatchKind.DUPLICATED, 3, 1)]


def test_an_answer_after_that_of_a_later_record_in_the_same_partition_is_reordered() -> None:
    audited = OnePartition()
    audited.read(0, 1, 2, 3)
    audited.answer(2, 0, 1, 3)

    assert audited.found() == [(MismatchKind.REORDERED, 0, 1), (MismatchKind.REORDERED, 1, 1)]
    assert audited.ledger.proven == 2
    audited.committed(4)
    assert audited.found() == []


def test_answers_in_other_partitions_and_topics_may_come_in_any_order() -> None:
    audited = OnePartition()
    audited.read(0, 1, 2)
    audited.answer(2)
    audited.answer(1, place=("verdicts", 1))
    audited.answer(0, place=LETTERS)

    assert audited.found() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"topic": "other"},
        {"partition": 7},
    ],
)
def test_an_answer_to_what_is_no_input_is_of_a_wrong_source(wrong: dict[str, object]) -> None:
    audited = OnePartition()
    audited.read(0)
    audited.answer(0, **wrong)  # type: ignore[arg-type]

    assert [(kind, count) for kind, _, count in audited.found()] == [(MismatchKind.WRONG_SOURCE, 1)]


def test_an_answer_to_a_tombstone_a_marker_or_an_offset_beyond_the_end_is_of_a_wrong_source() -> None:
    audited = OnePartition()
    audited.read(0)
    audited.read(1, is_readable=None)
    audited.read(3)
    audited.answer(1, 2, 4, -1)

    assert audited.found() == [(MismatchKind.WRONG_SOURCE, offset, 1) for offset in (1, 2, 4, -1)]


def test_an_answer_that_says_no_source_is_of_a_wrong_one() -> None:
    audited = OnePartition()

    assert audited.ledger.answer(Where(*OUT, 5), None)

    [found] = audited.ledger.found()
    assert (found.kind, found.source, found.answer) == (MismatchKind.WRONG_SOURCE, None, Where(*OUT, 5))


def test_an_answer_whose_record_is_not_read_yet_is_to_be_told_again() -> None:
    audited = OnePartition()
    audited.ledger.visible({0: 2})
    audited.ledger.read(0, 0, 0.0, is_readable=True)

    assert audited.answer(1) == [False]
    audited.ledger.read(0, 1, 0.0, is_readable=True)
    assert audited.answer(1) == [True]

    assert audited.found() == []


def test_a_tombstone_needs_no_answer() -> None:
    audited = OnePartition()
    audited.read(0, is_readable=None)
    audited.committed(1)

    assert audited.found() == []
    assert audited.ledger.progress() == {0: 1}
    assert audited.ledger.proven == 0


def test_below_where_the_audit_began_only_what_comes_after_a_proof_is_duplicated() -> None:
    audited = OnePartition(floor=10)
    audited.read(10, 11)
    audited.answer(8, 9, 10)
    assert audited.found() == []
    audited.committed(11)

    audited.answer(9)

    assert audited.found() == [(MismatchKind.DUPLICATED, 9, 1)]


def test_a_restart_knows_the_answers_that_were_seen_before_it() -> None:
    audited = OnePartition(floor=10, known={OUT: 2})
    audited.read(10)
    audited.answer(8, 9, 10, 9)

    assert audited.found() == [(MismatchKind.DUPLICATED, 9, 1)]


def test_reading_stops_while_the_window_is_full_and_goes_on_when_there_is_room() -> None:
    audited = OnePartition(window=3)

    assert audited.read(0, 1, 2, 3) == [True, True, True, False]
    assert audited.ledger.is_paused()
    audited.answer(1, 2)
    assert audited.ledger.is_paused()
    audited.answer(0)

    assert not audited.ledger.is_paused()
    assert audited.read(3) == [True]


def test_a_window_is_shared_by_the_partitions() -> None:
    ledger = Ledger("events", 10)
    for partition in range(5):
        ledger.begin(partition, 0)

    assert [ledger.read(3, offset, 0.0, is_readable=True) for offset in range(3)] == [True, True, False]


def test_a_full_window_that_no_answer_can_empty_gives_up_its_first_records() -> None:
    audited = OnePartition(window=3)
    audited.ledger.visible({0: 9})
    for offset in range(4):
        audited.ledger.read(0, offset, 0.0, is_readable=True)
    assert audited.answer(4) == [False]

    audited.ledger.overflow()

    assert audited.found() == [(MismatchKind.LOST, 0, 2)]
    assert not audited.ledger.is_paused()


def test_a_full_window_whose_answers_are_still_to_come_gives_nothing_up() -> None:
    audited = OnePartition(window=3)
    audited.read(0, 1, 2, 3)

    audited.ledger.overflow()

    assert audited.found() == []


def test_deleted_records_are_skipped_and_counted_and_their_answers_are_no_news() -> None:
    audited = OnePartition()
    audited.read(0)
    assert audited.ledger.skip(0, 5)
    audited.read(5)
    audited.answer(0, 1, 2, 5)
    audited.committed(6)

    assert audited.found() == []
    assert (audited.ledger.skipped, audited.ledger.proven) == (4, 2)


def test_more_deleted_records_than_the_window_holds_are_skipped_once_nothing_waits() -> None:
    audited = OnePartition(window=3)
    audited.read(0)
    assert not audited.ledger.skip(0, 1000)
    audited.answer(0)

    assert audited.ledger.skip(0, 1000)

    assert (audited.ledger.skipped, audited.ledger.positions()) == (999, {0: 1000})
    audited.answer(500)
    assert audited.found() == []


def test_where_answers_were_deleted_nothing_below_the_committed_offset_is_audited() -> None:
    audited = OnePartition()
    audited.read(0, 1, 2)
    audited.answer(1)

    audited.ledger.give_up({0: 2})
    assert (audited.ledger.skipped, audited.ledger.progress()) == (1, {0: 2})
    audited.ledger.give_up({0: 10})

    assert (audited.ledger.skipped, audited.ledger.progress()) == (9, {0: 10})
    assert audited.found() == []


def test_a_late_answer_to_what_was_reported_as_lost_is_no_second_mismatch() -> None:
    audited = OnePartition()
    audited.read(0)
    audited.committed(1)
    audited.answer(0)

    assert audited.found() == [(MismatchKind.LOST, 0, 1)]


def test_the_oldest_record_without_an_answer_is_known_by_its_time() -> None:
    audited = OnePartition()
    assert audited.ledger.oldest() is None
    audited.read(3, 4, 5)
    audited.answer(3, 5)

    assert audited.ledger.oldest() == 4.0
    assert audited.ledger.waiting() == 1


def test_verdicts_and_dead_letters_say_what_they_answer() -> None:
    for outgoing, says in ((verdict(3, 7), verdict_source), (letter(3, 7), dead_letter_source)):
        record = Record("out", 0, 0, 0.0, outgoing.key, outgoing.value, outgoing.headers)
        assert says(record) == Where("events", 3, 7)


@pytest.mark.parametrize("value", [None, b"", b"\xff", b"[]", b"{}", b'{"source": {"topic": "t"}}'])
def test_what_is_no_verdict_or_no_dead_letter_answers_nothing(value: bytes | None) -> None:
    record = Record("out", 0, 0, 0.0, b"k", value)

    assert verdict_source(record) is None
    assert dead_letter_source(record) is None
    headers = letter(0, 0).headers
    forged = (*headers[:-2], ("source-offset", b"\xff"), headers[-1])
    assert dead_letter_source(Record("out", 0, 0, 0.0, b"k", value, forged)) is None


@given(st.lists(st.sampled_from(["read", "tombstone", "gap", "first", "last"]), max_size=300), st.integers(1, 20))
def test_a_window_says_the_same_as_a_list_of_everything(steps: list[str], size: int) -> None:
    window, model = OffsetWindow(5, size), dict[int, OffsetState]()
    position = 5
    for step in steps:
        waiting = [offset for offset, state in model.items() if state is OffsetState.UNANSWERED]
        low = waiting[0] if waiting else position
        if step in {"first", "last"}:
            if waiting:
                offset = waiting[0 if step == "first" else -1]
                window.settle(offset, OffsetState.ANSWERED)
                model[offset] = OffsetState.ANSWERED
        else:
            offset = position + (3 if step == "gap" else 0)
            state = OffsetState.BLANK if step == "tombstone" else OffsetState.UNANSWERED
            is_added = window.add(offset, state, float(offset))
            assert is_added == (offset + 1 - low <= size or (not waiting and offset - position >= size))
            if is_added or window.position > position:  # the gap alone may have found room
                model |= dict.fromkeys(range(position, window.position), OffsetState.BLANK)
                position = window.position
            if is_added:
                model[offset] = state
        waiting = [offset for offset, state in model.items() if state is OffsetState.UNANSWERED]
        assert window.position == position
        assert window.low == (waiting[0] if waiting else position)
        assert window.oldest() == (float(waiting[0]) if waiting else None)
        assert [offset for offset, _ in window.waiting_below(position)] == waiting
        assert all(window.state(offset) in {state, None} for offset, state in model.items())
        assert all(window.state(offset) is model[offset] for offset in range(window.low, position))
        assert position - window.low <= size
