"""From a report to its message, and from there to a vote or a correction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import msgspec

from worker.feedback.accepting import Correction, FoundMessage
from worker.feedback.recent import RecentMessage, short
from worker.feedback.records import FirstHalf
from worker.feedback.reports import (
    DISMISS,
    SPAM,
    FeedbackReport,
    RefusedReportError,
    ReportedPlace,
    ReportOutcome,
    placed,
    read_report,
)
from worker.messages import UnreadableError, decode, decode_verdict
from worker.model.normalise import normalise
from worker.policy.addresses import normal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from worker.feedback.accepting import Accepting
    from worker.feedback.recent import RecentMessages
    from worker.messages import Record, Sms
    from worker.policy.hashing import Hashing


class InputRecords(Protocol):
    """The input topic, for whom it still keeps a message."""

    def at(self, partition: int, offset: int) -> Record | None:
        """Return the record at this place; None: it is not there any more, or was never."""


@dataclass(frozen=True, slots=True)
class Hashes:
    """The keyed hashes under which texts, ids, reporters and senders are known."""

    hashing: Hashing

    def subject(self, text: str) -> str:
        """Of a text: disguises, white space and case make no difference."""
        return self.hashing.of("text", normalise(text).casefold())

    def subjects(self, text: str) -> tuple[str, ...]:
        """Of a text, by every key."""
        return self.hashing.all("text", normalise(text).casefold())

    def id(self, name: str) -> str:
        """Of a message's id."""
        return self.hashing.of("id", name)

    def reporters(self, name: str) -> tuple[str, ...]:
        """Of a reporter, by every key."""
        return self.hashing.all("reporter", normal(name))

    def sender(self, address: str | None) -> str:
        """Of a sender; nothing where there is none."""
        return self.hashing.of("reported-sender", normal(address)) if address else ""


@dataclass(slots=True)
class Joining:
    """Reports in, votes and corrections out. `max_bytes` is that of an event."""

    accepting: Accepting
    recent: RecentMessages
    hashes: Hashes
    input: InputRecords
    max_bytes: int

    def see(self, messages: Iterable[Record], verdicts: Iterable[Record]) -> None:
        """Remember what passes, so that reports find it."""
        self.recent.add([found for record in messages if (found := self._message(record))])
        judged = []
        for record in verdicts:
            try:
                verdict = decode_verdict(record.value or b"")
            except msgspec.DecodeError:  # somebody else's
                continue
            judged.append((self.hashes.id(verdict.id), verdict))
        self.recent.judge(judged)

    def take(self, record: Record, now: float) -> ReportOutcome:
        """Do with a report what is to be done. `now`: when it was sent, in Unix seconds. May raise as `input` does."""
        place = f"{record.partition}-{record.offset}"
        try:
            report = read_report(record, max_bytes=self.max_bytes)
            return self._correction(place, report, now) if report.author is not None else self._vote(place, report, now)
        except RefusedReportError as refused:
            self.accepting.refuse(place, refused.outcome, now)
            return refused.outcome

    def overdue(self, now: float) -> list[ReportOutcome]:
        """Count the texts whose sender was not reported in time: what came of each."""
        return [self._half_alone(half) for half in self.accepting.overdue(now)]

    # --- subscribers --------------------------------------------------------------------------------------------

    def _vote(self, place: str, report: FeedbackReport, now: float) -> ReportOutcome:
        known = self.hashes.reporters(str(report.reporter))
        name = next((each for each in known if each in self.accepting.reporters), known[0])
        label, sender = report.label or SPAM, self.hashes.sender(None if report.sender is None else str(report.sender))
        if report.text is None and report.id is None and report.source is None:
            return self._second_half(name, sender, now)
        if not self.accepting.admit(name, now):
            raise RefusedReportError(ReportOutcome.LIMITED)
        if report.text is None:
            return self._counted(place, name, label, self._named(report), now)
        half = self._first_half(place, name, label, report.text, now)
        if sender:
            return self._counted(place, name, label, _joined(half, sender), now)
        if before := self.accepting.begin(half):
            self._half_alone(before)
        return ReportOutcome.FIRST_HALF

    def _first_half(self, place: str, name: str, label: str, text: str, now: float) -> FirstHalf:
        known = self.hashes.subjects(text)
        found = self.recent.of_text(known[0])
        if not found:
            raise RefusedReportError(ReportOutcome.NOT_FOUND)
        source, senders = found[0][0], tuple(dict.fromkeys(sender for _, sender in found if sender))
        return FirstHalf(name, place, label, self._subject(known), source, self.recent.said_of(source), senders, now)

    def _second_half(self, name: str, sender: str, now: float) -> ReportOutcome:
        half = self.accepting.end(name)
        if half is None:
            raise RefusedReportError(ReportOutcome.NO_TEXT)
        return self._counted(half.report, name, half.label, _joined(half, sender), now)

    def _half_alone(self, half: FirstHalf) -> ReportOutcome:
        """Count a text without its sender: it stands in the queue, and weighs nothing."""
        try:
            return self._counted(half.report, half.reporter, half.label, _joined(half, ""), half.at)
        except RefusedReportError as refused:
            self.accepting.refuse(half.report, refused.outcome, half.at)
            return refused.outcome

    def _counted(self, place: str, name: str, label: str, found: FoundMessage, now: float) -> ReportOutcome:
        outcome = self.accepting.vote(place, name, label, found, now)
        if outcome is not ReportOutcome.COUNTED:
            raise RefusedReportError(outcome)
        return outcome

    # --- analysts -----------------------------------------------------------------------------------------------

    def _correction(self, place: str, report: FeedbackReport, now: float) -> ReportOutcome:
        label = None if report.label == DISMISS else report.label
        said = Correction(report.author or "", label, report.reason)
        if report.decision is not None:
            decision = self.accepting.decisions.get(report.decision)
            if decision is None:
                raise RefusedReportError(ReportOutcome.NOT_FOUND)
        else:
            decision = self.accepting.opened(place, self._named(report), now)
        outcome = self.accepting.correct(said, decision, now)
        if outcome is not ReportOutcome.DECIDED:
            raise RefusedReportError(outcome)
        return outcome

    # --- messages -----------------------------------------------------------------------------------------------

    def _named(self, report: FeedbackReport) -> FoundMessage:
        """The message that a report names by id or place. Raises RefusedReportError."""
        source = report.source or placed(str(report.id)) or self.recent.of_id(self.hashes.id(str(report.id)))
        record = (
            self.input.at(source.partition, source.offset) if source and source.topic == self.recent.topic else None
        )
        sms = self._read(record) if record else None
        if source is None or sms is None:
            raise RefusedReportError(ReportOutcome.NOT_FOUND)
        return FoundMessage(self._subject(self.hashes.subjects(sms.text)), source, self.recent.said_of(source))

    def _subject(self, known: Sequence[str]) -> str:
        """Of a text's hashes by every key: that of the decision on it, else the one by the key in force."""
        return next((each for each in known if self.accepting.of_subject(each)), known[0])

    def _message(self, record: Record) -> RecentMessage | None:
        sms = self._read(record)
        if sms is None:
            return None
        place = ReportedPlace(record.topic, record.partition, record.offset)
        return RecentMessage(self.hashes.subject(sms.text), self.hashes.sender(sms.sender), place)

    def _read(self, record: Record) -> Sms | None:
        if record.is_tombstone:
            return None
        try:
            return decode(record, max_bytes=self.max_bytes)
        except UnreadableError:
            return None


def _joined(half: FirstHalf, sender: str) -> FoundMessage:
    """The message of a text; with the sender that it came from, its reporter has seen it."""
    is_witnessed = bool(sender) and short(sender) in half.senders
    return FoundMessage(half.subject, half.source, half.said, is_witnessed)
