"""Accepted reports as a training source: what is collected, what is gone, and that `--data` reads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.audited import NOON
from training.data import feedback, sources
from training.data.columns import DataError
from training.data.feedback import collect, write
from training.data.split import LABELS
from worker.feedback.records import DecisionChange, DecisionState, FeedbackDecision
from worker.feedback.reports import ReportedPlace
from worker.messages import Record

MAX_BYTES = 65_536


def decided(
    offset: int, label: str | None, *by: str, state: DecisionState = DecisionState.ACCEPTED
) -> FeedbackDecision:
    history = [DecisionChange(NOON + n, each, state, label, None, None) for n, each in enumerate(by)]
    place = ReportedPlace("events", 0, offset)
    return FeedbackDecision(f"0-{offset}", f"text {offset}", place, None, state, label, [], history, NOON)


def record_at(place: ReportedPlace) -> Record | None:
    """Offset 7 is deleted, 8 another text by now, 9 a tombstone."""
    if place.offset == 7:
        return None
    text = "another" if place.offset == 8 else f"text {place.offset}"
    value = None if place.offset == 9 else json.dumps({"text": text, "sender": "+447700900001"}).encode()
    return Record("events", 0, place.offset, NOON, None, value)


DECISIONS = [
    decided(3, "spam", "rule:against-a-sure-verdict", "rule:trusted-reporters"),
    decided(1, "ham", "rule:trusted-reporters", "analyst:anna"),
    *(decided(offset, "spam", "analyst:anna") for offset in (7, 8, 9)),
    decided(4, None, "rule:both-ways", state=DecisionState.DISPUTED),
]


def test_accepted_texts_are_collected_with_who_decided_and_when_and_the_rest_is_counted() -> None:
    found = collect(DECISIONS, record_at, lambda text: (text,), MAX_BYTES)

    assert [(row.label, row.text, row.decision, row.decided_by) for row in found.rows] == [
        ("ham", "text 1", "0-1", "analyst"),
        ("spam", "text 3", "0-3", "rule"),
    ]
    assert {row.decided_at for row in found.rows} == {"2027-01-15T08:00:01+00:00"}
    assert found.gone == 3
    assert found.kinds == {"analyst": 1, "rule": 1}


def test_data_reads_what_is_written_and_only_its_owner_may(tmp_path: Path) -> None:
    out = tmp_path / "reports.jsonl"

    write(collect(DECISIONS, record_at, lambda text: (text,), MAX_BYTES).rows, out)

    rows, source = sources.read(out, LABELS)
    assert [(row.label, row.text) for row in rows] == [("ham", "text 1"), ("spam", "text 3")]
    assert source.left_out == {}
    assert out.stat().st_mode & 0o077 == 0
    assert "anna" not in out.read_text()
    assert "4477" not in out.read_text()


def test_a_name_by_which_it_would_not_be_read_is_refused() -> None:
    with pytest.raises(DataError, match=r"reports\.tsv: JSON lines are written: name it \.jsonl"):
        feedback.require_lines(Path("reports.tsv"))
