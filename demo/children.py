"""The broker and the worker: started, watched, and ended by pid on every way out."""

from __future__ import annotations

import contextlib
import fcntl
import http
import http.client
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from deploy.kafka import node, topics
from worker.settings import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parents[1]
_READY_WITHIN: Final = 90.0
_STOPS_WITHIN: Final = 25.0  # a little more than the worker's own grace
_TAIL: Final = 15


class BusyError(RuntimeError):
    """Another demo uses this folder."""


class ChildError(RuntimeError):
    """A child ended by itself, or never became ready; the text says which, and holds the end of its log."""


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep the folder to this process. Raises BusyError."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"another demo is running in {folder}; end it first, or give this one a --folder of its own"
            raise BusyError(message) from None
        yield


class Broker:
    """A Kafka node with hamgate's topics and nothing in them, on a free port; its data goes when it ends."""

    name = "broker"

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self.log = folder / "log"
        self._node = node.Node(folder)

    @property
    def bootstrap(self) -> str:
        """Its address for clients."""
        return self._node.bootstrap

    @property
    def pid(self) -> int:
        """Its process."""
        return self._node.pid

    def exit_status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._node.exit_status()

    def __enter__(self) -> Self:
        """Start it. Raises StartError or MissingError."""
        self._node.start()
        try:
            topics.create(self.bootstrap)
        except BaseException:
            self._node.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End it at once: none of its data is kept, so that nothing has to be put in order first."""
        self._node.kill()
        shutil.rmtree(self._node.folder / "data", ignore_errors=True)


class Worker:
    """`python -m worker run` against a broker, the other settings at their defaults: the user's own are kept out."""

    name = "worker"

    def __init__(self, folder: Path, bootstrap: str) -> None:
        self.log = folder / "worker.log"
        self._folder, self._port = folder, node.free_port()
        self._environment = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
        self._environment |= {
            "HAMGATE_BROKERS": bootstrap,
            "HAMGATE_METRICS_PORT": str(self._port),
            "HAMGATE_INSTANCE_ID": "demo",
            "HAMGATE_THREADS": str(max(1, (os.cpu_count() or 1) - 1)),  # a core is the broker's and the demo's
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
            "PYTHONUNBUFFERED": "1",
        }

    @property
    def address(self) -> str:
        """The URL below which /metrics, /livez and /readyz are."""
        return f"http://{node.LOOPBACK}:{self._port}"

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def exit_status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll()

    def get(self, path: str) -> tuple[int, str]:
        """Ask it by HTTP; status and body. Raises OSError while nobody answers."""
        link = http.client.HTTPConnection(node.LOOPBACK, self._port, timeout=5)
        try:
            link.request("GET", path)
            response = link.getresponse()
            return response.status, response.read().decode()
        except http.client.HTTPException as problem:
            raise ConnectionError(problem) from problem
        finally:
            link.close()

    def await_ready(self, broker: Broker) -> None:
        """Return when /readyz says yes. Raises ChildError when that takes too long, or either has ended."""
        deadline, said = time.monotonic() + _READY_WITHIN, "nothing"
        while time.monotonic() < deadline:
            check(broker, self)
            with contextlib.suppress(OSError):
                status, said = self.get("/readyz")
                if status == http.HTTPStatus.OK:
                    return
            time.sleep(0.1)
        message = f"the worker was not ready within {_READY_WITHIN:g} s; it says: {said.strip()}\n{end_of(self.log)}"
        raise ChildError(message)

    def stop(self) -> int:
        """Ask it to finish what is in flight and to leave; its exit status. A second Ctrl-C ends it at once."""
        self._process.terminate()
        try:
            return self._process.wait(_STOPS_WITHIN)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self._process.kill()
            return self._process.wait()

    def __enter__(self) -> Self:
        """Start it, in a folder without a .env file."""
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "worker", "run"],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is the demo's to answer
                preexec_fn=node.die_with_parent(),  # noqa: PLW1509 one prctl, made ready before the fork
            )
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it, unless it has ended."""
        if self.exit_status() is None:
            self.stop()


def check(*children: Broker | Worker) -> None:
    """Raise ChildError for the first child that has ended by itself."""
    for child in children:
        status = child.exit_status()
        if status is not None:
            how = f"exit status {status}" if status >= 0 else f"killed by {signal.Signals(-status).name}"
            message = f"the {child.name} ended by itself ({how})\n{end_of(child.log)}"
            raise ChildError(message)


def end_of(log: Path) -> str:
    """The last lines of a log, with where it is."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join([f"the end of {log}:", *(f"    {line}" for line in lines[-_TAIL:] or ["(it is empty)"])])
