"""/metrics, /livez and /readyz, on a thread of their own."""

from __future__ import annotations

import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar, Protocol

import structlog
from prometheus_client.exposition import choose_encoder

from worker.process.serving import HttpServer, QuietHandler

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Gauge


log = structlog.get_logger()


class Health(Protocol):
    """The health of the worker, as the probes ask for it."""

    def liveness_problems(self) -> list[str]:
        """Why the process should be restarted; empty when it lives."""

    def readiness_problems(self) -> list[str]:
        """Why it is not ready; empty when it is."""


class Shown(Protocol):
    """The registry behind /metrics, and in it the probes' answers as gauges."""

    registry: CollectorRegistry
    ready: Gauge
    alive: Gauge


class MetricsServer(HttpServer):
    """/metrics, /livez and /readyz, on a thread of their own. Raises OSError when the address cannot be used."""

    def __init__(self, metrics: Shown, health: Health, *, host: str, port: int) -> None:
        handler = type("Handler", (_Handler,), {"metrics": metrics, "health": health})
        super().__init__(_Server, handler, host=host, port=port, thread="metrics")


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up, or says nothing that is HTTP, is no news; anything else of ours is, in the log."""
        del request, client_address
        error = sys.exception()
        say = log.debug if isinstance(error, OSError) else log.exception
        say("a request was not answered", cause=f"{type(error).__name__}: {error}")


class _Handler(QuietHandler, BaseHTTPRequestHandler):
    metrics: ClassVar[Shown]
    health: ClassVar[Health]

    def do_GET(self) -> None:
        """Answer one of three paths."""
        liveness_problems, readiness_problems = self.health.liveness_problems(), self.health.readiness_problems()
        self.metrics.alive.set(not liveness_problems)
        self.metrics.ready.set(not readiness_problems)
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._answer(HTTPStatus.OK, encode(self.metrics.registry), content_type)
        elif path == "/livez":
            self._say(liveness_problems)
        elif path == "/readyz":
            self._say(readiness_problems)
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"/metrics /livez /readyz\n")

    def _say(self, troubles: list[str]) -> None:
        status = HTTPStatus.SERVICE_UNAVAILABLE if troubles else HTTPStatus.OK
        self._answer(status, ("\n".join(troubles or ["ok"]) + "\n").encode())

    def _answer(self, status: HTTPStatus, body: bytes, content_type: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        if self.request_version == "HTTP/1.0" or self.has_body:  # the former must be told that a connection is kept
            self.send_header("Connection", "close")  # and is closed
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
