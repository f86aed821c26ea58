"""The kill matrix: every fault under both rebalance protocols and both loads, each cell kept as it is done."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from benchmarks import results
from tests.delivery.faults import catalogue
from tests.delivery.observed import Tripwires
from tests.delivery.stage import Load, Stage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from deploy.kafka.cluster import Cluster
    from tests.delivery.faults import Fault

PROTOCOLS: Final = ("eager", "cooperative")
LOADS: Final = ("steady", "burst")
INSTANCES: Final = ("one", "two", "three", "four")


def cells() -> list[tuple[str, str, str]]:
    """Fault, protocol and load of every cell."""
    return [(fault, protocol, load) for load in LOADS for protocol in PROTOCOLS for fault in catalogue()]


def play(
    cluster: Cluster,
    bundle: Path,
    folder: Path,
    cell: tuple[str, str, str],
    load: Load,
    fault: Fault | None = None,
    settings: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Run one cell and return its findings; a failed wait or assertion is a finding too.

    `fault` is the catalogue's unless another form of it is given; `settings` are the worker's beside its own.
    """
    name, protocol, kind = cell
    fault, began = fault or catalogue()[name], time.monotonic()
    changes = fault.changes
    if name == "injected":
        changes = (*changes, Tripwires(folder / "places", folder / "armed"))
    told = dict(settings or {}) | dict(fault.settings) | {"rebalance": protocol}
    stage = Stage(cluster, bundle, folder, replace(load, bursts=kind == "burst"), told, changes)
    found: dict[str, Any] = {
        "fault": name,
        "protocol": protocol,
        "load": kind,
        "commit": results.commit(),
        "settings": told,
    }
    with stage:
        try:
            stage.start(*INSTANCES[: fault.workers])
            stage.feed.start()
            stage.flowing()
            _strike(stage, fault)
            found |= stage.finish()
            if (folder / "injected").exists():
                found["injected"] = (folder / "injected").read_text().splitlines()
        except (AssertionError, OSError) as failure:
            found |= {"failed": f"{type(failure).__name__}: {failure}"[:2000], "exactly_once": False}
            found["exits"] = stage.exits
    return found | {"seconds": round(time.monotonic() - began, 1), "load_average": os.getloadavg()[0]}


def _strike(stage: Stage, fault: Fault) -> None:
    times = 0
    while times < fault.times or stage.feed.is_flowing() or fault.has_more(stage):
        fault.strike(stage)
        times += 1


class Notebook:
    """Cells that are done, a file each, so that an interrupted run goes on where it stopped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, cell: tuple[str, str, str]) -> Path:
        return self.folder / f"{'-'.join(cell)}.json"

    def has(self, cell: tuple[str, str, str]) -> bool:
        return self.path(cell).exists()

    def put(self, cell: tuple[str, str, str], found: dict[str, Any]) -> None:
        making = self.path(cell).with_suffix(".tmp")
        making.write_text(json.dumps(found, indent=1))
        making.replace(self.path(cell))

    def all(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted(self.folder.glob("*.json"))]


def line(found: dict[str, Any]) -> str:
    """One cell in one line."""
    name = f"{found['fault']:<19} {found['protocol']:<11} {found['load']:<6}"
    if "failed" in found:
        return f"{name} FAILED after {found['seconds']} s: {found['failed'][:300]}"
    counts = " ".join(f"{what} {found[what]}" for what in ("messages", "lost", "duplicated", "reordered"))
    letters = f"letters {found['dead_letters']}/{found['poison']}"
    verdict = "ok" if found["exactly_once"] else f"WRONG {found['readers_disagree']}"
    stall = f"stall {found['longest_stall']:.1f} s"
    return f"{name} {counts} {letters} {stall} {found['transactions']} in {found['seconds']} s: {verdict}"
