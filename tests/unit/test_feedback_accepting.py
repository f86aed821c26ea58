"""Which reports are believed: the poisoning test, trust, limits, the audit trail, and bounds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.feedback.accepting import (
    DAILY,
    DAY,
    ENOUGH,
    HALF_LASTS,
    LAPSES,
    LEAST_AGREED,
    Accepting,
    Bounds,
    Correction,
    FoundMessage,
)
from worker.feedback.records import DecisionState, FirstHalf, ReporterRecord, SaidVerdict
from worker.feedback.reports import ReportedPlace, ReportOutcome

NOON = 1_800_000_000.0
PLACE = ReportedPlace("sms.events", 0, 41)
SURE_HAM = SaidVerdict("ham", 0.01, "deliver")
SURE_SPAM = SaidVerdict("spam", 0.99, "flag")
UNSURE = SaidVerdict("ham", 0.4, "deliver")


def found(subject: str = "text", said: SaidVerdict | None = SURE_HAM, *, is_witnessed: bool = True) -> FoundMessage:
    return FoundMessage(subject, PLACE, said, is_witnessed)


class Reports:
    """Reports into a state, each with a place of its own, and the state as it is found after a restart."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        self.accepting = Accepting(bounds or Bounds())
        self.written: dict[bytes | None, bytes | None] = {}
        self._offset = 0

    def report(self, name: str, message: FoundMessage, label: str = "spam", at: float = NOON) -> ReportOutcome:
        self._offset += 1
        if not self.accepting.admit(name, at):
            return ReportOutcome.LIMITED
        return self.accepting.vote(f"0-{self._offset}", name, label, message, at)

    def decide(self, subject: str, label: str | None, author: str = "anna", at: float = NOON) -> ReportOutcome:
        self._offset += 1
        decision = self.accepting.opened(f"0-{self._offset}", found(subject), at)
        return self.accepting.correct(Correction(author, label, None), decision, at)

    def old(self, *names: str, agreed: int = LEAST_AGREED, days: float = 30) -> None:
        """Reporters who have been right for a while, each since a day of his own."""
        for number, name in enumerate(names):
            self.accepting.reporters[name] = ReporterRecord(name, NOON - (days + number) * DAY, NOON, 0, 0, agreed)

    def restarted(self) -> Accepting:
        for each in self.accepting.changes():
            self.written[each.key] = each.value
        made = Accepting(self.accepting.bounds)
        assert made.load(self.written.items()) == 0
        return made

    def states(self) -> set[DecisionState]:
        return {each.state for each in self.accepting.decisions.values()}

    def state(self, subject: str = "text") -> tuple[DecisionState, str | None]:
        decision = self.accepting.of_subject(subject)
        assert decision
        return decision.state, decision.label


@pytest.mark.parametrize("said", [SURE_HAM, UNSURE, None])
def test_a_thousand_false_reports_of_ten_reporters_change_nothing(said: SaidVerdict | None) -> None:
    reports = Reports()

    for number in range(1000):
        reports.report(f"r{number % 10}", found(f"text-{number // 10 % 7}", said), at=NOON + number)

    assert reports.states() <= {DecisionState.OPEN, DecisionState.DISPUTED}
    assert max(len(each.votes) for each in reports.accepting.decisions.values()) == 10
    assert len(reports.accepting.limited) == 10


@pytest.mark.parametrize("said", [SURE_HAM, UNSURE, None])
@pytest.mark.parametrize("texts", [1, 100])
def test_a_thousand_new_reporters_change_nothing(texts: int, said: SaidVerdict | None) -> None:
    reports = Reports()

    for number in range(1000):
        reports.report(f"sybil-{number}", found(f"text-{number % texts}", said), at=NOON + number)

    assert DecisionState.ACCEPTED not in reports.states()


def test_new_reporters_do_not_veto_old_ones() -> None:
    reports = Reports()
    reports.old("a", "b", "c")
    for number in range(25):
        reports.report(f"sybil-{number}", found(), label="ham")

    for name in "abc":
        reports.report(name, found())

    assert reports.state() == (DecisionState.ACCEPTED, "spam")


def test_enough_honest_old_reporters_are_believed_against_a_sure_verdict() -> None:
    reports = Reports()
    reports.old("a", "b", "c")

    after = [(reports.report(name, found()), reports.state()) for name in "abc"]

    assert after == [
        (ReportOutcome.COUNTED, (DecisionState.DISPUTED, None)),
        (ReportOutcome.COUNTED, (DecisionState.DISPUTED, None)),
        (ReportOutcome.COUNTED, (DecisionState.ACCEPTED, "spam")),
    ]
    assert ENOUGH >= 3


def test_reporters_who_came_on_one_day_count_as_one() -> None:
    reports = Reports()
    for number in range(20):
        name = f"farmed-{number}"
        reports.accepting.reporters[name] = ReporterRecord(name, NOON - 30 * DAY, NOON, 0, 0, agreed=50)

    for number in range(20):
        reports.report(f"farmed-{number}", found())

    assert reports.state() == (DecisionState.DISPUTED, None)


@pytest.mark.parametrize(
    "record",
    [
        ReporterRecord("a", NOON - 6 * DAY, NOON, 0, 0, agreed=50),
        ReporterRecord("a", NOON - 60 * DAY, NOON, 0, 0, agreed=LEAST_AGREED - 1),
        ReporterRecord("a", NOON - 60 * DAY, NOON, 0, 0, agreed=5000, disagreed=500),
    ],
)
def test_who_is_young_or_unproven_or_often_wrong_is_worth_too_little(record: ReporterRecord) -> None:
    reports = Reports()
    reports.old("b", "c")
    reports.accepting.reporters["a"] = record

    for name in "abc":
        reports.report(name, found())

    assert reports.state() == (DecisionState.DISPUTED, None)


def test_a_text_passed_on_without_its_sender_weighs_nothing_and_earns_nothing() -> None:
    reports = Reports()
    reports.old("a", "b", "c")

    for name in "abc":
        reports.report(name, found(is_witnessed=False))
        reports.report(name, found("known spam", SURE_SPAM, is_witnessed=False))

    assert reports.state() == (DecisionState.DISPUTED, None)
    assert {each.agreed for each in reports.accepting.reporters.values()} == {LEAST_AGREED}


def test_trust_comes_from_agreeing_with_sure_verdicts_and_analysts_and_goes_with_a_wrong_word() -> None:
    reports = Reports()

    reports.report("a", found("known spam", SURE_SPAM))
    reports.report("a", found("text"))
    reports.decide("text", "spam")
    assert (reports.accepting.reporters["a"].agreed, reports.accepting.reporters["a"].disagreed) == (2, 0)

    reports.decide("text", "ham", author="ben")
    reports.decide("known spam", "ham")

    assert (reports.accepting.reporters["a"].agreed, reports.accepting.reporters["a"].disagreed) == (0, 2)


def test_a_reporter_has_one_vote_on_a_text_and_a_days_number_of_reports() -> None:
    reports = Reports()
    assert reports.report("a", found("text-0")) is ReportOutcome.COUNTED
    assert reports.report("a", found("text-0"), label="ham") is ReportOutcome.DUPLICATE

    rest = [reports.report("a", found(f"text-{number}")) for number in range(1, DAILY)]

    assert rest[-1] is ReportOutcome.LIMITED
    assert rest[-2] is ReportOutcome.COUNTED
    assert reports.report("a", found("text-next"), at=NOON + DAY) is ReportOutcome.COUNTED
    assert reports.accepting.limited == set()


def test_what_is_reported_both_ways_waits_for_an_analyst_whose_word_no_vote_changes() -> None:
    reports = Reports()
    reports.old("a", "b", "c", "d")
    reports.report("x", found(said=UNSURE))
    assert reports.state() == (DecisionState.OPEN, None)
    reports.report("y", found(said=UNSURE), label="ham")
    assert reports.state() == (DecisionState.DISPUTED, None)

    assert reports.decide("text", "ham") is ReportOutcome.DECIDED
    assert reports.decide("text", "ham", author="ben") is ReportOutcome.DUPLICATE
    for name in "abcd":
        reports.report(name, found(said=UNSURE))

    assert reports.state() == (DecisionState.ACCEPTED, "ham")


def test_a_trusted_word_against_it_puts_what_a_rule_accepted_back_into_the_queue() -> None:
    reports = Reports()
    reports.old("a", "b", "c", "d")
    for name in "abc":
        reports.report(name, found())
    assert reports.accepting.reporters["a"].agreed == LEAST_AGREED + 1

    reports.report("d", found(), label="ham")

    assert reports.state() == (DecisionState.DISPUTED, None)
    assert reports.accepting.reporters["a"].agreed == LEAST_AGREED


def test_the_history_names_who_changed_what_when_and_what_it_was_before() -> None:
    reports = Reports()
    reports.old("a", "b", "c")
    for number, name in enumerate("abc"):
        reports.report(name, found(), at=NOON + number)
    reports.decide("text", "ham", at=NOON + 60)
    reports.decide("text", "spam", author="ben", at=NOON + 90)

    decision = reports.restarted().of_subject("text")

    assert decision
    history = [(e.at - NOON, e.by, e.state, e.label, e.before, e.before_label) for e in decision.history]
    assert history == [
        (0, "rule:against-a-sure-verdict", "disputed", None, None, None),
        (2, "rule:trusted-reporters", "accepted", "spam", "disputed", None),
        (60, "analyst:anna", "accepted", "ham", "accepted", "spam"),
        (90, "analyst:ben", "accepted", "spam", "accepted", "ham"),
    ]


def test_what_nobody_decides_is_given_up_and_says_so() -> None:
    reports = Reports()
    reports.report("a", found())
    decision = reports.accepting.of_subject("text")
    assert decision

    assert reports.accepting.lapse(NOON + LAPSES + 1) == 1

    assert (decision.state, decision.history[-1].by) == (DecisionState.REFUSED, "rule:lapsed")
    assert reports.restarted().decisions == {}


def test_a_text_waits_for_its_sender_only_so_long() -> None:
    accepting = Accepting(Bounds(halves=2))
    halves = [FirstHalf(f"r{n}", f"0-{n}", "spam", "text", PLACE, None, (), NOON + n) for n in range(3)]

    assert [accepting.begin(each) for each in halves] == [None, None, halves[0]]
    assert accepting.end("r1") == halves[1]
    assert list(accepting.overdue(NOON + HALF_LASTS)) == []
    assert list(accepting.overdue(NOON + HALF_LASTS + 3)) == [halves[2]]


def test_a_flood_of_new_reporters_and_texts_displaces_no_old_ones() -> None:
    reports = Reports(Bounds(reporters=100, decisions=50, votes=5, halves=5))
    reports.old("a", "b")
    reports.report("a", found("honest"))
    reports.report("b", found("honest"))

    for number in range(2000):
        reports.report(f"sybil-{number}", found(f"text-{number}"), at=NOON + number)
        reports.report(f"sybil-{number}", found("honest"), label="ham", at=NOON + number)

    assert {"a", "b"} <= reports.accepting.reporters.keys()
    assert len(reports.accepting.reporters) <= 100
    assert len(reports.accepting.decisions) <= 50
    decision = reports.accepting.of_subject("honest")
    assert decision
    assert [vote.reporter for vote in decision.votes][:2] == ["a", "b"]
    assert len(decision.votes) == 5
    after = reports.restarted()
    assert after.decisions.keys() == reports.accepting.decisions.keys()
    assert after.reporters == reports.accepting.reporters


def test_a_trusted_vote_finds_room_where_there_is_none() -> None:
    reports = Reports(Bounds(votes=2))
    reports.old("a")
    for name in ("x", "y"):
        reports.report(name, found())

    assert reports.report("z", found()) is ReportOutcome.CROWDED
    assert reports.report("a", found()) is ReportOutcome.COUNTED


actions = st.one_of(
    st.tuples(
        st.just("report"),
        st.sampled_from("abcdefg"),
        st.sampled_from(["t1", "t2", "t3"]),
        st.sampled_from(["ham", "spam"]),
        st.sampled_from([SURE_HAM, SURE_SPAM, UNSURE, None]),
        st.booleans(),
    ),
    st.tuples(st.just("decide"), st.sampled_from(["t1", "t2", "t3"]), st.sampled_from(["ham", "spam", None])),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(actions, max_size=60), st.integers(0, 60))
def test_after_a_restart_at_any_point_all_is_as_without_one(made: list[tuple[object, ...]], cut: int) -> None:
    through, restarted = Reports(), Reports()
    for reports in (through, restarted):
        reports.old("a", "b", "c", "d")
        for record in reports.accepting.reporters.values():
            reports.accepting._mark(record)
    for number, each in enumerate(made):
        if number == cut:
            restarted.accepting = restarted.restarted()
        for reports in (through, restarted):
            if each[0] == "report":
                _, name, subject, label, said, is_witnessed = each
                message = found(str(subject), said, is_witnessed=bool(is_witnessed))  # type: ignore[arg-type]
                reports.report(str(name), message, str(label), at=NOON + number)
            else:
                reports.decide(str(each[1]), each[2] and str(each[2]), at=NOON + number)

    assert restarted.accepting.decisions == through.accepting.decisions
    assert restarted.accepting.reporters == through.accepting.reporters


@settings(max_examples=150, deadline=None)
@given(st.lists(actions, max_size=60))
def test_credits_are_what_the_votes_say_and_nothing_is_accepted_without_enough_or_an_analyst(
    made: list[tuple[object, ...]],
) -> None:
    reports = Reports()
    reports.old("a", "b", "c", "d", agreed=10)
    for number, each in enumerate(made):
        if each[0] == "report":
            _, name, subject, label, said, is_witnessed = each
            message = found(str(subject), said, is_witnessed=bool(is_witnessed))  # type: ignore[arg-type]
            reports.report(str(name), message, str(label), at=NOON + number)
        else:
            reports.decide(str(each[1]), each[2] and str(each[2]), at=NOON + number)

    decisions = reports.accepting.decisions.values()
    for name, record in reports.accepting.reporters.items():
        votes = [vote.credit for each in decisions for vote in each.votes if vote.reporter == name]
        assert record.agreed == votes.count(1) + (10 if name in "abcd" else 0)
        assert record.disagreed == votes.count(-1)
    for decision in decisions:
        assert len({vote.reporter for vote in decision.votes}) == len(decision.votes)
        if decision.state is DecisionState.ACCEPTED and not decision.is_analysts:
            assert sum(vote.trust for vote in decision.votes if vote.label == decision.label) >= ENOUGH
            assert not any(vote.trust for vote in decision.votes if vote.label != decision.label)


def test_what_an_analyst_dismisses_is_no_source_and_later_votes_do_not_open_it_also_after_a_restart() -> None:
    reports = Reports()
    reports.report("a", found())
    assert reports.decide("text", None) is ReportOutcome.DECIDED
    assert reports.decide("text", None) is ReportOutcome.DUPLICATE

    reports.accepting = reports.restarted()
    reports.old("b", "c", "d")
    for name in "bcd":
        assert reports.report(name, found()) is ReportOutcome.COUNTED

    assert reports.state() == (DecisionState.REFUSED, None)
    assert reports.decide("text", "spam", author="ben") is ReportOutcome.DECIDED
    assert reports.state() == (DecisionState.ACCEPTED, "spam")


def test_a_dismissal_lapses_as_all_else_and_is_not_held_after_a_restart() -> None:
    reports = Reports()
    reports.report("a", found())
    reports.decide("text", None)

    assert reports.accepting.lapse(NOON + LAPSES + 1) == 1

    assert reports.restarted().decisions == {}


def test_a_record_that_cannot_be_read_is_counted_and_the_rest_is_taken() -> None:
    reports = Reports()
    reports.report("a", found())
    for each in reports.accepting.changes():
        reports.written[each.key] = each.value

    made = Accepting()

    assert made.load([*reports.written.items(), (b"decision:9-9", b"not json"), (b"x", b'{"kind": "other"}')]) == 2
    assert made.of_subject("text") == reports.accepting.of_subject("text")
