"""Where a drill takes place: a broker, supervised workers, traffic and a Prometheus on loopback, gone after it."""

from __future__ import annotations

import contextlib
import http.server
import os
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from deploy.drill.saboteur import HOLD
from deploy.kafka import topics
from deploy.kafka.node import LOOPBACK, Node, answers, die_with_parent, free_port
from deploy.prometheus.local import LocalPrometheus
from worker.settings import SHIPPED_BUNDLE

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT: Final = Path(__file__).resolve().parents[2]
# How long a supervisor waits before it starts again what has ended: Compose's and Kubernetes' first step.
_RESTART_AFTER: Final = 1.0


class Supervised(threading.Thread):
    """One worker, started again whenever it ends, until `close` or while `is_wanted` is false."""

    def __init__(self, name: str, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(name=name, daemon=True)
        self.port, self.log = free_port(), folder / f"{name}.log"
        self.environment = {
            **environment,
            "HAMGATE_INSTANCE_ID": name,
            "HAMGATE_METRICS_PORT": str(self.port),
            HOLD: str(folder / f"{name}.hold"),
        }
        self.hold = Path(self.environment[HOLD])
        self.is_wanted = True
        self._over = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Start it, wait for its end, and again."""
        while not self._over.is_set():
            if self.is_wanted:
                with self.log.open("ab") as log:
                    self._process = subprocess.Popen(
                        [sys.executable, "-m", "deploy.drill.saboteur", "run"],
                        cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    )  # fmt: skip
                self._process.wait()
            self._over.wait(_RESTART_AFTER)

    def is_ready(self) -> bool:
        """Whether its /readyz answers 200."""
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{self.port}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)  # noqa: PLR2004 HTTP's OK
        except OSError:
            return False

    def change(self, **settings: str) -> None:
        """Restart it in order with other settings; an empty one is taken away."""
        for name, value in settings.items():
            self.environment[f"HAMGATE_{name.upper()}"] = value
        self.end()

    def end(self) -> None:
        """SIGTERM; its supervisor starts it again if it is wanted."""
        if self._process:
            self._process.terminate()

    def kill(self) -> None:
        """SIGKILL."""
        if self._process:
            self._process.kill()

    def close(self) -> None:
        """End it for good."""
        self._over.set()
        self.kill()
        self.join()


class BrokerProbe(http.server.ThreadingHTTPServer):
    """Answers Prometheus while the broker answers: Redpanda does that by itself, Kafka's core does not."""

    def __init__(self, kafka_port: int) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200 if answers(kafka_port) else 503)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__((LOOPBACK, 0), Handler)
        self.daemon_threads = True
        threading.Thread(target=self.serve_forever, daemon=True).start()


@dataclass
class Stage:
    """All of it. `rate` is the traffic's messages a second, `workers` how many judge it."""

    folder: Path
    hurry: float = 10
    rate: int = 40
    names: tuple[str, ...] = ("one", "two")
    workers: dict[str, Supervised] = field(default_factory=dict)
    _traffic: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __enter__(self) -> Self:
        """Set it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.switch_bundle(SHIPPED_BUNDLE)
        with contextlib.ExitStack() as stack:
            self.broker = Node(self.folder / "broker").start()
            stack.callback(self._stop_broker)
            topics.create(self.broker.bootstrap)
            stack.callback(self._stop_traffic)
            stack.callback(lambda: [worker.close() for worker in self.workers.values()])
            for name in self.names:
                self.add_worker(name)
            self.traffic(rate=self.rate, poison=0.001)
            self._await_readiness()  # before anybody watches: a drill begins with a day on which all is well
            probe = BrokerProbe(self.broker.port)
            stack.callback(probe.shutdown)
            ports = [worker.port for worker in self.workers.values()]
            targets = {
                "hamgate": [f"{LOOPBACK}:{port}" for port in ports],
                "broker": [f"{LOOPBACK}:{probe.server_address[1]}"],
            }
            self.prometheus = LocalPrometheus(self.folder / "prometheus", targets, hurry=self.hurry)
            stack.enter_context(self.prometheus)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Take it down."""
        self._stack.close()

    @property
    def bundle(self) -> Path:
        """The link behind which the bundle lies that all workers watch."""
        return self.folder / "bundle"

    def switch_bundle(self, bundle: Path) -> None:
        """Turn the link to another bundle, at once."""
        turned = self.bundle.with_suffix(".new")
        turned.symlink_to(bundle)
        turned.replace(self.bundle)

    def add_worker(self, name: str) -> Supervised:
        """Start one more."""
        worker = self.workers[name] = Supervised(name, self.folder, self._environment())
        worker.start()
        return worker

    def traffic(self, *, rate: float, poison: float) -> subprocess.Popen[bytes]:
        """Send more of it, until it is told to end."""
        options = [
            "--rate",
            str(rate),
            "--poison",
            str(poison),
            "--day",
            "0",
            "--burst-every",
            "0",
            "--campaign-every",
            "0",
        ]
        with (self.folder / "traffic.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "worker", "simulate", *options],
                cwd=ROOT, env=self._environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=die_with_parent(),  # noqa: PLW1509 one prctl, made ready before the fork
            )  # fmt: skip
        self._traffic.append(process)
        return process

    def _await_readiness(self, within: float = 120) -> None:
        deadline = time.monotonic() + within
        for worker in self.workers.values():
            while not worker.is_ready():
                if time.monotonic() > deadline:
                    message = f"the workers are not ready within {within:g} s; their logs are in {self.folder}"
                    raise TimeoutError(message)
                time.sleep(0.5)

    def await_judging(self, within: float = 60) -> None:
        """Return when Prometheus has seen every worker judge."""
        deadline = time.monotonic() + within
        while len(self.prometheus.query("hamgate_ready == 1 and increase(hamgate_tokens_total[5s]) > 0")) < len(
            self.workers
        ):
            if time.monotonic() > deadline:
                message = f"the workers do not judge within {within:g} s; their logs are in {self.folder}"
                raise TimeoutError(message)
            time.sleep(1)

    def _environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.upper().startswith("HAMGATE_")} | {
            "HAMGATE_BROKERS": self.broker.bootstrap,
            "HAMGATE_THREADS": "1",
            "HAMGATE_BUNDLE": str(self.bundle),
            "HAMGATE_LOG_FORMAT": "json",
        }

    def _stop_broker(self) -> None:
        with contextlib.suppress(OSError):
            self.broker.kill()

    def _stop_traffic(self) -> None:
        for process in self._traffic:
            process.kill()
            process.wait()
