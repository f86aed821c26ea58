"""OpenTelemetry spans, if they are asked for: the only module that imports its SDK, which the extra `tracing` brings.

For each event that came with a sampled trace context, one span from its poll to its verdict's commit, a child of the
event's own; the verdict carries that span's context on. For each batch that holds one, a span of the batch, with what
took its time within, linked to its messages' spans. An event without a context, or not sampled, costs nothing here:
how much is traced is decided by whoever sends the events. Names and attributes are those of the messaging conventions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from worker.pipeline import tracecontext

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.trace import Span

    from worker.messages import Headers
    from worker.pipeline.batch import Batch, Waiting
    from worker.pipeline.verdicts import Outcome

_NS: Final = 1_000_000_000
_propagator: Final = TraceContextTextMapPropagator()


@dataclass(frozen=True, slots=True)
class Names:
    """The names of the topics, the group and this worker in spans."""

    input_topic: str
    verdict_topic: str
    group: str
    client: str


@dataclass(slots=True)
class BatchTrace:
    """The spans of one batch, open until it is known what became of it. `headers` go with the verdicts, by row."""

    tracing: Tracing
    batch: Batch
    spans: dict[int, Span]
    headers: Mapping[int, Headers] = field(default_factory=dict)

    def committed(self, outcome: Outcome, *, taken_up_at: float, now: float) -> None:
        """All of it stands: end every span, and tell what took the time."""
        for row, span in self.spans.items():
            if verdict := outcome.said.get(row):
                span.set_attributes({"hamgate.label": verdict[0] or "none", "hamgate.action": verdict[1]})
            span.end(_ns(now))
        self.tracing.batch(self, taken_up_at, now)

    def failed(self, error: Exception, now: float) -> None:
        """Nothing of it stands; it is read again, and then traced anew."""
        for span in self.spans.values():
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(Status(StatusCode.ERROR))
            span.end(_ns(now))


class Tracing:
    """Makes spans and hands them to an exporter on a thread of the SDK's own. `exporter` None: OTLP, by OTEL_*."""

    def __init__(self, names: Names, version: str, exporter: SpanExporter | None = None) -> None:
        self._names = names
        resource = Resource.create({
            "service.name": "hamgate",
            "service.version": version,
            "service.instance.id": names.client,
        })  # fmt: skip
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("hamgate", version)

    def begin(self, batch: Batch) -> BatchTrace:
        """Open a span for each message of a batch that came with a sampled context, as of when it was polled."""
        begun = BatchTrace(self, batch, {})
        headers: dict[int, Headers] = {}
        for row, item in enumerate(batch.items):
            if item.record.headers and (span := self._span_of(item)):
                begun.spans[row] = span
                headers[row] = _injected(span)
        begun.headers = headers
        return begun

    def batch(self, traced: BatchTrace, taken_up_at: float, now: float) -> None:
        """Make the batch's own spans, all at once, now that it is over."""
        if not traced.spans:
            return
        batch, names = traced.batch, self._names
        polled_at = min(item.polled_at for item in batch.items)
        its = {**self._common(), "messaging.batch.message_count": len(batch.items)}
        links = [Link(span.get_span_context()) for span in traced.spans.values()]
        whole = self._tracer.start_span(
            f"process {names.input_topic}",
            kind=SpanKind.CONSUMER,
            links=links,
            start_time=_ns(polled_at),
            attributes=its | {
                "messaging.operation.name": "process", "messaging.operation.type": "process",
                "messaging.destination.name": names.input_topic, "messaging.consumer.group.name": names.group,
                "hamgate.batch.tokens": batch.tokens,
            },
        )  # fmt: skip
        inside = trace.set_span_in_context(whole)
        for name, kind, since, until, more in (
            ("wait", SpanKind.INTERNAL, polled_at, batch.taken_at, {}),
            ("judge", SpanKind.INTERNAL, batch.started_at, batch.ended_at, {"hamgate.judged": len(batch.rows)}),
            (f"send {names.verdict_topic}", SpanKind.PRODUCER, taken_up_at, now, its | {
                "messaging.operation.name": "send", "messaging.operation.type": "send",
                "messaging.destination.name": names.verdict_topic,
            }),
        ):  # fmt: skip
            attributes: dict[str, Any] = dict(more)
            self._tracer.start_span(name, inside, kind, attributes, start_time=_ns(since)).end(_ns(until))
        whole.end(_ns(now))

    def close(self) -> None:
        """Send what is not yet sent. May take half a minute, whatever its time-outs are called: it has to be left."""
        self._provider.shutdown()

    def _common(self) -> dict[str, Any]:
        return {"messaging.system": "kafka", "messaging.client.id": self._names.client}

    def _span_of(self, item: Waiting) -> Span | None:
        carried, _ = tracecontext.carried(item.record.headers)
        if not carried:
            return None
        parent = _propagator.extract({name: (value or b"").decode("ascii") for name, value in carried})
        if not trace.get_current_span(parent).get_span_context().trace_flags.sampled:
            return None
        record = item.record
        return self._tracer.start_span(
            f"process {record.topic}",
            context=parent,
            kind=SpanKind.CONSUMER,
            start_time=_ns(item.polled_at),
            attributes=self._common() | {
                "messaging.operation.name": "process", "messaging.operation.type": "process",
                "messaging.destination.name": record.topic, "messaging.consumer.group.name": self._names.group,
                "messaging.destination.partition.id": str(record.partition), "messaging.kafka.offset": record.offset,
                **({"messaging.kafka.message.tombstone": True} if record.is_tombstone else {}),
            },
        )  # fmt: skip


def _injected(span: Span) -> Headers:
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, trace.set_span_in_context(span))
    return tuple((name, value.encode()) for name, value in carrier.items())


def _ns(seconds: float) -> int:
    return round(seconds * _NS)
