"""The real worker as a process of its own, traffic for it, and the oracle of what must come out."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from deploy.kafka.node import die_with_parent, free_port
from worker.broker import Publisher, Reader
from worker.messages import Outgoing, decode_verdict

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.conftest import Place
    from worker.messages import Record, Verdict

# To load torch and a model on a busy laptop.
READY_WITHIN = 60.0


class WorkerProcess:
    """`python -m worker run`, its log kept, its probes asked."""

    def __init__(self, place: Place, bundle: Path, log: Path, instance: str, settings: dict[str, str]) -> None:
        self.port = free_port()
        self.log = log
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HAMGATE_")}
        environment |= {
            "HAMGATE_BUNDLE": str(bundle),
            "HAMGATE_BROKERS": place.link.brokers,
            "HAMGATE_INPUT_TOPIC": place.input,
            "HAMGATE_VERDICT_TOPIC": place.verdicts,
            "HAMGATE_DEAD_LETTER_TOPIC": place.dead_letters,
            "HAMGATE_GROUP_ID": place.group,
            "HAMGATE_INSTANCE_ID": instance,
            "HAMGATE_METRICS_PORT": str(self.port),
            "HAMGATE_THREADS": "1",
            # Many small transactions, so that whatever happens happens in the middle of one.
            "HAMGATE_MAX_BATCH_MESSAGES": "64",
            "HAMGATE_TRANSACTION_TIMEOUT": "3",
            "HAMGATE_SESSION_TIMEOUT": "4",
            "HAMGATE_LOG_FORMAT": "json",
            **{f"HAMGATE_{name.upper()}": value for name, value in settings.items()},
        }
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "worker", "run"],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(),  # noqa: PLW1509 one prctl, made ready before the fork
            )

    def is_ready(self) -> bool:
        assert self.process.poll() is None, f"the worker ended: {self.said()[-3000:]}"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, TimeoutError):
            return False

    def metric(self, name: str) -> float:
        """The sum of a counter over its labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.partition("{")[0].partition(" ")[0] == name)

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self, within: float = 30) -> int:
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the worker has not ended within {within} s: {self.said()[-3000:]}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def until(what: Callable[[], bool], *, within: float = 30) -> None:
    deadline = time.monotonic() + within
    while not what():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)


POISON = (
    b"\xff\xfe",
    b"not json",
    b'{"id": "x"}',
    b'{"text": 5}',
    b"[1]",
    b'{"text": "a", "received_at": "yesterday"}',
)


@dataclass
class Traffic:
    """Numbered events of a few subscribers, with poison and tombstones among them, fed over time."""

    place: Place
    sent: list[str] = field(default_factory=list)
    poison: Counter[bytes] = field(default_factory=Counter)
    tombstones: int = 0

    def events(self, count: int) -> list[Outgoing]:
        return [self._event(len(self.sent) + self.poison.total() + self.tombstones) for _ in range(count)]

    def _event(self, number: int) -> Outgoing:
        key = b"+4477009%05d" % (number % 37)
        if number % 50 == 7:
            value = POISON[number // 50 % len(POISON)]
            self.poison[value] += 1
            return Outgoing(key, value, (("trace", b"%d" % number), ("empty", None)))
        if number % 90 == 11:
            self.tombstones += 1
            return Outgoing(key, None)
        self.sent.append(f"m-{number:07d}")
        return Outgoing(key, json.dumps({"id": self.sent[-1], "text": f"win a prize number {number}"}).encode())

    def feed(self, count: int) -> None:
        with Publisher(self.place.link) as publisher:
            publisher.publish(self.place.input, self.events(count))

    @contextlib.contextmanager
    def flowing(self, *, total: int, chunk: int = 40, pause: float = 0.02) -> Iterator[None]:
        """Feed in the background; when the block ends, all has been sent."""
        stop = threading.Event()

        def flow() -> None:
            with Publisher(self.place.link) as publisher:
                for _ in range(total // chunk):
                    publisher.publish(self.place.input, self.events(chunk))
                    if stop.wait(pause):
                        return

        feeder = threading.Thread(target=flow)
        feeder.start()
        try:
            yield
        except BaseException:
            stop.set()
            raise
        finally:
            feeder.join()


class Watch:
    """A read_committed reader that runs all along, in a thread of its own."""

    def __init__(self, place: Place) -> None:
        self.verdicts: list[Verdict] = []
        self.keys: list[bytes | None] = []
        self.dead_letters: list[Record] = []
        self._place = place
        self._reader = Reader(place.link, place.verdicts, place.dead_letters)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.is_set():
            for record in self._reader.poll(0.1):
                if record.topic == self._place.dead_letters:
                    self.dead_letters.append(record)
                else:
                    self.keys.append(record.key)
                    self.verdicts.append(decode_verdict(record.value or b""))

    def seen(self) -> int:
        return len(self.verdicts) + len(self.dead_letters)

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._reader.close()


def exactly_once(traffic: Traffic, watch: Watch, *, within: float = 60) -> None:
    """The oracle: all that went in came out, once each, in order for each key, for two readers alike."""
    awaited = len(traffic.sent) + traffic.poison.total()
    try:
        until(lambda: watch.seen() >= awaited, within=within)
    finally:
        place = traffic.place
        with Reader(place.link, place.verdicts) as verdicts, Reader(place.link, place.dead_letters) as letters:
            final = [decode_verdict(record.value or b"").id for record in verdicts.to_end()]
            buried = [record.value for record in letters.to_end()]
    assert set(traffic.sent) - set(final) == set()
    assert [name for name, count in Counter(final).items() if count > 1] == []
    assert set(final) - set(traffic.sent) == set()
    assert Counter(buried) == traffic.poison
    assert sorted(verdict.id for verdict in watch.verdicts) == sorted(final)
    assert Counter(record.value for record in watch.dead_letters) == traffic.poison
    assert_order(watch.keys, [verdict.id for verdict in watch.verdicts])


def assert_order(keys: Sequence[bytes | None], ids: Sequence[str]) -> None:
    by_key: dict[bytes | None, list[str]] = {}
    for key, name in zip(keys, ids, strict=True):
        by_key.setdefault(key, []).append(name)
    for names in by_key.values():
        assert names == sorted(names)
