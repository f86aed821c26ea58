"""A line in the log each half minute: what was committed since the last one, and what waits."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog

from worker.messages import Action

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY: Final = 30.0

log = structlog.get_logger()


@dataclass(slots=True)
class Tally:
    """Committed since the start: kept by the writing thread, read by another. `lag` in messages, as last seen."""

    verdicts: dict[Action, int] = field(default_factory=lambda: dict.fromkeys(Action, 0))
    dead_letters: int = 0
    lag: int = 0


class Throughput:
    """Says every 30 s how many verdicts were committed, with what action, and how far behind the worker is."""

    name = "throughput"

    def __init__(
        self, tally: Tally, oldest: Callable[[], float], is_cut_off: Callable[[], bool], *, every: float = EVERY
    ) -> None:
        """`oldest` returns the age of the oldest message that is polled and not committed, in seconds.

        `is_cut_off`: whether the brokers do not answer, so that nobody knows the lag.
        """
        self._tally, self._oldest, self._is_cut_off, self._every = tally, oldest, is_cut_off, every
        self._stopping = threading.Event()
        self._verdicts, self._dead_letters, self._at = dict(tally.verdicts), 0, time.monotonic()

    def step(self) -> bool:
        """Wait for the next line, and say it; False when it is over."""
        if self._stopping.wait(self._every):
            return False
        now, verdicts, dead_letters = time.monotonic(), dict(self._tally.verdicts), self._tally.dead_letters
        new = {action: count - self._verdicts[action] for action, count in verdicts.items()}
        seconds = now - self._at
        log.info(
            "throughput",
            seconds=round(seconds, 1),
            per_second=round(sum(new.values()) / seconds, 1),
            verdicts=sum(new.values()),
            **{str(action): count for action, count in new.items()},
            dead_letters=dead_letters - self._dead_letters,
            lag=None if self._is_cut_off() else self._tally.lag,
            oldest_s=round(self._oldest(), 3),
        )
        self._verdicts, self._dead_letters, self._at = verdicts, dead_letters, now
        return True

    def stop(self) -> None:
        """Say no more."""
        self._stopping.set()
