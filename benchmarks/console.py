"""How long the console's pages take over a full window, how fast it is filled, and how much memory that needs.

    .venv/bin/python -m benchmarks.console [--verdicts 1000000] [--requests 25]

In one process, without brokers: verdicts are taken as the reading thread takes them, and pages asked for as over HTTP.
Lists, campaigns, senders, reports and kept texts are there too (console_surroundings says how many).
"""

from __future__ import annotations

import argparse
import functools
import random
import re
import resource
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from fastapi.testclient import TestClient

from benchmarks import console_surroundings as around
from console.database import SqliteFile
from console.guard import LOOPBACK, Guard
from console.serving import application
from tests.consoles import Topic, buried, judged, parts
from training import results
from training.results import Entry
from worker.messages import Action
from worker.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from httpx import Response

_POLL: Final = 4096
_GOAL: Final = 300.0
"""Milliseconds of a page, at p95."""
_PAGES: Final = (
    *("/", "/try", "/history", "/dead-letters", "/dead-letters?reason=invalid-json", "/dead-letters/0/0"),
    *("/history/1/1000", "/history?action=block", "/history?action=unscored", "/history?reason=list"),
    *("/history?id=m-1000", "/history?min_score=0.999", "/history?flag=repaired", "/history?label=none"),
    *("/history?campaign=c-7", f"/history?before={time.time():.0f}:500000", "/history?until=2000-01-01T00:00"),
    *("/history?texts=1", "/texts", "/model"),
    *("/campaigns", "/campaigns?sort=rate&span=all", "/campaigns?skip=5000", f"/campaigns/{around.CAMPAIGN}"),
    *("/lists", "/lists?what=campaign&action=block&skip=1000", "/lists/senders", "/lists/registry"),
    *("/feedback", "/feedback?texts=1", "/feedback?show=accepted&page=50", "/feedback/0-2"),
)
_DOWNLOADS: Final = ("/lists/export?format=csv", "/feedback/tasks.json?show=accepted")
"""Whole files: measured without a goal."""
_FORMS: Final = {"/lists": {"value": around.SENDER}, "/lists/senders": {"sender": around.SENDER}}
"""What is typed into a form, and sent."""


def main() -> None:
    """Fill, ask, and record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.console", description=__doc__.partition("\n")[0])
    parser.add_argument("--verdicts", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=25)
    parser.add_argument("--results", type=Path, default=results.RESULTS)
    options = parser.parse_args()
    dice = random.Random("console")
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(console_candidates=Path(__file__).parents[1] / "models")
        topic = Topic()
        made = parts(Path(folder), settings=settings, topic=topic, context=around.context(Path(folder)))
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
            topic.letters |= {(each.partition, each.offset): each for each in letters}
        size = (Path(folder) / "window.sqlite").stat().st_size
        made.review = around.review(options.verdicts)
        database = SqliteFile(Path(folder) / "window.sqlite")
        made.texts = around.texts(made, database, Path(folder), options.verdicts)
        client = TestClient(Guard(application(made), LOOPBACK), base_url="http://127.0.0.1")  # type: ignore[arg-type]
        figures = [("taken", "verdicts/s", options.verdicts / taken), ("window", "MB", size / 1e6)]
        figures += [(f"{name} p95", "ms", _p95(name, ask, options.requests)) for name, ask in _asked(client).items()]
        database.close()
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
    slow = [
        name for name, unit, value in figures if unit == "ms" and value >= _GOAL and not name.startswith(_DOWNLOADS)
    ]
    print(f"pages of {_GOAL:g} ms or more: {', '.join(slow) or 'none'}")
    print(results.record("console", entries, folder=options.results))


def _asked(client: TestClient) -> dict[str, Callable[[], Response]]:
    """Every request that is measured, by its name."""
    token = re.search(r'name="csrf" content="(\w+)"', client.get("/").text)
    assert token  # noqa: S101 the benchmark's own
    made: dict[str, Callable[[], Response]] = {
        path: functools.partial(client.get, path) for path in (*_PAGES, *_DOWNLOADS)
    }
    for path, form in _FORMS.items():
        made[f"POST {path}"] = functools.partial(client.post, path, data=form | {"token": token[1]})
    return made


def _p95(name: str, ask: Callable[[], Response], requests: int) -> float:
    """Milliseconds of a request."""
    spent = []
    for _ in range(requests):
        began = time.perf_counter()
        assert ask().status_code == 200, name  # noqa: PLR2004, S101 the benchmark's own
        spent.append(time.perf_counter() - began)
    return 1e3 * float(np.quantile(spent, 0.95))


def _one(number: int, dice: random.Random, model: str):  # noqa: ANN202 what `judged` returns
    score = dice.random()
    more = {"reason": "list"} if number % 1000 == 0 else {}
    if number % 5000 == 0:
        more |= {"campaign": f"c-{number // 50_000}", "campaign_size": 10, "flags": ("repaired",)}
    action = Action.BLOCK if score > 0.9 else Action.FLAG if score > 0.8 else Action.DELIVER  # noqa: PLR2004 some bands
    return judged(number, id=f"m-{number}", score=round(score, 6), action=action, model=model, **more)


if __name__ == "__main__":
    main()
