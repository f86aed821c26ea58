"""The demo's oracle: it must see what is lost, doubled, disordered and misjudged, and be silent otherwise."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.stream import SKIPPED, UNSCORED, VERDICT, Event
from demo.tally import Answer, Confusion, Pace, Tally, disagreements, percentile, sums

EVENTS = [
    Event(0, "clean", b"a", b"{}", VERDICT, is_spam=True),
    Event(1, "clean", b"a", b"{}", VERDICT, is_spam=False),
    Event(2, "clean", b"b", b"{", "invalid-json"),
    Event(3, "leet", b"b", None, SKIPPED),
    Event(4, "leet", b"b", b"{}", UNSCORED),
    Event(5, "leet", b"a", b"{}", VERDICT, is_spam=True),
    Event(6, "burst", b"c", b"{}", VERDICT),
]
ANSWERS = [
    Answer(0, b"a", VERDICT, "spam", 0.9, 0.010),
    Answer(1, b"a", VERDICT, "ham", 0.1, 0.020),
    Answer(2, b"b", "invalid-json", seconds=0.030),
    Answer(4, b"b", UNSCORED, seconds=0.040),
    Answer(5, b"a", VERDICT, "ham", 0.2, 0.050),
    Answer(6, b"c", VERDICT, "ham", 0.2, 0.060),
]


def tally(answers: list[Answer]) -> Tally:
    counted = Tally(EVENTS)
    for answer in answers:
        counted.add(answer)
    return counted


def test_a_sound_run_has_no_failures() -> None:
    counted = tally(ANSWERS)

    assert counted.failures() == []
    assert (counted.verdicts, counted.unscored, counted.dead_letters) == (5, 1, {"invalid-json": 1})
    assert counted.verdicts + counted.dead_letters.total() + 1 == len(EVENTS)


def test_an_event_without_an_answer_is_lost() -> None:
    counted = tally(ANSWERS[:-1])

    assert counted.lost == 1
    assert counted.unanswered({"clean", "leet"}) == 0
    assert counted.unanswered({"burst"}) == 1
    assert counted.failures() == ["1 lost"]


def test_nothing_answered_means_all_but_the_tombstone_is_lost() -> None:
    assert tally([]).lost == len(EVENTS) - 1


def test_a_second_answer_is_a_duplicate_and_neither_judged_nor_timed_again() -> None:
    counted = tally([*ANSWERS, ANSWERS[0]])

    assert counted.failures() == ["1 duplicated"]
    assert counted.confusions["clean"].caught == 1
    assert counted.answered["clean"] == 3


def test_an_event_answered_by_a_verdict_and_by_a_dead_letter_is_a_duplicate() -> None:
    counted = tally([*ANSWERS, Answer(0, b"a", "too-deep")])

    assert counted.failures() == ["1 duplicated"]


def test_a_later_event_read_before_an_earlier_one_of_its_key_is_out_of_order() -> None:
    counted = tally([ANSWERS[1], ANSWERS[0], *ANSWERS[2:]])

    assert counted.failures() == ["1 out of order within their key"]


def test_order_is_only_asked_for_within_a_key_and_a_topic() -> None:
    assert tally(sorted(ANSWERS, key=lambda answer: (answer.key, answer.number))).failures() == []
    assert tally([ANSWERS[3], ANSWERS[2], *ANSWERS[:2], *ANSWERS[4:]]).failures() == []


@pytest.mark.parametrize("stranger", [Answer(-1, b"a", VERDICT), Answer(7, b"a", VERDICT), Answer(0, b"z", VERDICT)])
def test_an_answer_to_what_was_not_sent_or_under_another_key_is_found(stranger: Answer) -> None:
    assert tally([*ANSWERS, stranger]).failures() == ["1 answers to nothing that was sent"]


def test_an_event_answered_otherwise_than_it_had_to_be_is_named() -> None:
    counted = tally([*ANSWERS[:2], Answer(2, b"b", "wrong-type"), *ANSWERS[3:]])

    assert counted.failures() == ["event 2 had to be answered by invalid-json, and was by wrong-type"]


def test_a_tombstone_that_is_answered_is_named() -> None:
    counted = tally([*ANSWERS, Answer(3, b"b", "invalid-json")])

    assert any(failure.startswith("event 3 had to be answered by skipped") for failure in counted.failures())


@given(st.permutations(range(len(ANSWERS))) | st.lists(st.sampled_from(range(len(ANSWERS))), max_size=12))
def test_any_loss_repetition_or_disorder_is_a_failure_and_nothing_else_is(picked: list[int]) -> None:
    counted = tally([ANSWERS[index] for index in picked])

    assert counted.lost == len(ANSWERS) - len(set(picked))
    assert counted.duplicated == len(picked) - len(set(picked))
    assert bool(counted.failures()) == (not _is_sound(picked))


def _is_sound(picked: list[int]) -> bool:
    """Every answer once, those of key `a` (0, 1 and 4) in order; the rest are of different streams."""
    of_a = [index for index in picked if index in (0, 1, 4)]
    return sorted(picked) == list(range(len(ANSWERS))) and of_a == [0, 1, 4]


def test_confusion_is_counted_by_part_and_only_where_there_is_a_label() -> None:
    counted = tally(ANSWERS)

    assert counted.confusions == {"clean": Confusion(caught=1, passed=1), "leet": Confusion(missed=1)}


def test_spam_without_a_score_is_missed_and_ham_without_one_is_not_flagged() -> None:
    counted = tally([Answer(0, b"a", UNSCORED), Answer(1, b"a", UNSCORED)])

    assert counted.confusions["clean"] == Confusion(missed=1, passed=1)


def test_any_label_but_ham_calls_a_message_spam() -> None:
    assert tally([Answer(0, b"a", VERDICT, "smishing")]).confusions["clean"].caught == 1


def test_recall_precision_f1_and_share_of_ham_flagged() -> None:
    confusion = Confusion(caught=8, missed=2, flagged=4, passed=396)

    assert (confusion.recall, confusion.ham_flagged) == (0.8, 0.01)
    assert confusion.precision == pytest.approx(2 / 3)
    assert confusion.f1 == pytest.approx(2 * 0.8 * (2 / 3) / (0.8 + 2 / 3))
    assert math.isnan(Confusion().f1)


@given(st.lists(st.floats(0, 10), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_the_least_value_that_the_share_does_not_pass(values: list[float], share: float) -> None:
    found = percentile(values, share)

    assert sum(value <= found for value in values) >= share * len(values) * (1 - 1e-12)
    assert sum(value < found for value in values) < share * len(values)


def test_percentiles_of_a_hundred() -> None:
    values = [float(n) for n in range(100, 0, -1)]

    assert (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1.0)) == (50.0, 99.0, 100.0)
    assert math.isnan(percentile([], 0.5))


def test_latency_is_over_the_parts_that_are_asked_for() -> None:
    counted = tally(ANSWERS)

    assert counted.latency(1.0, ["clean"]) == 0.030
    assert counted.latency(1.0, ["clean", "leet"]) == 0.050


def test_the_pace_forgets_what_is_older_than_its_span() -> None:
    pace = Pace(span=2.0)
    pace.add(now=10.0, count=100)
    pace.add(now=11.0, count=50)

    assert pace.rate(now=11.0) == 75.0
    assert pace.rate(now=12.5) == 25.0
    assert pace.rate(now=20.0) == 0.0


EXPOSITION = """\
# HELP hamgate_verdicts_total Verdicts committed.
# TYPE hamgate_verdicts_total counter
hamgate_verdicts_total{action="block",label="spam"} 1.0
hamgate_verdicts_total{action="deliver",label="ham"} 3.0
hamgate_verdicts_total{action="unscored",label="none"} 1.0
hamgate_unscored_total{reason="empty-text"} 1.0
hamgate_dead_letters_total{reason="invalid-json"} 1.0
hamgate_tombstones_total 1.0
hamgate_end_to_end_latency_seconds_bucket{le="+Inf"} 6.0
hamgate_end_to_end_latency_seconds_count 6.0
hamgate_end_to_end_latency_seconds_sum 1.25e-1
"""


def test_sums_add_a_series_over_its_labels() -> None:
    totals = sums(EXPOSITION)

    assert totals["hamgate_verdicts_total"] == 5.0
    assert totals["hamgate_end_to_end_latency_seconds_sum"] == 0.125


def test_the_workers_counters_agree_with_the_reader_or_are_named() -> None:
    counted = tally(ANSWERS)

    assert disagreements(counted, sums(EXPOSITION)) == []
    assert disagreements(counted, sums(EXPOSITION.replace('"spam"} 1.0', '"spam"} 2.0'))) == [
        "hamgate_verdicts_total says 6, the reader counted 5"
    ]
    assert len(disagreements(counted, {})) == 5
