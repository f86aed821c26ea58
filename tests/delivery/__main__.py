"""`python -m tests.delivery [cells]`: the kill matrix, going on where it stopped; then its report."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import itertools
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.kafka import java
from deploy.kafka.cluster import Cluster
from tests.delivery import matrix, report
from tests.delivery.context import ContextOn
from tests.delivery.frames import FrameProxy
from tests.delivery.stage import BATCHES, Load
from tests.integration.tiny import build

if TYPE_CHECKING:
    from collections.abc import Iterator


def main() -> int:
    """Play the cells that are not done yet; 0 when every cell of this run held."""
    options = _options()
    with alone(options.folder):
        return _do(options)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder for this run: a second one would take its brokers away. Raises SystemExit naming the folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"{folder}: another run is at work in it; wait for it, or name another one by --folder"
            raise SystemExit(message) from None
        yield


def _do(options: argparse.Namespace) -> int:
    if options.again:
        shutil.rmtree(options.folder, ignore_errors=True)
    notebook = matrix.Notebook(options.folder / "cells")
    todo = [cell for cell in matrix.cells() if _is_asked_for(cell, options) and not notebook.has(cell)]
    held = options.play_none or not todo or _play(todo, notebook, options)
    if options.record:
        cells = notebook.all()
        print(report.table(cells))
        print(f"written: {report.record(cells)}, {report.PAGE}")
        report.publish(cells)
    return 0 if held else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.delivery", description=__doc__)
    parser.add_argument("--only", default="", help="cells whose name contains this, as worker-sigkill-eager-steady")
    parser.add_argument(
        "--faults",
        choices=("new", "old", "all"),
        default="all",
        help="new: of single requests, for both transaction versions; old: of workers, brokers and links",
    )
    parser.add_argument("--messages", type=int, default=Load.total, help="events a cell, at least")
    parser.add_argument("--rate", type=int, default=Load.rate, help="events a second")
    parser.add_argument("--seed", type=int, default=1, help="decides which requests are struck")
    parser.add_argument("--again", action="store_true", help="forget what was done before")
    parser.add_argument("--record", action="store_true", help="write the figures and the table of all cells done")
    parser.add_argument("--play-none", action="store_true", help="with --record: of what was played before")
    parser.add_argument("--folder", type=Path, default=java.CACHE.parent / "kill-matrix", help="where cells are kept")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=_setting,
        metavar="NAME=VALUE",
        help="of the workers, as membership=static",
    )
    parser.add_argument(
        "--context", action="store_true", help="the workers know lists with entries, a registry, campaigns, senders"
    )
    parser.add_argument("--engine-process", action="store_true", help="and one that runs the model")
    parser.add_argument("--sink-process", action="store_true", help="the workers have one, although on a CPU")
    options = parser.parse_args()
    if options.record and (options.set or options.sink_process or options.engine_process or options.context):
        parser.error("--record is for workers as they are by themselves: without options")
    return options


def _setting(given: str) -> tuple[str, str]:
    name, _, value = given.partition("=")
    return name.lower(), value


def _is_asked_for(cell: matrix.Cell, options: argparse.Namespace) -> bool:
    is_new = cell.version is not None
    return options.only in cell.name and options.faults in ("all", "new" if is_new else "old")


def _play(todo: list[matrix.Cell], notebook: matrix.Notebook, options: argparse.Namespace) -> bool:
    """Whether all held. There is one cluster for the cells of each transaction version."""
    held, numbers = True, itertools.count(1)
    load = Load(total=options.messages, rate=options.rate)
    parts = replace(BATCHES, has_sink_process=options.sink_process, has_engine_process=options.engine_process)
    with tempfile.TemporaryDirectory() as scratch:
        bundle = build(Path(scratch) / "tiny")
        context = ContextOn(Path(scratch)) if options.context else None
        settings = (context.settings if context else {}) | dict(options.set)
        for version, cells in itertools.groupby(todo, lambda cell: cell.version):
            with _cluster(options.folder / "cluster", version, options.seed) as (cluster, proxy):
                if context:
                    context.make(cluster.bootstrap)
                for cell in cells:
                    folder = options.folder / "runs" / cell.name
                    shutil.rmtree(folder, ignore_errors=True)
                    found = matrix.play(
                        cluster, bundle, folder, cell, load, settings=settings, proxy=proxy, parts=parts
                    )  # fmt: skip
                    notebook.put(cell, found)
                    held = held and found["exactly_once"]
                    print(f"[{next(numbers)}/{len(todo)}] {matrix.line(found)}", flush=True)
    return held


@contextlib.contextmanager
def _cluster(folder: Path, version: int | None, seed: int) -> Iterator[tuple[Cluster, FrameProxy | None]]:
    """Start three brokers, with the frame proxy before them where a transaction version is asked for."""
    shutil.rmtree(folder, ignore_errors=True)
    if version is None:
        with Cluster(folder, proxied=True) as cluster:
            yield cluster, None
    else:
        with (
            FrameProxy(seed) as proxy,
            Cluster(folder, proxied=True, transaction_version=version, in_front=proxy.between) as cluster,
        ):
            yield cluster, proxy


if __name__ == "__main__":
    sys.exit(main())
