"""The frame proxy against a server that answers every frame: what is struck, what arrives, what the client hears."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import struct
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest

from deploy.kafka.node import LOOPBACK, free_port
from tests.delivery.answers import outcome, outcomes
from tests.delivery.frames import Api, Delivered, FrameProxy, Harm, Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_REQUEST: Final = struct.Struct(">ihhi")
_SHORT: Final = (0.1, 0.2)
# Of EndTxn, version 3: no tags, throttled for 0 ms, the producer's epoch is invalid, no tags.
_REFUSED: Final = bytes.fromhex("00 00000000 002f 00")


class Broker(socketserver.ThreadingTCPServer):
    """Answers each frame with its correlation id; keeps what came, by the number of the connection it came over."""

    allow_reuse_address = daemon_threads = True

    def __init__(self) -> None:
        super().__init__((LOOPBACK, 0), Answering)
        self.port = self.server_address[1]
        self.came: list[tuple[int, int]] = []  # connection, correlation id
        self.connections = 0

    def ids(self) -> list[int]:
        return [correlation for _, correlation in self.came]


class Answering(socketserver.BaseRequestHandler):
    server: Broker

    def handle(self) -> None:
        self.server.connections += 1
        number = self.server.connections
        with contextlib.suppress(ConnectionError):
            while head := _read(self.request, _REQUEST.size):
                size, _, _, correlation = _REQUEST.unpack(head)
                _read(self.request, size + 4 - _REQUEST.size)
                self.server.came.append((number, correlation))
                self.request.sendall(struct.pack(">ii", 4 + len(_REFUSED), correlation) + _REFUSED)


class Client:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((LOOPBACK, port), timeout=5)

    def send(self, api: int, correlation: int, rest: bytes = b"rest") -> None:
        self.socket.sendall(_REQUEST.pack(8 + len(rest), api, 3, correlation) + rest)

    def hears(self) -> int | None:
        """The correlation id of the next answer; None where the connection has ended."""
        try:
            head = _read(self.socket, 8)
        except ConnectionError:
            return None
        if not head:
            return None
        size, correlation = struct.unpack(">ii", head)
        _read(self.socket, size - 4)
        return int(correlation)

    def asks(self, api: int, correlation: int) -> int | None:
        self.send(api, correlation)
        return self.hears()


def _read(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size and (more := connection.recv(size - len(received))):
        received += more
    return received


def _until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not what():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy() -> Iterator[FrameProxy]:
    with FrameProxy(seed=7) as proxy:
        yield proxy


@pytest.fixture
def connect(broker: Broker, proxy: FrameProxy) -> Iterator[Callable[[], Client]]:
    port, clients = free_port(), []
    proxy.between(port, broker.port)

    def connect() -> Client:
        clients.append(Client(port))
        return clients[-1]

    yield connect
    for client in clients:
        client.socket.close()


def test_frames_pass_unchanged_where_no_rule_is_set(
    connect: Callable[[], Client], broker: Broker, proxy: FrameProxy
) -> None:
    client = connect()

    heard = [client.asks(Api.END_TXN, number) for number in range(20)]

    assert heard == broker.ids() == list(range(20))
    assert proxy.struck == Counter()


def test_a_late_copy_is_delivered_over_the_old_connection_after_the_client_has_sent_it_again(
    connect: Callable[[], Client], broker: Broker, proxy: FrameProxy
) -> None:
    proxy.strike(Rule(Api.END_TXN, Harm.LATE_COPY, seconds=(0.2, 0.3), times=1))
    first, second = connect(), connect()
    assert first.asks(Api.PRODUCE, 1) == 1

    assert first.asks(Api.END_TXN, 2) is None
    assert second.asks(Api.END_TXN, 102) == 102
    _until(lambda: len(broker.came) == 3)

    assert broker.ids() == [1, 102, 2]
    assert broker.came[2][0] == broker.came[0][0]
    assert proxy.struck == Counter({(Api.END_TXN, Harm.LATE_COPY): 1})
    _until(lambda: outcomes(proxy.late) == {"END_TXN late copy: InvalidProducerEpochError": 1})


def test_a_duplicate_is_delivered_at_once_and_again_over_a_new_connection(
    connect: Callable[[], Client], broker: Broker, proxy: FrameProxy
) -> None:
    proxy.strike(Rule(Api.TXN_OFFSET_COMMIT, Harm.DUPLICATE, seconds=_SHORT))

    assert connect().asks(Api.TXN_OFFSET_COMMIT, 5) is None
    _until(lambda: len(broker.came) == 2)

    assert broker.came == [(1, 5), (2, 5)]
    _until(lambda: [each.answer is not None for each in proxy.late] == [True, True])


def test_a_delayed_answer_keeps_later_answers_waiting_and_no_request(
    connect: Callable[[], Client], broker: Broker, proxy: FrameProxy
) -> None:
    proxy.strike(Rule(Api.END_TXN, Harm.DELAYED_ANSWER, seconds=(0.3, 0.3), times=1))
    client, began = connect(), time.monotonic()

    client.send(Api.END_TXN, 1)
    client.send(Api.PRODUCE, 2)
    _until(lambda: len(broker.came) == 2)
    delivered = time.monotonic() - began
    heard = [client.hears(), client.hears()]

    assert heard == [1, 2]
    assert delivered < 0.3 <= time.monotonic() - began


def test_a_reset_after_delivery_leaves_the_client_without_an_answer_that_the_broker_has_given(
    connect: Callable[[], Client], broker: Broker, proxy: FrameProxy
) -> None:
    proxy.strike(Rule(Api.END_TXN, Harm.RESET))

    assert connect().asks(Api.END_TXN, 9) is None
    _until(lambda: bool(proxy.late and proxy.late[0].answer))

    assert broker.ids() == [9]
    assert outcomes(proxy.late) == {"END_TXN reset after delivery: InvalidProducerEpochError": 1}


def test_a_delay_keeps_later_requests_of_its_connection_waiting_and_no_others(
    connect: Callable[[], Client], broker: Broker, proxy: FrameProxy
) -> None:
    proxy.strike(Rule(Api.TXN_OFFSET_COMMIT, Harm.DELAY, seconds=(0.2, 0.2)))
    slow, other = connect(), connect()

    slow.send(Api.TXN_OFFSET_COMMIT, 1)
    slow.send(Api.PRODUCE, 2)
    assert other.asks(Api.PRODUCE, 3) == 3

    assert [slow.hears(), slow.hears()] == [1, 2]
    assert broker.ids() == [3, 1, 2]


def test_one_of_every_so_many_is_struck_at_places_that_the_seed_decides() -> None:
    def places(seed: int, rule: Rule) -> list[int]:
        proxy = FrameProxy(seed)
        proxy.strike(rule)
        return [number for number in range(120) if proxy.turn(rule.api)]

    every_12th = Rule(Api.END_TXN, Harm.LATE_COPY, every=12)

    assert [number // 12 for number in places(1, every_12th)] == list(range(10))
    assert places(1, every_12th) == places(1, every_12th) != places(2, every_12th)
    assert len(places(1, Rule(Api.END_TXN, Harm.LATE_COPY, every=2.5))) == pytest.approx(48, abs=1)
    assert places(1, Rule(Api.END_TXN, Harm.LATE_COPY, times=3)) == [0, 1, 2]


def test_of_two_rules_for_one_request_the_first_strikes_and_the_second_has_its_turn_later() -> None:
    proxy = FrameProxy()
    proxy.strike(Rule(Api.END_TXN, Harm.RESET, every=2), Rule(Api.END_TXN, Harm.DELAY, every=2))

    harms = [turn[0] for _ in range(100) if (turn := proxy.turn(Api.END_TXN))]

    assert Counter(harms) == pytest.approx({Harm.RESET: 50, Harm.DELAY: 50}, abs=1)


def test_no_rule_strikes_when_none_is_set_any_more(connect: Callable[[], Client], proxy: FrameProxy) -> None:
    proxy.strike(Rule(Api.PRODUCE, Harm.RESET))
    assert connect().asks(Api.PRODUCE, 1) is None

    proxy.strike()

    assert connect().asks(Api.PRODUCE, 2) == 2


def test_a_client_is_hung_up_on_when_there_is_no_broker(proxy: FrameProxy) -> None:
    port = free_port()
    proxy.between(port, free_port())

    with socket.create_connection((LOOPBACK, port), timeout=5) as client:
        assert client.recv(1) == b""


def test_what_was_not_answered_is_told() -> None:
    assert outcome(Delivered(Api.PRODUCE, 9, Harm.LATE_COPY)) == "not answered"
