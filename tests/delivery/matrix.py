"""The kill matrix: every fault under both rebalance protocols and both loads, each cell kept as it is done.

Faults of single requests are played for both transaction versions besides, on a cluster of each.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.delivery import answers
from tests.delivery.faults import catalogue
from tests.delivery.observed import Tripwires
from tests.delivery.stage import BATCHES, Load, Stage
from training import results

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from deploy.kafka.cluster import Cluster
    from tests.delivery.faults import Fault
    from tests.delivery.frames import FrameProxy
    from tests.integration.parts import Parts

PROTOCOLS: Final = ("eager", "cooperative")
LOADS: Final = ("steady", "burst")
INSTANCES: Final = ("one", "two", "three", "four")


class Cell(NamedTuple):
    """One cell of the matrix. `version` is the cluster's transaction version, None where it is Kafka's choice."""

    fault: str
    protocol: str
    load: str
    version: int | None = None

    @property
    def name(self) -> str:
        """As `worker-sigkill-eager-steady` or `late-end-eager-steady-tv1`."""
        return "-".join((self.fault, self.protocol, self.load, *([f"tv{self.version}"] if self.version else [])))


def cells() -> list[Cell]:
    """Every cell, those of one cluster together."""
    return [
        Cell(name, protocol, load, version)
        for version in (None, 1, 2)
        for load in LOADS
        for protocol in PROTOCOLS
        for name, fault in catalogue().items()
        if version in (fault.versions or (None,))
    ]


def play(
    cluster: Cluster,
    bundle: Path,
    folder: Path,
    cell: Cell,
    load: Load,
    fault: Fault | None = None,
    settings: Mapping[str, str] | None = None,
    proxy: FrameProxy | None = None,
    parts: Parts = BATCHES,
) -> dict[str, Any]:
    """Run one cell and return its findings; a failed wait or assertion is a finding too.

    `fault` is the catalogue's unless another form of it is given; `settings` are the worker's beside its own; `proxy`
    is before the cluster; `parts` are the workers'.
    """
    fault, began = fault or catalogue()[cell.fault], time.monotonic()
    changes = fault.changes
    if cell.fault == "injected":
        changes = (*changes, Tripwires(folder / "places", folder / "armed"))
    changed = dict(settings or {}) | dict(fault.settings) | {"rebalance": cell.protocol}
    stage = Stage(
        cluster, bundle, folder, replace(load, bursts=cell.load == "burst"), changed, changes, proxy=proxy, parts=parts
    )  # fmt: skip
    found: dict[str, Any] = {
        "fault": cell.fault,
        "protocol": cell.protocol,
        "load": cell.load,
        "transaction_version": cell.version,
        "commit": results.commit(),
        "settings": changed,
        "has_sink_process": parts.has_sink_process,
    }
    if proxy:
        proxy.forget()
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
    if proxy:
        found["requests"] = answers.counts(proxy)
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

    def path(self, cell: Cell) -> Path:
        return self.folder / f"{cell.name}.json"

    def has(self, cell: Cell) -> bool:
        return self.path(cell).exists()

    def put(self, cell: Cell, found: dict[str, Any]) -> None:
        making = self.path(cell).with_suffix(".tmp")
        making.write_text(json.dumps(found, indent=1))
        making.replace(self.path(cell))

    def all(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted(self.folder.glob("*.json"))]


def line(found: dict[str, Any]) -> str:
    """One cell in one line."""
    version = f"tv{found['transaction_version']}" if found["transaction_version"] else ""
    name = f"{found['fault']:<20} {found['protocol']:<11} {found['load']:<6} {version:<3}"
    if "failed" in found:
        return f"{name} FAILED after {found['seconds']} s: {found['failed'][:300]}"
    counts = " ".join(f"{what} {found[what]}" for what in ("messages", "lost", "duplicated", "reordered"))
    letters = f"letters {found['dead_letters']}/{found['poison']}"
    verdict = "ok" if found["exactly_once"] else f"WRONG {found['readers_disagree']}"
    stall = f"stall {found['longest_stall']:.1f} s"
    return f"{name} {counts} {letters} {stall} {found['transactions']} in {found['seconds']} s: {verdict}"
