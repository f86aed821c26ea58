"""Requests to the brokers by the thread that needs the answers: no other thread, and no hand-over, between the two.

The client's own producer gives each of its requests to a thread of its own and waits for that. Where threads want one
interpreter, every such hand-over may take as long as the request.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

from kafka import errors
from kafka.future import Future

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kafka import TopicPartition

    from worker.broker.link import KafkaLink

Answer = TypeVar("Answer")
# A timer falls due, its request is made, its bytes are queued, the socket takes them: a poll for each.
_POLLS: Final = 4
# Before the brokers are asked again for what they did not know.
_UNKNOWN_PAUSE: Final = 0.05


class TooLateError(errors.KafkaTimeoutError):  # type: ignore[misc] # the client is untyped
    """The brokers have not answered by the deadline: what became of it is not known."""

    def __init__(self) -> None:
        super().__init__("the brokers have not answered in time")


def _bootstrapped(*, kafka_client: Callable[..., Any], bootstrap_timeout_ms: int, **options: Any) -> Any:  # noqa: ANN401
    client = kafka_client(**options)
    client._manager.cluster.config["allow_auto_create_topics"] = False  # noqa: SLF001
    client._manager.bootstrap(bootstrap_timeout_ms)  # noqa: SLF001
    return client


class UnknownOutcomeError(errors.KafkaError):  # type: ignore[misc] # the client is untyped
    """A request was sent and its answer did not come: whether it took effect is unknown.

    Its bytes may still be in the network and arrive at any time. A transactional request must not be sent again under
    the same producer epoch (KIP-890): fence by InitProducerId first.
    """


class Network:
    """The client's connections, one to each broker, driven by whoever asks. One thread at a time."""

    def __init__(self, link: KafkaLink) -> None:
        """Connect. Raises the client's errors."""
        self._made = link.connect(
            _bootstrapped,
            slow_task_threshold_secs=0,  # it would warn of a large transaction's encoding as of a loop
        )
        self._manager, self._net = self._made._manager, self._made._net  # noqa: SLF001

    def send(self, request: Any, node: int | None) -> Future:  # noqa: ANN401 the client is untyped
        """Begin to send to a broker, or to any. Requests to one broker are answered in their order.

        The answer, or an error, comes while something is awaited in `run`: UnknownOutcomeError where the request was
        sent and the answer is missing; any other KafkaError where it was not sent.
        """
        try:
            connection = self._manager.get_connection(self._manager.least_loaded_node() if node is None else node)
        except errors.KafkaError as error:
            return Future().failure(error)
        if connection.closed or connection.paused:
            return Future().failure(errors.NodeNotReadyError(node))
        answer, outcome = connection.send_request(request), Future()

        def fail(error: BaseException) -> None:
            was_sent = connection.init_future.succeeded() and not isinstance(error, errors.IncompatibleBrokerVersion)
            outcome.failure(UnknownOutcomeError(f"no answer: {error!r}") if was_sent else error)

        answer.add_callback(outcome.success)
        answer.add_errback(fail)
        return outcome

    def run(self, work: Callable[[], Awaitable[Answer]], *, until: float) -> Answer:
        """Do what awaits answers. Raises what it raises; TooLateError past `until`, and then must be closed."""
        result = Future()

        async def resolve() -> None:
            try:
                result.success(await work())
            except BaseException as error:  # noqa: BLE001 raised again below
                result.failure(error)

        self._net.call_soon(resolve)
        self._net.poll(timeout_ms=max(0.0, until - time.monotonic()) * 1000, future=result)
        if not result.is_done:
            raise TooLateError
        self._settle()
        if result.exception:
            raise result.exception
        answer: Answer = result.value
        return answer

    def catch_up(self) -> None:
        """Take in what has come by now, a broker's hanging up above all, and hand out what is to be sent."""
        self._settle()

    def _settle(self) -> None:
        """Finish what needs no waiting.

        A request of the client's own, for metadata, must not stay here unsent with its time running until the next
        call: its time-out would close the connection under that call's own requests.
        """
        for _ in range(_POLLS):
            self._net.poll(timeout_ms=0)

    def sleep(self, seconds: float) -> Awaitable[None]:
        """Let time pass."""
        pause: Awaitable[None] = self._net.sleep(seconds)
        return pause

    async def partitions(self, topic: str) -> list[int]:
        """Return the topic's partitions.

        Raises UnknownTopicOrPartitionError and TopicAuthorizationFailedError; where nobody answers, the reason of that.
        """
        cluster = self._manager.cluster
        if (known := cluster.partitions_for_topic(topic)) is None:
            cluster.add_topic(topic)
            await cluster.refresh_metadata()
            if topic in cluster.unauthorized_topics:
                raise errors.TopicAuthorizationFailedError({topic})
            if (known := cluster.partitions_for_topic(topic)) is None:
                raise errors.UnknownTopicOrPartitionError(topic)
        return sorted(known)

    def leader(self, partition: TopicPartition) -> int:
        """Return the broker that is said to lead it. Raises LeaderNotAvailableError."""
        node = self._manager.cluster.leader_for_partition(partition)
        if node is None or node < 0:
            raise errors.LeaderNotAvailableError(partition)
        leader: int = node
        return leader

    def knows(self, node: int) -> bool:
        """Whether a broker's address is known."""
        return self._manager.cluster.broker_metadata(node) is not None

    async def refresh(self) -> None:
        """Ask who leads what; that nobody answers is left to show where it hurts."""
        try:
            await self._manager.cluster.refresh_metadata()
        except errors.RetriableError:
            await self.sleep(_UNKNOWN_PAUSE)

    def close(self) -> None:
        """Close at once, whatever is on its way."""
        self._made.close()
