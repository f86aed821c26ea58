"""The whole way: a real broker, the real worker as its own process, exactly once; beside the engine alone, same run.

    python -m benchmarks.end_to_end                                        the shipped bundle on the CPU
    python -m benchmarks.end_to_end --tinyllama TOKENIZER.json --engines cuda-bf16 cuda-fp8
                                    TinyLlama's true shape with random weights, on a GPU

Throughput is a backlog worked off: verdicts committed a second, from the worker's own counter, checked by a
read_committed reader. Latency is open loop (`benchmarks.open_loop`), after one round that is not looked at. Where there
are cores to spare for a look, it is also said how often the machine itself stood still (`benchmarks.hiccups`).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from benchmarks import hiccups, open_loop, texts
from deploy.kafka import topics
from deploy.kafka.node import free_port, temporary
from training import results
from worker.broker import KafkaLink, Publisher, Reader
from worker.messages import Outgoing, decode_verdict
from worker.model.classifier import Classifier
from worker.settings import PREFIX, SHIPPED_BUNDLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray


# Of every topic, for one worker: docs/operations.md asks for two or three.
PARTITIONS: Final = 3
_LOADS: Final = (0.1, 0.5, 0.8)
_MANY_CORES: Final = 8
# A hiccup holds up what was on its way, and what comes until that is worked off, in seconds.
_BEFORE, _AFTER = 0.05, 0.15
_STAGES: Final = ("queue_wait", "tokenize", "inference", "handover", "encode", "commit")
_KINDS: Final = {"cpu": "cpu", "cuda-bf16": "bf16", "cuda-fp8": "fp8", "cuda-nf4": "nf4"}


def main() -> int:
    """Measure, print, record."""
    options = _options()
    with broker(options) as (bootstrap, _), _bundle(options) as bundle:
        for engine in options.engines:
            alone, kind = engine_alone(bundle, engine, options)
            print(f"engine alone: {alone:,.0f} msg/s ({kind}, {options.threads} threads)", flush=True)
            with Place(bootstrap, bundle, engine, options) as place:
                through = place.work_off(options.messages)
                print(f"end to end:   {through:,.0f} msg/s, {through / alone:.3f} of the engine alone", flush=True)
                stages = {"backlog": place.stages({})}
                print(f"mean milliseconds of each stage: {stages['backlog']}", flush=True)
                place.trickle(max(_LOADS) * through, options.seconds)  # the broker's Java gets quicker for as long
                latencies, machine = {}, {}
                for load in _LOADS:
                    name, before = f"{load:.0%}", place.samples()
                    with hiccups.Probe() if _has_many_cores() else contextlib.nullcontext() as probe:
                        found = place.trickle(load * through, options.seconds)
                    latencies[load], machine[name] = found.ms, _outside_hiccups(probe, found) if probe else None
                    stages[name] = place.stages(before)
                    p50, p99 = np.percentile(found.ms, (50, 99))
                    print(
                        f"at {name} load ({load * through:,.0f} msg/s): p50 {p50:.1f} ms, p99 {p99:.1f} ms; "
                        f"{stages[name]}; of the machine: {machine[name]}",
                        flush=True,
                    )
            _record(options, bundle, kind, alone, through, latencies, stages, machine)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.end_to_end", description=__doc__)
    parser.add_argument("--messages", type=int, default=60_000, help="backlog to work off")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each latency run")
    parser.add_argument("--brokers", help="a broker that runs already; none: one of its own")
    parser.add_argument("--bundle", type=Path, default=SHIPPED_BUNDLE)
    parser.add_argument("--tinyllama", type=Path, metavar="TOKENIZER", help="instead: its shape, random weights")
    parser.add_argument("--engines", nargs="+", default=["auto"])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--delivery", default="exactly-once")
    return parser.parse_args()


@contextlib.contextmanager
def broker(options: argparse.Namespace) -> Iterator[tuple[str, int | None]]:
    """The broker to measure with, and its process where it is one of ours."""
    if options.brokers:
        yield options.brokers, None
        return
    with temporary("bench", heap="1024m", is_for_long=_has_many_cores()) as node:
        yield node.bootstrap, node.pid


def _has_many_cores() -> bool:
    return (os.cpu_count() or 1) >= _MANY_CORES


@contextlib.contextmanager
def _bundle(options: argparse.Namespace) -> Iterator[Path]:
    if options.tinyllama is None:
        yield options.bundle.resolve()
        return
    from benchmarks import tinyllama  # noqa: PLC0415 # torch, and gigabytes

    with tempfile.TemporaryDirectory() as made:
        began = time.monotonic()
        bundle = tinyllama.bundle(Path(made) / "tinyllama-random", options.tinyllama)
        print(f"{bundle.name} made in {time.monotonic() - began:.0f} s", flush=True)
        yield bundle


def engine_alone(bundle: Path, engine: str, options: argparse.Namespace) -> tuple[float, str]:
    """Messages a second of the engine on tokens that are ready, nothing else running; and its kind."""
    classifier = Classifier.load(bundle, engine, threads=options.threads)
    prepared = classifier.prepare(texts.stream(min(options.messages, 20_000)))
    batches, tokens = [[]], 0
    for message in prepared:
        tokens += len(message)
        if tokens > classifier.engine.token_budget:
            batches, tokens = [*batches, []], len(message)
        batches[-1].append(message)
    classifier.judge(batches[0])
    rates = []
    for _ in range(3):
        began, ahead = time.perf_counter(), None
        for batch in batches:
            begun = classifier.begin(batch)
            if ahead is not None:
                ahead.scores()
            ahead = begun
        if ahead is not None:
            ahead.scores()
        rates.append(len(prepared) / (time.perf_counter() - began))
    return float(np.median(rates)), _KINDS[classifier.engine.kind]


class Place:
    """Topics of its own and a worker on them."""

    def __init__(self, bootstrap: str, bundle: Path, engine: str, options: argparse.Namespace) -> None:
        self.options, self.bundle, self.engine = options, bundle, engine
        self.name, self.published = f"bench-{uuid.uuid4().hex[:8]}", 0
        self.topics = tuple(f"{self.name}.{part}" for part in ("events", "verdicts", "dead-letters"))
        self.link = KafkaLink(bootstrap, client_id=self.name)
        topics.create(bootstrap, self.topics, PARTITIONS)
        self.address = f"http://127.0.0.1:{free_port()}"

    def command(self) -> list[str]:
        """Return the command line of the measured worker."""
        return [sys.executable, "-m", "worker", "run"]

    def environment(self) -> dict[str, str]:
        """Return the environment of the measured worker: its settings."""
        mine = {
            "BROKERS": self.link.brokers, "INPUT_TOPIC": self.topics[0], "VERDICT_TOPIC": self.topics[1],
            "DEAD_LETTER_TOPIC": self.topics[2], "GROUP_ID": self.name, "INSTANCE_ID": self.name,
            "METRICS_PORT": self.address.rpartition(":")[2], "BUNDLE": str(self.bundle),
            "ENGINE": self.engine, "THREADS": str(self.options.threads), "LOG_FORMAT": "json",
            "DELIVERY": self.options.delivery,
        }  # fmt: skip
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        return inherited | {PREFIX + name: value for name, value in mine.items()}

    def start(self) -> None:
        """Start the worker and wait until it is ready."""
        self.worker = subprocess.Popen(self.command(), env=self.environment())  # noqa: S603 our own worker
        until = time.monotonic() + 300
        while not self._is_ready():
            if self.worker.poll() is not None or time.monotonic() > until:
                message = "the worker did not become ready"
                raise RuntimeError(message)
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(self.address + "/readyz", timeout=5):  # noqa: S310 our own worker
                return True
        except OSError:
            return False

    def samples(self) -> dict[str, float]:
        """Current samples of the worker's /metrics, by series."""
        with urllib.request.urlopen(self.address + "/metrics", timeout=5) as answer:  # noqa: S310 our own worker
            lines = [line.rpartition(" ") for line in answer.read().decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in lines}

    def verdicts(self) -> int:
        """Verdicts committed, by the worker's own count."""
        return int(sum(value for name, value in self.samples().items() if name.startswith("hamgate_verdicts_total{")))

    def stages(self, before: dict[str, float]) -> dict[str, float]:
        """Mean milliseconds of each stage since then; of messages in a batch, and transactions, their number."""
        now = self.samples()

        def since(name: str) -> float:
            return now.get(f"hamgate_{name}", 0.0) - before.get(f"hamgate_{name}", 0.0)

        found = {
            name: round(1e3 * since(f"{name}_seconds_sum") / max(1.0, since(f"{name}_seconds_count")), 2)
            for name in _STAGES
        }
        batches, transactions = since("batch_messages_count"), since("commit_seconds_count")
        found["messages_a_batch"] = round(since("batch_messages_sum") / max(1.0, batches), 1)
        return found | {"batches": batches, "transactions": transactions}

    def work_off(self, messages: int) -> float:
        """Messages a second on a backlog that was there before the worker, from its first tenth on.

        It is asked twice a second: each answer takes 10 ms of its time, and as much of this process's.
        """
        self.fill(messages)
        self.start()
        seen: list[tuple[float, int]] = []
        while not seen or seen[-1][1] < messages:
            seen.append((time.perf_counter(), self.verdicts()))
            time.sleep(0.5)
        during = [(at, count) for at, count in seen if messages / 10 <= count < messages] or seen[-2:]
        self.check(messages)
        return (during[-1][1] - during[0][1]) / (during[-1][0] - during[0][0])

    def fill(self, messages: int) -> None:
        """Make the backlog."""
        with Publisher(self.link) as publisher:
            for batch in _batches(_events(texts.stream(messages)), 2048):
                publisher.publish(self.topics[0], batch)
        self.published = messages

    def check(self, messages: int) -> None:
        """Hold the verdicts against the messages, one to one. Raises RuntimeError."""
        with Reader(self.link, self.topics[1]) as reader:
            ids = [decode_verdict(record.value or b"").id for record in reader.to_end()]
        if sorted(ids, key=int) != [str(number) for number in range(messages)]:
            message = "verdicts do not match the messages, one to one"
            raise RuntimeError(message)

    def trickle(self, rate: float, seconds: float) -> open_loop.Latencies:
        """From the time each message was due to the time a reader had its verdict."""
        count, first = int(rate * seconds), self.published
        self.published += count
        found = open_loop.latencies(self.link.brokers, self.topics[0], self.topics[1], rate, count, first)
        return open_loop.Latencies(*(each[count // 5 :] for each in found))  # the first fifth warms up

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the worker that was started here."""
        self.worker.terminate()
        try:
            self.worker.wait(30)
        except subprocess.TimeoutExpired:
            self.worker.kill()


def _events(lines: Sequence[str]) -> list[Outgoing]:
    return [Outgoing(*open_loop.event(number, text)) for number, text in enumerate(lines)]


def _batches(lines: Sequence[Outgoing], size: int) -> Iterator[Sequence[Outgoing]]:
    for at in range(0, len(lines), size):
        yield lines[at : at + size]


def _outside_hiccups(probe: hiccups.Probe, found: open_loop.Latencies) -> dict[str, Any]:
    """Return the hiccups found, and p50 and p99 (ms) of events due neither in one nor shortly before or after."""
    is_outside = np.ones(len(found.due), dtype=np.bool_)
    for began, ended in probe.stretches:
        is_outside &= (found.due < began - _BEFORE) | (found.due > ended + _AFTER)
    outside: dict[str, float] = {"share": round(float(is_outside.mean()), 3)}
    if is_outside.any():
        outside |= {f"p{q}_ms": round(float(np.percentile(found.ms[is_outside], q)), 2) for q in (50, 99)}
    return asdict(probe.found) | {"apart_from_hiccups": outside}


def _record(  # noqa: PLR0913, PLR0917 # what was measured
    options: argparse.Namespace,
    bundle: Path,
    kind: str,
    alone: float,
    through: float,
    latencies: dict[float, NDArray[np.float64]],
    stages: dict[str, dict[str, float]],
    machine: dict[str, dict[str, Any] | None],
) -> None:
    p50, p99 = np.percentile(latencies[0.5], (50, 99))
    extra = {
        "bundle": bundle.name, "delivery": options.delivery, "messages": options.messages,
        "threads": options.threads, "partitions": PARTITIONS,
        "engine_alone": round(alone), "end_to_end": round(through),
        "loads": {
            f"{load:.0%}": {f"p{q}_ms": round(float(np.percentile(found, q)), 2) for q in (50, 95, 99, 99.9)}
            for load, found in latencies.items()
        },
        "mean_milliseconds_by_stage": stages, "hiccups_of_the_machine": machine,
    }  # fmt: skip
    device = None
    if kind != "cpu":
        import torch  # noqa: PLC0415 # only to ask the GPU's name

        device = torch.cuda.get_device_name()
    path = results.record(
        f"end_to_end-{kind}",
        [
            results.Entry(f"end-to-end/{kind}/messages-per-second", "msg/s", round(through, 1), extra=extra),
            results.Entry(f"end-to-end/{kind}/share-of-engine", "ratio", round(through / alone, 4), extra=extra),
            results.Entry(f"end-to-end/{kind}/half-load-p50-ms", "ms", round(float(p50), 2), extra=extra),
            results.Entry(f"end-to-end/{kind}/half-load-p99-ms", "ms", round(float(p99), 2), extra=extra),
        ],
        device=device,
    )
    print(path)


if __name__ == "__main__":
    sys.exit(main())
