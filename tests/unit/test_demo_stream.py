"""The demo's events: everything it says, in order, each event known by its number and by how it must be answered."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from demo.held_out import SHOWN, are_unseen, held_out
from demo.stream import (
    BURST,
    CLEAN,
    ODD,
    SKIPPED,
    TODAY,
    UNSCORED,
    VERDICT,
    WARM_UP,
    Event,
    Row,
    paced_and_burst,
    parts,
    programme,
)
from training.data import split as data
from worker.messages import Record, Unreadable, UnreadableError, decode
from worker.model.normalise import normalise
from worker.settings import Settings

ROWS = [Row(f"message {number}", number % 5 == 0) for number in range(40)]
DISGUISES = {"shouted": lambda text, _: text.upper(), "backwards": lambda text, _: text[::-1]}
LIMIT = int(Settings.model_fields["max_event_bytes"].default)


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return programme(ROWS, DISGUISES, burst=100)


def answer(event: Event) -> str:
    """The outcome of an event by the worker's own decoding."""
    if event.value is None:
        return SKIPPED
    try:
        sms = decode(Record("sms.events", 0, 0, 1_764_000_000.0, event.key, event.value), max_bytes=LIMIT)
    except UnreadableError as error:
        return error.reason
    assert sms.id == str(event.number)
    return VERDICT if normalise(sms.text) else UNSCORED


def test_events_are_numbered_by_their_place(events: list[Event]) -> None:
    assert [event.number for event in events] == list(range(len(events)))
    assert len(events) == 900 + 3 * len(ROWS) + len(ODD) + 100


def test_parts_follow_each_other_and_the_burst_is_last(events: list[Event]) -> None:
    assert parts(events) == [WARM_UP, CLEAN, "shouted", "backwards", BURST]
    changes = sum(one.part != other.part for one, other in itertools.pairwise(events))
    assert changes == 4


def test_each_part_holds_every_message_in_its_disguise(events: list[Event]) -> None:
    for part, changed in ((CLEAN, str), ("shouted", str.upper), ("backwards", lambda text: text[::-1])):
        sent = Counter(
            (event.text, event.is_spam) for event in events if event.part == part and event.text.strip(" \u200b")
        )
        assert sent == Counter((changed(row.text), row.is_spam) for row in ROWS)


def test_every_event_must_be_answered_as_the_worker_reads_it(events: list[Event]) -> None:
    assert [event.expected for event in events] == [answer(event) for event in events]


def test_every_reason_for_a_dead_letter_is_shown_once(events: list[Event]) -> None:
    odd = Counter(event.expected for event in events) - Counter({VERDICT: len(events)})

    by_value = set(Unreadable) - {Unreadable.TOO_MANY_HEADERS, Unreadable.UNREADABLE_BATCH}
    assert odd == Counter([*by_value, SKIPPED, UNSCORED])


def test_only_what_is_neither_odd_nor_repeated_is_judged(events: list[Event]) -> None:
    assert {event.part for event in events if event.is_spam is not None} == {CLEAN, "shouted", "backwards"}
    assert [event for event in events if event.part == WARM_UP and event.expected != VERDICT] == []


def test_odd_events_come_at_a_pace_and_carry_no_label(events: list[Event]) -> None:
    paced, burst = paced_and_burst(events)

    assert [event for event in paced if event.expected != VERDICT and event.is_spam is not None] == []
    assert [event for event in burst if event.expected != VERDICT or event.is_spam is not None] == []
    assert paced + burst == events


def test_the_same_stream_is_sent_every_time(events: list[Event]) -> None:
    assert programme(ROWS, DISGUISES, burst=100) == events


def test_senders_are_numbers_that_belong_to_nobody(events: list[Event]) -> None:
    assert all(event.key.startswith(b"+447700900") and len(event.key) == 13 for event in events)


@pytest.mark.long
def test_todays_messages_stand_behind_the_disguises_with_their_kinds() -> None:
    some = [Row(f"message {number}", is_spam=False, kind="ham/delivery") for number in range(30)]

    events = programme(held_out()[:200], {}, burst=0, today=some)

    assert parts(events) == [WARM_UP, CLEAN, TODAY]
    assert sum(event.kind == "ham/delivery" for event in events) == len(some)


def test_held_out_messages_are_none_that_the_shipped_model_was_trained_on() -> None:
    split = data.split(data.prepare().rows, 0)
    rows = held_out()

    assert {row.text for row in rows} == {row.text for row in split.test}
    assert {data.key(row.text) for row in rows}.isdisjoint(data.key(row.text) for row in split.train)
    assert Counter(row.is_spam for row in rows) == {
        True: sum(row.label == "spam" for row in split.test),
        False: sum(row.label == "ham" for row in split.test),
    }


def test_the_shipped_model_says_that_it_was_made_without_them() -> None:
    assert are_unseen()


def test_the_four_disguises_leave_something_to_judge() -> None:
    events = programme(held_out()[:200], SHOWN, burst=0)

    assert parts(events) == [WARM_UP, CLEAN, *SHOWN]
    assert [event.number for event in events if event.expected == VERDICT and answer(event) != VERDICT] == []
