"""The address of the probes, the error when it cannot be used, and clients that disconnect at any time."""

from __future__ import annotations

import http.client
import socket
import struct
import time
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from worker.app import StartRefused, serve
from worker.metrics import Metrics, MetricsServer
from worker.metrics.probes import Probes
from worker.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: a close is a reset


def has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True


@dataclass
class Patient:
    """Does something to whoever asks, before it answers."""

    before: Callable[[], object]

    def liveness_problems(self) -> list[str]:
        self.before()
        return []

    def readiness_problems(self) -> list[str]:
        return []


@pytest.mark.parametrize(("path", "status"), [("/livez", 200), ("/readyz", 503), ("/metrics", 200), ("/else", 404)])
def test_a_head_is_answered_as_a_get_without_its_body(path: str, status: int) -> None:
    server = MetricsServer(Metrics(), Probes("loading"), host="127.0.0.1", port=0)
    server.start()
    try:
        for method in ("HEAD", "GET"):
            connection = http.client.HTTPConnection(server.address.removeprefix("http://"), timeout=5)
            for _ in range(2):  # a body that should not be there would be taken for the second answer
                connection.request(method, path)
                answer = connection.getresponse()
                body = answer.read()
                assert (answer.status, bool(body)) == (status, method == "GET")
                assert int(answer.headers["Content-Length"]) > 0
            connection.close()
    finally:
        server.close()


@pytest.mark.parametrize(
    "asked",
    [
        b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nContent-Length: 30\r\n\r\nGET /metrics HTTP/1.1\r\nX: y\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=["http-1.0", "body", "chunked"],
)
def test_a_connection_that_cannot_go_on_ends_with_its_answer(asked: bytes) -> None:
    server = MetricsServer(Metrics(), Probes("loading"), host="127.0.0.1", port=0)
    server.start()
    host, _, port = server.address.removeprefix("http://").rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(asked)
            with connection.makefile("rb") as answers:
                [said] = answers.read().split(b"HTTP/1.1 ")[1:]
    finally:
        server.close()

    assert said.startswith(b"200")
    assert b"Connection: close" in said


def logged(before: Callable[[socket.socket], object]) -> dict[str, Any]:
    """The log entry after a client asked /livez and did this before the answer."""
    client = socket.socket()
    server = MetricsServer(Metrics(), Patient(lambda: before(client)), host="127.0.0.1", port=0)
    server.start()
    with capture_logs() as lines:
        client.connect(("127.0.0.1", int(server.address.rpartition(":")[2])))
        client.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        until = time.monotonic() + 5
        while not lines:
            assert time.monotonic() < until, "nothing was logged"
    server.close()
    client.close()
    return dict(lines[0])


def test_a_client_that_hangs_up_is_a_debug_line_and_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    def hang_up(client: socket.socket) -> None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        client.close()

    said = logged(hang_up)

    assert (said["log_level"], said["event"]) == ("debug", "a request was not answered")
    assert "Error" in said["cause"]
    assert capfd.readouterr().err == ""


def test_a_fault_of_our_own_is_an_error_in_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    said = logged(lambda _: 1 // 0)

    assert (said["log_level"], said["cause"].partition(":")[0]) == ("error", "ZeroDivisionError")
    assert said["exc_info"]
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not has_ipv6(), reason="there is no ::1 here")
def test_an_address_of_ipv6_is_listened_at() -> None:
    server = MetricsServer(Metrics(), Probes("loading the model"), host="::1", port=0)
    server.start()

    with urllib.request.urlopen(f"{server.address}/livez", timeout=5) as answer:
        assert answer.status == 200

    server.close()


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "256.1.1.1"])
def test_a_host_that_is_not_ours_is_refused_by_its_setting(host: str) -> None:
    settings = Settings(metrics_host=host, metrics_port=0)

    with pytest.raises(StartRefused, match=r"^HAMGATE_METRICS_HOST: .*name an address of this host"):
        serve(settings, Metrics(), Probes("loading the model"))


def test_a_port_that_is_in_use_is_refused_by_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(metrics_port=taken.getsockname()[1])

        with pytest.raises(StartRefused, match=r"^HAMGATE_METRICS_PORT: .*name a free port"):
            serve(settings, Metrics(), Probes("loading the model"))
