"""The threads that read: verdicts and dead letters, and texts where they are kept.

Each reads what is committed, in no group, from where it ended before.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import structlog

from console.database import DatabaseError
from console.window import DAYS, verdict_of
from worker.audit.brokers import AwayError
from worker.broker import BrokerError
from worker.broker.audit import KafkaTail
from worker.process.outage import Outage

if TYPE_CHECKING:
    from collections.abc import Callable

    from console.live import Live
    from console.texts import RetainedTexts
    from console.window import VerdictWindow
    from worker.broker import KafkaLink
    from worker.messages import Positions, Record, TopicPartition

_WAIT: Final = 0.2
_ASK_EVERY: Final = 2.0
"""Seconds between two questions for the topics' ends, which also tell that the brokers are there."""
_AGAIN: Final = 1.0

log = structlog.get_logger()


class TopicsTail:
    """Reads topics on until it is closed. Without brokers it tries on, and `state` says since when.

    Each record is read once, into the database; what `following` reads it holds in memory, whole. `begin` says where,
    once it is connected; `take` is given what was read and how far; `idle` is called all the time.
    """

    def __init__(
        self,
        link: KafkaLink,
        topics: tuple[str, ...],
        *,
        begin: Callable[[KafkaTail, dict[str, str]], Positions],
        take: Callable[[list[Record], dict[TopicPartition, tuple[int, str]]], None],
        idle: Callable[[], None] = lambda: None,
    ) -> None:
        self._link, self._topics = link, topics
        self._begin, self._take, self._idle = begin, take, idle
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reading", daemon=True)
        self._outage = Outage("the brokers", {"topic": topics[0]})
        self._away_since: float | None = None
        self._cause = ""
        self._behind = 0
        self._is_connected = False

    def start(self) -> None:
        """Read from now on."""
        self._thread.start()

    def close(self) -> None:
        """Read no more."""
        self._stopping.set()
        self._thread.join(10)

    def state(self) -> dict[str, Any]:
        """Return since when the brokers do not answer (Unix seconds), why, and how many records are not yet read."""
        return {
            "away_since": self._away_since,
            "cause": self._cause if self._away_since else "",
            "behind": self._behind,
            "is_connected": self._is_connected,
        }

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with KafkaTail(self._link, *self._topics) as tail:
                    self._follow(tail)
            except (AwayError, BrokerError) as error:
                self._is_away(str(error))
            except DatabaseError as error:  # a full disk: what is not kept is read again
                self._is_away(f"the window cannot be written: {error}")
            except Exception as error:
                log.exception("reading failed")
                self._is_away(type(error).__name__)
            with contextlib.suppress(DatabaseError):
                self._idle()
            self._stopping.wait(_AGAIN)

    def _is_away(self, cause: str) -> None:
        self._away_since = self._away_since or time.time()
        self._cause = cause
        self._is_connected = False
        self._outage.goes_on(cause)

    def _follow(self, tail: KafkaTail) -> None:
        topic_ids = {topic: tail.topic_id(topic) for topic in self._topics}
        begin = self._begin(tail, topic_ids)
        for place, offset in begin.items():
            tail.seek(place, offset)
        tail.only(begin)
        asked = 0.0
        while not self._stopping.is_set():
            if time.monotonic() - asked > _ASK_EVERY:
                ends = tail.ends()
                self._behind = sum(max(0, end - tail.position(place)) for place, end in ends.items())
                asked = time.monotonic()
                self._away_since, self._is_connected = None, True
                self._outage.is_over()
            if chunks := tail.chunks(_WAIT):
                records = [record for chunk in chunks for record in chunk.records]
                at = {chunk.place: (tail.position(chunk.place), topic_ids[chunk.place[0]]) for chunk in chunks}
                self._take(records, at)
            self._idle()


class Reading(TopicsTail):
    """Fills the window, and what is live, with verdicts and dead letters."""

    def __init__(
        self, link: KafkaLink, window: VerdictWindow, live: Live, *, verdict_topic: str, dead_letter_topic: str
    ) -> None:
        self._window, self._live = window, live
        self._verdicts, self._letters = verdict_topic, dead_letter_topic
        super().__init__(link, (verdict_topic, dead_letter_topic), begin=self._beginning, take=self._taken)

    def _beginning(self, tail: KafkaTail, topic_ids: dict[str, str]) -> Positions:
        """Where the window ends; of what is new to it, as far back as it reaches."""
        known = self._window.positions()
        for topic, topic_id in topic_ids.items():
            before = {old for (name, _), (_, old) in known.items() if name == topic}
            if before - {topic_id}:
                log.warning("topic made anew", topic=topic)
                self._window.forget(topic, is_letters=topic == self._letters)
                known = {place: found for place, found in known.items() if place[0] != topic}
        ends, first = tail.ends(), tail.at(time.time() - DAYS * 86_400)
        most = self._window.rows // max(1, sum(place[0] == self._verdicts for place in ends))
        return {
            place: max(known[place][0] if place in known else first[place], end - most) for place, end in ends.items()
        }

    def _taken(self, records: list[Record], at: dict[TopicPartition, tuple[int, str]]) -> None:
        letters = [record for record in records if record.topic == self._letters]
        verdicts = [
            (record, verdict)
            for record in records
            if record.topic != self._letters and (verdict := verdict_of(record)) is not None
        ]
        self._window.take(verdicts, letters, at)
        self._live.take(verdicts, letters, time.time())


class TextReading(TopicsTail):
    """Keeps the input's texts. What comes before it was turned on is read as far back as texts are kept."""

    def __init__(self, link: KafkaLink, window: VerdictWindow, texts: RetainedTexts) -> None:
        self._window, self._texts = window, texts
        super().__init__(link, (texts.topic,), begin=self._beginning, take=texts.take, idle=texts.prune)

    def _beginning(self, tail: KafkaTail, topic_ids: dict[str, str]) -> Positions:
        mine = topic_ids[self._texts.topic]
        known = {
            place: offset
            for place, (offset, topic_id) in self._window.positions().items()
            if place[0] == self._texts.topic and topic_id == mine
        }
        ends, first = tail.ends(), tail.at(time.time() - self._texts.days * 86_400)
        most = self._texts.rows // max(1, len(ends))
        return {place: max(known.get(place, first[place]), first[place], end - most) for place, end in ends.items()}
