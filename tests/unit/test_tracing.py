"""Spans of what came with a trace context, named as the messaging conventions name them; nothing of anything else."""

from __future__ import annotations

import http.server
import threading
from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tests.fakes import INPUT, VERDICTS, FakeBroker, FakeSink
from tests.unit.test_pipeline import NOW, event, make, step
from worker.pipeline.ports import RolledBackError
from worker.pipeline.tracing import Names, Tracing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import ReadableSpan

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNSAMPLED = PARENT[:-1] + b"0"


class Traced:
    def __init__(self, broker: FakeBroker, *failures: Exception | None) -> None:
        self.exporter = InMemorySpanExporter()
        self.broker = broker
        self.pipeline = make(broker, FakeSink(broker, *failures))
        self.pipeline.accounts.tracing = self.tracing = Tracing(
            Names(INPUT, VERDICTS, "hamgate", "worker-1"), "0", self.exporter
        )

    def spans(self) -> list[ReadableSpan]:
        self.tracing.close()
        return list(self.exporter.get_finished_spans())


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    broker = FakeBroker(partitions=1)
    broker.append(INPUT, 0, NOW - 1, b"+447700900123", event("win a prize"), (("traceparent", PARENT),))
    broker.append(INPUT, 0, NOW - 1, b"k", event("no"))
    broker.append(INPUT, 0, NOW - 1, b"k", event("no"), (("traceparent", UNSAMPLED),))
    return broker


def test_a_sampled_message_has_a_span_of_its_own_in_its_senders_trace(broker: FakeBroker) -> None:
    traced = Traced(broker)
    step(traced.pipeline)

    [span] = [span for span in traced.spans() if f"{span.context.trace_id:032x}" == TRACE]
    assert (span.name, span.kind) == ("process sms.events", SpanKind.CONSUMER)
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "00f067aa0ba902b7"
    assert span.attributes is not None
    assert dict(span.attributes) == {
        "messaging.system": "kafka", "messaging.operation.name": "process", "messaging.operation.type": "process",
        "messaging.destination.name": INPUT, "messaging.destination.partition.id": "0", "messaging.kafka.offset": 0,
        "messaging.consumer.group.name": "hamgate", "messaging.client.id": "worker-1",
        "hamgate.label": "spam", "hamgate.action": "block",
    }  # fmt: skip


def test_the_verdict_carries_the_span_on_and_what_is_not_sampled_as_it_came(broker: FakeBroker) -> None:
    traced = Traced(broker)
    step(traced.pipeline)

    [span] = [span for span in traced.spans() if f"{span.context.trace_id:032x}" == TRACE]
    first, second, third = (record.headers for record in broker.records(VERDICTS))
    assert first == (("traceparent", f"00-{TRACE}-{span.context.span_id:016x}-01".encode()),)
    assert second == ()
    assert third == (("traceparent", UNSAMPLED),)


def test_the_batch_tells_what_took_its_time(broker: FakeBroker) -> None:
    traced = Traced(broker)
    step(traced.pipeline)

    spans = traced.spans()
    [whole] = [span for span in spans if span.parent is None]
    inside = [span for span in spans if span.parent and span.parent.span_id == whole.context.span_id]
    assert [(span.name, span.kind) for span in inside] == [
        ("wait", SpanKind.INTERNAL), ("judge", SpanKind.INTERNAL), ("send sms.verdicts", SpanKind.PRODUCER),
    ]  # fmt: skip
    assert whole.attributes is not None
    assert whole.attributes["messaging.batch.message_count"] == 3
    assert [f"{link.context.trace_id:032x}" for link in whole.links] == [TRACE]


def test_what_is_rolled_back_is_an_error_and_traced_again(broker: FakeBroker) -> None:
    traced = Traced(broker, RolledBackError("rebalance"))
    step(traced.pipeline)
    step(traced.pipeline)

    first, second = (span for span in traced.spans() if f"{span.context.trace_id:032x}" == TRACE)
    assert (first.status.status_code, second.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)
    assert first.attributes is not None
    assert first.attributes["error.type"] == "RolledBackError"


def test_a_batch_without_a_context_has_no_spans() -> None:
    broker = FakeBroker(partitions=1)
    broker.append(INPUT, 0, NOW, b"k", event("no"), (("traceparent", b"nonsense"),))
    traced = Traced(broker)
    step(traced.pipeline)

    assert traced.spans() == []


def test_spans_go_out_as_otlp_to_where_the_environment_says(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies: list[tuple[str, bytes]] = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
        pipeline = make(broker)
        pipeline.accounts.tracing = Tracing(Names(INPUT, VERDICTS, "hamgate", "worker-1"), "0")
        step(pipeline)
        pipeline.accounts.tracing.close()
        collector.shutdown()

    [(path, body)] = bodies
    assert path == "/v1/traces"
    assert bytes.fromhex(TRACE) in body
    assert b"process sms.events" in body


def test_no_number_and_no_text_is_in_a_span(broker: FakeBroker) -> None:
    traced = Traced(broker)
    step(traced.pipeline)

    exported = "".join(span.to_json() for span in traced.spans())
    assert "447700900123" not in exported
    assert "prize" not in exported
