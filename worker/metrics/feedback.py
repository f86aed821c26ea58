"""The series of `hamgate feedback`. They are its own process's: none of the worker's is shown beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, disable_created_metrics
from prometheus_client.process_collector import ProcessCollector

if TYPE_CHECKING:
    from collections.abc import Iterable

_PREFIX: Final = "hamgate_feedback"


class FeedbackMetrics:
    """The metrics of reports; `outcomes` and `states` are closed sets, each shown as zero from the start."""

    def __init__(self, outcomes: Iterable[str], states: Iterable[str]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.reports = Counter(
            "reports_total", "Reports by what became of them.", ["outcome"], namespace=_PREFIX, registry=self.registry
        )
        for outcome in outcomes:
            self.reports.labels(outcome)
        self.decisions = Gauge(
            "decisions", "Texts that were reported, by state; disputed ones wait for an analyst.", ["state"],
            namespace=_PREFIX, registry=self.registry,
        )  # fmt: skip
        for state in states:
            self.decisions.labels(state)
        self.limited = self._gauge("limited_reporters", "Reporters who have sent more than a day's reports today.")
        self.log_lines_dropped = Counter(
            "log_lines_dropped_total", "Log lines that could not be written.", namespace=_PREFIX,
            registry=self.registry,
        )  # fmt: skip
        self.ready = self._gauge("ready", "1 when /readyz says yes.")
        self.alive = self._gauge("alive", "1 when /livez says yes.")

    def _gauge(self, name: str, documentation: str) -> Gauge:
        return Gauge(name, documentation, namespace=_PREFIX, registry=self.registry)
