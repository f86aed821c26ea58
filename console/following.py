"""A topic that is read as far as it goes whenever somebody asks, by a connection that is kept between two questions."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

import structlog

from worker.audit.brokers import AwayError
from worker.broker import BrokerError
from worker.broker.audit import KafkaTail

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.broker import KafkaLink
    from worker.messages import Record

_WAIT: Final = 0.1
_PATIENCE: Final = 3.0
"""Seconds that one question reads on; the rest is read by the next one."""
_TURN: Final = 8.0
_QUIET: Final = 10.0
"""Seconds for which a failure is the answer, so that no page waits for it again."""
_IDLE: Final = 240.0
"""Seconds after which a connection is not trusted any more; brokers close idle ones after ten minutes."""

log = structlog.get_logger()


class FollowedTopic:
    """Hands every record to `take`, the oldest first. `forget` is called where the topic was made anew."""

    def __init__(
        self,
        link: KafkaLink,
        topic: str,
        take: Callable[[Record], None],
        forget: Callable[[], None],
        *,
        days: float | None = None,
    ) -> None:
        self.topic = topic
        self._link, self._take, self._forget, self._days = link, take, forget, days
        self._turn = threading.Lock()
        self._tail: KafkaTail | None = None
        self._topic_id = ""
        self._positions: dict[tuple[str, int], int] = {}
        self._used_at = 0.0
        self._failed_at = -_QUIET
        self.cause = ""
        """Why the brokers did not give what is new; empty: they did."""
        self.behind = 0
        """Records that are not read yet."""

    def catch_up(self) -> None:
        """Read what is new. What keeps it from that is said in `cause`, never raised."""
        if not self._turn.acquire(timeout=_TURN):
            return  # somebody else reads: what is known by now is the answer
        try:
            if time.monotonic() - self._failed_at < _QUIET:
                return
            try:
                self._read()
            except (AwayError, BrokerError, TimeoutError) as error:
                self._close()
                self.cause, self._failed_at = str(error) or type(error).__name__, time.monotonic()
            else:
                self.cause = ""
        finally:
            self._turn.release()

    def close(self) -> None:
        """Disconnect."""
        with self._turn:
            self._close()

    def _close(self) -> None:
        tail, self._tail = self._tail, None
        if tail:
            tail.close()

    def _read(self) -> None:
        if self._tail and time.monotonic() - self._used_at > _IDLE:
            self._close()
        tail = self._tail or self._connected()
        ends = tail.ends()
        if any(tail.position(place) > end for place, end in ends.items()):  # the topic was made anew meanwhile
            self._close()
            tail = self._connected()
            ends = tail.ends()
        until = time.monotonic() + _PATIENCE
        while any(tail.position(place) < end for place, end in ends.items()) and time.monotonic() < until:
            for chunk in tail.chunks(_WAIT):
                for record in chunk.records:
                    self._take(record)
                self._positions[chunk.place] = tail.position(chunk.place)
        self.behind = sum(max(0, end - tail.position(place)) for place, end in ends.items())
        self._used_at = time.monotonic()

    def _connected(self) -> KafkaTail:
        tail = KafkaTail(self._link, self.topic)
        try:
            topic_id = tail.topic_id(self.topic)
            if topic_id != self._topic_id:
                if self._topic_id:
                    log.warning("topic made anew", topic=self.topic)
                self._forget()
                self._topic_id, self._positions = topic_id, {}
            starts = tail.starts() if self._days is None else tail.at(time.time() - self._days * 86_400)
            for place, start in starts.items():
                tail.seek(place, max(start, self._positions.get(place, start)))
            tail.only(starts)
        except BaseException:
            tail.close()
            raise
        self._tail = tail
        return tail
