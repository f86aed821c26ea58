"""To the brokers, each event at its time, whatever the brokers say to that: an open loop.

A record is stamped with the time it was due, not with the time it got through: when the brokers are slow, the wait
counts against every message that had to wait (no coordinated omission).
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

    from worker.messages import Outgoing
    from worker.simulate.shape import TrafficShape
    from worker.simulate.stream import Stream

_TICK: Final = 0.02
_SAY_EVERY: Final = 1.0


class Publishes(Protocol):
    """Where events are published: `worker.broker.Publisher`, or a list in tests."""

    def publish(self, topic: str, records: Iterable[Outgoing], *, timestamp: float | None = None) -> None:
        """Publish, and return when all is acknowledged."""


@dataclass(slots=True)
class Sending:
    """Draws arrivals from a shape, a tick at a time, and publishes them. `clock` is Unix seconds."""

    shape: TrafficShape
    stream: Stream
    dice: random.Random
    clock: Callable[[], float] = time.time
    pause: Callable[[float], None] = time.sleep
    sent: int = 0
    is_over: bool = False
    _ticks: int = 0

    def run(
        self,
        publisher: Publishes,
        topic: str,
        seconds: float | None = None,
        messages: int | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        """Send until the time or the number is reached, or `stop`."""
        began, said, before = self.clock(), 0.0, 0
        while not self.is_over:
            if self._ticks * _TICK >= (seconds or math.inf) or self.sent >= (messages or math.inf):
                return
            due, now = (self._ticks + 1) * _TICK, self.clock() - began
            if say and now - said >= _SAY_EVERY:
                behind = max(0.0, now - due)
                say(f"{self.sent:,} sent, {(self.sent - before) / (now - said):,.0f}/s, {behind:.2f} s behind the plan")
                said, before = now, self.sent
            self.pause(max(0.0, due - now))
            events = self._tick(began)[: None if messages is None else messages - self.sent]
            if events:
                publisher.publish(topic, events, timestamp=began + due)
                self.sent += len(events)

    def stop(self) -> None:
        """End after what is being sent."""
        self.is_over = True

    def _tick(self, began: float) -> list[Outgoing]:
        """Make the next tick's events, in order of their time: Poisson arrivals at the rates of its start."""
        at = self._ticks * _TICK
        self._ticks += 1
        ordinary, extra, campaign = self.shape.at(at)
        made = [(due, self.stream.event(began + due)) for due in self._arrivals(ordinary, at)]
        if campaign:
            made += [(due, self.stream.of_campaign(campaign, began + due)) for due in self._arrivals(extra, at)]
        return [event for _, event in sorted(made, key=lambda pair: pair[0])]

    def _arrivals(self, rate: float, at: float) -> list[float]:
        arrivals, ends = [], at + _TICK
        while rate > 0 and (at := at + self.dice.expovariate(rate)) < ends:
            arrivals.append(at)
        return arrivals


def say_on_terminal(text: str) -> None:
    """One line that is written over on a terminal, and one after the other elsewhere."""
    sys.stderr.write(f"\r{text:<70}" if sys.stderr.isatty() else f"{text}\n")
    sys.stderr.flush()
