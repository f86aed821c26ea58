"""What the processes beside the workers show of themselves. None of the worker's series is shown beside theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, disable_created_metrics
from prometheus_client.process_collector import ProcessCollector

if TYPE_CHECKING:
    from collections.abc import Iterable


class CompanionMetrics:
    """A registry of its own, with what every process shows; `prefix` begins the name of each series."""

    def __init__(self, prefix: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._prefix, self.registry = prefix, CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.log_lines_dropped = self._counter("log_lines_dropped_total", "Log lines that could not be written.")
        self.ready = self._gauge("ready", "1 when /readyz says yes.")
        self.alive = self._gauge("alive", "1 when /livez says yes.")

    def _counter(self, name: str, documentation: str, *labels: str, known: Iterable[str] = ()) -> Counter:
        made = Counter(name, documentation, labels, namespace=self._prefix, registry=self.registry)
        for value in known:
            made.labels(value)
        return made

    def _gauge(self, name: str, documentation: str, *labels: str, known: Iterable[str] = ()) -> Gauge:
        made = Gauge(name, documentation, labels, namespace=self._prefix, registry=self.registry)
        for value in known:
            made.labels(value)
        return made
