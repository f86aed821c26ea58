"""The names an operator's dashboards hang on, and what /metrics, /livez and /readyz answer."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from worker.audit.ledger import MismatchKind
from worker.engine.device import GpuState
from worker.feedback.records import HELD
from worker.feedback.reports import ReportOutcome
from worker.metrics import SECONDS, AuditMetrics, BulkHistogram, FeedbackMetrics, Metrics, MetricsServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.metrics_core import Metric

FROZEN = {
    # delivery
    "hamgate_messages_consumed": ("counter", ()),
    "hamgate_messages_let_go": ("counter", ()),
    "hamgate_messages_undated": ("counter", ()),
    "hamgate_tombstones": ("counter", ()),
    "hamgate_verdicts": ("counter", ("label", "action")),
    "hamgate_verdicts_by_flag": ("counter", ("flag", "action")),
    "hamgate_verdicts_by_language": ("counter", ("language", "action")),
    "hamgate_dead_letters": ("counter", ("reason",)),
    "hamgate_rule_matches": ("counter", ("decider", "rule", "action", "dry_run")),
    "hamgate_unscored": ("counter", ("reason",)),
    "hamgate_tokens": ("counter", ()),
    "hamgate_transactions": ("counter", ("outcome",)),
    "hamgate_rebalances": ("counter", ("kind",)),
    "hamgate_assigned_partitions": ("gauge", ()),
    "hamgate_last_commit_timestamp_seconds": ("gauge", ()),
    "hamgate_transaction_version": ("gauge", ()),
    # the time budget
    "hamgate_end_to_end_latency_seconds": ("histogram", ()),
    "hamgate_broker_age_seconds": ("histogram", ()),
    "hamgate_queue_wait_seconds": ("histogram", ()),
    "hamgate_tokenize_seconds": ("histogram", ()),
    "hamgate_inference_seconds": ("histogram", ()),
    "hamgate_handover_seconds": ("histogram", ()),
    "hamgate_encode_seconds": ("histogram", ()),
    "hamgate_commit_seconds": ("histogram", ()),
    "hamgate_batch_messages": ("histogram", ()),
    "hamgate_batch_tokens": ("histogram", ()),
    "hamgate_batch_fill_ratio": ("histogram", ()),
    "hamgate_stage_busy_seconds": ("counter", ("stage",)),
    "hamgate_stage_step_seconds": ("gauge", ("stage",)),
    "hamgate_token_budget": ("gauge", ()),
    # the backlog
    "hamgate_consumer_lag_messages": ("gauge", ("topic", "partition")),
    "hamgate_consumer_lag_seconds": ("gauge", ("topic", "partition")),
    "hamgate_oldest_message_seconds": ("gauge", ()),
    "hamgate_inbox_messages": ("gauge", ()),
    "hamgate_inbox_tokens": ("gauge", ()),
    # the model
    "hamgate_score": ("histogram", ()),
    "hamgate_drift_ratio": ("gauge", ("role", "signal")),
    "hamgate_messages_judged": ("counter", ("role", "label")),
    "hamgate_model": ("info", ("role",)),
    "hamgate_model_share_ratio": ("gauge", ("role",)),
    "hamgate_model_loaded_timestamp_seconds": ("gauge", ("role",)),
    "hamgate_model_refused": ("gauge", ("role",)),
    "hamgate_model_changes": ("counter", ("role", "outcome")),
    "hamgate_model_load_seconds": ("histogram", ()),
    "hamgate_model_swap_seconds": ("histogram", ()),
    # the shadow
    "hamgate_shadow_disagreements": ("counter", ("label", "shadow")),
    "hamgate_shadow_skipped": ("counter", ()),
    "hamgate_shadow_score_difference": ("histogram", ()),
    # /predict
    "hamgate_predict_requests": ("counter", ("outcome",)),
    "hamgate_predict_texts": ("counter", ()),
    "hamgate_predict_seconds": ("histogram", ()),
    "hamgate_predict_busy_seconds": ("counter", ()),
    "hamgate_predict_waiting_texts": ("gauge", ()),
    # lists
    "hamgate_list_entries": ("gauge", ("what", "action")),
    "hamgate_lists_unreadable": ("counter", ()),
    "hamgate_lists_read_timestamp_seconds": ("gauge", ()),
    # what is known beside the text
    "hamgate_registry_brands": ("gauge", ()),
    "hamgate_registry_refused": ("counter", ()),
    "hamgate_registry_read_timestamp_seconds": ("gauge", ()),
    # campaigns
    "hamgate_campaigns": ("gauge", ()),
    "hamgate_campaign_messages": ("counter", ()),
    "hamgate_campaigns_forgotten": ("counter", ()),
    "hamgate_campaign_topic_failures": ("counter", ()),
    # senders
    "hamgate_senders": ("gauge", ()),
    "hamgate_senders_forgotten": ("gauge", ()),
    "hamgate_sender_snapshots": ("counter", ("outcome",)),
    # the GPU
    "hamgate_gpu_memory_bytes": ("gauge", ("kind",)),
    "hamgate_gpu_utilization_ratio": ("gauge", ()),
    "hamgate_gpu_power_watts": ("gauge", ()),
    "hamgate_gpu_temperature_celsius": ("gauge", ()),
    "hamgate_gpu_out_of_memory": ("counter", ()),
    # the process
    "hamgate_state": ("gauge", ("state",)),
    "hamgate_ready": ("gauge", ()),
    "hamgate_alive": ("gauge", ()),
    "hamgate_log_lines_dropped": ("counter", ()),
    "hamgate_build": ("info", ()),
}
FROZEN_AUDIT = {
    "hamgate_audit_proven_messages": ("counter", ()),
    "hamgate_audit_mismatches": ("counter", ("kind",)),
    "hamgate_audit_skipped": ("counter", ()),
    "hamgate_audit_window_messages": ("gauge", ()),
    "hamgate_audit_unproven_seconds": ("gauge", ()),
    "hamgate_audit_paused": ("gauge", ()),
    "hamgate_audit_log_lines_dropped": ("counter", ()),
    "hamgate_audit_ready": ("gauge", ()),
    "hamgate_audit_alive": ("gauge", ()),
}
FROZEN_FEEDBACK = {
    "hamgate_feedback_reports": ("counter", ("outcome",)),
    "hamgate_feedback_decisions": ("gauge", ("state",)),
    "hamgate_feedback_limited_reporters": ("gauge", ()),
    "hamgate_feedback_log_lines_dropped": ("counter", ()),
    "hamgate_feedback_ready": ("gauge", ()),
    "hamgate_feedback_alive": ("gauge", ()),
}
ALL = FROZEN | FROZEN_AUDIT | FROZEN_FEEDBACK
GPU = GpuState(1, 2, 3, 4, utilization=0.5, watts=600.0, celsius=70.0, halvings=1)
SUFFIX = {"counter": "_total", "info": "_info"}


def with_gpu() -> Metrics:
    metrics = Metrics()
    metrics.follow_gpu(lambda: GPU)
    return metrics


def labels_of(instrument: Any, family: Metric) -> tuple[str, ...]:
    named = getattr(instrument, "_labelnames", None)
    return tuple(family._labelnames if named is None else named)  # type: ignore[attr-defined]


def of_feedback() -> FeedbackMetrics:
    return FeedbackMetrics(ReportOutcome, HELD)


@pytest.mark.parametrize(
    ("made", "frozen"),
    [(with_gpu, FROZEN), (lambda: AuditMetrics(MismatchKind), FROZEN_AUDIT), (of_feedback, FROZEN_FEEDBACK)],
)
def test_the_series_are_those_that_dashboards_know(
    made: Callable[[], Metrics | AuditMetrics | FeedbackMetrics], frozen: dict[str, tuple[str, tuple[str, ...]]]
) -> None:
    families = {
        family.name: (family.type, labels_of(instrument, family))
        for instrument in made().registry._collector_to_names
        for family in instrument.collect()
        if family.name.startswith("hamgate_")
    }

    assert families == frozen


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, (kind, _) in ALL.items()])
def test_the_manual_names_every_series_with_its_labels(name: str, kind: str) -> None:
    manual = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()

    labels = ALL[name][1]
    assert f"`{name}{SUFFIX.get(kind, '')}{'{' + ','.join(labels) + '}' if labels else ''}`" in manual


def test_without_a_gpu_there_are_no_series_of_one() -> None:
    metrics = Metrics()
    metrics.follow_gpu(lambda: None)

    assert b"hamgate_gpu" not in generate_latest(metrics.registry)


def test_the_gpus_state_is_asked_when_it_is_scraped() -> None:
    lines = generate_latest(with_gpu().registry).decode().splitlines()

    assert 'hamgate_gpu_memory_bytes{kind="allocated"} 3.0' in lines
    assert "hamgate_gpu_utilization_ratio 0.5" in lines
    assert "hamgate_gpu_out_of_memory_total 1.0" in lines


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


def test_a_bucket_shows_the_latest_trace_that_fell_into_it_in_openmetrics_only() -> None:
    registry = CollectorRegistry()
    bulk = BulkHistogram("h", "Help.", (0.5, 1.0), registry)

    bulk.observe([0.1, 0.2, 0.7], {0: "a" * 32, 1: "b" * 32})
    bulk.observe([0.3])

    lines = {line.partition(" # ")[0]: line.partition(" # ")[2] for line in openmetrics(registry).decode().splitlines()}
    assert lines['h_bucket{le="0.5"} 3.0'].startswith('{trace_id="' + "b" * 32 + '"} 0.2 ')
    assert lines['h_bucket{le="1.0"} 4.0'] == ""
    assert b"trace_id" not in generate_latest(registry)


@dataclass
class Patient:
    ill: list[str] = field(default_factory=list)
    hindered: list[str] = field(default_factory=list)

    def liveness_problems(self) -> list[str]:
        return self.ill

    def readiness_problems(self) -> list[str]:
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
    assert "hamgate_alive 1.0" in text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["hamgate_ready"].samples[0].value == 0
    assert "process_resident_memory_bytes" in families


def test_another_path_is_not_found(server: MetricsServer) -> None:
    assert get(server, "/")[0] == 404


def test_an_unused_counter_without_labels_is_shown_as_zero() -> None:
    text = generate_latest(Metrics().registry).decode()

    assert "hamgate_messages_consumed_total 0.0" in text


def test_every_kind_of_mismatch_is_shown_as_zero_from_the_start() -> None:
    text = generate_latest(AuditMetrics(MismatchKind).registry).decode()

    for kind in ("lost", "missing-dead-letter", "duplicated", "reordered", "wrong-source"):
        assert f'hamgate_audit_mismatches_total{{kind="{kind}"}} 0.0' in text
    assert text.count("hamgate_audit_mismatches_total{") == 5


def test_every_outcome_of_a_report_is_shown_as_zero_from_the_start() -> None:
    text = generate_latest(of_feedback().registry).decode()

    assert text.count("hamgate_feedback_reports_total{") == len(ReportOutcome)
    assert 'hamgate_feedback_reports_total{outcome="limited"} 0.0' in text
    assert 'hamgate_feedback_decisions{state="disputed"} 0.0' in text


def test_what_is_not_proven_ages_while_the_audit_does_not_look() -> None:
    metrics, now = AuditMetrics(MismatchKind), time.time()
    oldest: list[float | None] = [None]
    looked_at = [now]
    metrics.follow(lambda: oldest[0], lambda: looked_at[0])

    def shown() -> float:
        return metrics.registry.get_sample_value("hamgate_audit_unproven_seconds") or 0.0

    assert shown() < 5
    oldest[0] = now - 100
    assert 100 <= shown() < 105
    looked_at[0] = now - 1000
    assert 1000 <= shown() < 1005
