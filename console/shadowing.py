"""What the shadow would have done otherwise: the topic that `hamgate compare` reads, counted as it does."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from console.following import Following
from worker.rollout.compare import add

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.broker import KafkaLink
    from worker.messages import Record
    from worker.rollout.compare import Comparison

DAYS: Final = 7.0
_EVERY: Final = 5.0
_MOST_PAIRS: Final = 8
_MOST_LABELS: Final = 100


class ShadowReports:
    """Reports of the last days; of too many pairs of models the newest."""

    def __init__(self, link: KafkaLink, topic: str) -> None:
        self._lock = threading.Lock()
        self._found: dict[tuple[str, str], Comparison] = {}
        self.topic = topic
        self._followed = Following(link, topic, self, _EVERY)

    def known(self) -> tuple[list[dict[str, Any]], str]:
        """Return each pair of models, the newest first; and why that may be old."""
        with self._lock:
            found = [_said(each) for each in reversed(self._found.values())]
        return [each for each in found if each], str(self._followed.state()["cause"])

    def start(self) -> None:
        """Read from now on."""
        self._followed.start()

    def close(self) -> None:
        """Read no more."""
        self._followed.close()

    def take(self, records: Iterable[Record], now: float) -> None:
        """Count what was reported."""
        for record in records:
            if record.timestamp >= now - DAYS * 86_400:
                self._add(record)

    def forget(self) -> None:
        """Begin anew."""
        with self._lock:
            self._found.clear()

    def _add(self, record: Record) -> None:
        with self._lock:
            add(self._found, record.value)
            while len(self._found) > _MOST_PAIRS:
                del self._found[next(iter(self._found))]
            for each in self._found.values():
                for counts in (each.labels, each.examples):
                    while len(counts) > _MOST_LABELS:
                        counts.pop(next(iter(counts)))


def _said(found: Comparison) -> dict[str, Any] | None:
    try:
        return found.as_json()
    except (ValueError, OverflowError):  # counts that cannot be: nobody's of ours
        return None
