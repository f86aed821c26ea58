"""What the decisions topic holds: the whole state of `hamgate feedback`, one record a key. No text, no number.

Times are Unix seconds. Reporters, subjects and senders are keyed hashes (worker/policy/hashing.py).
"""

from __future__ import annotations

import enum
from typing import Final, TypeAlias

import msgspec

from worker.feedback.reports import ReportedPlace  # noqa: TC001 msgspec reads it at run time


class DecisionState(enum.StrEnum):
    """How far a decision is: a closed set."""

    OPEN = "open"
    """Votes that decide nothing yet, and contradict nobody."""
    DISPUTED = "disputed"
    """In the queue: an analyst has to look."""
    ACCEPTED = "accepted"
    REFUSED = "refused"
    """Nobody decided it in time, or an analyst dismissed it."""


HELD: Final = (DecisionState.OPEN, DecisionState.DISPUTED, DecisionState.ACCEPTED)
"""Those that are held in memory."""


class SaidVerdict(msgspec.Struct, frozen=True, gc=False):
    """What the verdict on the message says."""

    label: str | None
    score: float | None
    action: str


class ReportVote(msgspec.Struct, gc=False):
    """One reporter's word on one text. `trust` as when it was cast; `cohort` is the day of the reporter's first report.

    `credit` is what the vote has changed in the reporter's record: +1, -1 or 0. `is_witnessed`: the report showed that
    its reporter had seen the message.
    """

    reporter: str
    label: str
    trust: float
    cohort: int
    at: float
    is_witnessed: bool = True
    credit: int = 0


class DecisionChange(msgspec.Struct, frozen=True, gc=False):
    """One line of the audit trail: who changed what when, and what it was before. `by` is an author or a rule."""

    at: float
    by: str
    state: DecisionState
    label: str | None
    before: DecisionState | None
    before_label: str | None
    reason: str | None = None


class FeedbackDecision(msgspec.Struct, tag_field="kind", tag="decision"):
    """What is decided of a text. `id` is the place of the report that opened it; `source` one message of that text."""

    id: str
    subject: str
    source: ReportedPlace
    said: SaidVerdict | None
    state: DecisionState
    label: str | None
    votes: list[ReportVote]
    history: list[DecisionChange]
    touched_at: float

    @property
    def is_analysts(self) -> bool:
        """Whether an analyst has the last word on it."""
        return bool(self.history) and self.history[-1].by.startswith(ANALYST)

    @property
    def trusted(self) -> float:
        """The trust of all its votes together."""
        return sum(vote.trust for vote in self.votes)

    @property
    def is_held(self) -> bool:
        """Whether it is kept in memory: what an analyst has dismissed is, so that later votes do not open it anew."""
        return self.state is not DecisionState.REFUSED or self.is_analysts

    def count(self, label: str) -> int:
        """How many have reported it so."""
        return sum(vote.label == label for vote in self.votes)


class ReporterRecord(msgspec.Struct, tag_field="kind", tag="reporter", gc=False):
    """What is known of a reporter: `today` counts reports of `day`, a number of days since 1970."""

    reporter: str
    first_at: float
    last_at: float
    day: int
    today: int
    agreed: int = 0
    disagreed: int = 0


class FirstHalf(msgspec.Struct, tag_field="kind", tag="first-half", gc=False):
    """A text whose sender is yet to be reported; `senders` of messages of this text are keyed hashes."""

    reporter: str
    report: str
    label: str
    subject: str
    source: ReportedPlace
    said: SaidVerdict | None
    senders: tuple[str, ...]
    at: float


class RefusedReport(msgspec.Struct, tag_field="kind", tag="refused", gc=False):
    """A report that counts for nothing, and why."""

    report: str
    reason: str
    at: float


ANALYST: Final = "analyst:"
RULE: Final = "rule:"

FeedbackRecord: TypeAlias = FeedbackDecision | ReporterRecord | FirstHalf | RefusedReport
_encoder: Final = msgspec.json.Encoder()
_record: Final[msgspec.json.Decoder[FeedbackRecord]] = msgspec.json.Decoder(FeedbackRecord)


def key_of(record: FeedbackRecord) -> str:
    """The key under which it lies, so that compaction keeps the last."""
    match record:
        case FeedbackDecision(id=name):
            return f"decision:{name}"
        case ReporterRecord(reporter=name):
            return f"reporter:{name}"
        case FirstHalf(reporter=name):
            return f"first-half:{name}"
        case RefusedReport(report=name):
            return f"refused:{name}"


def encode_record(record: FeedbackRecord) -> bytes:
    """As JSON."""
    return _encoder.encode(record)


def decode_record(value: bytes) -> FeedbackRecord:
    """From JSON. Raises msgspec.DecodeError."""
    return _record.decode(value)
