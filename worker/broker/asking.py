"""Requests that are sent again, to whoever is in charge by then, until their answer is no error that passes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from kafka import errors

from worker.broker import requests
from worker.broker.network import TooLateError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kafka.protocol.metadata import CoordinatorType

    from worker.broker.network import Network

Answer = TypeVar("Answer")

# Whoever was in charge may be so no more.
_MOVED: Final = (
    errors.NotCoordinatorError,
    errors.CoordinatorNotAvailableError,
    errors.RequestTimedOutError,
    errors.InvalidMetadataError,
    errors.NodeNotReadyError,
    errors.UnknownBrokerIdError,
)
# Before asking again; doubled each time up to the longest.
_PAUSE, _LONGEST_PAUSE, _MOST_DOUBLED = 0.02, 0.1, 10
# While the markers of the transaction before are being written: that takes a millisecond or two, mostly.
_SETTLING_PAUSE: Final = 0.001


class Asker:
    """Who coordinates, remembered, and how long to go on asking. One thread at a time."""

    def __init__(self, network: Network) -> None:
        """Ask over these connections, which are the caller's to close."""
        self._network = network
        self._coordinators: dict[CoordinatorType, int] = {}
        self._trouble: BaseException | None = None

    def run(self, work: Callable[[], Awaitable[Answer]], *, until: float) -> Answer:
        """Do what asks. Raises what it raises; past `until` what was answered last, or TooLateError."""
        self._trouble = None
        try:
            return self._network.run(work, until=until)
        except TooLateError:
            if self._trouble:
                raise self._trouble from None
            raise

    async def insist(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """Ask until no error that passes is the answer."""
        asked = 0
        while True:
            self._trouble = None  # what is over is no reason for what may come
            try:
                return await ask()
            except requests.PASSING as error:
                await self._let_pass(error, asked)
                asked += 1

    async def _let_pass(self, error: BaseException, asked: int) -> None:
        self._trouble = error
        is_settling = isinstance(error, errors.ConcurrentTransactionsError)
        if isinstance(error, _MOVED):
            self._coordinators.clear()
        if isinstance(error, errors.InvalidMetadataError | errors.UnknownBrokerIdError):
            await self._network.refresh()
        first = _SETTLING_PAUSE if is_settling else _PAUSE
        await self._network.sleep(min(first * 2 ** min(asked, _MOST_DOUBLED), _LONGEST_PAUSE))

    def known(self, kind: CoordinatorType) -> int | None:
        """Return the coordinator of this kind that was found last, if it is still thought to be one."""
        return self._coordinators.get(kind)

    async def coordinator(self, kind: CoordinatorType, key: str) -> int:
        """Return the broker that coordinates a group, or a transactional id: of each kind one key at a time."""
        node = self.known(kind)
        if node is None:
            node = requests.found(await self._network.send(requests.find(kind, key), None))
            if not self._network.knows(node):
                await self._network.refresh()
            self._coordinators[kind] = node
        return node

    async def ask(self, kind: CoordinatorType, key: str, request: Any) -> Any:  # noqa: ANN401 the client is untyped
        """Return a coordinator's answer. Raises the worst error in it."""
        answer = await self._network.send(request, await self.coordinator(kind, key))
        requests.require_all(answer)
        return answer
