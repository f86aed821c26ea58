"""`python -m tests.delivery [cells]`: the kill matrix, going on where it stopped; then its report."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from deploy.kafka import java
from deploy.kafka.cluster import Cluster
from tests.delivery import matrix, report
from tests.delivery.stage import Load
from tests.integration.tiny import build


def main() -> int:
    """Play the cells that are not done yet; 0 when every cell of this run held."""
    parser = argparse.ArgumentParser(prog="python -m tests.delivery", description=__doc__)
    parser.add_argument("--only", default="", help="cells whose name contains this, as worker-sigkill-eager-steady")
    parser.add_argument("--messages", type=int, default=Load.total, help="events a cell, at least")
    parser.add_argument("--rate", type=int, default=Load.rate, help="events a second")
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
        help="of the workers, as sink_process=yes",
    )
    options = parser.parse_args()
    if options.record and options.set:
        parser.error("--record is for workers as they are by themselves: without --set")
    if options.again:
        shutil.rmtree(options.folder, ignore_errors=True)
    notebook = matrix.Notebook(options.folder / "cells")
    todo = [cell for cell in matrix.cells() if options.only in "-".join(cell) and not notebook.has(cell)]
    todo = [] if options.play_none else todo
    load = Load(total=options.messages, rate=options.rate)
    held = True
    if todo:
        with tempfile.TemporaryDirectory() as scratch:
            bundle = build(Path(scratch) / "tiny")
            shutil.rmtree(options.folder / "cluster", ignore_errors=True)
            with Cluster(options.folder / "cluster", proxied=True) as cluster:
                for number, cell in enumerate(todo, 1):
                    folder = options.folder / "runs" / "-".join(cell)
                    shutil.rmtree(folder, ignore_errors=True)
                    found = matrix.play(cluster, bundle, folder, cell, load, settings=dict(options.set))
                    notebook.put(cell, found)
                    held = held and found["exactly_once"]
                    print(f"[{number}/{len(todo)}] {matrix.line(found)}", flush=True)
    if options.record:
        cells = notebook.all()
        print(report.table(cells))
        print(f"written: {report.record(cells)}, {report.PAGE}")
        report.publish(cells)
    return 0 if held else 1


def _setting(given: str) -> tuple[str, str]:
    name, _, value = given.partition("=")
    return name.lower(), value


if __name__ == "__main__":
    sys.exit(main())
