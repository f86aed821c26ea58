"""HTTP for /predict and /openapi.json. No text of a request is in any log or answer."""

from __future__ import annotations

import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar, Final

import msgspec
import structlog

from worker.messages import Flag
from worker.messages.repair import LOST, repaired
from worker.predict.openapi import MAX_BODY, REFUSALS, PredictFailure, PredictRequest, PredictResponse, document
from worker.predict.predictor import FullError, UnansweredError
from worker.process.serving import HttpServer, QuietHandler

if TYPE_CHECKING:
    from worker.metrics import Metrics
    from worker.predict.answers import Answer
    from worker.predict.predictor import Predictor

PATIENCE: Final = 10.0
"""Seconds that a request waits for its answer."""
_CONNECTIONS: Final = 64
_DIGITS: Final = 10  # of a length that is worth reading as a number
_RETRY_AFTER: Final = "1"
_OUTCOMES: Final = {
    HTTPStatus.OK: "answered",
    HTTPStatus.TOO_MANY_REQUESTS: "full",
    HTTPStatus.SERVICE_UNAVAILABLE: "unavailable",
}
_request: Final = msgspec.json.Decoder(PredictRequest)

log = structlog.get_logger()


class PredictServer(HttpServer):
    """/predict on threads of its own, one a connection, at most 64. Raises OSError when the address cannot be used."""

    def __init__(self, predictor: Predictor, metrics: Metrics, *, host: str, port: int) -> None:
        handler = type("Handler", (_PredictHandler,), {"predictor": predictor, "metrics": metrics})
        super().__init__(_BoundedServer, handler, host=host, port=port, thread="predict-http")


class _BoundedServer(ThreadingHTTPServer):
    def __init__(self, *address_and_handler: Any) -> None:  # noqa: ANN401 as the library's own
        self._free = threading.BoundedSemaphore(_CONNECTIONS)
        super().__init__(*address_and_handler)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Take a connection up, unless there are too many: that one is hung up on."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Serve it, and make room for the next."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news; anything of ours is, in the log."""
        del request, client_address
        error = sys.exception()
        say = log.debug if isinstance(error, OSError) else log.error
        say("a request was not answered", cause=type(error).__name__)


class _RefusedError(Exception):
    """A request that is not answered; the text says why."""

    def __init__(self, status: HTTPStatus, why: str | None = None) -> None:
        super().__init__(why or REFUSALS[status])
        self.status = status


class _PredictHandler(QuietHandler, BaseHTTPRequestHandler):
    predictor: ClassVar[Predictor]
    metrics: ClassVar[Metrics]

    def do_POST(self) -> None:
        """Judge texts."""
        if self._path() != "/predict":
            self._leave_the_body()
            self._answer(HTTPStatus.NOT_FOUND, PredictFailure("POST /predict, GET /openapi.json"))
            return
        began = time.monotonic()
        status, said = self._predict()
        self.metrics.predict_requests.labels(_OUTCOMES.get(status, "invalid")).inc()
        self.metrics.predict_seconds.observe(time.monotonic() - began)
        self._answer(status, said)

    def do_GET(self) -> None:
        """Give the document."""
        self._leave_the_body()
        if self._path() == "/openapi.json":
            self._answer(HTTPStatus.OK, document())
        elif self._path() == "/predict":
            self._answer(HTTPStatus.METHOD_NOT_ALLOWED, PredictFailure("POST it"), Allow="POST")
        else:
            self._answer(HTTPStatus.NOT_FOUND, PredictFailure("POST /predict, GET /openapi.json"))

    def _leave_the_body(self) -> None:
        """Let the connection end with this answer where a body may follow: it would be taken for the next request."""
        if self.has_body:
            self.close_connection = True

    def _is_kept(self) -> bool:
        """Whether the client keeps its connection, which one of HTTP/1.0 must ask for, and then be told."""
        said = {each.strip().lower() for each in self.headers.get("Connection", "").split(",")}
        return self.request_version != "HTTP/1.0" and "close" not in said

    def _path(self) -> str:
        return self.path.partition("?")[0]

    def _predict(self) -> tuple[HTTPStatus, PredictResponse | PredictFailure]:
        try:
            given, is_repaired = self._texts()
            found = self.predictor.ask(given, patience=PATIENCE)
            if is_repaired:
                found = [
                    _flagged(answer) if LOST in text else answer for text, answer in zip(given, found, strict=True)
                ]
            return HTTPStatus.OK, PredictResponse(found)
        except _RefusedError as error:
            return error.status, PredictFailure(str(error))
        except FullError:
            status = HTTPStatus.TOO_MANY_REQUESTS
        except UnansweredError:
            status = HTTPStatus.SERVICE_UNAVAILABLE
        return status, PredictFailure(REFUSALS[status])

    def _texts(self) -> tuple[list[str], bool]:
        """Read the request, and say whether a character of it was lost. Raises _RefusedError."""
        lengths = self.headers.get_all("Content-Length", [])
        self.close_connection = True  # while its body is not read: what follows would be taken for the next request
        if not lengths or "Transfer-Encoding" in self.headers:  # RFC 9112, 6.3: which is not read here
            raise _RefusedError(HTTPStatus.LENGTH_REQUIRED)
        length = lengths[0]
        if len(lengths) > 1 or not (length.isascii() and length.isdigit()):
            raise _RefusedError(HTTPStatus.BAD_REQUEST)
        if len(length) > _DIGITS or int(length) > MAX_BODY:
            raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        body = self.rfile.read(int(length))
        self.close_connection = not self._is_kept()
        if self.headers.get_content_type() != "application/json":  # a web page's form is not: it cannot ask
            raise _RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        return _decoded(body)

    def _answer(self, status: HTTPStatus, said: object, **headers: str) -> None:
        body = msgspec.json.encode(said)
        if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            headers["Retry-After"] = _RETRY_AFTER
        if self.close_connection:
            headers["Connection"] = "close"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _decoded(body: bytes) -> tuple[list[str], bool]:
    """The texts, and whether a character was lost: broken ones are repaired, as in an event. Raises _RefusedError."""
    try:
        return _request.decode(body).texts, False
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        readable, is_repaired = repaired(body)
    try:
        return _request.decode(readable).texts, is_repaired
    except (msgspec.DecodeError, RecursionError) as error:  # names a field or a byte, never what is there
        raise _RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from None


def _flagged(answer: Answer) -> Answer:
    return msgspec.structs.replace(answer, flags=(Flag.REPAIRED.value, *answer.flags))
