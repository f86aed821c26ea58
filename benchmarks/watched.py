"""What the console costs the worker: its throughput with one beside it, with one that also keeps texts, and without.

    python -m benchmarks.watched [--messages 40000] [--rounds 5] [--brokers HOST:PORT]

The real worker with the shipped bundle on the CPU works off a backlog that was there before it, exactly once, on a
broker of its own on the same cores. The console follows the topics meanwhile, with one live page open. By turns; on a
machine with as many cores as all of them need, the difference is what the console asks of the brokers.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks import end_to_end
from deploy.kafka.node import free_port
from training import results
from worker.settings import PREFIX

_KINDS: Final = ("none", "console", "texts")


def main() -> int:
    """Measure by turns, print, record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watched", description=__doc__)
    parser.add_argument("--messages", type=int, default=40_000, help="backlog of each run")
    parser.add_argument("--rounds", type=int, default=5, help="of each kind; the median is recorded")
    parser.add_argument("--brokers", help="a broker that runs already; none: one of its own")
    parser.add_argument("--bundle", type=Path, default=end_to_end.SHIPPED_BUNDLE)
    parser.add_argument("--results", type=Path, default=results.RESULTS)
    options = parser.parse_args()
    options.threads, options.delivery = 2, "exactly-once"
    rates: dict[str, list[float]] = {kind: [] for kind in _KINDS}
    with end_to_end.broker(options) as (bootstrap, _):
        for turn in range(options.rounds):
            for kind in _KINDS if turn % 2 == 0 else reversed(_KINDS):
                with Watched(bootstrap, options, kind) as place:
                    rates[kind].append(place.work_off(options.messages))
                print(f"{kind}: {rates[kind][-1]:,.0f} msg/s", flush=True)
    alone = median(rates["none"])
    spread = (max(rates["none"]) - min(rates["none"])) / alone
    extra = {"messages": options.messages, "cores": os.cpu_count(), "messages_a_second": rates, "noise": spread}
    made = []
    for kind in _KINDS[1:]:
        kept = median(rates[kind]) / alone
        print(f"{kind}: {kept:.3f} of the throughput without; without varies by {spread:.3f} of itself")
        made.append(results.Entry(f"worker/watched/{kind}/share-of-throughput", "ratio", round(kept, 4), extra=extra))
    print(results.record("watched", made, folder=options.results))
    return 0


class Watched(end_to_end.Place):
    """A worker, and the console beside it; `kind` says whether there is one, and whether it keeps texts."""

    def __init__(self, bootstrap: str, options: argparse.Namespace, kind: str) -> None:
        super().__init__(bootstrap, options.bundle.resolve(), "cpu", options)
        self._kind, self._open = kind, contextlib.ExitStack()

    def start(self) -> None:
        """Start the console, then the worker."""
        if self._kind != "none":
            self._start_console(Path(self._open.enter_context(tempfile.TemporaryDirectory())))
        super().start()

    def _start_console(self, folder: Path) -> None:
        port = free_port()
        mine = {"CONSOLE_FOLDER": str(folder), "CONSOLE_PORT": str(port), "LOG_LEVEL": "warning"}
        if self._kind == "texts":
            keys = folder / "keys"
            keys.write_text(secrets.token_hex(32))
            keys.chmod(0o600)
            mine["CONSOLE_TEXT_KEY_FILE"] = str(keys)
        environment = self.environment() | {PREFIX + name: value for name, value in mine.items()}
        console = subprocess.Popen([sys.executable, "-m", "worker", "console"], env=environment)
        self._open.callback(console.wait, 30)
        self._open.callback(console.terminate)
        page = _answer(f"http://127.0.0.1:{port}/api/live")
        self._open.callback(page.close)
        threading.Thread(target=_watch, args=(page,), name="page", daemon=True).start()
        self._counted = f"http://127.0.0.1:{port}/api/live"

    def check(self, messages: int) -> None:
        """Hold the verdicts against the messages, and against what the console has counted."""
        super().check(messages)
        if self._kind == "none":
            return
        until = time.monotonic() + 60
        while (counted := _counted(self._counted)) != messages:
            if time.monotonic() > until:
                message = f"the console counted {counted} of {messages} verdicts"
                raise RuntimeError(message)
            time.sleep(0.5)

    def __exit__(self, *error: object) -> None:
        """End both."""
        super().__exit__(*error)
        self._open.close()


def _answer(url: str) -> Any:  # noqa: ANN401 an HTTPResponse
    until = time.monotonic() + 60
    while True:
        try:
            return urllib.request.urlopen(url, timeout=30)  # noqa: S310 our own console
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def _watch(page: Any) -> None:  # noqa: ANN401 the same
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed at the end of the run
        while page.read1(1 << 16):
            pass


def _counted(url: str) -> int:
    with _answer(url) as page:
        for line in page:
            if found := re.search(rb'"count": (\d+)', line):
                return int(found[1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
