"""The audit as a process: round after round until it is stopped, through outages of the brokers; or once."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog

from worker.audit.auditor import Auditor, RepartitionedError
from worker.audit.brokers import AwayError
from worker.audit.starting import StartError, begin
from worker.process.outage import Outage

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.audit.auditor import Topics
    from worker.audit.brokers import Brokers
    from worker.audit.ledger import Ledger
    from worker.audit.news import News
    from worker.audit.starting import Start
    from worker.messages import Record

_PAUSE: Final = 0.5
"""Seconds between two rounds when there is nothing to read."""
_GLANCE: Final = 0.1
"""The same, where somebody waits for the end."""
_COMMIT_EVERY: Final = 5.0
_RETRY: Final = 1.0
_STALL: Final = 300.0
"""Seconds without a round, or a question that failed, after which the process counts as dead."""
_NO_FURTHER: Final = 60.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class AuditTerms:
    """An audit's topics, start and window; one that does not commit leaves the progress of others alone.

    `most_at_once` is how many records of one partition the worker may answer in one transaction: of each partition the
    window must hold more, else what is merely out of turn would look lost.
    """

    topics: Topics
    start: Start
    is_readable: Callable[[Record], bool]
    window: int
    most_at_once: int
    commits: bool = True


@dataclass(slots=True)
class Audit:
    """Connects, audits, commits its progress; what it finds is in the news."""

    terms: AuditTerms
    connect: Callable[[], Brokers]
    ledger: Ledger
    news: News
    began: dict[int, int] = field(default_factory=dict)
    looked_at: float = field(default_factory=time.time)
    """Unix time at which the last round ended."""
    stopping: threading.Event = field(default_factory=threading.Event)
    _auditor: Auditor | None = None
    _outage: Outage = field(default_factory=lambda: Outage("brokers"))
    _heard_at: float = field(default_factory=time.monotonic)
    _further_at: float = 0.0
    _target: dict[int, int] | None = None
    _is_proven_once: bool = False

    def run(self) -> None:
        """Audit until `stop`. Raises BrokerError or StartError where trying again does not help."""
        while not self.stopping.is_set():
            try:
                with contextlib.closing(self.connect()) as brokers:
                    self._go_on(brokers)
            except RepartitionedError:
                log.info("partitions were added")
            except AwayError as error:
                self._outage.goes_on(str(error))
                self._heard_at = time.monotonic()
                self.stopping.wait(_RETRY)

    def once(self) -> None:
        """Audit what is committed by now. Raises AwayError, BrokerError, StartError, or TimeoutError."""
        self._gets_further()
        while not self._is_proven_once:
            try:
                with contextlib.closing(self.connect()) as brokers:
                    self._prove_once(brokers)
            except RepartitionedError:
                continue
            except AwayError:
                if time.monotonic() - self._further_at > _NO_FURTHER:
                    raise
                time.sleep(_RETRY)

    def stop(self) -> None:
        """Begin no more rounds. May be called from a signal handler, and more than once."""
        self.stopping.set()

    def liveness_problems(self) -> list[str]:
        """Why the process should be restarted."""
        silent_for = time.monotonic() - self._heard_at
        return [f"audit: no progress for {silent_for:.0f} s"] if silent_for > _STALL else []

    def readiness_problems(self) -> list[str]:
        """Why it is not ready."""
        if self.stopping.is_set():
            return ["stopping"]
        if self._outage.is_on:
            return ["the brokers do not answer"]
        return self.liveness_problems() if self._auditor else ["connecting to the brokers"]

    def _go_on(self, brokers: Brokers) -> None:
        auditor, committed_at = self._take_up(brokers), time.monotonic()
        while not self.stopping.is_set():
            has_moved = auditor.turn(brokers)
            self._outage.is_over()
            self.looked_at, self._heard_at = time.time(), time.monotonic()
            self.news.tell()
            if time.monotonic() - committed_at > _COMMIT_EVERY:
                self._commit(brokers, auditor)
                committed_at = time.monotonic()
            if not has_moved:
                self.stopping.wait(_PAUSE)
        self._commit(brokers, auditor)

    def _prove_once(self, brokers: Brokers) -> None:
        """Go on until all is settled below what the first proof found committed."""
        auditor = self._take_up(brokers)
        while not self._has_come_to_the_target():
            if auditor.turn(brokers):
                self._gets_further()
            elif time.monotonic() - self._further_at > _NO_FURTHER:
                message = f"no progress for {_NO_FURTHER:g} s; see Hanging transactions in docs/operations.md"
                raise TimeoutError(message)
            else:
                time.sleep(_GLANCE)
            self.news.tell()
            self._target = auditor.judged if self._target is None else self._target
        self._commit(brokers, auditor)
        self._is_proven_once = True

    def _has_come_to_the_target(self) -> bool:
        target, progress = self._target, self.ledger.progress()
        return target is not None and all(at >= target.get(partition, 0) for partition, at in progress.items())

    def _gets_further(self) -> None:
        self._further_at = time.monotonic()

    def _take_up(self, brokers: Brokers) -> Auditor:
        if self._auditor is None:
            terms = self.terms
            positions, seen = begin(self.ledger, brokers, terms.start, terms.topics.verdicts)
            self._auditor = Auditor(self.ledger, terms.topics, positions, seen, terms.is_readable, self.stopping)
            self.began = self.ledger.positions()
            log.info(
                "audit began", offsets={str(partition): offset for partition, offset in sorted(self.began.items())}
            )
        self._auditor.resume(brokers)
        self._require_room()
        return self._auditor

    def _require_room(self) -> None:
        partitions = len(self.ledger.positions())
        if self.terms.window < (least := self.terms.most_at_once * partitions):
            message = (
                f"HAMGATE_AUDIT_WINDOW: {self.terms.window} is too few for {partitions} partitions; "
                f"allowed here: {least} and more"
            )
            raise StartError(message)

    def _commit(self, brokers: Brokers, auditor: Auditor) -> None:
        if self.terms.commits:
            brokers.commit(auditor.progress())
