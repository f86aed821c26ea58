"""Reads a topic whole before the worker's first message, and follows it on a thread of its own.

Every look asks the brokers for the topic's end, and reads up to it. When the brokers are away, or the topic is, what is
in force stays in force. It is read anew from its start when they are back, for a tombstone may be gone by then.
"""

from __future__ import annotations

import abc
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from worker.process.outage import Outage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from worker.messages import Record

EVERY: Final = 0.25
"""Seconds between two looks."""
_AT_START, _PATIENCE = 60.0, 5.0
_AFTER_AN_OUTAGE: Final = 1.0


class TopicReader(Protocol):
    """What is asked of a connection: `worker.broker.Reader` is one."""

    def topic_id(self, topic: str) -> str:
        """The id of the topic; another one once it was made anew."""

    def to_end(self, within: float = 60.0) -> Iterable[Record]:
        """What is committed as of now and not yet read. May raise."""

    def close(self) -> None:
        """Disconnect."""


@dataclass(slots=True)
class TopicFollower(abc.ABC):
    """A companion of the pipeline. Made, it has read the whole topic, or raises what `connect`, reading and `take` do.

    `connect` is given the seconds that an outage may last.
    """

    name: ClassVar[str]
    """Of what the topic holds, for the log."""
    connect: Callable[[float], TopicReader]
    topic: str
    _reader: TopicReader | None = field(init=False, default=None)
    _topic_id: str = field(init=False, default="")
    _stopping: threading.Event = field(init=False, default_factory=threading.Event)
    _outage: Outage = field(init=False)

    def __post_init__(self) -> None:
        """Read all of it, with the patience of a start."""
        self._outage = Outage(self.name, {"topic": self.topic})
        self._read_anew(_AT_START)

    @abc.abstractmethod
    def take(self, records: Iterable[Record], topic_id: str, *, is_anew: bool) -> None:
        """Take up records in order; where it `is_anew`, all that the topic holds. May raise what reading does."""

    def step(self) -> bool:
        """Wait, then look once. False when it is time to stop."""
        if self._stopping.wait(_AFTER_AN_OUTAGE if self._outage.is_on else EVERY):
            self._disconnect()
            return False
        try:
            self.look()
        except Exception as error:  # noqa: BLE001 whatever it is, what is in force stays, and no verdict stops
            self._outage.goes_on(str(error))
            self._disconnect()
        else:
            self._outage.is_over()
        return True

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()

    def look(self) -> None:
        """Read what is new; from the start where the connection is new, or the topic is. May raise."""
        if self._reader is None or self._reader.topic_id(self.topic) != self._topic_id:
            self._disconnect()
            self._read_anew(_PATIENCE)
        else:
            self.take(self._reader.to_end(_PATIENCE), self._topic_id, is_anew=False)

    def _read_anew(self, patience: float) -> None:
        self._reader = self.connect(patience)
        self._topic_id = self._reader.topic_id(self.topic)
        self.take(self._reader.to_end(patience), self._topic_id, is_anew=True)

    def _disconnect(self) -> None:
        if self._reader:
            self._reader.close()
        self._reader = None
