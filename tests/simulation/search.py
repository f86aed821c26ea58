"""The long form (`make protocol`): random histories, as many as asked; and after how many each planted bug is found.

    python -m tests.simulation.search [--histories 20000] [--first 0] [--jobs 2] [--seed N]

A history is some hundred choices of what happens next and the healing after them. `--seed` replays one.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from typing import TYPE_CHECKING, Final

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from rich.console import Console
from rich.progress import track

from tests.simulation.machine import Protocol
from tests.simulation.plants import PLANTS
from tests.simulation.simulation import ViolationError, wander
from training import results

if TYPE_CHECKING:
    from tests.simulation.process import Parts

# A planted bug that takes longer counts as not found.
_MOST: Final = 5000
_SEARCH: Final = settings(
    max_examples=_MOST,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def until_found(parts: Parts) -> int:
    """Number of histories until a planted bug is found; 0: not found."""
    for seed in range(_MOST):
        try:
            wander(seed, parts)
        except ViolationError:
            return seed + 1
    return 0


def until_hypothesis_finds(parts: Parts) -> int:
    """Number of hypothesis' examples until it is found; 0: not found."""
    examples = 0

    class Planted(Protocol):
        def __init__(self) -> None:
            nonlocal examples
            examples += 1
            super().__init__()

    Planted.parts = parts
    try:
        run_state_machine_as_test(Planted, settings=_SEARCH)
    except ViolationError:
        return examples
    return 0


def _search(name: str) -> tuple[str, dict[str, int]]:
    """After how many histories a planted bug is found: by its name, since a process is told no classes."""
    return name, {"by chance": until_found(PLANTS[name]), "by hypothesis": until_hypothesis_finds(PLANTS[name])}


def _history(seed: int) -> tuple[int, str, dict[str, int]]:
    """One history: its seed, what it violates, and what came of it."""
    try:
        simulation = wander(seed)
    except ViolationError as violation:
        return seed, str(violation), {}
    return seed, "", {name: count(simulation) for name, count in _COUNTED.items()}


def main() -> int:
    """Search, print, record."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.search", description=__doc__)
    parser.add_argument("--histories", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, help="the first one's seed")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes at work")
    parser.add_argument("--seed", type=int, help="replay one, and show what it violates")
    options = parser.parse_args()
    if options.seed is not None:
        wander(options.seed)
        return 0
    console = Console(stderr=True)
    found = {}
    seeds = range(options.first, options.first + options.histories)
    with multiprocessing.get_context("forkserver").Pool(options.jobs) as pool:
        searched = pool.imap_unordered(_search, PLANTS)
        for name, took_by in track(searched, "planted bugs", len(PLANTS), console=console):
            found[name] = took_by
            console.print(f"{name}: " + ", ".join(f"{who} {took or 'NOT FOUND'}" for who, took in took_by.items()))
        began, totals, violations = time.perf_counter(), dict.fromkeys(_COUNTED, 0), {}
        histories = pool.imap_unordered(_history, seeds, chunksize=20)
        for seed, violation, counts in track(histories, "histories", len(seeds), console=console):
            if violation:
                violations[seed] = violation
                console.print(f"history {seed}: {violation}")
            for name, count in counts.items():
                totals[name] += count
        seconds = time.perf_counter() - began
    _record(options.histories, seconds, totals, violations, found)
    is_found = all(took for took_by in found.values() for took in took_by.values())
    return 0 if is_found and not violations else 1


_COUNTED: Final = {
    "choices": lambda simulation: simulation.hub.switches,
    "messages": lambda simulation: len(simulation.oracle.published),
    "committed": lambda simulation: sum(1 for each in simulation.transactions() if each.is_committed),
    "aborted": lambda simulation: sum(1 for each in simulation.transactions() if not each.is_committed),
    "processes": lambda simulation: len(simulation.processes),
    "generations": lambda simulation: simulation.cluster.group.generation,
    "late": lambda simulation: simulation.late,
    "transaction version 2": lambda simulation: int(simulation.cluster.transaction_version > 1),
}


def _record(
    histories: int, seconds: float, totals: dict[str, int], violations: dict[int, str], found: dict[str, dict[str, int]]
) -> None:
    extra = {**totals, "seconds": round(seconds, 1), "histories": histories}
    entries = [
        results.Entry("protocol/violations", "histories", len(violations), extra=extra | {"seeds": violations}),
        results.Entry("protocol/histories-per-second", "histories/s", histories / seconds, extra=extra),
        results.Entry("protocol/choices-per-second", "choices/s", totals["choices"] / seconds, extra=extra),
        results.Entry(
            "protocol/planted-bugs-found",
            "bugs",
            sum(all(took.values()) for took in found.values()),
            extra={"histories_until": found},
        ),
    ]
    path = results.record("protocol", entries)
    print(path.read_text())  # noqa: T201 the answer


if __name__ == "__main__":
    sys.exit(main())
