"""The series of `hamgate audit`. They are its own process's: none of the worker's is shown beside them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, disable_created_metrics
from prometheus_client.process_collector import ProcessCollector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_PREFIX: Final = "hamgate_audit"


class AuditMetrics:
    """The audit's metrics; `kinds` are those of its mismatches, each shown as zero from the start."""

    def __init__(self, kinds: Iterable[str]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.proven = Counter(
            "proven_messages_total", "Records with one answer, in order.", namespace=_PREFIX, registry=self.registry
        )
        self.mismatches = Counter(
            "mismatches_total", "Messages without exactly one answer in order, by kind.", ["kind"], namespace=_PREFIX,
            registry=self.registry,
        )  # fmt: skip
        for kind in kinds:
            self.mismatches.labels(kind)
        self.skipped = Counter(
            "skipped_total", "Offsets deleted before they were audited.", namespace=_PREFIX, registry=self.registry
        )
        self.window_messages = self._gauge("window_messages", "Records read that have no answer yet.")
        self.unproven = self._gauge(
            "unproven_seconds",
            "Age of the oldest record without an answer, or of the audit's last look if that is more.",
        )
        self.paused = self._gauge("paused", "1 while the window is full and reading the input is paused.")
        self.log_lines_dropped = Counter(
            "log_lines_dropped_total", "Log lines that could not be written.", namespace=_PREFIX,
            registry=self.registry,
        )  # fmt: skip
        self.ready = self._gauge("ready", "1 when /readyz says yes.")
        self.alive = self._gauge("alive", "1 when /livez says yes.")

    def follow(self, oldest: Callable[[], float | None], looked_at: Callable[[], float]) -> None:
        """Compute the age of what is not proven at each scrape: it grows while nothing else moves."""

        def unproven() -> float:
            return max(0.0, time.time() - min(oldest() or time.time(), looked_at()))

        self.unproven.set_function(unproven)

    def _gauge(self, name: str, documentation: str) -> Gauge:
        return Gauge(name, documentation, namespace=_PREFIX, registry=self.registry)
