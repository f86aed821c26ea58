"""The GPU's own figures, read at each scrape; without a GPU there are no series."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

    from worker.engine.device import GpuState


class GpuCollector(Collector):
    """Asks `read` when it is scraped."""

    def __init__(self, read: Callable[[], GpuState | None], registry: CollectorRegistry) -> None:
        self._read = read
        registry.register(self)

    def describe(self) -> Iterator[Metric]:
        """Name the series without asking the device."""
        return self._families(None)

    def collect(self) -> Iterator[Metric]:
        """Ask the device."""
        state = self._read()
        return self._families(state) if state else iter(())

    @staticmethod
    def _families(state: GpuState | None) -> Iterator[Metric]:
        memory = GaugeMetricFamily(
            "hamgate_gpu_memory_bytes",
            "Of the device: used, total. Of this process: allocated, reserved.",
            labels=["kind"],
        )
        for kind in ("used", "total", "allocated", "reserved"):
            if state:
                memory.add_metric([kind], getattr(state, kind))
        yield memory
        yield CounterMetricFamily(
            "hamgate_gpu_out_of_memory",
            "Times that the engine ran out of memory and halved its token budget.",
            value=state.halvings if state else None,
        )
        for name, documentation, value in (
            ("utilization_ratio", "Share of time that a kernel ran.", state.utilization if state else None),
            ("power_watts", "What it draws.", state.watts if state else None),
            ("temperature_celsius", "Temperature of the GPU.", state.celsius if state else None),
        ):
            yield GaugeMetricFamily(f"hamgate_gpu_{name}", documentation, value=value)
