"""Every series and its meaning; and /metrics, /livez, /readyz on a thread of their own.

Base units, closed label sets: no id, no number, no offset, no text. tests/unit/test_metrics.py freezes the names.
"""

from __future__ import annotations

import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Info, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike
    from prometheus_client.metrics_core import Metric

# The SLO bounds of docs/operations.md are among these exactly: 20 ms, 60 ms, 100 ms, 250 ms, 1 s.
SECONDS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0),
)
MESSAGES: Final = tuple(float(2**n) for n in range(14))
TOKENS: Final = tuple(float(2**n) for n in range(4, 19))
SCORES: Final = (0.01, *(round(0.05 * n, 2) for n in range(1, 20)), 0.99, 1.0)


class BulkHistogram(Collector):
    """A histogram that takes a whole batch of observations at once: one numpy pass, not one lock a message."""

    def __init__(self, name: str, documentation: str, bounds: Sequence[float], registry: CollectorRegistry) -> None:
        self._name, self._documentation = name, documentation
        self._bounds = np.asarray(bounds, dtype=np.float64)
        self._labels = [*(str(float(bound)) for bound in bounds), "+Inf"]
        self._counts = np.zeros(len(bounds) + 1, dtype=np.int64)
        self._sum = 0.0
        self._lock = threading.Lock()
        registry.register(self)

    def observe(self, values: ArrayLike) -> None:
        """Count one or many observations. A bound holds what is equal to it, as Prometheus has it."""
        many = np.atleast_1d(np.asarray(values, dtype=np.float64))
        counts = np.bincount(np.searchsorted(self._bounds, many, side="left"), minlength=len(self._counts))
        with self._lock:
            self._counts += counts
            self._sum += float(many.sum())

    def collect(self) -> Iterator[Metric]:
        """Show it as Prometheus wants it: cumulative."""
        with self._lock:
            cumulative, total = np.cumsum(self._counts), self._sum
        family = HistogramMetricFamily(self._name, self._documentation)
        buckets = [(label, float(count)) for label, count in zip(self._labels, cumulative, strict=True)]
        family.add_metric([], buckets, total)
        yield family


class Metrics:
    """The worker's series. Counters and histograms are bumped by the stage that knows, batch by batch."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # a series of its own for each counter's birth tells nobody anything here
        self.registry = registry = registry or CollectorRegistry()
        ProcessCollector(registry=registry)

        def counter(name: str, documentation: str, *labels: str) -> Counter:
            return Counter(name, documentation, labels, namespace="hamgate", registry=registry)

        def gauge(name: str, documentation: str, *labels: str) -> Gauge:
            return Gauge(name, documentation, labels, namespace="hamgate", registry=registry)

        def histogram(name: str, documentation: str, bounds: Sequence[float]) -> BulkHistogram:
            return BulkHistogram(f"hamgate_{name}", documentation, bounds, registry)

        self.messages_consumed = counter("messages_consumed_total", "Records polled, redelivered ones each time.")
        self.tombstones = counter("tombstones_total", "Records without a value, skipped.")
        self.verdicts = counter("verdicts_total", "Verdicts committed.", "label", "action")
        self.dead_letters = counter("dead_letters_total", "Dead letters committed.", "reason")
        self.unscored = counter("unscored_total", "Verdicts committed without a score.", "reason")
        self.tokens = counter("tokens_total", "Tokens judged and committed.")
        self.transactions = counter("transactions_total", "Batches written: committed, rolled-back, fenced.", "outcome")
        self.rebalances = counter("rebalances_total", "Changes of the assignment: gained, lost, moved, same.", "kind")

        self.end_to_end_latency = histogram(
            "end_to_end_latency_seconds", "From the record's timestamp to its verdict's commit.", SECONDS
        )
        self.broker_age = histogram("broker_age_seconds", "A record's age when it was polled.", SECONDS)
        self.queue_wait = histogram("queue_wait_seconds", "A message's wait for its batch to leave.", SECONDS)
        self.tokenize = histogram("tokenize_seconds", "Decoding, normalising and tokenising one poll.", SECONDS)
        self.inference = histogram("inference_seconds", "The model's time for one batch.", SECONDS)
        self.commit = histogram("commit_seconds", "Publishing and committing one batch.", SECONDS)
        self.batch_messages = histogram("batch_messages", "Messages in a batch.", MESSAGES)
        self.batch_tokens = histogram("batch_tokens", "Tokens in a batch.", TOKENS)
        self.score = histogram("score", "Calibrated probability of not being ham.", SCORES)

        self.lag = gauge("consumer_lag_messages", "Records between the last polled and the end.", "topic", "partition")
        self.assigned_partitions = gauge("assigned_partitions", "Partitions this worker holds.")
        self.ready = gauge("ready", "1 when /readyz says yes.")
        self.last_commit = gauge("last_commit_timestamp_seconds", "When a batch was last committed.")
        self.model_info = Info("model", "The bundle in force.", namespace="hamgate", registry=registry)
        self.build_info = Info("build", "What is running.", namespace="hamgate", registry=registry)


class Health(Protocol):
    """What the probes ask."""

    def ailments(self) -> list[str]:
        """Why the process should be restarted; empty when it lives."""

    def obstacles(self) -> list[str]:
        """Why it is not ready; empty when it is."""


class MetricsServer:
    """/metrics, /livez and /readyz, on a thread of their own. Raises OSError when the address cannot be had."""

    def __init__(self, metrics: Metrics, health: Health, *, host: str, port: int) -> None:
        handler = type("Handler", (_Handler,), {"metrics": metrics, "health": health})
        self._server = ThreadingHTTPServer((host, port), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)

    @property
    def address(self) -> str:
        """`http://host:port`, with the port that was really taken."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    metrics: ClassVar[Metrics]
    health: ClassVar[Health]
    protocol_version = "HTTP/1.1"
    timeout = 10  # a silent client holds a thread no longer

    def do_GET(self) -> None:
        """Answer one of three paths."""
        obstacles = self.health.obstacles()
        self.metrics.ready.set(not obstacles)
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._answer(HTTPStatus.OK, encode(self.metrics.registry), content_type)
        elif path == "/livez":
            self._say(self.health.ailments())
        elif path == "/readyz":
            self._say(obstacles)
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"/metrics /livez /readyz\n")

    def _say(self, troubles: list[str]) -> None:
        status = HTTPStatus.SERVICE_UNAVAILABLE if troubles else HTTPStatus.OK
        self._answer(status, ("\n".join(troubles or ["ok"]) + "\n").encode())

    def _answer(self, status: HTTPStatus, body: bytes, content_type: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: a probe every few seconds is no news."""
