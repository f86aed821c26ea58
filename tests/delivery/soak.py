"""`python -m tests.delivery.soak`: load with random faults for as long as asked; memory, threads, descriptors watched.

One worker lives through all of it, and is the one that is measured: brokers die, the network breaks, and the other
worker is killed, stopped, put to sleep, so that the group rebalances. At the end the oracle counts every message.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from deploy.kafka import java
from deploy.kafka.cluster import Cluster
from tests.delivery import faults
from tests.delivery.stage import Load, Stage
from tests.delivery.trend import Trend, trend
from tests.integration.tiny import build
from training import results

if TYPE_CHECKING:
    from collections.abc import Callable

# A machine that is shared is slow at times: here it is leaks that are looked for, not stalls.
_SETTINGS: Final = {"transaction_timeout": "20", "session_timeout": "30"}
_SAMPLE_EVERY: Final = 5.0
# Until caches are full and every kind of fault has been met.
_WARM_UP: Final = 0.2
_MEASURED: Final = {"memory": "MiB", "threads": "threads", "descriptors": "descriptors"}
_FAULTS: Final[tuple[Callable[[Stage], None], ...]] = (
    faults.sigkill,
    faults.sigterm,
    faults.broker_stopped,
    faults.broker_killed,
    faults.leader_moved,
    faults.network_cut,
    faults.coordinator_killed,
)


def main() -> int:
    """Soak, print the slopes, record them; 0 when nothing was lost or doubled and nothing grew."""
    parser = argparse.ArgumentParser(prog="python -m tests.delivery.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=int, default=100, help="events a second")
    parser.add_argument("--pause", type=float, default=20, help="seconds between two faults, in the mean")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rebalance", choices=("eager", "cooperative"), default="cooperative")
    parser.add_argument("--no-record", action="store_true", help="write no figures")
    options = parser.parse_args()
    folder = java.CACHE.parent / "soak"
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch, Cluster(folder / "cluster", proxied=True) as cluster:
        bundle = build(Path(scratch) / "tiny")
        load = Load(total=round(options.minutes * 60 * options.rate), rate=options.rate)
        settings = _SETTINGS | {"rebalance": options.rebalance}
        with Stage(cluster, bundle, folder / "run", load, settings, victim="two") as stage:
            stage.start("one", "two")
            stage.feed.start()
            samples, struck = _soak(stage, options, folder)
            found = stage.finish()
    trends = {what: trend([sample["at"] for sample in samples], [sample[what] for sample in samples])
              for what in _MEASURED}  # fmt: skip
    _say(found, trends, struck, folder)
    if not options.no_record:
        results.record("soak", _entries(found, trends, struck, options))
    return 0 if found["exactly_once"] and not any(each.is_growth for each in trends.values()) else 1


def _soak(stage: Stage, options: argparse.Namespace, folder: Path) -> tuple[list[dict[str, float]], dict[str, int]]:
    """Strike until time is over; returns what was sampled of the worker that lives, after the warm-up."""
    chance, began = random.Random(options.seed), time.monotonic()
    seconds, pid = options.minutes * 60, stage.workers["one"].pid
    samples, struck, due = [], dict.fromkeys((fault.__name__ for fault in _FAULTS), 0), 0.0
    sampled, not_met = 0.0, chance.sample(_FAULTS, len(_FAULTS))

    def look() -> bool:
        nonlocal sampled
        now = time.monotonic() - began
        if now - sampled >= _SAMPLE_EVERY:
            sampled = now
            assert stage.workers["one"].pid == pid, f"the worker that was to live ended: {stage.exits[-1:]}"
            samples.append(_sample(pid, now))
            with (folder / "samples.jsonl").open("a") as file:
                file.write(json.dumps(samples[-1]) + "\n")
        return now >= min(due, seconds)

    stage.every_tick = look
    while time.monotonic() - began < seconds:
        due = time.monotonic() - began + chance.uniform(0.5, 1.5) * options.pause
        stage.until(look, due + 60, "the next fault is due")
        fault = not_met.pop() if not_met else chance.choice(_FAULTS)
        name = fault.__name__
        struck[name] += 1
        try:
            fault(stage)
            outcome = "recovered"
        except AssertionError as failure:
            outcome = f"not recovered in time: {failure}"[:300]
        spent = time.monotonic() - began
        results_seen = f"{len(stage.watch.records):,} results"
        print(f"{spent / 60:5.1f} min {name}: {outcome}; {results_seen}, {samples[-1:]}", flush=True)
    return [sample for sample in samples if sample["at"] >= _WARM_UP * seconds], struck


def _sample(pid: int, now: float) -> dict[str, float]:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "at": round(now, 1),
        "memory": int(status["VmRSS"].split()[0]) / 1024,
        "threads": int(status["Threads"]),
        "descriptors": len(list(Path(f"/proc/{pid}/fd").iterdir())),
    }


def _say(found: dict[str, Any], trends: dict[str, Trend], struck: dict[str, int], folder: Path) -> None:
    print(f"{found['messages']:,} messages: lost {found['lost']}, duplicated {found['duplicated']}, "
          f"reordered {found['reordered']}; {found['dead_letters']} dead letters of {found['poison']}; "
          f"{sum(struck.values())} faults; transactions {found['transactions']}")  # fmt: skip
    for what, each in trends.items():
        print(f"{what:<12} {each}")
    print(f"samples in {folder / 'samples.jsonl'}")


def _entries(
    found: dict[str, Any], trends: dict[str, Trend], struck: dict[str, int], options: argparse.Namespace
) -> list[results.Entry]:
    extra = {"minutes": options.minutes, "rate": options.rate, "rebalance": options.rebalance, "faults": struck}
    entries = [
        results.Entry(f"delivery/soak/{what}-per-hour", f"{_MEASURED[what]}/hour", each.per_hour,
                      f"{each.low:.3g} .. {each.high:.3g}", extra | {"mean": each.mean, "noise": each.noise,
                      "grows": each.is_growth})
        for what, each in trends.items()
    ]  # fmt: skip
    counts = ("messages", "lost", "duplicated", "reordered")
    entries += [results.Entry(f"delivery/soak/{what}", "messages", found[what], extra=extra) for what in counts]
    letters = {"poison": found["poison"], "transactions": found["transactions"], "readers": found["readers_disagree"]}
    return [*entries, results.Entry("delivery/soak/dead-letters", "messages", found["dead_letters"], extra=letters)]


if __name__ == "__main__":
    sys.exit(main())
