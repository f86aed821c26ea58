"""What the shadow would have done otherwise: the topic that `hamgate compare` reads, counted as it does."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from console.following import FollowedTopic
from worker.rollout.compare import add

if TYPE_CHECKING:
    from worker.broker import KafkaLink
    from worker.messages import Record
    from worker.rollout.compare import Comparison

DAYS: Final = 7.0
_MOST_PAIRS: Final = 8
_MOST_LABELS: Final = 100


class ShadowReports:
    """Reports of the last days, from the console's first look on; of too many pairs of models the newest."""

    def __init__(self, link: KafkaLink, topic: str) -> None:
        self._lock = threading.Lock()
        self._found: dict[tuple[str, str], Comparison] = {}
        self._followed = FollowedTopic(link, topic, self._take, self._forget, days=DAYS)

    @property
    def topic(self) -> str:
        """The topic of reports."""
        return self._followed.topic

    def known(self) -> tuple[list[dict[str, Any]], str, int]:
        """Return each pair of models, the newest first; why that may be old; and how many records are not read yet."""
        self._followed.catch_up()
        with self._lock:
            found = [_said(each) for each in reversed(self._found.values())]
        return [each for each in found if each], self._followed.cause, self._followed.behind

    def close(self) -> None:
        """Disconnect."""
        self._followed.close()

    def _take(self, record: Record) -> None:
        with self._lock:
            add(self._found, record.value)
            while len(self._found) > _MOST_PAIRS:
                del self._found[next(iter(self._found))]
            for each in self._found.values():
                for counts in (each.labels, each.examples):
                    while len(counts) > _MOST_LABELS:
                        counts.pop(next(iter(counts)))

    def _forget(self) -> None:
        with self._lock:
            self._found.clear()


def _said(found: Comparison) -> dict[str, Any] | None:
    try:
        return found.as_json()
    except (ValueError, OverflowError):  # counts that cannot be: nobody's of ours
        return None
