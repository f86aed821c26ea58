"""How long a scrape takes with everything on; and whether 100,000 hostile messages got anything into a label.

    python -m benchmarks.scrape [--messages 100000]

Everything: a canary on a share of the keys, a shadow on all of them, trace contexts as exemplars, OpenMetrics.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from deploy.kafka import topics
from deploy.kafka.node import free_port, temporary
from tests import bundles
from tests.closed_sets import hostile, strays
from training import results
from worker.broker import KafkaLink, Publisher
from worker.settings import PREFIX, SHIPPED_BUNDLE

if TYPE_CHECKING:
    from collections.abc import Sequence

PARTITIONS: Final = 12
_OPENMETRICS: Final = {"Accept": "application/openmetrics-text; version=1.0.0"}
_PAUSE: Final = 0.05
_ANSWERED: Final = ("hamgate_verdicts_total", "hamgate_dead_letters_total", "hamgate_tombstones_total")
_AT_REST: Final = 200
_WITHIN: Final = 400.0
_LIMIT_MS: Final = 50


class Scraped:
    """A worker's /metrics, timed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.milliseconds: list[float] = []

    def ask(self) -> str:
        """One scrape, as Prometheus makes it."""
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}/metrics", headers=_OPENMETRICS)
        began = time.perf_counter()
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 our own worker
            body = answer.read()
        self.milliseconds.append((time.perf_counter() - began) * 1000)
        return str(body.decode())


def main() -> int:
    """Feed, scrape, record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scrape", description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=1, help="of the model")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made, temporary("scrape") as node:
        return _run(options, Path(made), node.bootstrap)


def _run(options: argparse.Namespace, made: Path, bootstrap: str) -> int:
    name = f"scrape-{uuid.uuid4().hex[:6]}"
    names = [f"{name}.{part}" for part in ("events", "verdicts", "dead-letters", "shadow")]
    topics.create(bootstrap, (names[0], names[1], names[3], names[2]), PARTITIONS)
    port = free_port()
    worker = _start(options, name, bootstrap, names, port, made)
    try:
        _await_ready(port, worker)
        scraped, feeding = Scraped(port), threading.Thread(target=_feed, args=(bootstrap, names[0], options.messages))
        feeding.start()
        text = _under_load(scraped, options.messages)
        feeding.join()
        under_load, scraped.milliseconds = scraped.milliseconds, []
        for _ in range(_AT_REST):
            text = scraped.ask()
            time.sleep(_PAUSE)
        found = strays(text, names[0])
        worker.terminate()
        status = worker.wait(60)
    finally:
        worker.kill()
    return _tell(options, text, under_load, scraped.milliseconds, found) or status


def _start(  # noqa: PLR0913, PLR0917
    options: argparse.Namespace, name: str, bootstrap: str, names: Sequence[str], port: int, made: Path
) -> subprocess.Popen[bytes]:
    mine = {
        "BROKERS": bootstrap, "INPUT_TOPIC": names[0], "VERDICT_TOPIC": names[1], "DEAD_LETTER_TOPIC": names[2],
        "SHADOW_TOPIC": names[3], "GROUP_ID": name, "INSTANCE_ID": name, "METRICS_PORT": str(port),
        "BUNDLE": str(SHIPPED_BUNDLE), "CANARY": str(bundles.reissued(made / "canary")), "CANARY_SHARE": "0.2",
        "SHADOW": str(bundles.flipped(made / "shadow", canaries=[])), "ENGINE": "cpu",
        "THREADS": str(options.threads), "LOG_FORMAT": "json", "LOG_LEVEL": "warning",
    }  # fmt: skip
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return subprocess.Popen(
        [sys.executable, "-m", "worker", "run"],
        env=inherited | {PREFIX + name: value for name, value in mine.items()},
    )


def _await_ready(port: int, worker: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _WITHIN
    while True:
        try:
            text = Scraped(port).ask()
        except OSError:
            text = ""
        if all(f'hamgate_model_loaded_timestamp_seconds{{role="{role}"}}' in text for role in ("canary", "shadow")):
            return
        if worker.poll() is not None or time.monotonic() > until:
            message = "the worker did not become ready with its canary and its shadow"
            raise RuntimeError(message)
        time.sleep(0.2)


def _feed(bootstrap: str, topic: str, messages: int) -> None:
    with Publisher(KafkaLink(bootstrap, client_id="hostile")) as publisher:
        events = hostile(messages)
        for at in range(0, messages, 1000):
            publisher.publish(topic, events[at : at + 1000])


def _under_load(scraped: Scraped, messages: int) -> str:
    """Scrape until all is answered; the last scrape."""
    until = time.monotonic() + _WITHIN
    while True:
        text = scraped.ask()
        answered = sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(_ANSWERED))
        if answered >= messages:
            return text
        if time.monotonic() > until:
            message = f"{answered:,.0f} of {messages:,} answered"
            raise TimeoutError(message)
        time.sleep(_PAUSE)


def _tell(
    options: argparse.Namespace, text: str, under_load: Sequence[float], at_rest: Sequence[float], found: Sequence[str]
) -> int:
    spread = {
        phase: {f"p{q}": round(float(np.percentile(times, q)), 1) for q in (50, 99, 100)}
        for phase, times in (("under-load", under_load), ("at-rest", at_rest))
    }
    series = sum(not line.startswith("#") for line in text.splitlines())
    extra = {
        "hostile-messages": options.messages, "series": series, "bytes": len(text), "scrapes": len(under_load),
        "milliseconds": spread, "strays": found[:10], "partitions": PARTITIONS,
    }  # fmt: skip
    print(json.dumps(extra, indent=1))
    entries = [
        results.Entry("operate/scrape/at-rest-p99-ms", "ms", spread["at-rest"]["p99"], extra=extra),
        results.Entry("operate/scrape/under-load-p50-ms", "ms", spread["under-load"]["p50"], extra=extra),
        results.Entry("operate/scrape/under-load-p99-ms", "ms", spread["under-load"]["p99"], extra=extra),
        results.Entry("operate/scrape/labels-outside-their-set", "labels", len(found), extra=extra),
    ]
    print(results.record("scrape", entries))
    if spread["at-rest"]["p99"] > _LIMIT_MS:
        print(f"at rest, a scrape should take less than {_LIMIT_MS} ms")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
