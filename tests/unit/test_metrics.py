"""The names an operator's dashboards hang on, and what /metrics, /livez and /readyz answer."""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from worker.metrics import SECONDS, BulkHistogram, Metrics, MetricsServer

if TYPE_CHECKING:
    from collections.abc import Iterator

FROZEN = {
    "hamgate_messages_consumed": ("counter", ()),
    "hamgate_tombstones": ("counter", ()),
    "hamgate_verdicts": ("counter", ("label", "action")),
    "hamgate_dead_letters": ("counter", ("reason",)),
    "hamgate_unscored": ("counter", ("reason",)),
    "hamgate_tokens": ("counter", ()),
    "hamgate_transactions": ("counter", ("outcome",)),
    "hamgate_rebalances": ("counter", ("kind",)),
    "hamgate_end_to_end_latency_seconds": ("histogram", ()),
    "hamgate_broker_age_seconds": ("histogram", ()),
    "hamgate_queue_wait_seconds": ("histogram", ()),
    "hamgate_tokenize_seconds": ("histogram", ()),
    "hamgate_inference_seconds": ("histogram", ()),
    "hamgate_commit_seconds": ("histogram", ()),
    "hamgate_batch_messages": ("histogram", ()),
    "hamgate_batch_tokens": ("histogram", ()),
    "hamgate_score": ("histogram", ()),
    "hamgate_consumer_lag_messages": ("gauge", ("topic", "partition")),
    "hamgate_assigned_partitions": ("gauge", ()),
    "hamgate_ready": ("gauge", ()),
    "hamgate_last_commit_timestamp_seconds": ("gauge", ()),
    "hamgate_model": ("info", ()),
    "hamgate_build": ("info", ()),
}


def test_the_series_are_those_that_dashboards_know() -> None:
    metrics = Metrics()

    families = {
        family.name: (family.type, tuple(getattr(instrument, "_labelnames", ())))
        for instrument, family in (
            (instrument, family)
            for instrument in metrics.registry._collector_to_names
            for family in instrument.collect()
            if family.name.startswith("hamgate_")
        )
    }

    assert families == FROZEN


def test_the_service_levels_are_bounds_exactly() -> None:
    assert {0.02, 0.06, 0.1, 0.25, 1.0} <= set(SECONDS)
    assert sorted(SECONDS) == list(SECONDS)


@given(st.lists(st.floats(-5, 5) | st.sampled_from([0.5, 1.0, 2.5]), max_size=40))
def test_a_bulk_histogram_counts_as_the_librarys_own_does(values: list[float]) -> None:
    bounds = (0.5, 1.0, 2.5)
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    bulk = BulkHistogram("h", "Help.", bounds, ours)
    single = Histogram("h", "Help.", buckets=bounds, registry=theirs)

    bulk.observe(values[: len(values) // 2])
    bulk.observe(np.array(values[len(values) // 2 :]))
    for value in values:
        single.observe(value)

    shown = {s.name + str(s.labels): s.value for f in ours.collect() for s in f.samples}
    expected = {s.name + str(s.labels): s.value for f in theirs.collect() for s in f.samples if "created" not in s.name}
    assert shown == pytest.approx(expected, abs=1e-9)


@dataclass
class Patient:
    ill: list[str] = field(default_factory=list)
    hindered: list[str] = field(default_factory=list)

    def ailments(self) -> list[str]:
        return self.ill

    def obstacles(self) -> list[str]:
        return self.hindered


@pytest.fixture
def patient() -> Patient:
    return Patient()


@pytest.fixture
def server(patient: Patient) -> Iterator[MetricsServer]:
    server = MetricsServer(Metrics(), patient, host="127.0.0.1", port=0)
    server.start()
    yield server
    server.close()


def get(server: MetricsServer, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(server.address + path, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read().decode()


def test_a_well_worker_says_so(server: MetricsServer) -> None:
    assert get(server, "/livez") == (200, "ok\n")
    assert get(server, "/readyz") == (200, "ok\n")


def test_a_worker_that_is_not_ready_says_why_and_lives(server: MetricsServer, patient: Patient) -> None:
    patient.hindered = ["no partitions assigned"]

    assert get(server, "/readyz") == (503, "no partitions assigned\n")
    assert get(server, "/livez") == (200, "ok\n")


def test_a_stuck_worker_asks_to_be_restarted(server: MetricsServer, patient: Patient) -> None:
    patient.ill = ["judge: no progress for 301 s"]

    assert get(server, "/livez") == (503, "judge: no progress for 301 s\n")


def test_the_metrics_can_be_read_by_prometheus_and_say_whether_it_is_ready(
    server: MetricsServer, patient: Patient
) -> None:
    patient.hindered = ["stopping"]

    status, text = get(server, "/metrics")

    assert status == 200
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["hamgate_ready"].samples[0].value == 0
    assert "process_resident_memory_bytes" in families


def test_another_path_is_not_found(server: MetricsServer) -> None:
    assert get(server, "/")[0] == 404


def test_an_unused_counter_without_labels_is_shown_as_zero() -> None:
    text = generate_latest(Metrics().registry).decode()

    assert "hamgate_messages_consumed_total 0.0" in text
