"""What /metrics answers is what the library would, byte for byte, in every format that a client may ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

from worker.engine.device import GpuState
from worker.metrics import SECONDS, BulkHistogram, Metrics
from worker.metrics.exposition import exposition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.2"
)
ACCEPTED = (
    "",
    "*/*",
    "text/plain",
    "text/plain; version=0.0.4",
    "text/plain; version=1.0.0; escaping=underscores",
    "text/plain; version=1.0.0; escaping=values",
    "application/openmetrics-text",
    "application/openmetrics-text; version=0.0.1",
    "application/openmetrics-text; version=1.0.0",
    "application/openmetrics-text; version=1.0.0; escaping=dots",
    "application/openmetrics-text; version=2.0.0; escaping=allow-utf-8",
    PROMETHEUS_3,
)
HOSTILE = 'quote " backslash \\ line \n end \N{SNOWMAN}'


class Still(Collector):
    """Families with values that do not move between two scrapes, as a process's own do."""

    def __init__(self, *families: Metric) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families


def still(registry: CollectorRegistry) -> CollectorRegistry:
    frozen = CollectorRegistry()
    frozen.register(Still(*registry.collect()))
    return frozen


def used() -> CollectorRegistry:
    metrics = Metrics()
    metrics.know_labels(["ham", "spam"])
    metrics.follow_gpu(lambda: GpuState(1, 2, 3, 4, utilization=0.5, watts=None, celsius=70.0, halvings=1))
    metrics.build_info.info({"version": "0.1.0", "commit": HOSTILE})
    metrics.lag.labels("events", "11").set(1e21)
    metrics.end_to_end_latency.observe([0.004, 7.0, 1e9], {0: "a" * 32, 2: HOSTILE})
    metrics.verdicts.labels("spam", "block").inc(3)
    return still(metrics.registry)


@pytest.mark.parametrize("accept", ACCEPTED)
def test_the_text_is_the_librarys_own(accept: str) -> None:
    registry = used()
    encode, content_type = choose_encoder(accept)

    assert exposition(registry, accept) == (encode(registry), content_type)


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_what_needs_escaping_is_escaped_as_the_library_does(accept: str) -> None:
    gauge = GaugeMetricFamily("g", HOSTILE, labels=["z", "a"])
    for value in (0.0, -0.0, float("nan"), float("inf"), float("-inf"), 123456789.0, 1e-9, 1.5e300):
        gauge.add_metric([HOSTILE, str(value)], value)
    info, counter = InfoMetricFamily("i", HOSTILE, {"k": HOSTILE}), CounterMetricFamily("c", HOSTILE, value=2)
    registry = CollectorRegistry()
    registry.register(Still(gauge, info, counter, GaugeMetricFamily("empty", "Nothing yet.")))

    assert exposition(registry, accept)[0] == choose_encoder(accept)[0](registry)


def test_what_is_kept_of_a_line_does_not_keep_its_value() -> None:
    registry = CollectorRegistry()
    histogram = BulkHistogram("h", "Help.", SECONDS, registry)

    first = exposition(registry, "")[0]
    histogram.observe(0.004)
    second = exposition(registry, "")[0]

    assert b'h_bucket{le="0.005"} 0.0\n' in first
    assert b'h_bucket{le="0.005"} 1.0\n' in second
    assert second == choose_encoder("")[0](registry)
