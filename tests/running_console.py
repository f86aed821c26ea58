"""A console that serves on loopback, in a thread of this process, as `hamgate console` does."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from console.serving import Console
from worker.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Place


def settings(place: Place, folder: Path, **more: Any) -> Settings:
    return Settings(
        brokers=place.link.brokers,
        input_topic=place.input,
        verdict_topic=place.verdicts,
        dead_letter_topic=place.dead_letters,
        group_id=place.group,
        instance_id="console",
        threads=1,
        console_folder=folder,
        console_port=0,
        **more,
    )


class RunningConsole:
    """Its address, and what a script would ask it."""

    def __init__(self, made: Settings) -> None:
        self.console = Console(made)
        self.address = self.console.address
        self._thread = threading.Thread(target=self.console.run, name="console")
        self._thread.start()
        with self._asked("/") as answer:
            cookie = answer.headers["Set-Cookie"].partition(";")[0]
            token = re.search(r'name="csrf" content="(\w+)"', answer.read().decode())
        assert token
        self._headers = {"Cookie": cookie, "X-CSRF-Token": token[1], "Content-Type": "application/json"}

    def _asked(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        content = None if body is None else json.dumps(body).encode()
        return urllib.request.urlopen(
            urllib.request.Request(self.address + path, content, headers or {}),
            timeout=30,
        )

    def opened(self, path: str) -> Any:
        """An answer, while it comes."""
        return self._asked(path, headers=self._headers)

    def page(self, path: str) -> str:
        with self._asked(path, headers=self._headers) as answer:
            text: str = answer.read().decode()
            return text

    def ask(self, path: str, body: Any = None) -> Any:
        with self._asked(path, body, self._headers) as answer:
            return json.loads(answer.read())

    def state(self) -> dict[str, Any]:
        """The first of its live events."""
        with self._asked("/api/live", headers=self._headers) as answer:
            for line in answer:
                if line.startswith(b"data: "):
                    found: dict[str, Any] = json.loads(line[6:])
                    return found
        raise AssertionError

    def redriven(self, **choice: Any) -> dict[str, Any]:
        """Begin a run, and wait for its end."""
        number = self.ask("/api/redrive", choice)["number"]
        for _ in range(600):
            state: dict[str, Any] = self.ask("/api/redrive")
            assert state["number"] == number
            if not state["is_running"]:
                return state
            time.sleep(0.1)
        raise AssertionError(state)

    def close(self) -> None:
        self.console.stop()
        self._thread.join(30)
        assert not self._thread.is_alive()


@contextlib.contextmanager
def running(made: Settings) -> Iterator[RunningConsole]:
    console = RunningConsole(made)
    try:
        yield console
    finally:
        console.close()
