"""A proxy between Kafka clients and brokers that reads the protocol's frames and does harm to single requests.

with FrameProxy(seed=1) as proxy:
    proxy.between(19092, 9092)                                      # clients connect to 19092
    proxy.strike(Rule(Api.END_TXN, Harm.LATE_COPY, every=12))       # from now on
    proxy.strike()                                                  # nothing more
    proxy.struck, proxy.late                                        # what was done, what became of it

A request is: size (int32), API key (int16), API version (int16), correlation id (int32), and the rest. An answer is:
size (int32), correlation id (int32), and the rest. A broker answers the requests of one connection in their order.
Toxiproxy works on bytes, and cannot tell one request from another.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import random
import socket
import struct
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable

LOOPBACK: Final = "127.0.0.1"
_REQUEST: Final = struct.Struct(">ihhi")  # size, API key, API version, correlation id
_ANSWER: Final = struct.Struct(">ii")  # size, correlation id
_NO_LINGER: Final = struct.pack("ii", 1, 0)  # on, for 0 s: closing sends a reset
# How long a struck request may take to be answered before the connection that it was delivered over is closed.
_ANSWERED_WITHIN: Final = 5.0


class Api(enum.IntEnum):
    """The requests of a transaction, by their API keys."""

    PRODUCE = 0
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28


class Harm(enum.StrEnum):
    """A fault of a single request."""

    LATE_COPY = "late copy"
    """The client's connection is reset. The request is delivered later, over the connection it came for."""
    DUPLICATE = "duplicate"
    """The client's connection is reset, the request is delivered at once, and again later over a new connection."""
    DELAYED_ANSWER = "delayed answer"
    """The request is delivered. Its answer, and every later one of this connection, waits."""
    RESET = "reset after delivery"
    """The request is delivered. The client's connection is reset before the answer."""
    DELAY = "delay"
    """The request, and every later one of this connection, waits."""


@dataclass(frozen=True)
class Rule:
    """Do `harm` to one of every so many requests of this API, at a place drawn by chance, at most `times` times.

    `seconds` is how long what waits has to wait, drawn between the two.
    """

    api: Api
    harm: Harm
    every: float = 1
    seconds: tuple[float, float] = (0.02, 0.6)
    times: int | None = None


@dataclass
class Turns:
    """The requests that one rule strikes: one of every so many, so their number is certain and their places are not."""

    rule: Rule
    chance: random.Random
    _seen: int = 0
    _struck: int = 0
    _next: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._choose()

    def is_due(self) -> bool:
        """Count one more request; whether it, or one before it, is to be struck."""
        self._seen += 1
        return self._seen >= self._next and self._struck != self.rule.times

    def take(self) -> float:
        """Strike; returns the seconds that this one has to wait."""
        self._struck += 1
        self._choose()
        return self.chance.uniform(*self.rule.seconds)

    def _choose(self) -> None:
        self._next = (self._struck + self.chance.uniform(0, 1)) * self.rule.every


@dataclass
class Delivered:
    """A request that was delivered, and the broker's answer that its client never got; None where there was none."""

    api: Api
    version: int
    harm: Harm
    answer: bytes | None = None


class FrameProxy:
    """Passes frames on, in an event loop and a thread of its own; every connection is under the same rules."""

    def __init__(self, seed: int = 1) -> None:
        self.struck: Counter[tuple[Api, Harm]] = Counter()
        self.late: list[Delivered] = []
        self._seed, self._set = seed, 0
        self._turns: tuple[Turns, ...] = ()
        self._servers: list[asyncio.Server] = []
        self._failures: list[Exception] = []
        self._is_ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="frames", daemon=True)

    def start(self) -> Self:
        self._thread.start()
        self._is_ready.wait()
        return self

    def stop(self) -> None:
        """Close every connection. Raises what went wrong in the proxy itself."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        if self._failures:
            raise self._failures[0]

    def between(self, listen: int, upstream: int) -> None:
        """Pass what comes to port `listen` on to port `upstream`."""
        asyncio.run_coroutine_threadsafe(self._listen(listen, upstream), self._loop).result()

    def strike(self, *rules: Rule) -> None:
        """Put these rules in the place of those that were. The first of them whose turn it is does its harm."""
        self._set += 1
        self._turns = tuple(
            Turns(rule, random.Random(f"{self._seed} {self._set} {number}")) for number, rule in enumerate(rules)
        )

    def forget(self) -> None:
        """Forget what was struck, and draw by chance as a new proxy of this seed does."""
        self.strike()
        self.struck.clear()
        self.late.clear()
        self._set = 0

    def turn(self, api: int) -> tuple[Harm, float] | None:
        """Return what is to be done to this request, if anything, and the seconds that it has to wait."""
        due = [turns for turns in self._turns if turns.rule.api == api and turns.is_due()]
        if not due:
            return None
        self.struck[due[0].rule.api, due[0].rule.harm] += 1
        return due[0].rule.harm, due[0].take()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        self._is_ready.set()
        await self._over.wait()
        for server in self._servers:
            server.close()

    async def _listen(self, listen: int, upstream: int) -> None:
        async def connected(*client: Any) -> None:
            try:
                await self._connect(End(*client), upstream)
            except Exception as failure:  # noqa: BLE001 raised at the end
                self._failures.append(failure)

        self._servers.append(await asyncio.start_server(connected, LOOPBACK, listen))

    async def _connect(self, client: End, upstream: int) -> None:
        try:
            broker = await End.to(upstream)
        except OSError:
            client.close()  # as a load balancer does whose server is gone
        else:
            await Connection(self, client, broker, upstream).serve()


class End(NamedTuple):
    """One end of a connection. What cannot be sent, as its other side is gone, is dropped."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def to(cls, port: int) -> End:
        """Connect to a port of loopback."""
        return cls(*await asyncio.open_connection(LOOPBACK, port))

    async def frame(self) -> bytes | None:
        """Return the next frame, its size included; None at the end."""
        try:
            size = await self.reader.readexactly(4)
            return size + await self.reader.readexactly(int.from_bytes(size))
        except (asyncio.IncompleteReadError, OSError):
            return None

    async def send(self, frame: bytes) -> None:
        with contextlib.suppress(OSError):
            self.writer.write(frame)
            await self.writer.drain()

    def reset(self) -> None:
        if self.writer.transport.is_closing():
            return
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()


class Connection:
    """One client's connection and ours to its broker, until either is closed."""

    def __init__(self, proxy: FrameProxy, client: End, broker: End, upstream: int) -> None:
        self._proxy, self._client, self._broker, self._upstream = proxy, client, broker, upstream
        self._is_cut_off = False  # the client is: it gets no more answers
        self._held: dict[int, float] = {}  # correlation id, and how long its answer has to wait
        self._awaited: dict[int, asyncio.Future[bytes]] = {}  # what we want to see the answer of ourselves

    async def serve(self) -> None:
        """Pass frames on both ways."""
        both = {asyncio.create_task(self._pass_requests()), asyncio.create_task(self._pass_answers())}
        try:
            ended, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()  # raises what went wrong in it
        finally:
            for task in both:
                task.cancel()
            self._client.close()
            self._broker.close()

    async def _pass_requests(self) -> None:
        while not self._is_cut_off and (frame := await self._client.frame()):
            _, api, _, _ = _REQUEST.unpack_from(frame)
            if turn := self._proxy.turn(api):
                await self._strike(frame, *turn)
            else:
                await self._broker.send(frame)

    async def _pass_answers(self) -> None:
        while frame := await self._broker.frame():
            _, correlation = _ANSWER.unpack_from(frame)
            if awaited := self._awaited.pop(correlation, None):
                awaited.set_result(frame)
            await asyncio.sleep(self._held.pop(correlation, 0))
            if not self._is_cut_off:
                await self._client.send(frame)

    async def _strike(self, frame: bytes, harm: Harm, seconds: float) -> None:
        if harm is Harm.DELAY:
            await asyncio.sleep(seconds)
            await self._broker.send(frame)
        elif harm is Harm.DELAYED_ANSWER:
            self._held[_REQUEST.unpack_from(frame)[3]] = seconds
            await self._broker.send(frame)
        elif harm is Harm.RESET:
            await self._deliver_unheard(frame, harm)
        elif harm is Harm.LATE_COPY:
            self._cut_off()
            await asyncio.sleep(seconds)
            await self._deliver_unheard(frame, harm)
        else:
            self._cut_off()
            await self._deliver_unheard(frame, harm)
            await asyncio.sleep(seconds)
            await self._deliver_anew(frame, harm)

    def _cut_off(self) -> None:
        self._is_cut_off = True
        self._client.reset()

    async def _deliver_unheard(self, frame: bytes, harm: Harm) -> None:
        """Deliver, and wait for the answer. The client does not get it: its connection ends before."""
        answer = self._awaited[_REQUEST.unpack_from(frame)[3]] = asyncio.Future()
        self._is_cut_off = True
        await self._broker.send(frame)
        self._client.reset()
        await self._note(frame, harm, answer)

    async def _deliver_anew(self, frame: bytes, harm: Harm) -> None:
        """Deliver over a new connection. Kafka wants no greeting on a listener without authentication."""
        with contextlib.suppress(OSError):
            another = await End.to(self._upstream)
            await another.send(frame)
            await self._note(frame, harm, another.frame())
            another.close()

    async def _note(self, frame: bytes, harm: Harm, answer: Awaitable[bytes | None]) -> None:
        _, api, version, _ = _REQUEST.unpack_from(frame)
        delivered = Delivered(Api(api), version, harm)
        self._proxy.late.append(delivered)
        with contextlib.suppress(TimeoutError):
            delivered.answer = await asyncio.wait_for(answer, _ANSWERED_WITHIN)
