"""The audit's log lines and metrics: mismatches and pauses, by topic, partition and offset, never by text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from worker.audit.answers import Where
    from worker.audit.ledger import Ledger, Mismatch
    from worker.metrics import AuditMetrics

_LINES: Final = 100
"""Mismatches a round that have a line of their own."""

log = structlog.get_logger()


@dataclass(slots=True)
class News:
    """Tells what has changed since it last told."""

    ledger: Ledger
    metrics: AuditMetrics
    _proven: int = 0
    _skipped: int = 0
    _is_paused: bool = False

    def tell(self) -> None:
        """Log and count what a round has come to."""
        ledger, metrics = self.ledger, self.metrics
        self._tell_mismatches(list(ledger.found()))
        metrics.proven.inc(ledger.proven - self._proven)
        self._proven = ledger.proven
        if ledger.skipped > self._skipped:
            metrics.skipped.inc(ledger.skipped - self._skipped)
            log.warning("not audited", offsets=ledger.skipped - self._skipped, cause="deleted before they were read")
            self._skipped = ledger.skipped
        metrics.window_messages.set(ledger.waiting())
        self._tell_pause(ledger.is_paused())

    def _tell_mismatches(self, found: list[Mismatch]) -> None:
        for each in found:
            self.metrics.mismatches.labels(each.kind).inc(each.count)
        for each in found[:_LINES]:
            log.error(
                "mismatch", kind=each.kind, **_place("", each.source), **_place("answer_", each.answer), **_more(each)
            )
        if len(found) > _LINES:
            log.error("more mismatches", count=len(found) - _LINES)

    def _tell_pause(self, is_paused: bool) -> None:  # noqa: FBT001 it is the state
        self.metrics.paused.set(is_paused)
        if is_paused and not self._is_paused:
            log.warning("paused", cause="HAMGATE_AUDIT_WINDOW is full until the workers' group catches up")
        elif self._is_paused and not is_paused:
            log.info("resumed")
        self._is_paused = is_paused


def _place(prefix: str, where: Where | None) -> dict[str, object]:
    return {f"{prefix}{name}": value for name, value in where._asdict().items()} if where else {}


def _more(mismatch: Mismatch) -> dict[str, int]:
    return {"count": mismatch.count} if mismatch.count > 1 else {}
