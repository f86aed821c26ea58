"""A fault proxy between clients and brokers: Toxiproxy, built once by `go install`, spoken to over its own HTTP API.

with Toxiproxy(folder) as proxy:
    link = proxy.between("broker-1", listen=19092, upstream=9092)
    link.cut()          # connections are closed, new ones refused
    link.silence()      # half-open: they stay, and nothing passes
    link.delay(0.2)     # each way
    link.trickle(4096)  # bytes a second
    link.heal()
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from deploy.kafka.java import CACHE, MissingError
from deploy.kafka.node import LOOPBACK, StartError, die_with_parent, free_port, listening

if TYPE_CHECKING:
    from pathlib import Path

VERSION: Final = "v2.5.0"
_MODULE: Final = f"github.com/Shopify/toxiproxy/v2/cmd/server@{VERSION}"
_FOLDER: Final = CACHE.parent / "toxiproxy"
_DIRECTIONS: Final = ("upstream", "downstream")


def ready() -> Path:
    """Return the program, building it the first time. Raises MissingError."""
    program = _FOLDER / VERSION / "server"
    _FOLDER.mkdir(parents=True, exist_ok=True)
    with (_FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _build(program)
    return program


def _build(program: Path) -> None:
    go = shutil.which("go") or _install()
    print(f"building Toxiproxy {VERSION} by go install, once", file=sys.stderr)
    environment = {**os.environ, "GOBIN": str(program.parent)}
    done = subprocess.run([go, "install", _MODULE], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        message = f"`go install {_MODULE}` failed:\n{done.stderr[-2000:]}"
        raise MissingError(message)


def _install() -> str:
    command = ["apt-get", "-q", "install", "-y", "--no-install-recommends", "golang-go"]
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        message = f"the fault proxy needs Go. This brings it:\n    sudo {' '.join(command)}"
        raise MissingError(message)
    print("installing Go by apt, once", file=sys.stderr)
    for step in (["apt-get", "-q", "update"], command):
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            message = f"`{' '.join(step)}` failed:\n{(done.stdout + done.stderr)[-2000:]}"
            raise MissingError(message)
    return shutil.which("go") or "go"


@dataclass(frozen=True)
class Link:
    """One proxied connection point, healthy until it is told otherwise."""

    proxy: Toxiproxy
    name: str

    def cut(self) -> None:
        """Close every connection and refuse new ones."""
        self.proxy.ask("POST", f"/proxies/{self.name}", {"enabled": False})

    def silence(self) -> None:
        """Keep connections open and let nothing through, as when a route is lost."""
        self._poison("timeout", {"timeout": 0})

    def delay(self, seconds: float) -> None:
        """Hold every byte for so long, each way."""
        self._poison("latency", {"latency": round(seconds * 1000)})

    def trickle(self, bytes_per_second: int) -> None:
        """Let so few bytes through, each way, a few at a time."""
        self._poison("bandwidth", {"rate": max(1, bytes_per_second // 1024)})
        self._poison("slicer", {"average_size": 64, "size_variation": 32, "delay": 100})

    def heal(self) -> None:
        """Let all pass again. What was silenced loses its connections, as nothing can be said of what they carried."""
        for toxic in self.proxy.ask("GET", f"/proxies/{self.name}")["toxics"]:
            self.proxy.ask("DELETE", f"/proxies/{self.name}/toxics/{toxic['name']}")
        self.proxy.ask("POST", f"/proxies/{self.name}", {"enabled": True})

    def _poison(self, kind: str, attributes: dict[str, int]) -> None:
        for direction in _DIRECTIONS:
            toxic = {"name": f"{kind}-{direction}", "type": kind, "stream": direction, "attributes": attributes}
            self.proxy.ask("POST", f"/proxies/{self.name}/toxics", toxic)


@dataclass
class Toxiproxy:
    """The proxy's process; it dies with the one that started it, as an owned broker does."""

    folder: Path
    port: int = field(default_factory=free_port)

    def start(self, wait: float = 10) -> Self:
        """Start it and return when it answers. Raises StartError or MissingError."""
        program = ready()
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "toxiproxy.log").open("ab") as output:
            self._process = subprocess.Popen(
                [program, "-host", LOOPBACK, "-port", str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(),  # noqa: PLW1509 one prctl, made ready before the fork
            )
        deadline = time.monotonic() + wait
        while not listening(self.port):
            if time.monotonic() > deadline:
                self.stop()
                message = f"the fault proxy did not answer within {wait:g} s; see {output.name}"
                raise StartError(message)
            time.sleep(0.05)
        return self

    def between(self, name: str, *, listen: int, upstream: int) -> Link:
        """Pass what comes to port `listen` on to port `upstream`."""
        ends = {"listen": f"{LOOPBACK}:{listen}", "upstream": f"{LOOPBACK}:{upstream}"}
        self.ask("POST", "/proxies", {"name": name, "enabled": True, **ends})
        return Link(self, name)

    def ask(self, method: str, path: str, body: dict[str, object] | None = None) -> Any:  # noqa: ANN401 JSON
        """One call of its API; raises urllib's HTTPError on a refusal."""
        request = urllib.request.Request(
            f"http://{LOOPBACK}:{self.port}{path}",
            data=json.dumps(body).encode() if body is not None else None,
            method=method,
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            said = answer.read()
        return json.loads(said) if said else None

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        """Start it."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()
