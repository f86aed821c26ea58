"""Requests that are asked again, of whichever broker is in charge by then, until the answer is no retriable error.

What may be asked again depends on what happened to the request before (docs/architecture.md, "Exactly once on a bad
network"). A retriable error in an answer is a refusal: the request is over, and asking again is safe. A lost connection
is not: the request may still arrive. Then only a request that takes effect once however often it arrives is sent again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog
from kafka import errors

from worker.broker import protocol as requests
from worker.broker.client.network import TooLateError, UnknownOutcomeError
from worker.broker.link import named

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kafka.protocol.metadata import CoordinatorType

    from worker.broker.client.network import Network

Answer = TypeVar("Answer")

# The coordinator, or the leader, may be another broker by now.
_MOVED: Final = (
    errors.NotCoordinatorError,
    errors.CoordinatorNotAvailableError,
    errors.RequestTimedOutError,
    errors.InvalidMetadataError,
    errors.NodeNotReadyError,
    errors.UnknownBrokerIdError,
    UnknownOutcomeError,
)
_STALE_METADATA: Final = (errors.InvalidMetadataError, errors.UnknownBrokerIdError, UnknownOutcomeError)
# Before asking again; doubled each time up to the longest.
_PAUSE, _LONGEST_PAUSE, _MOST_DOUBLED = 0.02, 0.1, 10
# While the markers of the transaction before are being written: that takes a millisecond or two, mostly.
_SETTLING_PAUSE: Final = 0.001
# A retriable refusal is in the log after so many seconds: it may be the cause of what fails later.
_SAY_AFTER: Final = 2.0


log = structlog.get_logger()


class Asker:
    """Remembers the coordinators and asks until the answer is final. One thread at a time."""

    def __init__(self, network: Network) -> None:
        """Ask over these connections, which are the caller's to close."""
        self._network = network
        self._coordinators: dict[CoordinatorType, int] = {}
        self._trouble: BaseException | None = None
        self._refused_since: float | None = None
        self._is_told = False

    def run(self, work: Callable[[], Awaitable[Answer]], *, until: float) -> Answer:
        """Run what asks. Raises what it raises; past `until` the last retriable error, or TooLateError."""
        self._trouble, self._refused_since, self._is_told = None, None, False
        try:
            return self._network.run(work, until=until)
        except TooLateError:
            if self._trouble:
                raise self._trouble from None
            raise

    async def insist(
        self,
        ask: Callable[[], Awaitable[Answer]],
        *,
        is_repeatable: bool = False,
        lost: Callable[[], object] = lambda: None,
    ) -> Answer:
        """Ask until the answer is no retriable error.

        `is_repeatable`: a second copy of the request does no harm, so that it is sent again when its answer is missing;
        `lost` is called each time. Raises UnknownOutcomeError otherwise, and every permanent error.
        """
        asked = 0
        while True:
            self._trouble = None  # an error that is over must not explain a later silence
            try:
                return await ask()
            except requests.RETRIABLE as error:
                await self._pause(error, asked)
            except UnknownOutcomeError as error:
                if not is_repeatable:
                    raise
                lost()
                await self._pause(error, asked)
            asked += 1

    async def _pause(self, error: BaseException, asked: int) -> None:
        self._trouble = error
        self._tell(error)
        if isinstance(error, _MOVED):
            self._coordinators.clear()
        if isinstance(error, _STALE_METADATA):
            await self._network.refresh()
        first = _SETTLING_PAUSE if isinstance(error, errors.ConcurrentTransactionsError) else _PAUSE
        await self._network.sleep(min(first * 2 ** min(asked, _MOST_DOUBLED), _LONGEST_PAUSE))

    def _tell(self, error: BaseException) -> None:
        """Log a refusal that lasts, once in a run. That a broker is away is in the log already."""
        if getattr(error, "errno", None) is None:
            return
        now = time.monotonic()
        self._refused_since = self._refused_since or now
        if not self._is_told and now - self._refused_since > _SAY_AFTER:
            self._is_told = True
            log.warning("still refused", cause=named(error), seconds=round(now - self._refused_since))

    def known(self, kind: CoordinatorType) -> int | None:
        """Return the coordinator of this kind that was found last, if it is still thought to be one."""
        return self._coordinators.get(kind)

    async def coordinator(self, kind: CoordinatorType, key: str) -> int:
        """Return the broker that coordinates a group, or a transactional id: of each kind one key at a time."""
        node = self.known(kind)
        if node is None:
            node = await self.insist(lambda: self._find(kind, key), is_repeatable=True)
            if not self._network.knows(node):
                await self._network.refresh()
            self._coordinators[kind] = node
        return node

    async def _find(self, kind: CoordinatorType, key: str) -> int:
        return requests.found(await self._network.send(requests.find(kind, key), None))

    async def ask_any(self, request: Any) -> Any:  # noqa: ANN401 the client is untyped
        """Return any broker's answer. Raises the error in it."""
        answer = await self._network.send(request, None)
        requests.require_all(answer)
        return answer

    async def ask(self, kind: CoordinatorType, key: str, request: Any) -> Any:  # noqa: ANN401 the client is untyped
        """Return a coordinator's answer. Raises the worst error in it."""
        answer = await self._network.send(request, await self.coordinator(kind, key))
        requests.require_all(answer)
        return answer
