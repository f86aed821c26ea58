"""Which dead letters were sent back is known, whatever was chosen in whatever order, and fits in a short note."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.broker.sentback import NoteError, SentBack

OFFSETS = st.sets(st.integers(0, 30))


@given(
    letters=st.dictionaries(st.integers(0, 30), st.sampled_from(["invalid-json", "too-deep"])),
    choices=st.lists(OFFSETS, max_size=4),
)
def test_exactly_what_was_sent_is_held_after_any_replays(letters: dict[int, str], choices: list[set[int]]) -> None:
    note, sent = "", set()
    for chosen in choices:
        sent_back = SentBack.read(note)
        for offset, reason in sorted(letters.items()):
            is_sent = offset in chosen and not sent_back.holds(reason, offset)
            sent_back.meet(reason, offset, is_sent=is_sent)
            sent |= {offset} if is_sent else set()
        note = sent_back.note()

    assert {offset for offset, reason in letters.items() if SentBack.read(note).holds(reason, offset)} == sent


def test_letters_with_none_left_out_between_them_are_one_range() -> None:
    sent_back = SentBack()
    for offset in range(0, 3000, 3):
        sent_back.meet("invalid-json", offset, is_sent=True)
        sent_back.meet("too-deep", offset + 1, is_sent=False)

    assert (sent_back.note(), sent_back.end) == ("invalid-json:0-2998", 2998)


def test_a_later_replay_of_what_lies_between_joins_two_ranges() -> None:
    sent_back = SentBack.read("too-deep:2-5,9-12")
    for offset in (2, 4, 6, 9, 11):
        sent_back.meet("too-deep", offset, is_sent=offset == 6)

    assert sent_back.note() == "too-deep:2-12"


def test_what_the_topic_no_longer_has_is_forgotten() -> None:
    assert SentBack.read("too-deep:2-5,9-12;wrong-type:0-4", begins=5).note() == "too-deep:9-12"


def test_a_note_too_long_for_the_broker_is_refused_with_the_way_out() -> None:
    sent_back = SentBack()
    for offset in range(2000):
        sent_back.meet("invalid-json", offset, is_sent=offset % 2 == 0)

    with pytest.raises(NoteError, match="choose a wider range"):
        sent_back.note()


@pytest.mark.parametrize("note", ["x", "too-deep:5", "too-deep:1-2;", "too-deep:1-2,,3-4"])
def test_a_note_that_is_not_ours_is_refused(note: str) -> None:
    with pytest.raises(NoteError, match="not a note"):
        SentBack.read(note)
