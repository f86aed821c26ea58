"""Throughput of the worker itself: a judge that costs nothing, one process, exactly once, its broker on the same cores.

    python -m benchmarks.no_op_judge [--messages 300000] [--brokers HOST:PORT] [--runs 3]

Two workers in turns, each on a backlog that was there before it: one that decodes, normalises and tokenises every
message with the shipped bundle's tokenizer, and one whose judge costs nothing from the text on. Both publish every
verdict, and a read_committed reader counts them. The profile is CPU time by thread, of the worker and its broker, and
by step, each step alone on the same messages.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from benchmarks import end_to_end, steps, texts
from training import results
from worker import loading
from worker.model.bundle import Bundle
from worker.model.classifier import Classifier, Prepared
from worker.model.models_in_service import Model
from worker.pipeline.verdicts import Verdicts
from worker.policy.bands import Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.settings import Settings

_INCLUDED: Final = {
    "tokenising": "decoding, normalising and tokenising included",
    "no-tokenising": "decoding included; neither normalises nor tokenises",
}
TOKENISING: Final = {"tokenising": "", "no-tokenising": "-without-tokenising"}
_NAME: Final = "worker/no-op-judge/messages-per-second"
_CPU_TICK: Final = os.sysconf("SC_CLK_TCK")
_THREADS_FILE: Final = "BENCHMARK_THREADS"
_NO_TOKENS: Final = Prepared(np.arange(1, 28, dtype=np.int32))


def main() -> int:
    """Measure, print, record; or, with `serve`, be the worker that is measured."""
    if sys.argv[1:2] == ["serve"]:
        return serve(is_tokenising=sys.argv[2] == "tokenising")
    options = _options()
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in TOKENISING}
    with end_to_end.broker(options) as (bootstrap, broker_pid):
        for _ in range(options.runs):
            for kind in TOKENISING:
                runs[kind].append(run(bootstrap, broker_pid, options, kind))
                print(f"{kind}: {runs[kind][-1]['rate']:,.0f} msg/s")
    costs = steps.costs(texts.stream(20_000), options.bundle)
    _show(runs, costs)
    _record(options, runs, costs)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.no_op_judge", description=__doc__)
    parser.add_argument("--messages", type=int, default=300_000, help="backlog of each run")
    parser.add_argument("--runs", type=int, default=3, help="of each kind; the median is recorded")
    parser.add_argument("--brokers", help="a broker that runs already; none: one of its own")
    parser.add_argument("--bundle", type=Path, default=end_to_end.SHIPPED_BUNDLE, help="whose tokenizer")
    parser.add_argument("--delivery", default="exactly-once")
    options = parser.parse_args()
    options.threads = 1
    return options


class Backlog(end_to_end.Place):
    """Topics of its own, and the measured worker on them."""

    def __init__(self, bootstrap: str, options: argparse.Namespace, kind: str) -> None:
        super().__init__(bootstrap, options.bundle.resolve(), "cpu", options)
        self._kind = kind
        self.threads = Path(tempfile.mkdtemp()) / "threads.json"

    def command(self) -> list[str]:
        """In place of the worker's own."""
        return [sys.executable, "-m", "benchmarks.no_op_judge", "serve", self._kind]

    def environment(self) -> dict[str, str]:
        """And where it is to name its threads."""
        return super().environment() | {_THREADS_FILE: str(self.threads)}

    def cpu_by_thread(self) -> dict[str, float]:
        """CPU seconds of each thread so far, by its name in Python; of those it does not know, together."""
        self.worker.send_signal(signal.SIGUSR1)
        until = time.monotonic() + 10
        while not self.threads.exists() and time.monotonic() < until:
            time.sleep(0.01)
        names = json.loads(self.threads.read_text())
        self.threads.unlink()
        spent: dict[str, float] = {}
        for task in Path(f"/proc/{self.worker.pid}/task").iterdir():
            name = names.get(task.name, "others (tokenizer's threads)")
            spent[name] = spent.get(name, 0.0) + _cpu(task / "stat")
        return spent


def run(bootstrap: str, broker_pid: int, options: argparse.Namespace, kind: str) -> dict[str, Any]:
    """One backlog worked off: its rate and its CPU time a message, from the first tenth to the last message."""
    with Backlog(bootstrap, options, kind) as place:
        place.fill(options.messages)
        place.start()
        while place.verdicts() < options.messages / 10:
            time.sleep(0.1)
        began, first = time.perf_counter(), place.verdicts()
        threads, broker = place.cpu_by_thread(), _cpu(Path(f"/proc/{broker_pid}/stat"))
        while place.verdicts() < options.messages:
            time.sleep(0.1)
        seconds, count = time.perf_counter() - began, options.messages - first
        spent = {name: cpu - threads.get(name, 0.0) for name, cpu in place.cpu_by_thread().items()}
        spent["broker"] = _cpu(Path(f"/proc/{broker_pid}/stat")) - broker
        place.check(options.messages)
        return {"rate": count / seconds, "cpu": {name: 1e6 * cpu / count for name, cpu in spent.items()}}


def _cpu(stat: Path) -> float:
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _CPU_TICK


def _show(runs: dict[str, list[dict[str, Any]]], costs: dict[str, float]) -> None:
    for kind, measured in runs.items():
        middle = _middle(measured)
        print(f"\n{kind}: {middle['rate']:,.0f} msg/s; CPU by thread, us a message:")
        for name, cpu in sorted(middle["cpu"].items(), key=lambda item: -item[1]):
            print(f"  {cpu:7.2f}  {name}")
    print("\nsteps alone, us a message:")
    for name, cpu in costs.items():
        print(f"  {cpu:7.2f}  {name}")


def _middle(measured: list[dict[str, Any]]) -> dict[str, Any]:
    return sorted(measured, key=lambda one: one["rate"])[len(measured) // 2]


def _record(options: argparse.Namespace, runs: dict[str, list[dict[str, Any]]], costs: dict[str, float]) -> None:
    entries = []
    for kind, measured in runs.items():
        rates = [one["rate"] for one in measured]
        extra = {
            "judge": "no-op; " + _INCLUDED[kind],
            "delivery": options.delivery, "messages": options.messages, "runs": [round(rate) for rate in rates],
            "cpu_us_a_message_by_thread": {n: round(cpu, 2) for n, cpu in _middle(measured)["cpu"].items()},
            "steps_alone_us_a_message": {name: round(cpu, 2) for name, cpu in costs.items()},
        }  # fmt: skip
        spread = f"{min(rates):.0f} to {max(rates):.0f}"
        entries.append(results.Entry(_NAME + TOKENISING[kind], "msg/s", median(rates), spread, extra))
    results.record("no-op-judge", entries)


# --- the worker that is measured ------------------------------------------------------------------------------------


class NoClassifier(Classifier):
    """Neither normalises nor tokenises: every text has the same tokens."""

    def begin_preparing(self, texts: Sequence[str]) -> Callable[[], list[Prepared]]:
        """Nothing."""
        return lambda: [_NO_TOKENS] * len(texts)


def serve(*, is_tokenising: bool) -> int:
    """`hamgate run`, but for the model."""
    sys.argv[1:] = ["run"]

    def model(settings: Settings, *_: object) -> Model:
        kind = Classifier if is_tokenising else NoClassifier
        classifier = kind(Bundle.load(settings.bundle), steps.NoEngine())  # type: ignore[arg-type]
        policy = Policy.make(classifier.threshold, flag_from=None, block_from=None, on_unscored="unscored")
        return Model(classifier, Verdicts(classifier.labels, policy, classifier.bundle.model))

    def name_threads(*_: object) -> None:
        path = Path(os.environ[_THREADS_FILE])
        names = {str(thread.native_id): thread.name for thread in threading.enumerate()}
        path.with_suffix(".part").write_text(json.dumps(names))
        path.with_suffix(".part").rename(path)

    loading.model = model
    signal.signal(signal.SIGUSR1, name_threads)
    from worker.__main__ import main as run_worker  # noqa: PLC0415

    return run_worker(["run"])


if __name__ == "__main__":
    sys.exit(main())
