"""Whole topics, read_committed, outside any group; and plain publishing: for who asks, feeds or checks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Self

from kafka import KafkaConsumer, TopicPartition, errors

from worker.broker import incarnation
from worker.broker.client import consuming
from worker.broker.client.membership import pause_lookups
from worker.broker.client.unpacking import unpack
from worker.broker.link import BrokerError, explained, milliseconds
from worker.broker.producer import Producer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from worker.broker.link import KafkaLink
    from worker.messages import Outgoing, Record

_STEP: Final = 0.2
_MAX_RECORDS: Final = 4096


class Reader:
    """Reads all partitions of some topics from their start: only what is committed."""

    def __init__(self, link: KafkaLink, *topics: str, group_id: str | None = None) -> None:
        """Connect; `group_id` only for whose `notes` to ask. Raises BrokerError, also when a topic does not exist."""
        self._link = link
        with explained(link):
            self._consumer = link.connect(
                KafkaConsumer,
                group_id=group_id,
                isolation_level="read_committed",
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                allow_auto_create_topics=False,
                max_poll_records=_MAX_RECORDS,
                metrics_enabled=False,
            )
        unpack(self._consumer)
        pause_lookups(self._consumer)
        try:
            self._partitions = [TopicPartition(topic, each) for topic in topics for each in self.partitions(topic)]
        except BrokerError:
            self.close()
            raise
        self._consumer.assign(self._partitions)
        self._consumer.seek_to_beginning()  # not to where a group had come

    def partitions(self, topic: str) -> list[int]:
        """Return the partitions of a topic. Raises BrokerError when there is none of that name."""
        with explained(self._link):
            if found := self._consumer.partitions_for_topic(topic):
                return sorted(found)
        message = (
            f"topic {topic} does not exist, or this user may not see it; "
            "create it, name another one in its setting, or grant DESCRIBE on it"
        )
        raise BrokerError(message)

    def topic_id(self, topic: str) -> str:
        """Return the id of one of these topics, nothing where the brokers know none (before Kafka 2.8)."""
        return incarnation.written(consuming.topic_id(self._consumer, topic))

    def is_empty(self) -> bool:
        """Whether no record of these topics can be read, nor could ever. Raises BrokerError."""
        with explained(self._link):
            return not any(self._consumer.end_offsets(self._partitions).values())

    def notes(self) -> dict[tuple[str, int], str]:
        """Return the metadata of the group's committed offsets, by partition, once its open transactions have ended."""
        patience = milliseconds(self._link.patience)
        with explained(self._link):
            found = {
                partition: self._consumer.committed(partition, metadata=True, timeout_ms=patience)
                for partition in self._partitions
            }
        return {tuple(partition): committed.metadata for partition, committed in found.items() if committed}

    def poll(self, wait: float) -> list[Record]:
        """Return the next records, in offset order for each partition; none after `wait` seconds."""
        fetched: dict[TopicPartition, list[Record]] = self._consumer.poll(milliseconds(wait))
        return [record for records in fetched.values() for record in records]

    def to_end(self, within: float = 60.0) -> Iterator[Record]:
        """Yield what is committed as of now and not yet read, however long that takes.

        Raises TimeoutError when it has got no further for `within` seconds, or BrokerError.
        """
        with explained(self._link):
            until = time.monotonic() + within
            ends = self._ends()
            before = positions = self._positions()
            while any(positions[partition] < end for partition, end in ends.items()):
                if positions != before:
                    before, until = positions, time.monotonic() + within
                elif time.monotonic() > until:
                    behind = ", ".join(f"{p.topic}:{p.partition}" for p, end in ends.items() if positions[p] < end)
                    message = f"no progress towards the end of {behind} for {within:g} s; brokers {self._link.brokers}"
                    raise TimeoutError(message)
                for record in self.poll(_STEP):
                    if record.unreadable:
                        raise BrokerError(record.unreadable)
                    yield record
                positions = self._positions()

    def record_at(self, topic: str, partition: int, offset: int, within: float = 60.0) -> Record | None:
        """Return the record at this place; None where none is, or not committed. Raises as `to_end` does."""
        place = TopicPartition(topic, partition)
        with explained(self._link):
            if (
                not self._consumer.beginning_offsets([place])[place]
                <= offset
                < self._consumer.end_offsets([place])[place]
            ):
                return None
            self._consumer.assign([place])
            self._consumer.seek(place, offset)
            until = time.monotonic() + within
            while self._consumer.position(place) <= offset:
                if time.monotonic() > until:
                    message = f"no progress towards the end for {within:g} s"
                    raise TimeoutError(message)
                for record in self.poll(_STEP):
                    return record if record.offset == offset else None
        return None

    def _ends(self) -> dict[TopicPartition, int]:
        """Ask for the end of each partition. A topic that was deleted is named, in place of a time-out."""
        try:
            ends: dict[TopicPartition, int] = self._consumer.end_offsets(self._partitions)
        except errors.KafkaTimeoutError:
            for topic in {partition.topic for partition in self._partitions}:
                self.partitions(topic)
            raise
        return ends

    def _positions(self) -> dict[TopicPartition, int]:
        return {partition: self._consumer.position(partition) for partition in self._partitions}

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
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
            self._producer.publish({topic: [*records]}, until=until, timestamp=timestamp)

    def close(self) -> None:
        """Close the connections."""
        self._producer.close()

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()
