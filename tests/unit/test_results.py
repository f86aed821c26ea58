"""A figure's file: its shape, its stamp, its name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from benchmarks import show, texts
from training import hardware, results

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
    assert path.name == f"engine-{results.slug(hardware.processor())}.json"
    assert results.load(tmp_path) == [row]


def test_a_commit_can_be_named_where_there_is_no_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(results.COMMIT_VARIABLE, "abc123")

    assert results.commit() == "abc123"


def test_a_device_has_a_plain_name() -> None:
    assert results.slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"


def test_the_messages_are_the_collections() -> None:
    assert len(texts.collection()) == 5574
    assert texts.stream(5575)[-1] == texts.collection()[0]


def test_the_table_says_what_the_results_say() -> None:
    rows = [
        {"name": "engine/bf16/messages-per-second", "unit": "messages/s", "value": 12345.6, "range": "best 12400",
         "extra": {"device": "A GPU", "commit": "abc", "date": "2026-01-02T03:04:05Z"}},
    ]  # fmt: skip

    made = show.table(rows)

    assert "## A GPU" in made
    assert "| engine/bf16/messages-per-second | 12,346 messages/s (best 12400) | abc | 2026-01-02 |" in made


def test_what_has_sizes_and_loads_is_drawn(tmp_path: Path) -> None:
    extra = {"device": "A GPU"}
    loads = {load: {"p50_ms": 1.0, "p99_ms": 2.0} for load in ("10%", "50%")}
    rows = [
        {"name": f"engine/fp8/{size}-tokens/messages-per-second", "value": size, "extra": extra} for size in (256, 1024)
    ]
    rows += [{"name": "peer/recipe-loop/messages-per-second", "value": 22.0, "extra": extra}]
    rows += [{"name": "end-to-end/fp8/messages-per-second", "value": 9.0, "extra": extra | {"loads": loads}}]

    made = show.plots(rows, tmp_path)

    assert [path.name for path in made] == ["speed-a-gpu.png", "latency-a-gpu.png"]
    assert all(path.stat().st_size > 1000 for path in made)
