"""Which reports are believed: votes, trust and limits, in bounded memory. START HERE for the rules.

A reporter has one vote on a text, and `DAILY` reports a day. A vote weighs what its reporter is worth when it is cast:
nothing before `LEAST_AGE` and `LEAST_AGREED` reports that were right, later the share that was right, wrong ones four
times. Reporters who came on the same day count as one: they may be one person. With `ENOUGH` on one side and nothing on
the other a rule accepts; an analyst's word stands above it. All else against a sure verdict, or on both sides, waits
in the queue for an analyst.

It holds no clock, thread or socket: it is told the time, and `changes` are what must be written to keep it.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import msgspec

from worker.feedback.records import (
    ANALYST,
    RULE,
    DecisionChange,
    DecisionState,
    FeedbackDecision,
    FirstHalf,
    RefusedReport,
    ReporterRecord,
    ReportVote,
    SaidVerdict,
    decode_record,
    encode_record,
    key_of,
)
from worker.feedback.reports import HAM, ReportedPlace, ReportOutcome
from worker.messages import Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from worker.feedback.records import FeedbackRecord

T = TypeVar("T")
DAY: Final = 86_400.0
DAILY: Final = 20
"""Reports of one reporter a day; those above are refused."""
ENOUGH: Final = 3.0
"""Trust that decides: of three reporters at least, since none is worth more than 1."""
LEAST_AGE: Final = 7 * DAY
LEAST_AGREED: Final = 3
MOST_AGREED: Final = 20
"""More of them count no more: an old good name does not cover many lies."""
_LIE: Final = 4
SURE: Final = 0.9
"""A verdict whose label has at least this probability is sure of itself."""
HALF_LASTS: Final = 900.0
"""Seconds that a text waits for its sender."""
LAPSES: Final = 30 * DAY
"""Seconds after its last report that what nobody has decided is given up."""
HISTORY: Final = 100
"""Lines of one audit trail: its first and the newest."""
_TRIM: Final = 64
"""What is over its bound goes in portions of this part of the bound: to choose takes a look at all."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that is held of each kind."""

    reporters: int = 100_000
    decisions: int = 10_000
    votes: int = 30
    halves: int = 10_000


class FoundMessage(NamedTuple):
    """The message that a report names. `is_witnessed`: the report shows that its reporter has seen it."""

    subject: str
    source: ReportedPlace
    said: SaidVerdict | None
    is_witnessed: bool = True


class Correction(NamedTuple):
    """An analyst's word; without a label it dismisses the text."""

    author: str
    label: str | None
    reason: str | None


def trust(reporter: ReporterRecord, now: float) -> float:
    """What a reporter's vote is worth, from 0 to 1."""
    if now - reporter.first_at < LEAST_AGE or reporter.agreed < LEAST_AGREED:
        return 0.0
    agreed = min(reporter.agreed, MOST_AGREED)
    return agreed / (agreed + _LIE * reporter.disagreed)


def sure_label(said: SaidVerdict | None) -> str | None:
    """The label of a verdict that is sure of itself, None of any other."""
    if said is None or said.label is None or said.score is None:
        return None
    probability = 1 - said.score if said.label == HAM else said.score
    return said.label if probability >= SURE else None


@dataclass(slots=True)
class Accepting:
    """All that is known of reports, and what of it has changed since it was last written."""

    bounds: Bounds = field(default_factory=Bounds)
    decisions: dict[str, FeedbackDecision] = field(default_factory=dict)
    reporters: dict[str, ReporterRecord] = field(default_factory=dict)
    halves: OrderedDict[str, FirstHalf] = field(default_factory=OrderedDict)
    limited: set[str] = field(default_factory=set)
    """Reporters who are at today's limit."""
    _by_subject: dict[str, str] = field(default_factory=dict)
    _changed: dict[str, FeedbackRecord | None] = field(default_factory=dict)
    _day: int = 0

    def load(self, records: Iterable[tuple[bytes | None, bytes | None]]) -> int:
        """Take up what was written before: keys and values, the newest of a key last. Return what was not readable."""
        unreadable = 0
        for key, value in records:
            name = (key or b"").decode("utf-8", "replace")
            self._forget(name)
            if value is None:
                continue
            try:
                record = decode_record(value)
            except msgspec.DecodeError:
                unreadable += 1
                continue
            self._put(record)
            self._trim_decisions()
            self._trim_reporters()
        self.halves = OrderedDict(sorted(self.halves.items(), key=lambda item: item[1].at))
        self._changed.clear()  # what was trimmed was no loss: it is written
        return unreadable

    def changes(self) -> list[Outgoing]:
        """What must be written so that `load` finds it; nothing of it a second time."""
        made = [
            Outgoing(key.encode(), None if record is None else encode_record(record))
            for key, record in self._changed.items()
        ]
        self._changed.clear()
        return made

    def of_subject(self, subject: str) -> FeedbackDecision | None:
        """The decision on a text."""
        return self.decisions.get(self._by_subject.get(subject, ""))

    # --- a report's steps ---------------------------------------------------------------------------------------

    def admit(self, name: str, now: float) -> bool:
        """Count a report of a reporter; False when that is more than a day's."""
        reporter, day = self.reporters.get(name), int(now // DAY)
        if day > self._day:
            self._day = day
            self.limited.clear()
        if reporter is None:
            reporter = self.reporters[name] = ReporterRecord(name, now, now, day, 0)
        if day > reporter.day:
            reporter.day, reporter.today = day, 0
        reporter.last_at = max(now, reporter.last_at)
        if reporter.today >= DAILY:
            self.limited.add(name)
            return False
        reporter.today += 1
        self._mark(reporter)
        self._trim_reporters()
        return True

    def begin(self, half: FirstHalf) -> FirstHalf | None:
        """Keep a text until its sender is reported. Return what has to go for it: it counts as it is."""
        before = self.halves.pop(half.reporter, None)
        self.halves[half.reporter] = half
        self._mark(half)
        if before is None and len(self.halves) > self.bounds.halves:
            return self.end(next(iter(self.halves)))
        return before

    def end(self, name: str) -> FirstHalf | None:
        """Take the text of this reporter that waits for its sender."""
        half = self.halves.pop(name, None)
        if half:
            self._changed[key_of(half)] = None
        return half

    def overdue(self, now: float) -> Iterator[FirstHalf]:
        """Take the texts whose sender was not reported in time."""
        while self.halves and now - next(iter(self.halves.values())).at > HALF_LASTS:
            if half := self.end(next(iter(self.halves))):
                yield half

    def vote(self, report: str, name: str, label: str, found: FoundMessage, now: float) -> ReportOutcome:
        """Count a reporter's vote on a message; `report` is the report's place, as partition-offset."""
        decision = self.of_subject(found.subject) or self._opened(report, found, now)
        if any(vote.reporter == name for vote in decision.votes):
            return ReportOutcome.DUPLICATE
        reporter = self.reporters.get(name) or ReporterRecord(name, now, now, int(now // DAY), 1)  # crowded out since
        worth = trust(reporter, now) if found.is_witnessed else 0.0
        if len(decision.votes) >= self.bounds.votes and not self._make_room(decision, worth):
            return ReportOutcome.CROWDED
        cohort = int(reporter.first_at // DAY)
        decision.votes.append(ReportVote(name, label, worth, cohort, now, found.is_witnessed))
        decision.touched_at = now
        decision.said = decision.said or found.said
        if not decision.is_analysts:
            self._judge(decision, now)
        self._credit(decision)
        self._mark(decision)
        self._trim_decisions()
        return ReportOutcome.COUNTED

    def correct(self, said: Correction, decision: FeedbackDecision, now: float) -> ReportOutcome:
        """Set an analyst's word on a text above all votes."""
        state = DecisionState.ACCEPTED if said.label else DecisionState.REFUSED
        if decision.is_analysts and (decision.state, decision.label) == (state, said.label):
            return ReportOutcome.DUPLICATE
        decision.touched_at = now
        self._change(decision, f"{ANALYST}{said.author}", state, said.label, now, reason=said.reason)
        self._credit(decision)
        self._mark(decision)
        self._trim_decisions()
        return ReportOutcome.DECIDED

    def opened(self, report: str, found: FoundMessage, now: float) -> FeedbackDecision:
        """The decision on a message's text, a new one where there is none."""
        return self.of_subject(found.subject) or self._opened(report, found, now)

    def refuse(self, report: str, outcome: ReportOutcome, now: float) -> None:
        """Write down that a report was refused, and why."""
        self._changed[f"refused:{report}"] = RefusedReport(report, str(outcome), now)

    def lapse(self, now: float) -> int:
        """Give up what nobody has decided in time. Return how many."""
        old = [each for each in self.decisions.values() if now - each.touched_at > LAPSES]
        for each in old:
            self._drop(each, "lapsed", now)
        return len(old)

    # --- what decides -------------------------------------------------------------------------------------------

    def _judge(self, decision: FeedbackDecision, now: float) -> None:
        weights, sure = _weights(decision), sure_label(decision.said)
        trusted = [label for label, weight in weights.items() if weight > 0]
        if len(trusted) == 1 and weights[trusted[0]] >= ENOUGH and trusted[0] != sure:
            self._change(decision, f"{RULE}trusted-reporters", DecisionState.ACCEPTED, trusted[0], now)
        elif len(weights) > 1:
            if decision.state is not DecisionState.ACCEPTED or len(trusted) > 1:
                self._change(decision, f"{RULE}both-ways", DecisionState.DISPUTED, None, now)
        elif sure and sure not in weights:
            self._change(decision, f"{RULE}against-a-sure-verdict", DecisionState.DISPUTED, None, now)

    def _credit(self, decision: FeedbackDecision) -> None:
        """Tell reporters who was right: by the decision, or else by a sure verdict who agreed with it."""
        final = decision.label if decision.state is DecisionState.ACCEPTED else None
        sure = sure_label(decision.said)
        for vote in decision.votes:
            credit = (1 if vote.label == final else -1) if final else int(vote.label == sure)
            if not vote.is_witnessed:
                credit = min(0, credit)  # who has only passed on a text may have it from anywhere
            reporter = self.reporters.get(vote.reporter)
            if reporter and credit != vote.credit:
                reporter.agreed += (credit > 0) - (vote.credit > 0)
                reporter.disagreed += (credit < 0) - (vote.credit < 0)
                self._mark(reporter)
            vote.credit = credit

    def _change(  # noqa: PLR0913 a line of the audit trail has so many
        self,
        decision: FeedbackDecision,
        by: str,
        state: DecisionState,
        label: str | None,
        now: float,
        *,
        reason: str | None = None,
    ) -> None:
        is_by_analyst = by.startswith(ANALYST) or decision.is_analysts
        if (state, label) == (decision.state, decision.label) and not is_by_analyst:
            return
        is_first = not decision.history
        before, before_label = (None, None) if is_first else (decision.state, decision.label)
        decision.history.append(DecisionChange(now, by, state, label, before, before_label, reason))
        if len(decision.history) > HISTORY:
            del decision.history[1]
        decision.state, decision.label = state, label

    def _opened(self, report: str, found: FoundMessage, now: float) -> FeedbackDecision:
        made = FeedbackDecision(report, found.subject, found.source, found.said, DecisionState.OPEN, None, [], [], now)
        self._put(made)
        return made

    # --- what is held -------------------------------------------------------------------------------------------

    def _make_room(self, decision: FeedbackDecision, worth: float) -> bool:
        """Of a text that has all the votes it may: whether one without weight made room for one with some."""
        idle = next((at for at, vote in enumerate(decision.votes) if not vote.trust), None)
        if not worth or idle is None:
            return False
        del decision.votes[idle]
        return True

    def _put(self, record: FeedbackRecord) -> None:
        match record:
            case FeedbackDecision():
                if record.is_held:
                    self.decisions[record.id] = record
                    self._by_subject[record.subject] = record.id
            case ReporterRecord():
                self.reporters[record.reporter] = record
            case FirstHalf():
                self.halves[record.reporter] = record

    def _forget(self, key: str) -> None:
        kind, _, name = key.partition(":")
        if kind == "decision" and (decision := self.decisions.pop(name, None)):
            self._by_subject.pop(decision.subject, None)
        elif kind == "reporter":
            self.reporters.pop(name, None)
        elif kind == "first-half":
            self.halves.pop(name, None)

    def _mark(self, record: FeedbackRecord) -> None:
        self._changed[key_of(record)] = record

    def _drop(self, decision: FeedbackDecision, rule: str, now: float) -> None:
        """Hold a decision no longer; on its topic it stays, and where nobody has decided it says so."""
        if decision.state is not DecisionState.ACCEPTED:
            self._change(decision, f"{RULE}{rule}", DecisionState.REFUSED, None, now)
            self._mark(decision)
        self._forget(f"decision:{decision.id}")

    def _trim_decisions(self) -> None:
        for each in _least(self.decisions, self.bounds.decisions, _decision_rank):
            self._drop(each, "crowded-out", each.touched_at)

    def _trim_reporters(self) -> None:
        for each in _least(self.reporters, self.bounds.reporters, lambda each: (each.agreed > 0, each.last_at)):
            del self.reporters[each.reporter]
            self.limited.discard(each.reporter)
            self._changed[key_of(each)] = None


def _decision_rank(decision: FeedbackDecision) -> tuple[bool, bool, float]:
    """What goes first where there is no room: without a trusted vote, then what is decided, then the oldest."""
    is_decided = decision.state in {DecisionState.ACCEPTED, DecisionState.REFUSED}
    is_trusted = any(vote.trust for vote in decision.votes)
    return is_trusted and not is_decided, is_decided, decision.touched_at


def _least(held: dict[str, T], bound: int, rank: Callable[[T], tuple[bool | float, ...]]) -> list[T]:
    """Where more is held than may be: those that go, and a few more, so that this is not asked at each."""
    if len(held) <= bound:
        return []
    return heapq.nsmallest(len(held) - bound + bound // _TRIM, held.values(), key=rank)


def _weights(decision: FeedbackDecision) -> dict[str, float]:
    """The trust behind each label that was reported: of one day's newcomers only that of the best."""
    best: dict[str, dict[int, float]] = defaultdict(dict)
    for vote in decision.votes:
        best[vote.label][vote.cohort] = max(vote.trust, best[vote.label].get(vote.cohort, 0.0))
    return {label: sum(cohorts.values()) for label, cohorts in best.items()}
