"""Whole topics, read_committed, outside any group; and plain publishing: for who asks, feeds or checks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Self

from kafka import KafkaConsumer, TopicPartition

from worker.broker.link import explained, milliseconds
from worker.broker.producer import Producer
from worker.broker.source import record_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from worker.broker.link import KafkaLink
    from worker.messages import Outgoing, Record

_STEP: Final = 0.2
_MAX_RECORDS: Final = 4096


class Reader:
    """Reads all partitions of some topics from their start: only what is committed."""

    def __init__(self, link: KafkaLink, *topics: str) -> None:
        """Connect. Raises BrokerError, also when a topic does not exist."""
        with explained(link):
            self._consumer = link.connect(
                KafkaConsumer,
                group_id=None,
                isolation_level="read_committed",
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                allow_auto_create_topics=False,
                max_poll_records=_MAX_RECORDS,
                metrics_enabled=False,
            )
        self._partitions = [
            TopicPartition(topic, partition)
            for topic in topics
            for partition in sorted(self._consumer.partitions_for_topic(topic))
        ]
        self._consumer.assign(self._partitions)

    def poll(self, wait: float) -> list[Record]:
        """Return the next records, in offset order for each partition; none after `wait` seconds."""
        fetched = self._consumer.poll(milliseconds(wait))
        return [record_of(raw) for raws in fetched.values() for raw in raws]

    def to_end(self, within: float = 60.0) -> Iterator[Record]:
        """Yield what is committed as of now and not yet read. Raises TimeoutError when that takes too long."""
        until = time.monotonic() + within
        ends = self._consumer.end_offsets(self._partitions)
        while any(self._consumer.position(partition) < end for partition, end in ends.items()):
            if time.monotonic() > until:
                message = f"the end was not reached within {within:g} s"
                raise TimeoutError(message)
            yield from self.poll(_STEP)

    def skip_to_end(self) -> None:
        """Read only what comes from now on."""
        for partition, end in self._consumer.end_offsets(self._partitions).items():
            self._consumer.seek(partition, end)

    def close(self) -> None:
        """Let go of the broker."""
        self._consumer.close()

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the broker."""
        self.close()


class Publisher:
    """Publishes without a transaction: acknowledged by all replicas, in order for each key, without repeats."""

    def __init__(self, link: KafkaLink) -> None:
        """Connect. Raises BrokerError."""
        self._link = link
        with explained(link):
            self._producer = Producer(link)

    def publish(self, topic: str, records: Iterable[Outgoing], *, timestamp: float | None = None) -> None:
        """Publish, and return when all is acknowledged. `timestamp` in Unix seconds; None: now. Raises BrokerError."""
        until = time.monotonic() + self._link.patience
        with explained(self._link):
            batches = self._producer.publish(topic, records, until=until, timestamp=timestamp)
            self._producer.settle(batches, until=until)

    def close(self) -> None:
        """Let go of the broker."""
        self._producer.close()

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the broker."""
        self.close()
