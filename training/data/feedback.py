"""Accepted reports as a training source: texts from the input topic while it keeps them, each with its decision.

A line names the decision, who decided (an analyst or a rule) and when; it never names a reporter. Texts of this file
are real messages: it belongs where the input's texts may lie, and nowhere else.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from training import whole
from training.data.columns import DataError
from worker.feedback.records import ANALYST, DecisionState
from worker.messages import UnreadableError, decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from worker.feedback.records import FeedbackDecision
    from worker.feedback.reports import ReportedPlace
    from worker.messages import Record

KINDS: Final = ("analyst", "rule")
SUFFIXES: Final = (".jsonl", ".ndjson")


class ReportedRow(msgspec.Struct, frozen=True, gc=False):
    """One line of the source."""

    label: str
    text: str
    decision: str
    decided_by: str
    decided_at: str


@dataclass(frozen=True, slots=True)
class ReportedRows:
    """What was collected, by kind; and how many accepted decisions have no text any more."""

    rows: list[ReportedRow] = field(default_factory=list)
    gone: int = 0

    @property
    def kinds(self) -> Counter[str]:
        """How many rows an analyst has decided, and how many a rule."""
        return Counter(row.decided_by for row in self.rows)


def collect(
    decisions: Iterable[FeedbackDecision],
    record_at: Callable[[ReportedPlace], Record | None],
    subjects: Callable[[str], Iterable[str]],
    max_bytes: int,
) -> ReportedRows:
    """The texts of all accepted decisions, in the order of the input; `subjects` gives a text's keyed hashes.

    A text that is not the one that was decided on counts as gone: the topic may have been created anew.
    """
    accepted = [each for each in decisions if each.state is DecisionState.ACCEPTED and each.label]
    accepted.sort(key=lambda each: (each.source.topic, each.source.partition, each.source.offset))
    rows: list[ReportedRow] = []
    for each in accepted:
        text = _text(record_at(each.source), max_bytes)
        if text is None or each.subject not in subjects(text):
            continue
        kind = KINDS[0] if each.history[-1].by.startswith(ANALYST) else KINDS[1]
        at = dt.datetime.fromtimestamp(each.history[-1].at, dt.UTC).isoformat(timespec="seconds")
        rows.append(ReportedRow(each.label or "", text, each.id, kind, at))
    return ReportedRows(rows, len(accepted) - len(rows))


def write(rows: Iterable[ReportedRow], out: Path) -> None:
    """Write rows as JSON lines, which `--data` reads. Raises DataError."""
    require_lines(out)
    lines = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
    with whole.writing(out) as making:
        making.touch(mode=0o600)  # texts of subscribers
        making.write_bytes(lines)


def require_lines(out: Path) -> None:
    """Raise DataError for a name by which `--data` would not read JSON lines."""
    if out.suffix.lower() not in SUFFIXES:
        message = f"{out}: JSON lines are written: name it {' or '.join(SUFFIXES)}"
        raise DataError(message)


def _text(record: Record | None, max_bytes: int) -> str | None:
    if record is None or record.is_tombstone:
        return None
    try:
        text = decode(record, max_bytes=max_bytes).text
    except UnreadableError:
        return None
    return text if text.strip() else None
