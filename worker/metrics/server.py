"""/metrics, /livez and /readyz, on a thread of their own."""

from __future__ import annotations

import socket
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar, Protocol

import structlog
from prometheus_client.exposition import choose_encoder

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


class MetricsServer:
    """/metrics, /livez and /readyz, on a thread of their own. Raises OSError when the address cannot be had."""

    def __init__(self, metrics: Shown, health: Health, *, host: str, port: int) -> None:
        handler = type("Handler", (_Handler,), {"metrics": metrics, "health": health})
        self._server = (_ServerV6 if ":" in host else _Server)((host, port), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)

    @property
    def address(self) -> str:
        """`http://host:port`, with the port that was really taken."""
        host, port = self._server.server_address[:2]
        return f"http://[{host!s}]:{port}" if ":" in str(host) else f"http://{host!s}:{port}"

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up, or says nothing that is HTTP, is no news; anything else of ours is, in the log."""
        del request, client_address
        error = sys.exception()
        say = log.debug if isinstance(error, OSError) else log.exception
        say("a request was not answered", cause=f"{type(error).__name__}: {error}")


class _ServerV6(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    metrics: ClassVar[Shown]
    health: ClassVar[Health]
    protocol_version = "HTTP/1.1"
    timeout = 10  # a silent client holds a thread no longer
    # One write an answer, at once: of two, the second waits until the client has had the first.
    wbufsize = 1 << 18
    disable_nagle_algorithm = True

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

    def do_HEAD(self) -> None:
        """Answer as to a GET, without the body."""
        self.do_GET()

    def _say(self, troubles: list[str]) -> None:
        status = HTTPStatus.SERVICE_UNAVAILABLE if troubles else HTTPStatus.OK
        self._answer(status, ("\n".join(troubles or ["ok"]) + "\n").encode())

    def _answer(self, status: HTTPStatus, body: bytes, content_type: str = "text/plain; charset=utf-8") -> None:
        # A client of HTTP/1.0 must be told that a connection is kept; a body that is not read would be a request.
        has_body = self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers
        self.send_response(status)
        if self.request_version == "HTTP/1.0" or has_body:
            self.send_header("Connection", "close")  # and is closed
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: a probe every few seconds is no news."""
