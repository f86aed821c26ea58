"""Records to the brokers without a transaction, through the client, every step under a deadline."""

from __future__ import annotations

import contextlib
import itertools
import time
from typing import TYPE_CHECKING, Any, Final

from kafka import KafkaProducer, TopicPartition, errors
from kafka.producer.producer_batch import ProducerBatch

from worker.broker.batches import BATCH_BYTES, build
from worker.broker.link import REQUEST_TIMEOUT, milliseconds
from worker.broker.network import TooLateError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kafka.record.memory_records import MemoryRecordsBuilder

    from worker.broker.link import KafkaLink
    from worker.messages import Outgoing

# Of a whole request. A record alone may be as large; what the topic takes is the topic's own limit.
_REQUEST_BYTES: Final = 16 << 20
_RETRY_MS: Final = 1
# While no broker can be reached that could give an idempotent producer its id, it is asked for again so often.
_UNREACHABLE_PAUSE: Final = 0.05
_CLOSE_WAIT: Final = 2.0


def _pause_between_tries(network: Any) -> None:  # noqa: ANN401 the client is untyped
    """Have a broker that cannot be reached be tried again after a pause.

    On an error of connection the client logs a warning and asks again at once, without end; told "not ready", it asks
    again silently.
    """
    await_ready = network.await_ready

    def is_ready(node_id: Any, timeout_ms: float = milliseconds(REQUEST_TIMEOUT)) -> bool:  # noqa: ANN401
        try:
            return bool(await_ready(node_id, timeout_ms=timeout_ms))
        except errors.KafkaConnectionError:
            time.sleep(_UNREACHABLE_PAUSE)
            return False

    network.await_ready = is_ready


class Producer:
    """An idempotent producer. One thread at a time."""

    def __init__(self, link: KafkaLink) -> None:
        """Connect. Raises the client's errors."""
        self._client = link.connect(
            KafkaProducer,
            batch_size=BATCH_BYTES,
            max_request_size=_REQUEST_BYTES,
            compression_type="lz4",
            retry_backoff_ms=_RETRY_MS,
            max_block_ms=milliseconds(link.patience),
            delivery_timeout_ms=milliseconds(max(link.patience, REQUEST_TIMEOUT)),
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )
        self._manager = self._client._transaction_manager  # noqa: SLF001
        self._turn = itertools.count()
        # On an error of sequence or epoch the client would bump its epoch behind our back and lose what is in flight
        # (KIP-360). As before 2.5 it fails instead.
        self._manager._api_version = (2, 4)  # noqa: SLF001
        _pause_between_tries(self._client._sender._client)  # noqa: SLF001

    @property
    def trouble(self) -> BaseException | None:
        """What the client has stumbled over; its own calls name it only in their text."""
        error: BaseException | None = self._manager.last_error
        return error

    def publish(
        self, topic: str, records: Iterable[Outgoing], *, until: float, timestamp: float | None = None
    ) -> list[Any]:
        """Hand records to the client, in order for each key. Returns the batches, to be settled.

        Raises KafkaTimeoutError when nobody knows the topic's partitions `until` then.
        """
        # A topic that is not known is asked for anew, which may take as long as it likes, were it not told.
        patience = milliseconds(max(0.001, until - time.monotonic()))
        partitions = sorted(self._client._wait_on_metadata(topic, patience))  # noqa: SLF001
        stamp = milliseconds(time.time() if timestamp is None else timestamp)
        # Those without a key go to one partition, as Kafka's own clients do it; the next time to another.
        built = build(records, len(partitions), stamp, keyless=next(self._turn) % len(partitions))
        return [self._enqueue(TopicPartition(topic, partitions[index]), batch) for index, batch in built]

    def _enqueue(self, partition: TopicPartition, records: MemoryRecordsBuilder) -> Any:  # noqa: ANN401
        accumulator = self._client._accumulator  # noqa: SLF001
        batch = ProducerBatch(partition, records)
        with accumulator._tp_lock(partition):  # noqa: SLF001
            accumulator._incomplete.add(batch)  # noqa: SLF001
            accumulator._batches[partition].append(batch)  # noqa: SLF001
        self._client._sender.wakeup()  # noqa: SLF001
        return batch

    @staticmethod
    def settle(batches: Sequence[Any], *, until: float) -> None:
        """Wait until all are acknowledged. Raises the error of the first that is not; TooLateError past `until`."""
        for batch in batches:
            if not batch.produce_future.wait(max(0.0, until - time.monotonic())):
                raise TooLateError
            _, _, failure_of = batch.produce_future.value
            if failure_of is not None:
                raise failure_of(0)

    def close(self) -> None:
        """Let go at once: what is not acknowledged is not waited for."""
        self._client._sender.force_close()  # noqa: SLF001
        with contextlib.suppress(errors.KafkaError):
            self._client.close(timeout=_CLOSE_WAIT)
        self._client._closed = True  # noqa: SLF001 else its finaliser would wait once more
