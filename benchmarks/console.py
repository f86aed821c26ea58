"""How long the console's pages take over a full window, how fast it is filled, and how much memory that needs.

    .venv/bin/python -m benchmarks.console [--verdicts 1000000] [--requests 25]

In one process, without brokers: verdicts are taken as the reading thread takes them, and pages asked for as over HTTP.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np
from fastapi.testclient import TestClient

from console.guard import LOOPBACK, Guard
from console.serving import application
from tests.consoles import buried, judged, parts
from training import results
from training.results import Entry
from worker.messages import Action

_POLL: Final = 4096
_PAGES: Final = (
    *("/", "/try", "/history", "/dead-letters", "/history/1/1000", "/model"),
    *("/history?action=block", "/history?action=unscored", "/history?reason=list", "/history?id=m-1000"),
    *("/history?min_score=0.999", "/history?flag=repaired", "/history?label=none", "/history?campaign=c-7"),
    *(f"/history?before={time.time():.0f}:500000", "/history?until=2000-01-01T00:00"),
)


def main() -> None:
    """Fill, ask, and record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.console", description=__doc__.partition("\n")[0])
    parser.add_argument("--verdicts", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=25)
    parser.add_argument("--results", type=Path, default=results.RESULTS)
    options = parser.parse_args()
    dice = random.Random("console")
    with tempfile.TemporaryDirectory() as folder:
        made = parts(Path(folder))
        bundle = made.shelf.in_force().bundle
        model = bundle.model if bundle else ""
        taken = 0.0
        for first in range(0, options.verdicts, _POLL):
            batch = [_one(n, dice, model) for n in range(first, min(first + _POLL, options.verdicts))]
            letters = [buried(first // _POLL, b"x" * 100)]
            began = time.perf_counter()
            made.window.take(batch, letters, {})
            made.live.take(batch, letters, time.time())
            taken += time.perf_counter() - began
        size = (Path(folder) / "window.sqlite").stat().st_size
        client = TestClient(Guard(application(made), LOOPBACK), base_url="http://127.0.0.1")  # type: ignore[arg-type]
        figures = [("taken", "verdicts/s", options.verdicts / taken), ("window", "MB", size / 1e6)]
        for path in _PAGES:
            spent = []
            for _ in range(options.requests):
                began = time.perf_counter()
                assert client.get(path).status_code == 200, path  # noqa: PLR2004, S101 the benchmark's own
                spent.append(time.perf_counter() - began)
            figures.append((f"{path} p95", "ms", 1e3 * float(np.quantile(spent, 0.95))))
        made.window.close()
    figures.append(("peak memory", "MB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3))
    entries = [
        Entry(
            f"console: {name}",
            unit,
            round(value, 1),
            extra={"verdicts": options.verdicts, "requests": options.requests},
        )
        for name, unit, value in figures
    ]
    for each in entries:
        print(f"{each.name:<50}{each.value:>12,.1f} {each.unit}")
    print(results.record("console", entries, folder=options.results))


def _one(number: int, dice: random.Random, model: str):  # noqa: ANN202 what `judged` returns
    score = dice.random()
    more = {"reason": "list"} if number % 1000 == 0 else {}
    if number % 5000 == 0:
        more |= {"campaign": f"c-{number // 50_000}", "campaign_size": 10, "flags": ("repaired",)}
    action = Action.BLOCK if score > 0.9 else Action.FLAG if score > 0.8 else Action.DELIVER  # noqa: PLR2004 some bands
    return judged(number, id=f"m-{number}", score=round(score, 6), action=action, model=model, **more)


if __name__ == "__main__":
    main()
