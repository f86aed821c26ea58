"""One report as it lies on its topic. Its text and numbers are read, hashed and forgotten: never logged, never kept."""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from worker.messages import Record

HAM: Final = "ham"
SPAM: Final = "spam"
DISMISS: Final = "dismiss"
"""In the place of a label, an analyst's word that a text is none to learn from."""
LONGEST_REASON: Final = 120
_AUTHOR: Final = re.compile(r"(?=[^A-Za-z]*[A-Za-z])(?!.*\d{5})[A-Za-z0-9._-]{1,64}")
_REASON: Final = re.compile(rf"(?!.*\d{{5}})(?!.*(?:://|@|www\.))[^\x00-\x1f\x7f]{{1,{LONGEST_REASON}}}")
_COLUMN: Final = re.compile(r"[0-9]{1,6}-[0-9]{1,18}")
_NUMBER: Final = re.compile(r"[0-9]{1,18}")


class ReportOutcome(enum.StrEnum):
    """What became of a report: a closed set. The first three are taken, all others refused."""

    COUNTED = "counted"
    DECIDED = "decided"
    FIRST_HALF = "first-half"

    UNREADABLE = "unreadable"
    TOO_LARGE = "too-large"
    NO_MESSAGE = "no-message"
    NO_REPORTER = "no-reporter"
    WRONG_LABEL = "wrong-label"
    WRONG_AUTHOR = "wrong-author"
    WRONG_REASON = "wrong-reason"
    NOT_FOUND = "not-found"
    NO_TEXT = "no-text"
    DUPLICATE = "duplicate"
    LIMITED = "limited"
    CROWDED = "crowded"
    DELETED = "deleted"


TAKEN: Final = frozenset({ReportOutcome.COUNTED, ReportOutcome.DECIDED, ReportOutcome.FIRST_HALF})


class ReportedPlace(msgspec.Struct, frozen=True, gc=False):
    """Where a message lies in the input."""

    topic: str
    partition: int
    offset: int


class FeedbackReport(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A report on the wire. A subscriber's has `reporter`, an analyst's has `author`; unknown fields are ignored."""

    label: str | None = None
    reporter: str | int | None = None
    author: str | None = None
    reason: str | None = None
    id: str | int | None = None
    source: ReportedPlace | None = None
    decision: str | None = None
    text: str | None = None
    sender: str | int | None = None


class RefusedReportError(ValueError):
    """A report that is refused; the text names why, never what it held."""

    def __init__(self, outcome: ReportOutcome) -> None:
        super().__init__(outcome.value)
        self.outcome = outcome


_report: Final = msgspec.json.Decoder(FeedbackReport)


def read_report(record: Record, *, max_bytes: int) -> FeedbackReport:
    """Read and validate one report. Raises RefusedReportError."""
    if record.unreadable or record.value is None:
        raise RefusedReportError(ReportOutcome.UNREADABLE)
    if len(record.value) > max_bytes:
        raise RefusedReportError(ReportOutcome.TOO_LARGE)
    try:
        report = _report.decode(record.value)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        raise RefusedReportError(ReportOutcome.UNREADABLE) from None
    if wrong := fault(report):
        raise RefusedReportError(wrong)
    return report


def fault(report: FeedbackReport) -> ReportOutcome | None:
    """What is wrong with a report; None: nothing."""
    if report.label not in (None, HAM, SPAM) and (report.label != DISMISS or report.author is None):
        return ReportOutcome.WRONG_LABEL
    if (report.author is None) == (report.reporter is None):
        return ReportOutcome.NO_REPORTER  # whose word it is must be clear
    return _subscribers_fault(report) if report.author is None else _analysts_fault(report)


def _subscribers_fault(report: FeedbackReport) -> ReportOutcome | None:
    if not str(report.reporter).strip():
        return ReportOutcome.NO_REPORTER
    named, is_second_half = _named(report), report.sender is not None and bool(str(report.sender).strip())
    is_named = (named == 1 and report.decision is None) or (named == 0 and is_second_half)
    return None if is_named else ReportOutcome.NO_MESSAGE


def _analysts_fault(report: FeedbackReport) -> ReportOutcome | None:
    if not _AUTHOR.fullmatch(report.author or ""):
        return ReportOutcome.WRONG_AUTHOR
    if report.label is None:
        return ReportOutcome.WRONG_LABEL
    is_reason = report.label != DISMISS if report.reason is None else _REASON.fullmatch(report.reason) is not None
    if not is_reason:
        return ReportOutcome.WRONG_REASON
    return None if _named(report) == 1 and report.text is None else ReportOutcome.NO_MESSAGE


def _named(report: FeedbackReport) -> int:
    """In how many ways it names a message."""
    return sum(name is not None and name != "" for name in (report.id, report.source, report.decision, report.text))


def is_decision(name: str) -> bool:
    """Whether it has the form of a decision's id: partition and offset of the report that opened it."""
    return _COLUMN.fullmatch(name) is not None


def placed(name: str) -> ReportedPlace | None:
    """The place that `topic:partition:offset` names; None where it is something else."""
    topic, partition, offset = ([*name.rsplit(":", 2), "", ""])[:3]
    if topic and _NUMBER.fullmatch(partition) and _NUMBER.fullmatch(offset):
        return ReportedPlace(topic, int(partition), int(offset))
    return None
