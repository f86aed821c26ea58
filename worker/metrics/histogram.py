"""A histogram that takes a whole batch of observations at once, and keeps an exemplar for each bucket."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric


class BulkHistogram(Collector):
    """One numpy pass a batch, not one lock a message.

    An exemplar is the latest observation of a bucket that came with a trace id; it is shown in OpenMetrics only.
    """

    def __init__(self, name: str, documentation: str, bounds: Sequence[float], registry: CollectorRegistry) -> None:
        self._name, self._documentation = name, documentation
        self._bounds = np.asarray(bounds, dtype=np.float64)
        self._labels = [{"le": bound} for bound in (*(str(float(bound)) for bound in bounds), "+Inf")]
        self._counts = np.zeros(len(bounds) + 1, dtype=np.int64)
        self._exemplars: list[Exemplar | None] = [None] * len(self._counts)
        self._sum = 0.0
        self._lock = threading.Lock()
        registry.register(self)

    def observe(self, values: ArrayLike, traces: Mapping[int, str] | None = None) -> None:
        """Count one or many observations; `traces` are the trace ids of those, by index, that have one.

        A bound holds what is equal to it, as Prometheus has it.
        """
        many = np.atleast_1d(np.asarray(values, dtype=np.float64))
        places = np.searchsorted(self._bounds, many, side="left")
        counts = np.bincount(places, minlength=len(self._counts))
        now = time.time()
        # A bucket shows one: the last of the batch. So at most one a bucket is made, however many are traced.
        latest = {int(places[row]): (float(many[row]), trace) for row, trace in traces.items()} if traces else {}
        with self._lock:
            self._counts += counts
            self._sum += float(many.sum())
            for place, (value, trace) in latest.items():
                self._exemplars[place] = Exemplar({"trace_id": trace}, value, now)

    def collect(self) -> Iterator[Metric]:
        """Show it as Prometheus wants it: cumulative."""
        with self._lock:
            cumulative, total, exemplars = np.cumsum(self._counts), self._sum, self._exemplars.copy()
        counts = cumulative.astype(float).tolist()
        family = HistogramMetricFamily(self._name, self._documentation)
        # Not by add_metric, which puts each bucket's labels together anew: that took most of a scrape's collecting.
        name, none = itertools.repeat(f"{self._name}_bucket"), itertools.repeat(None)
        family.samples = [
            *map(Sample, name, self._labels, counts, none, exemplars),
            Sample(f"{self._name}_count", {}, counts[-1]),
            Sample(f"{self._name}_sum", {}, total),
        ]
        yield family
