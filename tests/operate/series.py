"""Which series a query names, and which worker, audit and feedback show."""

from __future__ import annotations

import re

from worker.audit.ledger import MismatchKind
from worker.feedback.records import HELD
from worker.feedback.reports import ReportOutcome
from worker.metrics import AuditMetrics, FeedbackMetrics, Metrics

_NAME = re.compile(r"\b(hamgate[a-z0-9_:]*)\b")
# What is not the worker's own: Prometheus's, and every Python process's.
OTHERS = {"up", "ALERTS", "process_resident_memory_bytes", "process_cpu_seconds_total", "process_start_time_seconds"}


def series_named(expr: str) -> set[str]:
    """The hamgate series in a query."""
    without_strings = re.sub(r'"[^"]*"', '""', expr)
    return set(_NAME.findall(without_strings))


def shown_series() -> set[str]:
    """All series that the metrics of worker, audit and feedback can give, under the names that Prometheus stores."""
    metrics = Metrics()
    metrics.follow_gpu(lambda: None)
    names: set[str] = set()
    others = (AuditMetrics(MismatchKind), FeedbackMetrics(ReportOutcome, HELD))
    registries = [metrics.registry, *(each.registry for each in others)]
    for collector in [each for registry in registries for each in registry._collector_to_names]:
        described = getattr(collector, "describe", collector.collect)
        for family in described():
            endings = {
                "counter": ("_total",),
                "info": ("_info",),
                "histogram": ("_bucket", "_sum", "_count"),
            }.get(family.type, ("",))
            names |= {family.name + ending for ending in endings}
    return names
