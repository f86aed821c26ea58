"""The kill matrix's result: figures for benchmarks/results, and the table in docs/architecture.md."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Final

from tests.delivery import matrix
from tests.delivery.stage import LEEWAY, SESSION_TIMEOUT
from training import hardware, results

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

PAGE: Final = results.ROOT / "docs" / "architecture.md"
_BEGIN, _END = "<!-- delivery: written by `make kill-matrix` -->", "<!-- delivery: end -->"
_SUMS: Final = ("messages", "fed_twice", "lost", "duplicated", "reordered", "dead_letters", "poison")
_OUTCOMES: Final = ("committed", "rolled-back", "fenced")
BOUND: Final = SESSION_TIMEOUT + LEEWAY
_HEAD: Final = (
    "| fault | messages | lost | duplicated | out of order | dead letters / poison | stall: median, longest (s) "
    "| transactions committed, rolled back, fenced | four readers agree |"
)


def missing(cells: Sequence[dict[str, Any]]) -> list[str]:
    """Cells that were not played yet."""
    played = {(cell["fault"], cell["protocol"], cell["load"], cell.get("transaction_version")) for cell in cells}
    return [cell.name for cell in matrix.cells() if cell not in played]


def by_fault(cells: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each fault's cells of one transaction version as one: counts added up, stalls together."""
    faults: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(map(_named, cells)):
        mine = [cell for cell in cells if _named(cell) == name]
        whole = [cell for cell in mine if "failed" not in cell]
        stalls = [stall for cell in whole for stall in cell["stalls"]]
        faults[name] = {what: sum(cell[what] for cell in whole) for what in _SUMS} | {
            "cells": len(mine),
            "commits": sorted({cell["commit"] for cell in mine if "commit" in cell}),
            "requests": _added_up(cell["requests"] for cell in mine if "requests" in cell),
            "injected": sorted({trap for cell in whole for trap in cell.get("injected", [])}),
            "failed": [f"{cell['protocol']}, {cell['load']}: {cell['failed']}" for cell in mine if "failed" in cell],
            "struck": len(stalls),
            "median_stall": round(statistics.median(stalls), 2) if stalls else None,
            "longest_stall": round(max(stalls, default=0.0), 2),
            "stalls": {
                protocol: round(max((s for c in whole if c["protocol"] == protocol for s in c["stalls"]), default=0), 2)
                for protocol in ("eager", "cooperative")
            },
            "transactions": {
                outcome: sum(cell["transactions"][outcome] for cell in whole) for outcome in _OUTCOMES
            },
            "ended_by_themselves": sum(cell["ended_by_themselves"] for cell in whole),
            "readers_agree": not any(cell["readers_disagree"] for cell in whole),
            "exactly_once": all(cell["exactly_once"] for cell in mine),
        }  # fmt: skip
    return faults


def _named(cell: dict[str, Any]) -> str:
    version = cell.get("transaction_version")
    return f"{cell['fault']}-tv{version}" if version else str(cell["fault"])


def _added_up(counts: Iterable[dict[str, dict[str, int]]]) -> dict[str, dict[str, int]]:
    """Sum the counts of requests by API and outcome over several cells."""
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for each in counts:
        for what, count in each.items():
            sums[what].update(count)
    return {what: dict(sorted(count.items())) for what, count in sums.items()}


def record(cells: Sequence[dict[str, Any]], folder: Path = results.RESULTS) -> Path:
    """Write `delivery-<device>.json`."""
    entries = []
    for name, found in by_fault(cells).items():
        rest = {key: found[key] for key in found if key not in ("messages", "lost", "duplicated", "reordered")}
        entries += [
            results.Entry(f"delivery/{name}/messages", "messages", found["messages"], extra=rest),
            *(results.Entry(f"delivery/{name}/{what}", "messages", found[what])
              for what in ("lost", "duplicated", "reordered")),
            results.Entry(f"delivery/{name}/longest-stall-seconds", "s", found["longest_stall"],
                          f"median {found['median_stall']} over {found['struck']} strikes",
                          {"bound": BOUND, "by_protocol": found["stalls"]}),
        ]  # fmt: skip
    return results.record("delivery", entries, folder=folder)


def table(cells: Sequence[dict[str, Any]]) -> str:
    """The same for people."""
    lines = [_HEAD, "|---" * _HEAD.count(" |") + "|"]
    for name, found in by_fault(cells).items():
        transactions = ", ".join(f"{found['transactions'][outcome]:,}" for outcome in _OUTCOMES)
        failed = f" ({len(found['failed'])} of {found['cells']} runs did not end)" if found["failed"] else ""
        lines.append(
            f"| {name}{failed} | {found['messages']:,} "
            f"| {found['lost']} | {found['duplicated']} | {found['reordered']} "
            f"| {found['dead_letters']:,} / {found['poison']:,} | {found['median_stall']}, {found['longest_stall']} "
            f"| {transactions} | {'yes' if found['readers_agree'] else 'no'} |"
        )
    if left := missing(cells):
        lines += ["", f"Not played in this run: {', '.join(left)}."]
    strikes = [stall for cell in cells for stall in cell.get("stalls", [])]
    above = sum(stall > BOUND for stall in strikes)
    lines += [
        "",
        "Each fault under eager and cooperative rebalancing, steady and in bursts; poison 1 %. A stall is how long a",
        "partition had messages and gave no verdict. tv1, tv2: the cluster's transaction version (KIP-890).",
        (
            f"{above} of {len(strikes)} strikes took longer than session timeout + {LEEWAY:g} s = {BOUND:g} s.\n"
            f"{hardware.processor()}; load average {_loads(cells)}."
        ),
    ]
    return "\n".join(lines)


def _loads(cells: Sequence[dict[str, Any]]) -> str:
    """The range of the machine's load averages, as text."""
    loads = [cell["load_average"] for cell in cells if "load_average" in cell]
    return f"{min(loads):.0f} to {max(loads):.0f}" if loads else "not noted"


def publish(cells: Sequence[dict[str, Any]], page: Path = PAGE) -> None:
    """Put the table into the page, between its marks."""
    text = page.read_text()
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    page.write_text(f"{before}{_BEGIN}\n{table(cells)}\n{_END}{after}")
