"""What strangers may send to a console that listens: bodies without end, too many at once, and headers of others."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("uvicorn", reason="the console needs the extra `console`")

import uvicorn

from console.guard import LOOPBACK, MAX_BODY, Guard
from console.serving import application
from tests.consoles import fill, judged, parts

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE = b"x" * (1 << 16)
GIGABYTE = 1 << 30
MOST = 16 << 20
"""Bytes that the two sockets between them may hold, over what the server has read."""


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a console without brokers and without a model, by the server that it has in operation."""
    made = parts(tmp_path_factory.mktemp("listening"))
    fill(made, [judged(1)], [])
    app: Any = Guard(application(made), LOOPBACK)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        serving = threading.Thread(target=server.run, kwargs={"sockets": [taken]}, name="server")
        serving.start()
        try:
            yield taken.getsockname()[1]
        finally:
            server.should_exit = True
            serving.join(30)
    assert not serving.is_alive()


def sent_until_refused(port: int, head: str, *, is_chunked: bool) -> tuple[bytes, int]:
    """Send up to a gigabyte; returns the answer, and how many bytes were taken before it ended."""
    sent, answer = 0, b""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(f"{head}\r\nHost: 127.0.0.1:{port}\r\n".encode())
        connection.sendall(b"Transfer-Encoding: chunked\r\n\r\n" if is_chunked else b"\r\n")
        piece = b"%x\r\n%s\r\n" % (len(PIECE), PIECE) if is_chunked else PIECE
        with contextlib.suppress(ConnectionError):
            while sent < GIGABYTE:
                connection.sendall(piece)
                sent += len(PIECE)
        with contextlib.suppress(ConnectionError):
            while said := connection.recv(1 << 16):
                answer += said
    return answer, sent


@pytest.mark.parametrize("path", ["/api/try", "/login", "/logout", "/no-such-page", "/api/live", "/static/console.css"])
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_gigabyte_is_refused_before_it_is_read_whatever_is_asked(listening: int, path: str, method: str) -> None:
    head = f"{method} {path} HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {GIGABYTE}"

    _, sent = sent_until_refused(listening, head, is_chunked=False)

    assert sent < MOST


@pytest.mark.parametrize("path", ["/api/try", "/login", "/no-such-page", "/history", "/static/console.css"])
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_gigabyte_without_a_length_is_refused_after_a_megabyte(listening: int, path: str, method: str) -> None:
    head = f"{method} {path} HTTP/1.1\r\nContent-Type: application/json"

    _, sent = sent_until_refused(listening, head, is_chunked=True)

    assert sent < MOST


def test_a_body_is_refused_by_its_declared_length_before_any_of_it_comes(listening: int) -> None:
    with socket.create_connection(("127.0.0.1", listening), timeout=30) as connection:
        connection.sendall(
            f"POST /api/try HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {MAX_BODY + 1}\r\n\r\n".encode()
        )
        answer = b""
        while said := connection.recv(1 << 16):
            answer += said

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()
