"""A token endpoint on loopback (RFC 6749, client credentials), and tokens without a signature."""

from __future__ import annotations

import base64
import json
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    Answer = Callable[[], tuple[int, bytes, dict[str, str]]]


def jwt(subject: str, life: float = 600) -> str:
    """A token of a user that is valid for so many seconds from now."""
    now = time.time()
    parts = (json.dumps(each).encode() for each in ({"alg": "none"}, {"sub": subject, "iat": now, "exp": now + life}))
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts) + "."


class Endpoint:
    """Answers each request by `answer`, and keeps who asked for what."""

    def __init__(self, answer: Answer) -> None:
        self.asked: list[tuple[str, str, dict[str, list[str]]]] = []
        handler = type("Handler", (_TokenHandler,), {"asked": self.asked, "answer": staticmethod(answer)})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/token"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _TokenHandler(BaseHTTPRequestHandler):
    asked: ClassVar[list[tuple[str, str, dict[str, list[str]]]]]
    answer: ClassVar[Answer]

    def do_POST(self) -> None:
        scheme, _, who = self.headers["Authorization"].partition(" ")
        form = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.asked.append((scheme, base64.b64decode(who).decode(), urllib.parse.parse_qs(form)))
        status, body, headers = self.answer()
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.asked.append(("GET", self.headers.get("Authorization", ""), {}))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...
