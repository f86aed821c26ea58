"""What `hamgate feedback` costs at its bounds: memory of each part, and time of each step on the processor.

    python -m benchmarks.feedback

Made-up reports, no broker: reading and writing topics come on top.
"""

from __future__ import annotations

import gc
import json
import os
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.audited import verdict
from training import results
from training.results import Entry
from worker.feedback.accepting import Accepting, Bounds, FoundMessage
from worker.feedback.joining import Hashes, Joining
from worker.feedback.recent import BYTES_A_MESSAGE, RecentMessages
from worker.feedback.records import SaidVerdict
from worker.feedback.reports import ReportedPlace
from worker.messages import Record
from worker.policy.hashing import Hashing

if TYPE_CHECKING:
    from collections.abc import Callable

_EVENTS: Final = "events"
_NOW: Final = 1_800_000_000.0
_WINDOW: Final = 1_000_000
_CHUNK: Final = 4096
_SAID: Final = SaidVerdict("ham", 0.01, "deliver")


class Nothing:
    """An input that nobody asks."""

    def at(self, partition: int, offset: int) -> Record | None:
        """No record."""
        del partition, offset
        return None


def memory() -> float:
    """MiB of this process that are in memory."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def timed(what: Callable[[], object], count: int) -> float:
    """Microseconds on the processor for each of so many."""
    began = time.process_time()
    what()
    return round((time.process_time() - began) / count * 1e6, 1)


def found(offset: int) -> FoundMessage:
    """A message of a text of its own."""
    return FoundMessage(secrets.token_hex(16), ReportedPlace(_EVENTS, 0, offset), _SAID)


def at_the_bounds(bounds: Bounds) -> list[Entry]:
    """Reporters and texts, as many as are held, written and read again as after a restart; then newcomers."""
    accepting = Accepting(bounds)
    written: list[tuple[bytes | None, bytes | None]] = []
    names = [secrets.token_hex(16) for _ in range(bounds.reporters)]
    for name in names:
        accepting.admit(name, _NOW)
    for offset in range(bounds.decisions):
        message = found(offset)
        for vote in range(bounds.votes):
            name = names[(offset * 31 + vote * 7) % len(names)]
            accepting.vote(f"0-{offset}-{vote}", name, "spam", message, _NOW)
    written += [(each.key, each.value) for each in accepting.changes()]
    del accepting, names
    before = memory()
    loaded = Accepting(bounds)
    seconds = timed(lambda: loaded.load(written), 1) / 1e6
    held = memory() - before
    count = 2000

    def newcomers() -> None:
        for number in range(count):
            name = f"{number:032x}"
            loaded.admit(name, _NOW + number)
            loaded.vote(f"1-{number}", name, "spam", found(number), _NOW + number)

    extra = {"reporters": bounds.reporters, "decisions": bounds.decisions, "votes-each": bounds.votes}
    return [
        Entry("feedback/memory/state-at-its-bounds", "MiB", round(held, 1), "", extra),
        Entry("feedback/time/load-state-at-its-bounds", "s", round(seconds, 1), "", extra),
        Entry("feedback/time/report-of-a-newcomer-on-a-new-text", "us", timed(newcomers, count), "", extra),
    ]


def window() -> list[Entry]:
    """Messages and verdicts, as many as are remembered; then texts that are looked for."""
    joining = Joining(
        Accepting(), RecentMessages(_EVENTS, _WINDOW), Hashes(Hashing((b"k" * 32,))), Nothing(), max_bytes=65_536
    )
    values = [
        json.dumps(
            {"text": f"Hi mum, see you at {n} tonight? Call if late.", "id": f"m-{n}", "sender": "+447700900123"}
        )
        for n in range(_CHUNK)
    ]
    messages = [Record(_EVENTS, 0, n, _NOW, b"k", value.encode()) for n, value in enumerate(values)]
    verdicts = [Record("verdicts", 0, n, _NOW, b"k", verdict(0, n, _EVENTS).value) for n in range(_CHUNK)]
    before, rounds = memory(), -(-_WINDOW // _CHUNK)
    each = timed(lambda: [joining.see(messages, ()) for _ in range(rounds)], rounds * _CHUNK)
    judged = timed(lambda: [joining.see((), verdicts) for _ in range(rounds)], rounds * _CHUNK)
    held = memory() - before
    sought = joining.hashes.subject("a text that nobody sent")
    lookup = timed(lambda: [joining.recent.of_text(sought) for _ in range(50)], 50)
    extra = {"messages": _WINDOW, "bytes-a-message": BYTES_A_MESSAGE}
    return [
        Entry("feedback/memory/window", "MiB", round(held, 1), "", extra),
        Entry("feedback/time/message", "us", each, "", extra),
        Entry("feedback/time/verdict", "us", judged, "", extra),
        Entry("feedback/time/look-for-a-text", "us", lookup, "", extra),
    ]


def main() -> None:
    """Measure and record."""
    made = [*at_the_bounds(Bounds()), *window()]
    path = results.record("feedback", made)
    for each in made:
        print(f"{each.name:<56} {each.value:>10} {each.unit}")
    print(path)


if __name__ == "__main__":
    main()
