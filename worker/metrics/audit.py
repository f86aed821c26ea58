"""The series of `hamgate audit`. They are its own process's: none of the worker's is shown beside them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from worker.metrics.companion import CompanionMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class AuditMetrics(CompanionMetrics):
    """The audit's metrics; `kinds` are those of its mismatches, each shown as zero from the start."""

    def __init__(self, kinds: Iterable[str]) -> None:
        super().__init__("hamgate_audit")
        self.proven = self._counter("proven_messages_total", "Records with one answer, in order.")
        self.mismatches = self._counter(
            "mismatches_total", "Messages without exactly one answer in order, by kind.", "kind", known=kinds
        )
        self.skipped = self._counter("skipped_total", "Offsets deleted before they were audited.")
        self.window_messages = self._gauge("window_messages", "Records read that have no answer yet.")
        self.unproven = self._gauge(
            "unproven_seconds",
            "Age of the oldest record without an answer, or of the audit's last look if that is more.",
        )
        self.paused = self._gauge("paused", "1 while the window is full and reading the input is paused.")

    def follow(self, oldest: Callable[[], float | None], looked_at: Callable[[], float]) -> None:
        """Compute the age of what is not proven at each scrape: it grows while nothing else moves."""

        def unproven() -> float:
            return max(0.0, time.time() - min(oldest() or time.time(), looked_at()))

        self.unproven.set_function(unproven)
