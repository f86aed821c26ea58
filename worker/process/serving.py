"""An HTTP server on a thread of its own, and the handling of connections that both servers of a worker share."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class HttpServer:
    """Serves by `kind`, from `start` on. Raises OSError when the address cannot be used."""

    def __init__(
        self,
        kind: type[ThreadingHTTPServer],
        handler: type[BaseHTTPRequestHandler],
        *,
        host: str,
        port: int,
        thread: str,
    ) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._server = type("Server", (kind,), {"address_family": family, "daemon_threads": True})(
            (host, port), handler
        )
        self._thread = threading.Thread(target=self._server.serve_forever, name=thread, daemon=True)

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
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


class QuietHandler(BaseHTTPRequestHandler):
    """HTTP/1.1, each answer in one write; nothing is logged of a request."""

    protocol_version = "HTTP/1.1"
    timeout = 10  # a silent client holds a thread no longer
    # One write an answer, at once: of two, the second waits until the client has had the first.
    wbufsize = 1 << 18
    disable_nagle_algorithm = True

    @property
    def has_body(self) -> bool:
        """Whether a body may follow: one that is not read would be taken for the next request."""
        return self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers

    def do_HEAD(self) -> None:
        """Answer as to a GET, without the body."""
        self.do_GET()

    def do_GET(self) -> None:
        """Answer a GET."""
        raise NotImplementedError

    def log_message(self, *_: object) -> None:
        """Say nothing: the metrics count, and a probe every few seconds is no news."""
