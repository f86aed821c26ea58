"""The real worker as a process of its own, traffic for it, and the oracle of what must come out."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from deploy.kafka.node import die_with_parent, free_port
from worker.__main__ import main
from worker.broker import Publisher, Reader
from worker.messages import Outgoing, decode_verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.conftest import Place
    from worker.messages import Record, Verdict

# To load torch and a model on a busy laptop.
READY_WITHIN = 60.0


# One process loads torch, once; each worker is a fork of it: a test waits half a second for its worker, not eight.
_LOADED = multiprocessing.get_context("forkserver")
_LOADED.set_forkserver_preload(["torch", "worker.app", "worker.engine.cpu", "tests.integration.harness"])


def environment(place: Place, bundle: Path, instance: str = "one", /, **settings: str) -> dict[str, str]:
    """A worker's environment: settings for this place, and none of the developer's own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HAMGATE_")} | {
        "HAMGATE_BUNDLE": str(bundle),
        "HAMGATE_BROKERS": place.link.brokers,
        "HAMGATE_INPUT_TOPIC": place.input,
        "HAMGATE_VERDICT_TOPIC": place.verdicts,
        "HAMGATE_DEAD_LETTER_TOPIC": place.dead_letters,
        "HAMGATE_GROUP_ID": place.group,
        "HAMGATE_INSTANCE_ID": instance,
        "HAMGATE_THREADS": "1",
        "HAMGATE_TRANSACTION_TIMEOUT": "3",
        "HAMGATE_SESSION_TIMEOUT": "4",
        "HAMGATE_LOG_FORMAT": "json",
        **{f"HAMGATE_{name.upper()}": value for name, value in settings.items()},
    }


def _run_worker(variables: dict[str, str], log: str, *changes: Callable[[], None]) -> None:
    """Do as `hamgate run` does, in a process with its imports done, changed as a test wants it."""
    if ask := die_with_parent():
        ask()
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.clear()
    os.environ.update(variables)
    for change in changes:
        change()
    sys.exit(main(["run"]))


def metric_at(port: int, name: str, labels: Mapping[str, str]) -> float:
    """The sum of a series of a process on loopback over those of its labels that are not given."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    mine = [line for line in lines if line.partition("{")[0].partition(" ")[0] == name]
    return sum(float(line.rpartition(" ")[2]) for line in mine if all(each in line for each in wanted))


class WorkerProcess:
    """A worker, its log kept, its probes asked."""

    def __init__(
        self,
        place: Place,
        bundle: Path,
        log: Path,
        instance: str,
        settings: dict[str, str],
        *changes: Callable[[], None],
    ) -> None:
        self.port = free_port()
        self.log = log
        variables = environment(place, bundle, instance, metrics_port=str(self.port), **settings)
        self._process = _LOADED.Process(target=_run_worker, args=(variables, str(log), *changes), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid
        return self._process.pid

    def is_running(self) -> bool:
        return self._process.is_alive()

    def is_ready(self) -> bool:
        assert self.is_running(), f"the worker ended: {self.said()[-3000:]}"
        try:
            return self.probe("/readyz")[0] == 200
        except (urllib.error.URLError, TimeoutError):
            return False

    def probe(self, path: str) -> tuple[int, str]:
        """Status and text of a probe's answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=2) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a counter over those of its labels that are not given."""
        return metric_at(self.port, name, labels)

    def children(self) -> list[int]:
        """The processes that it has started and not yet ended."""
        stats = [(int(stat.parent.name), stat) for stat in Path("/proc").glob("[0-9]*/stat")]
        return [pid for pid, stat in stats if _parent(stat) == self.pid]

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        assert self._process.pid
        os.kill(self._process.pid, number)

    def ended(self, within: float = 30) -> int:
        self._process.join(within)
        assert self._process.exitcode is not None, f"it has not ended within {within} s: {self.said()[-3000:]}"
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


def _parent(stat: Path) -> int | None:
    with contextlib.suppress(OSError):  # it has ended meanwhile
        return int(stat.read_text().rpartition(")")[2].split()[1])
    return None


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
    """Numbered events of a few subscribers, with one-time codes, poison and tombstones among them, fed over time."""

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
        text = f"Your code is {number:06d}. Do not share it." if number % 9 == 4 else f"win a prize number {number}"
        return Outgoing(key, json.dumps({"id": self.sent[-1], "text": text}).encode())

    def feed(self, count: int) -> None:
        with Publisher(self.place.link) as publisher:
            publisher.publish(self.place.input, self.events(count))

    @contextlib.contextmanager
    def flowing(self, *, chunk: int = 20, pause: float = 0.04) -> Iterator[None]:
        """Feed in the background for as long as the block lasts."""
        stop = threading.Event()

        def flow() -> None:
            with Publisher(self.place.link) as publisher:
                while not stop.wait(pause):
                    publisher.publish(self.place.input, self.events(chunk))

        feeder = threading.Thread(target=flow)
        feeder.start()
        try:
            yield
        finally:
            stop.set()
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
    except AssertionError as late:
        message = f"{watch.seen()} of {awaited} came out within {within:g} s"
        raise AssertionError(message) from late
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


@dataclass
class CompanionProcess:
    """A command that runs beside the workers, as a user runs it: its log kept, its metrics asked."""

    words: tuple[str, ...]
    variables: dict[str, str]
    log: Path
    port: int = field(default_factory=free_port)
    patience: float = 30.0

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "worker", *self.words, "--metrics-port", str(self.port)]
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                command, env=self.variables, stdout=output, stderr=output,
                preexec_fn=die_with_parent(),  # noqa: PLW1509 one prctl, made ready before the fork
            )  # fmt: skip
        until(self.is_ready, within=self.patience)
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        print(f"{self.log.name}:\n{self.said()[-4000:]}")  # noqa: T201 pytest shows it where the test has failed

    def is_ready(self) -> bool:
        assert self._process.poll() is None, self.said()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a series over those of its labels that are not given."""
        return metric_at(self.port, name, labels)

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def ended(self) -> int:
        return self._process.wait(self.patience)

    def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(30)
