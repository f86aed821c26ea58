"""Counts of each second of the last minutes, and the newest verdicts; what every open page is sent."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from console.visible import in_line
from worker.messages import Action, Flag

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.messages import Record, Verdict

SECONDS: Final = 300
"""Of the chart."""
_MINUTE: Final = 60
_NEWEST: Final = 40
_STEPS: Final = 12
"""Buckets of latency for each doubling of it: 6 % wide."""


@dataclass(slots=True)
class _Second:
    actions: Counter[str] = field(default_factory=Counter)
    outside: int = 0
    dead: int = 0
    latencies: Counter[int] = field(default_factory=Counter)


class Live:
    """Fed by the thread that reads; asked by any other. Seconds are those of the broker's timestamps."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[int, _Second] = {}
        self._newest: deque[dict[str, Any]] = deque(maxlen=_NEWEST)
        self._count = 0

    def take(self, verdicts: Iterable[tuple[Record, Verdict]], letters: Iterable[Record], now: float) -> None:
        """Count what was read. What is older than the chart, as while a long absence is made up for, is not counted."""
        first = int(now) - SECONDS
        with self._lock:
            for record, verdict in verdicts:
                self._count += 1
                if record.timestamp >= first:
                    second = self._at(record.timestamp, now)
                    second.actions[verdict.action.value] += 1
                    second.outside += Flag.OUTSIDE.value in verdict.flags
                    second.latencies[_bucket(verdict.latency_ms.total)] += 1
                self._newest.append({"n": self._count, "record": record, "verdict": verdict})
            for record in letters:
                if record.timestamp >= first:
                    self._at(record.timestamp, now).dead += 1
            for old in [each for each in self._seconds if each < first]:
                del self._seconds[old]

    def _at(self, timestamp: float, now: float) -> _Second:
        return self._seconds.setdefault(min(int(timestamp), int(now)), _Second())

    def state(self, now: float, *, after: int = 0, seconds: int = SECONDS) -> dict[str, Any]:
        """Return the last `seconds` of the chart, the last minute in figures, and verdicts newer than `after`."""
        with self._lock:
            last = int(now)
            kept = {at: self._seconds.get(at) for at in range(last - seconds, last + 1)}
            minute = [each for at, each in self._seconds.items() if last - _MINUTE <= at < last]
            newest = [each for each in self._newest if each["n"] > after]
            points = [
                [at, *(second.actions[action] if second else 0 for action in Action), second.dead if second else 0]
                for at, second in kept.items()
            ]
            figures = _figures(minute, last)
        return {
            "now": now,
            "points": points,
            "minute": figures,
            "newest": [shown(each["record"], each["verdict"]) | {"n": each["n"]} for each in newest],
            "count": self._count,
        }


def _figures(minute: list[_Second], _: int) -> dict[str, Any]:
    actions: Counter[str] = Counter()
    latencies: Counter[int] = Counter()
    for second in minute:
        actions.update(second.actions)
        latencies.update(second.latencies)
    total = actions.total()
    return {
        "total": total,
        "rate": total / _MINUTE,
        **{action.value: actions[action.value] for action in Action},
        "outside": sum(second.outside for second in minute),
        "dead": sum(second.dead for second in minute),
        "p50": _quantile(latencies, 0.5),
        "p99": _quantile(latencies, 0.99),
    }


def _bucket(milliseconds: float) -> int:
    return math.ceil(_STEPS * math.log2(max(milliseconds, 0.1)))


def _quantile(latencies: Counter[int], share: float) -> float | None:
    """The upper edge of the bucket in which it lies."""
    rank = math.ceil(share * latencies.total())
    for bucket, count in sorted(latencies.items()):
        rank -= count
        if rank <= 0:
            return float(2 ** (bucket / _STEPS))
    return None


def shown(record: Record, verdict: Verdict) -> dict[str, Any]:
    """A verdict's row on a page."""
    return {
        "at": record.timestamp,
        "time": clock(record.timestamp),
        "id": in_line(verdict.id, 48),
        "action": verdict.action.value,
        "label": in_line(verdict.label, 24),
        "score": verdict.score,
        "reason": in_line(verdict.reason, 32),
        "flags": [in_line(flag, 24) for flag in verdict.flags[:8]],
        "language": in_line(verdict.language, 8),
        "latency": verdict.latency_ms.total,
        "href": f"/history/{record.partition}/{record.offset}",
    }


def clock(seconds: float) -> str:
    """A time of day, UTC."""
    return time.strftime("%H:%M:%S", time.gmtime(seconds))
