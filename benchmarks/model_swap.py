"""The model changed a hundred times under load, held against what went in.

    python -m benchmarks.model_swap [--swaps 100]

Two bundles take turns. They are one model in two guises: the second's token ids are turned round, in its tokenizer and
in its embedding alike. So each message has one right score, whichever of the two judges it, and a message that was
tokenised by one and judged by the other would have a score that is neither's. The load is an open loop; the pause is
read off the transactions' own time stamps, and is tokenizer beside the longest one of the same load without a swap.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from safetensors.numpy import load_file, save_file

from benchmarks import texts
from benchmarks.load import OpenLoop, Reading
from deploy.kafka import topics
from deploy.kafka.node import free_port, temporary
from tests import bundles
from training import results
from worker.broker import KafkaLink
from worker.messages import Outgoing, decode_verdict
from worker.model.bundle import Bundle
from worker.model.classifier import Classifier
from worker.rollout import link as releases
from worker.settings import PREFIX, SHIPPED_BUNDLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from worker.messages import Record

PARTITIONS: Final = 6
KEYS: Final = 97
_POISON_EVERY: Final = 211
_NEAR: Final = 1e-4
_WITHIN: Final = 60.0


def turned(into: Path, source: Path = SHIPPED_BUNDLE) -> Path:
    """The same model with its token ids turned round, last to first."""
    bundles.copy(into, source)
    weights = load_file(into / "base" / "model.safetensors")
    [name] = [name for name in weights if name.endswith("embed_tokens.weight")]
    last = len(weights[name]) - 1
    weights[name] = np.ascontiguousarray(weights[name][::-1])
    save_file(weights, into / "base" / "model.safetensors", metadata={"format": "pt"})
    path = into / "tokenizer" / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["model"]["vocab"] = {piece: last - index for piece, index in tokenizer["model"]["vocab"].items()}
    for token in tokenizer["added_tokens"]:
        token["id"] = last - token["id"]
    for special in (tokenizer.get("post_processor") or {}).get("special_tokens", {}).values():
        special["ids"] = [last - index for index in special["ids"]]
    path.write_text(json.dumps(tokenizer))
    return bundles.seal(into, name="turned")


class Load(OpenLoop):
    """Something unreadable now and then."""

    def __init__(self, link: KafkaLink, topic: str, rate: float, lines: Sequence[str]) -> None:
        super().__init__(link, topic, rate, self._some)
        self.poison, self._lines = 0, lines

    def _some(self, number: int) -> Iterator[Outgoing]:
        key = b"+44770090%04d" % (number % KEYS)
        if number % _POISON_EVERY == 0:
            self.poison += 1
            yield Outgoing(key, b"not json %d" % number)
        text = self._lines[number % len(self._lines)]
        yield Outgoing(key, json.dumps({"id": str(number), "text": text}).encode())


class Seen(Reading):
    """All verdicts and dead letters."""

    def __init__(self, link: KafkaLink, verdict_topic: str, letter_topic: str) -> None:
        super().__init__(link, [verdict_topic, letter_topic], self._see)
        self._letter_topic, self.letters = letter_topic, 0
        self.ids: list[int] = []
        self.keys: list[bytes | None] = []
        self.models: list[str] = []
        self.scores: list[float] = []
        self.stamps: list[float] = []
        self.totals: list[float] = []

    def _see(self, record: Record) -> None:
        if record.topic == self._letter_topic:
            self.letters += 1
            return
        verdict = decode_verdict(record.value or b"")
        self.scores.append(float("nan") if verdict.score is None else verdict.score)
        self.keys.append(record.key)
        self.stamps.append(record.timestamp)
        self.totals.append(verdict.latency_ms.total)
        self.ids.append(int(verdict.id))
        self.models.append(verdict.model)


def main() -> int:
    """Swap, check, record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.model_swap", description=__doc__)
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument("--rate", type=float, default=300.0, help="messages a second")
    parser.add_argument("--quiet-seconds", type=float, default=30.0, help="the same load without a swap, before")
    parser.add_argument("--threads", type=int, default=1, help="of the model")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made, temporary("swap") as node:
        return _run(options, Path(made), node.bootstrap)


def _run(options: argparse.Namespace, made: Path, bootstrap: str) -> int:
    name = f"swap-{uuid.uuid4().hex[:6]}"
    input_topic, verdict_topic, letter_topic = (f"{name}.{part}" for part in ("events", "verdicts", "dead-letters"))
    topics.create(bootstrap, (input_topic, verdict_topic, letter_topic), PARTITIONS)
    folders = [bundles.copy(made / "as-it-is", SHIPPED_BUNDLE), turned(made / "turned")]
    models = [Bundle.load(folder).model for folder in folders]
    lines = texts.stream(2000)
    right = _scores(folders[0], lines)
    if np.abs(_scores(folders[1], lines) - right).max() > _NEAR:
        message = "the two guises are not one model"
        raise RuntimeError(message)
    link = made / "current"
    releases.use(link, folders[0])
    brokers = KafkaLink(bootstrap, client_id=name)
    load, seen = Load(brokers, input_topic, options.rate, lines), Seen(brokers, verdict_topic, letter_topic)
    address = f"127.0.0.1:{free_port()}"
    worker = _start(options, name, bootstrap, (input_topic, verdict_topic, letter_topic), address, link)
    try:
        _await(lambda: _is_ready(address), "the worker's being ready")
        load.thread.start()
        seen.thread.start()
        _await(lambda: len(seen.ids) > options.rate, "verdicts")
        quiet = _phase(seen, lambda: time.sleep(options.quiet_seconds))
        turns: list[float] = []
        swapping = _phase(seen, lambda: turns.extend(_swap(options.swaps, link, folders, models, seen)))
        load.stop()
        _await(lambda: len(seen.ids) + seen.letters >= load.sent + load.poison, "the last verdicts")
        time.sleep(1)  # for one too many to show
        seen.stop()
        refused = _metric(address, "hamgate_model_refused")
        changed = _metric(address, 'hamgate_model_changes_total{outcome="swapped",role="primary"}')
        worker.terminate()
        status = worker.wait(60)
    finally:
        worker.kill()
    return _tell(options, load, seen, models, right, quiet, swapping, turns, changed, refused + status)


def _scores(folder: Path, lines: Sequence[str]) -> np.ndarray:
    classifier = Classifier.load(folder, "cpu", threads=1)
    return classifier.judge(classifier.prepare(lines)).score


def _start(  # noqa: PLR0913, PLR0917
    options: argparse.Namespace, name: str, bootstrap: str, names: Sequence[str], address: str, link: Path
) -> subprocess.Popen[bytes]:
    mine = {
        "BROKERS": bootstrap, "INPUT_TOPIC": names[0], "VERDICT_TOPIC": names[1], "DEAD_LETTER_TOPIC": names[2],
        "GROUP_ID": name, "INSTANCE_ID": name, "METRICS_PORT": address.rpartition(":")[2], "BUNDLE": str(link),
        "ENGINE": "cpu", "THREADS": str(options.threads), "LOG_FORMAT": "json",
        "LOG_LEVEL": "warning",
    }  # fmt: skip
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return subprocess.Popen(
        [sys.executable, "-m", "worker", "run"],
        env=inherited | {PREFIX + name: value for name, value in mine.items()},
    )


def _is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/readyz", timeout=5):
            return True
    except OSError:
        return False


def _metric(address: str, series: str) -> float:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(series))


def _await(what: Callable[[], bool], why: str, within: float = _WITHIN) -> None:
    until = time.monotonic() + within
    while not what():
        if time.monotonic() > until:
            message = f"{why} did not come within {within:g} s"
            raise TimeoutError(message)
        time.sleep(0.01)


def _phase(seen: Seen, during: Callable[[], None]) -> slice:
    began = len(seen.ids)
    during()
    return slice(began, len(seen.ids))


def _swap(swaps: int, link: Path, folders: Sequence[Path], models: Sequence[str], seen: Seen) -> Iterator[float]:
    """Turn the link again and again; seconds from each turn to the first verdict of the other model."""
    dice = random.Random(1)
    for number in range(1, swaps + 1):
        time.sleep(dice.uniform(0, 0.3))
        turned_at = time.monotonic()
        releases.use(link, folders[number % 2])
        _await(lambda wanted=models[number % 2]: seen.models[-1] == wanted, f"swap {number}")
        yield time.monotonic() - turned_at
        if number % 10 == 0:
            print(f"{number} swaps, {len(seen.ids):,} verdicts", flush=True)


def _longest_gap(stamps: Sequence[float]) -> float:
    """Seconds between one transaction's stamp and the next one's, at most."""
    return float(np.diff(np.unique(stamps)).max())


def _tell(  # noqa: PLR0913, PLR0917
    options: argparse.Namespace, load: Load, seen: Seen, models: Sequence[str], right: np.ndarray, quiet: slice,
    swapping: slice, turns: Sequence[float], changed: float, wrong: float,
) -> int:  # fmt: skip
    counts = Counter(seen.ids)
    lost = load.sent - len(counts) + load.poison - seen.letters
    doubled = sum(count - 1 for count in counts.values())
    last: dict[bytes | None, int] = {}
    reordered = 0
    for key, number in zip(seen.keys, seen.ids, strict=True):
        reordered += number < last.get(key, -1)
        last[key] = number
    off = np.abs(np.array(seen.scores) - right[np.array(seen.ids) % len(right)])
    mixed = int((~(off < _NEAR)).sum())
    strangers = sorted(set(seen.models) - set(models))
    gap, quiet_gap = _longest_gap(seen.stamps[swapping]), _longest_gap(seen.stamps[quiet])
    latency = {
        f"{phase}-p{q}-ms": round(float(np.percentile(np.array(seen.totals)[rows], q)), 1)
        for phase, rows in (("quiet", quiet), ("swapping", swapping)) for q in (50, 99, 100)
    }  # fmt: skip
    extra = {
        "swaps": changed, "rate": options.rate, "threads": options.threads, "by_model": Counter(seen.models),
        "longest-gap-without-swaps-seconds": round(quiet_gap, 3), "scores-of-neither": mixed, "strangers": strangers,
        "turn-to-first-verdict-seconds": {f"p{q}": round(float(np.percentile(turns, q)), 3) for q in (50, 99, 100)},
        "worst-score-difference": float(np.nanmax(off)), "dead-letters": seen.letters, **latency,
    }  # fmt: skip
    figures = (
        ("messages", "messages", load.sent + load.poison), ("lost", "messages", lost),
        ("duplicated", "messages", doubled), ("reordered", "messages", reordered),
        ("longest-stall-seconds", "s", gap),
    )  # fmt: skip
    for what, unit, value in figures:
        print(f"delivery/model-swap/{what}: {value:g} {unit}")
    print(json.dumps(extra, indent=1))
    entries = [results.Entry(f"delivery/model-swap/{what}", unit, value, extra=extra) for what, unit, value in figures]
    print(results.record("model_swap", entries))
    return int(any((lost, doubled, reordered, mixed, strangers, wrong)) or changed != options.swaps)


if __name__ == "__main__":
    sys.exit(main())
