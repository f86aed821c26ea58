"""A PostgreSQL on loopback, where one is installed (Debian: apt-get install postgresql), with a password."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.kafka.node import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "p@ss/w:rd%"  # noqa: S105 of a server that is gone after the tests
QUOTED = "p%40ss%2Fw%3Ard%25"


def programs() -> Path | None:
    """The folder of its programs: on the path, or where Debian has the newest."""
    if found := shutil.which("initdb"):
        return Path(found).parent
    return next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


@contextlib.contextmanager
def serving() -> Iterator[PostgresServer]:
    """Start one, and stop it."""
    with tempfile.TemporaryDirectory() as folder:
        server = PostgresServer(Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.stop()


class PostgresServer:
    """Its data, and how it is started: as nobody, since PostgreSQL runs for no root."""

    def __init__(self, folder: Path) -> None:
        found = programs()
        assert found
        self._programs, self._port = found, free_port()
        self._user = {"user": "nobody"} if os.geteuid() == 0 else {}
        self._folder = folder
        if self._user:
            shutil.chown(folder, "nobody")
        secret = self._folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run("initdb", "--no-sync", "-U", "hamgate", "-A", "scram-sha-256", f"--pwfile={secret}", "-E", "UTF8")

    @property
    def url(self) -> str:
        return f"postgresql://hamgate:{QUOTED}@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        options = f"-h 127.0.0.1 -p {self._port} -k '' -c fsync=off -c max_connections=40"
        self._run("pg_ctl", "-w", "-l", str(self._folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._programs / program, "-D", self._folder / "db", *arguments],
            check=True, stdout=subprocess.DEVNULL, cwd="/", timeout=120, **self._user,
        )  # type: ignore[call-overload] # fmt: skip
