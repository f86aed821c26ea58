"""The long form (`make protocol`): random histories, as many as asked; and after how many each planted bug is found.

    python -m tests.simulation.search [--histories 20000] [--first 0] [--seed N]

A history is some hundred choices of what happens next and the healing after them. `--seed` replays one.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import track

from benchmarks import results
from tests.simulation.plants import PLANTS
from tests.simulation.simulation import Simulation, ViolationError, wander

if TYPE_CHECKING:
    from tests.simulation.process import Parts

CHOICES: Final = 400
# A planted bug that takes longer counts as not found.
_MOST: Final = 5000


def replay(seed: int, parts: Parts | None = None) -> Simulation:
    """One history. Raises ViolationError."""
    with Simulation(parts) as simulation:
        wander(simulation, random.Random(seed), CHOICES)
    return simulation


def until_found(parts: Parts) -> int:
    """How many histories a planted bug takes; 0: not found."""
    for seed in range(_MOST):
        try:
            replay(seed, parts)
        except ViolationError:
            return seed + 1
    return 0


def main() -> int:
    """Search, print, record."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.search", description=__doc__)
    parser.add_argument("--histories", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, help="the first one's seed")
    parser.add_argument("--seed", type=int, help="replay one, and show what it violates")
    options = parser.parse_args()
    if options.seed is not None:
        replay(options.seed)
        return 0
    console = Console(stderr=True)
    found = {name: until_found(parts) for name, parts in track(PLANTS.items(), "planted bugs", console=console)}
    for name, histories in found.items():
        console.print(f"{name}: " + (f"found in history {histories}" if histories else "NOT FOUND"))
    began, totals, violations = time.perf_counter(), dict.fromkeys(_COUNTED, 0), {}
    for seed in track(range(options.first, options.first + options.histories), "histories", console=console):
        try:
            simulation = replay(seed)
        except ViolationError as violation:
            violations[seed] = str(violation)
            console.print(f"history {seed}: {violation}")
            continue
        for name, count in _COUNTED.items():
            totals[name] += count(simulation)
    seconds = time.perf_counter() - began
    _record(options.histories, seconds, totals, violations, found)
    return 1 if violations or not all(found.values()) else 0


_COUNTED: Final = {
    "choices": lambda simulation: simulation.hub.switches,
    "messages": lambda simulation: len(simulation.oracle.published),
    "committed": lambda simulation: sum(1 for each in simulation.transactions() if each.is_committed),
    "aborted": lambda simulation: sum(1 for each in simulation.transactions() if not each.is_committed),
    "processes": lambda simulation: len(simulation.processes),
    "generations": lambda simulation: simulation.cluster.group.generation,
}


def _record(
    histories: int, seconds: float, totals: dict[str, int], violations: dict[int, str], found: dict[str, int]
) -> None:
    extra = {**totals, "seconds": round(seconds, 1), "histories": histories}
    entries = [
        results.Entry("protocol/violations", "histories", len(violations), extra=extra | {"seeds": violations}),
        results.Entry("protocol/histories-per-second", "histories/s", histories / seconds, extra=extra),
        results.Entry("protocol/choices-per-second", "choices/s", totals["choices"] / seconds, extra=extra),
        results.Entry(
            "protocol/planted-bugs-found", "bugs", sum(map(bool, found.values())), extra={"histories_until": found}
        ),
    ]
    path = results.record("protocol", entries)
    print(path.read_text())  # noqa: T201 the answer


if __name__ == "__main__":
    sys.exit(main())
