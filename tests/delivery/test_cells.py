"""Which cells the kill matrix has, and how its report names those that have a transaction version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.delivery import matrix, report
from tests.delivery.__main__ import alone
from tests.delivery.matrix import Cell

if TYPE_CHECKING:
    from pathlib import Path


def found(cell: Cell, **more: Any) -> dict[str, Any]:
    return {
        **dict.fromkeys(("messages", "fed_twice", "lost", "duplicated", "reordered", "dead_letters", "poison"), 1),
        "fault": cell.fault,
        "protocol": cell.protocol,
        "load": cell.load,
        "transaction_version": cell.version,
        "stalls": [1.0],
        "transactions": {"committed": 1, "rolled-back": 0, "fenced": 0},
        "ended_by_themselves": 0,
        "readers_disagree": [],
        "exactly_once": True,
        **more,
    }


def test_faults_of_requests_are_played_for_each_transaction_version_that_has_them() -> None:
    names = {cell.name for cell in matrix.cells()}

    assert {"late-end-eager-steady-tv1", "late-end-eager-steady-tv2", "worker-sigkill-eager-steady"} <= names
    assert "late-add-offsets-eager-steady-tv1" in names
    assert "late-add-offsets-eager-steady-tv2" not in names
    assert not {name for name in names if name.startswith("worker-") and "tv" in name}


def test_cells_of_one_cluster_are_played_one_after_the_other() -> None:
    versions = [cell.version for cell in matrix.cells()]

    assert versions == sorted(versions, key=[None, 1, 2].index)


def test_the_report_keeps_the_transaction_versions_of_a_fault_separate_and_adds_up_its_cells() -> None:
    requests = {"struck": {"END_TXN late copy": 2}, "delivered": {"END_TXN late copy: taken": 1}}
    cells = [
        found(Cell("late-end", "eager", "steady", 1), requests=requests),
        found(Cell("late-end", "eager", "burst", 1), requests=requests),
        found(Cell("late-end", "eager", "steady", 2), requests=requests),
        found(Cell("worker-sigkill", "eager", "steady")),
    ]

    by_fault = report.by_fault(cells)

    assert list(by_fault) == ["late-end-tv1", "late-end-tv2", "worker-sigkill"]
    assert by_fault["late-end-tv1"]["messages"] == 2
    assert by_fault["late-end-tv1"]["requests"]["struck"] == {"END_TXN late copy": 4}
    assert "late-end-eager-steady-tv1" not in report.missing(cells)
    assert "late-end-eager-burst-tv2" in report.missing(cells)
    assert "| late-end-tv2 |" in report.table(cells)


def test_a_second_run_in_one_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "kill-matrix"

    with alone(folder), pytest.raises(SystemExit, match="another run is at work in it"), alone(folder):
        pass
    with alone(folder):
        pass
