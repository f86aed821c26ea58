"""`hamgate feedback` as a process: reports in, decisions out, until it is stopped; through outages of the brokers."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from worker.audit.brokers import AwayError
from worker.feedback.accepting import Accepting
from worker.feedback.joining import Joining
from worker.feedback.records import HELD
from worker.feedback.reports import TAKEN, ReportOutcome
from worker.messages import dated
from worker.process.outage import Outage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from worker.audit.brokers import Tail
    from worker.feedback.joining import Hashes, InputRecords
    from worker.feedback.recent import RecentMessages
    from worker.messages import Outgoing, Positions, Record, TopicPartition
    from worker.metrics import FeedbackMetrics

_PAUSE: Final = 0.5
"""Seconds between two rounds when there is nothing to read."""
_WAIT: Final = 0.05
_RETRY: Final = 1.0
_STALL: Final = 300.0
"""Seconds without a round, or a question that failed, after which the process counts as dead."""
_TOGETHER: Final = 200
"""Reports that one transaction takes at most."""
_LAPSE_EVERY: Final = 60.0

log = structlog.get_logger()


class FeedbackBrokers(Protocol):
    """What is asked of Kafka. Every call may raise AwayError, or BrokerError where asking again does not help."""

    @property
    def reports(self) -> Tail:
        """The topic of reports."""

    @property
    def recent(self) -> Tail:
        """The input and the verdicts."""

    @property
    def input(self) -> InputRecords:
        """Single records of the input."""

    def decisions(self) -> Iterable[tuple[bytes | None, bytes | None]]:
        """Return all that was decided."""

    def begin(self) -> Positions:
        """Go on with the reports from where the last transaction left."""

    def write(self, records: Sequence[Outgoing], positions: Positions) -> None:
        """Write decisions and the position in the reports, both or none."""

    def close(self) -> None:
        """Disconnect."""


@dataclass(slots=True)
class Feedback:
    """Connects, reads, decides, writes. After any failure all is read again from what is written."""

    connect: Callable[[], FeedbackBrokers]
    recent: RecentMessages
    hashes: Hashes
    metrics: FeedbackMetrics
    window: int
    max_bytes: int
    stopping: threading.Event = field(default_factory=threading.Event)
    _outage: Outage = field(default_factory=lambda: Outage("brokers"))
    _heard_at: float = field(default_factory=time.monotonic)
    _read_to: Positions = field(default_factory=dict)
    _reports_to: Positions = field(default_factory=dict)
    _lapsed_at: float = 0.0
    _is_reading: bool = False

    def run(self) -> None:
        """Go on until `stop`. Raises BrokerError where trying again does not help."""
        while not self.stopping.is_set():
            try:
                with contextlib.closing(self.connect()) as brokers:
                    self._go_on(brokers)
            except AwayError as error:
                self._outage.goes_on(str(error))
                self._heard_at = time.monotonic()
                self.stopping.wait(_RETRY)

    def stop(self) -> None:
        """Begin no more rounds. May be called from a signal handler, and more than once."""
        self.stopping.set()

    def liveness_problems(self) -> list[str]:
        """Why the process should be restarted."""
        silent_for = time.monotonic() - self._heard_at
        return [f"feedback: no progress for {silent_for:.0f} s"] if silent_for > _STALL else []

    def readiness_problems(self) -> list[str]:
        """Why it is not ready."""
        if self.stopping.is_set():
            return ["stopping"]
        if self._outage.is_on:
            return ["the brokers do not answer"]
        return self.liveness_problems() if self._is_reading else ["reading what was decided"]

    def _go_on(self, brokers: FeedbackBrokers) -> None:
        accepting = Accepting()
        if unreadable := accepting.load(brokers.decisions()):
            log.warning("decisions not readable", records=unreadable)
        joining = Joining(accepting, self.recent, self.hashes, brokers.input, self.max_bytes)
        begins = self._reports_to = brokers.begin()
        self._begin_recent(brokers.recent)
        log.info(
            "feedback began",
            offsets={str(place[1]): offset for place, offset in sorted(begins.items())},
            decisions=len(accepting.decisions),
            reporters=len(accepting.reporters),
        )
        self._tell(accepting)
        while not self.stopping.is_set():
            has_moved = self._turn(brokers, joining)
            self._outage.is_over()
            self._is_reading, self._heard_at = True, time.monotonic()
            if not has_moved:
                self.stopping.wait(_PAUSE)

    def _turn(self, brokers: FeedbackBrokers, joining: Joining) -> bool:
        """One round. The messages first, as far as there were any when the reports came: a report finds its own."""
        chunks = brokers.reports.chunks(_WAIT)
        has_moved = self._catch_up(brokers.recent, joining, brokers.recent.ends())
        if self.stopping.is_set():
            return False  # what has come is not looked up, nor counted as read
        counts: Counter[ReportOutcome] = Counter()
        reports = [record for chunk in chunks for record in chunk.records]
        done: Positions = {}
        for chunk in chunks:
            if chunk.gap is not None and (deleted := chunk.gap - self._reports_to.get(chunk.place, chunk.gap)) > 0:
                counts[ReportOutcome.DELETED] += deleted
                log.warning("reports deleted before they were read", partition=chunk.place[1], reports=deleted)
                done[chunk.place] = chunk.gap
            self._reports_to[chunk.place] = brokers.reports.position(chunk.place)
        for first in range(0, len(reports), _TOGETHER):
            for record in reports[first : first + _TOGETHER]:
                if self.stopping.is_set():
                    break
                now = dated(record, time.time()).timestamp
                counts[joining.take(record, now)] += 1
                done[record.topic, record.partition] = record.offset + 1
            self._write(brokers, joining.accepting, done, counts)
            self._heard_at = time.monotonic()
        self._overdue(brokers, joining, done, counts)
        return has_moved or bool(reports)

    def _overdue(
        self, brokers: FeedbackBrokers, joining: Joining, done: Positions, counts: Counter[ReportOutcome]
    ) -> None:
        now = time.time()
        if self._has_read_all(brokers.reports):
            counts.update(joining.overdue(now))
        if now - self._lapsed_at > _LAPSE_EVERY:
            self._lapsed_at = now
            joining.accepting.lapse(now)
        self._write(brokers, joining.accepting, done, counts)

    @staticmethod
    def _has_read_all(reports: Tail) -> bool:
        """Whether no report waits: until then a text's sender may be among those that wait, however old it is."""
        return all(reports.position(place) >= end for place, end in reports.ends().items())

    def _write(
        self, brokers: FeedbackBrokers, accepting: Accepting, done: Positions, counts: Counter[ReportOutcome]
    ) -> None:
        """Write what has changed, then count it: what is rolled back is read, and counted, again."""
        changed = accepting.changes()
        if changed or done:
            brokers.write(changed, dict(done))
        for outcome, count in counts.items():
            self.metrics.reports.labels(outcome).inc(count)
        if changed:
            self._tell(accepting)
        if refused := {str(outcome): count for outcome, count in counts.items() if outcome not in TAKEN}:
            log.info("reports refused", **refused)
        counts.clear()
        done.clear()

    def _tell(self, accepting: Accepting) -> None:
        states = Counter(each.state for each in accepting.decisions.values())
        for state in HELD:
            self.metrics.decisions.labels(state).set(states[state])
        self.metrics.limited.set(len(accepting.limited))

    def _begin_recent(self, tail: Tail) -> None:
        """Begin as many messages back as are remembered; after an outage where it was."""
        starts, ends = tail.starts(), tail.ends()
        share = max(1, self.window // max(1, len({place[1] for place in ends if place[0] == self.recent.topic})))
        for place, end in ends.items():
            tail.seek(place, self._read_to.get(place, max(starts[place], end - share)))
        tail.only(ends)

    def _catch_up(self, tail: Tail, joining: Joining, ends: Positions) -> bool:
        """Read messages and verdicts up to here; False where nothing new was there."""
        has_moved = False
        while any(tail.position(place) < end for place, end in ends.items()) and not self.stopping.is_set():
            for chunk in tail.chunks(_WAIT):
                self._see(joining, chunk.place, chunk.records)
                has_moved = has_moved or bool(chunk.records)
            self._heard_at = time.monotonic()
        self._read_to = {place: tail.position(place) for place in ends}
        return has_moved

    def _see(self, joining: Joining, place: TopicPartition, records: Sequence[Record]) -> None:
        is_message = place[0] == self.recent.topic
        joining.see(*((records, ()) if is_message else ((), records)))
