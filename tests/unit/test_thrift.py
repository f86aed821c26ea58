"""Connections that speak seldom to the system lose no byte, and hear a broker hang up."""

from __future__ import annotations

import socket
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from kafka.net.selector import NetworkSelector
from kafka.net.transport import KafkaTCPTransport

from worker.broker.thrift import UnhurriedSelector, be_thrifty

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGE = bytes(range(256)) * 40_000  # ten megabytes: more than any socket holds


class Protocol:
    """What a connection is to its transport."""

    _sensors = None

    def __init__(self) -> None:
        self.received, self.lost = bytearray(), False

    def data_received(self, received: bytes) -> None:
        self.received += received

    def connection_lost(self, _: object) -> None:
        self.lost = True

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class Connection:
    def __init__(self) -> None:
        self.net = NetworkSelector(selector=UnhurriedSelector)
        self.protocol = Protocol()
        ours, self.theirs = socket.socketpair()
        ours.settimeout(0)
        made = KafkaTCPTransport(self.net, ours)

        async def build() -> KafkaTCPTransport:
            return made

        manager: Any = SimpleNamespace(_build_transport=build)
        be_thrifty(manager)
        self.transport = self.net.run(manager._build_transport)
        self.transport.set_protocol(self.protocol)
        self.transport.resume_reading()

    def until(self, done: Any) -> None:
        for _ in range(10_000):
            if done():
                return
            self.net.poll(timeout_ms=10)
        pytest.fail("it did not come about")


@pytest.fixture
def connection() -> Iterator[Connection]:
    connection = Connection()
    yield connection
    connection.theirs.close()
    connection.net.close()


def test_what_is_written_arrives_whole_and_in_order_through_a_socket_that_holds_less(connection: Connection) -> None:
    arrived = bytearray()

    def read() -> None:
        while len(arrived) < len(LARGE) + 8:
            arrived.extend(connection.theirs.recv(1 << 16))

    reading = threading.Thread(target=read)
    connection.transport.write(b"head")
    connection.transport.write(LARGE)
    connection.transport.write(b"tail")
    reading.start()
    connection.until(lambda: not reading.is_alive())

    assert bytes(arrived) == b"head" + LARGE + b"tail"


def test_what_comes_is_received_whole_and_in_order(connection: Connection) -> None:
    writing = threading.Thread(target=connection.theirs.sendall, args=(LARGE,))
    writing.start()
    connection.until(lambda: len(connection.protocol.received) == len(LARGE))
    writing.join()

    assert bytes(connection.protocol.received) == LARGE


def test_a_last_word_is_heard_before_the_hanging_up(connection: Connection) -> None:
    connection.theirs.sendall(b"refused")
    connection.theirs.close()

    connection.until(lambda: connection.protocol.lost)

    assert bytes(connection.protocol.received) == b"refused"


def test_a_write_to_who_has_hung_up_ends_the_connection(connection: Connection) -> None:
    connection.theirs.close()
    connection.transport.write(LARGE)

    connection.until(lambda: connection.protocol.lost)
