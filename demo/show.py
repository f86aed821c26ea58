"""The stream as it is played: sent at its pace, read back, counted and shown."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from demo.children import check
from demo.screen import Moment
from demo.tally import Pace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from demo.children import Broker, Worker
    from demo.flow import Reader, Sender
    from demo.screen import Lines, Terminal
    from demo.stream import Event
    from demo.tally import Tally

_WAIT: Final = 0.1
_PATIENCE: Final = 20.0
"""Seconds without any answer after which what is missing counts as lost."""
_QUIET: Final = 1.0
"""Seconds that must bring nothing more before the reader is believed to have all there is."""


@dataclass(slots=True)
class Show:
    """All who take part, and the time since it began."""

    children: tuple[Broker, Worker]
    sender: Sender
    reader: Reader
    tally: Tally
    screen: Terminal | Lines
    _pace: Pace = field(init=False, default_factory=Pace)
    _began: float = field(init=False, default_factory=time.monotonic)

    def play(self, events: Sequence[Event], rate: float | None) -> float:
        """Send these at `rate` a second (None: all at once), read until each has its answer; seconds that took.

        Raises ChildError when a child ends, SendError when the broker refuses. What has no answer when none has come
        for a while is left unanswered.
        """
        if not events:
            return 0.0
        parts = {event.part for event in events}
        began = heard = time.monotonic()
        self.sender.start(events, rate)
        while self.tally.unanswered(parts):
            if self._read(events):
                heard = time.monotonic()
            elif not self.sender.is_sending and time.monotonic() - heard > _PATIENCE:
                break
        self.screen.show(self._moment(events), at_once=True)
        return time.monotonic() - began

    def look_again(self) -> None:
        """Read on after all is answered, for what comes twice."""
        while self._count(_QUIET) or not self.reader.is_at_end():
            check(self.children[0])

    def _read(self, events: Sequence[Event]) -> int:
        check(*self.children)
        self.sender.check()
        count = self._count()
        self.screen.show(self._moment(events))
        return count

    def _count(self, wait: float = _WAIT) -> int:
        answers = self.reader.read(wait)
        for answer in answers:
            self.tally.add(answer)
        self.screen.read(answers)
        self._pace.add(time.monotonic(), len(answers))
        return len(answers)

    def _moment(self, events: Sequence[Event]) -> Moment:
        now = time.monotonic()
        return Moment(now - self._began, events[max(0, self.sender.sent - 1)].part, self._pace.rate(now))
