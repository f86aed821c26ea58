"""A figure's file: its shape, its stamp, its name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from benchmarks import results, texts

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_figure_is_written_with_where_when_and_how_it_was_measured(tmp_path: Path) -> None:
    path = results.record(
        "engine", [results.Entry("engine/cpu/x", "ms", 1.5, "1.4-1.6", {"batch": 8})], folder=tmp_path
    )

    [row] = json.loads(path.read_text())
    assert {key: row[key] for key in ("name", "unit", "value", "range")} == {
        "name": "engine/cpu/x", "unit": "ms", "value": 1.5, "range": "1.4-1.6",
    }  # fmt: skip
    assert set(row["extra"]) == {"device", "commit", "command", "date", "batch"}
    assert path.name == f"engine-{results.slug(results.processor())}.json"
    assert results.load(tmp_path) == [row]


def test_a_commit_can_be_named_where_there_is_no_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(results.COMMIT_VARIABLE, "abc123")

    assert results.commit() == "abc123"


def test_a_device_has_a_plain_name() -> None:
    assert results.slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"


def test_the_messages_are_the_collections() -> None:
    assert len(texts.collection()) == 5574
    assert texts.stream(5575)[-1] == texts.collection()[0]
