"""Records to batches to the brokers: built here, sent by the client, every step under a deadline.

kafka-python's own `send` makes a future, takes six locks and hashes the key in Python for every record: 14,000
records a second on two shared cores. Built a batch at a time, with the client's own encoder, it is 80,000.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
from typing import TYPE_CHECKING, Any, Final

from kafka import KafkaProducer, TopicPartition, errors
from kafka.partitioner.default import murmur2
from kafka.producer.producer_batch import ProducerBatch
from kafka.record.memory_records import MemoryRecordsBuilder
from kafka.structs import OffsetAndMetadata

from worker.broker.link import REQUEST_TIMEOUT, milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from worker.broker.link import KafkaLink
    from worker.messages import Outgoing, Positions

# Only one batch of a partition is in flight at a time, so a transaction's records should fit one; and Kafka's default
# limit for a batch is 1 MiB.
_BATCH_BYTES: Final = 512 << 10
# Of a whole request. A record alone may be as large; what the topic takes is the topic's own limit.
_REQUEST_BYTES: Final = 16 << 20
# CONCURRENT_TRANSACTIONS, while the last one's markers are being written, is asked again after this; not after 100 ms.
_RETRY_MS: Final = 1
# While a dead broker is still said to be the coordinator, it is asked for again so often.
_UNREACHABLE_PAUSE: Final = 0.05
_CLOSE_WAIT: Final = 2.0
# Subscribers whose partition is remembered.
_KEYS: Final = 1 << 16
_FORMAT: Final = 2  # of records, since Kafka 0.11


@functools.lru_cache(_KEYS)
def _hash(key: bytes) -> int:
    """The key's hash, as Kafka's own clients have it, so that a key has one partition whoever writes it."""
    return int(murmur2(key)) & 0x7FFFFFFF


def _forget_no_request(network: Any) -> None:  # noqa: ANN401 the client is untyped
    """Have a coordinator that cannot be reached be looked up anew, and its request sent to the next one.

    On an error of connection the client looks up the coordinator and drops the request: a broker that dies takes along
    whatever was to be asked of it, `init_transactions` too, and nobody answers. Told "not ready", it tries again.
    """
    await_ready = network.await_ready

    def is_ready(node_id: Any, timeout_ms: float = milliseconds(REQUEST_TIMEOUT)) -> bool:  # noqa: ANN401
        try:
            return bool(await_ready(node_id, timeout_ms=timeout_ms))
        except errors.KafkaConnectionError:
            time.sleep(_UNREACHABLE_PAUSE)
            return False

    network.await_ready = is_ready


def build(
    records: Iterable[Outgoing], partitions: int, timestamp: int, compression: int, *, keyless: int
) -> list[tuple[int, MemoryRecordsBuilder]]:
    """Records to batches, in order for each partition; `timestamp` in epoch milliseconds."""
    filling: dict[int, MemoryRecordsBuilder] = {}
    built: list[tuple[int, MemoryRecordsBuilder]] = []
    for record in records:
        index = keyless if record.key is None else _hash(record.key) % partitions
        batch = filling.get(index)
        if batch is None or batch.append(timestamp, record.key, record.value, record.headers) is None:
            batch = filling[index] = MemoryRecordsBuilder(_FORMAT, compression, _BATCH_BYTES)
            batch.append(timestamp, record.key, record.value, record.headers)
            built.append((index, batch))
    return built


class TooLateError(errors.KafkaTimeoutError):  # type: ignore[misc] # the client is untyped
    """The brokers have not answered by the deadline: what became of it is not known."""


class Producer:
    """An idempotent producer; with a transactional id, also transactions. One thread at a time."""

    def __init__(self, link: KafkaLink, transactional_id: str | None = None, transaction_timeout: float = 60.0) -> None:
        """Connect and, with a transactional id, fence every earlier producer of that name and abort what it left."""
        transactional = {
            "transactional_id": transactional_id,
            "transaction_timeout_ms": milliseconds(transaction_timeout),
        }
        self._client = link.connect(
            KafkaProducer,
            **(transactional if transactional_id else {}),
            batch_size=_BATCH_BYTES,
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
        # (KIP-360); and when it is fenced, take its name back from a newer instance. As before 2.5 it fails instead.
        self._manager._api_version = (2, 4)  # noqa: SLF001
        _forget_no_request(self._client._sender._client)  # noqa: SLF001
        if transactional_id:
            try:
                self._client.init_transactions()
            except BaseException:
                self.close()
                raise

    @property
    def trouble(self) -> BaseException | None:
        """What the client has stumbled over; its own calls name it only in their text."""
        error: BaseException | None = self._manager.last_error
        return error

    def begin(self) -> None:
        """Begin a transaction, locally."""
        self._client.begin_transaction()

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
        compression = self._client.config["compression_attrs"]
        # Those without a key go to one partition, as Kafka's own clients do it; the next time to another.
        built = build(records, len(partitions), stamp, compression, keyless=next(self._turn) % len(partitions))
        return [self._enqueue(TopicPartition(topic, partitions[index]), batch) for index, batch in built]

    def _enqueue(self, partition: TopicPartition, records: MemoryRecordsBuilder) -> Any:  # noqa: ANN401
        accumulator = self._client._accumulator  # noqa: SLF001
        if self._manager.is_transactional():
            self._manager.maybe_add_partition_to_transaction(partition)
        batch = ProducerBatch(partition, records)
        with accumulator._tp_lock(partition):  # noqa: SLF001
            accumulator._incomplete.add(batch)  # noqa: SLF001
            accumulator._batches[partition].append(batch)  # noqa: SLF001
        self._client._sender.wakeup()  # noqa: SLF001
        return batch

    def settle(self, batches: Sequence[Any], *, until: float) -> None:
        """Wait until all are acknowledged. Raises the error of the first that is not; TooLateError past `until`.

        A commit alone would not tell: the client lets a batch that ran out of time fail, and commits the rest.
        """
        for batch in batches:
            if not batch.produce_future.wait(max(0.0, until - time.monotonic())):
                raise TooLateError
            _, _, failure_of = batch.produce_future.value
            if failure_of is not None:
                raise failure_of(0)

    def send_offsets(self, positions: Positions, claim: Any, notes: Mapping[tuple[str, int], str] | None = None) -> Any:  # noqa: ANN401
        """Make the positions, and notes beside them, part of the transaction, for the group and member of the claim.

        Returns what to await.
        """
        offsets = {
            TopicPartition(*partition): OffsetAndMetadata(at, (notes or {}).get(partition, ""), -1)
            for partition, at in positions.items()
        }
        result = self._manager.send_offsets_to_transaction(offsets, claim)
        self._client._sender.wakeup()  # noqa: SLF001
        return result

    def commit(self) -> Any:  # noqa: ANN401
        """Begin to commit. Returns what to await."""
        result = self._manager.begin_commit()
        self._client._sender.wakeup()  # noqa: SLF001
        return result

    def abort(self) -> Any:  # noqa: ANN401
        """Begin to abort. Returns what to await."""
        result = self._manager.begin_abort()
        self._client._sender.wakeup()  # noqa: SLF001
        return result

    @staticmethod
    def await_(result: Any, *, until: float) -> None:  # noqa: ANN401
        """Wait for an answer, which the client's own calls would do for ever. Raises TooLateError past `until`."""
        if not result.wait(max(0.0, until - time.monotonic()) * 1000):
            raise TooLateError

    def partitions(self, topic: str) -> int:
        """Return how many partitions the topic has. Raises KafkaTimeoutError when nobody knows it."""
        return len(self._client.partitions_for(topic))

    def close(self) -> None:
        """Let go at once: what is not acknowledged is not waited for, an open transaction is left to be aborted."""
        self._client._sender.force_close()  # noqa: SLF001
        with contextlib.suppress(errors.KafkaError):
            self._client.close(timeout=_CLOSE_WAIT)
        self._client._closed = True  # noqa: SLF001 else its finaliser would wait once more
