"""An open loop of messages, and a reader of what comes of them, each on a thread of its own."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from worker.broker import Publisher, Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from worker.broker import KafkaLink
    from worker.messages import Outgoing, Record

_TICK: Final = 0.02


class OpenLoop:
    """Publishes numbered messages at a rate, whatever becomes of them; `records` are those of one number."""

    def __init__(self, link: KafkaLink, topic: str, rate: float, records: Callable[[int], Iterable[Outgoing]]) -> None:
        self.sent = 0
        self._link, self._topic, self._rate, self._records = link, topic, rate, records
        self._over = threading.Event()
        self.thread = threading.Thread(target=self._run, name="load", daemon=True)

    def _run(self) -> None:
        with Publisher(self._link) as publisher:
            began = time.time()
            while not self._over.wait(max(0.0, began + self.sent / self._rate + _TICK - time.time())):
                until = int((time.time() - began) * self._rate)
                if batch := [record for number in range(self.sent, until) for record in self._records(number)]:
                    publisher.publish(self._topic, batch)
                self.sent = max(self.sent, until)

    def stop(self) -> None:
        """No more."""
        self._over.set()
        self.thread.join()


class Reading:
    """Hands each record that a read_committed reader has of topics to `take`, while they come."""

    def __init__(self, link: KafkaLink, topics: Sequence[str], take: Callable[[Record], None]) -> None:
        self._link, self._topics, self._take = link, topics, take
        self._over = threading.Event()
        self.thread = threading.Thread(target=self._run, name="reader", daemon=True)

    def _run(self) -> None:
        with Reader(self._link, *self._topics) as reader:
            while not self._over.is_set():
                for record in reader.poll(0.05):
                    self._take(record)

    def stop(self) -> None:
        """No more."""
        self._over.set()
        self.thread.join()
