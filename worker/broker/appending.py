"""Records to the leaders of their partitions, each batch appended once however often it is sent (KIP-98, sequences)."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Final

from kafka import TopicPartition, errors

from worker.broker import protocol as requests
from worker.broker.batches import build
from worker.broker.link import milliseconds
from worker.broker.refusals import FATES, Fate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kafka.future import Future
    from kafka.record.memory_records import MemoryRecordsBuilder

    from worker.broker.asking import Asker
    from worker.broker.client.network import Network
    from worker.broker.protocol import Identity
    from worker.messages import Outgoing

    Batches = dict[TopicPartition, list[MemoryRecordsBuilder]]

_SEQUENCES: Final = 1 << 31


class Appender:
    """One producer's batches and their sequence numbers. One thread at a time; everything is awaited in `Asker.run`."""

    def __init__(self, network: Network, asker: Asker, compression: str) -> None:
        """Write over these connections, which are the caller's to close; `compression` is a name of batches.CODECS."""
        self._network, self._asker, self._compression = network, asker, compression
        self._sequences: dict[TopicPartition, int] = {}
        self._turn = 0

    def restart(self) -> None:
        """Count from zero again, as a new producer id or epoch must (KIP-890)."""
        self._sequences.clear()

    async def build(self, messages: Mapping[str, Sequence[Outgoing]], timestamp: float | None = None) -> Batches:
        """Return the batches of each partition, in order for each key; `timestamp` in Unix seconds, None: now.

        Raises UnknownTopicOrPartitionError and TopicAuthorizationFailedError.
        """
        batches: Batches = {}
        stamp = milliseconds(time.time() if timestamp is None else timestamp)
        self._turn += 1
        for topic, records in messages.items():
            if records:
                partitions = await self._asker.insist(functools.partial(self._network.partitions, topic))
                # Records without a key go to one partition, as Kafka's own clients do it; the next time to another.
                keyless = self._turn % len(partitions)
                built = build(records, len(partitions), stamp, keyless=keyless, compression=self._compression)
                for index, batch in built:
                    batches.setdefault(TopicPartition(topic, partitions[index]), []).append(batch)
        return batches

    async def append(self, batches: Batches, identity: Identity) -> None:
        """Return when all replicas in sync have all. Raises the brokers' permanent errors."""
        while batches:  # of a partition one at a time: a later batch must never stand before an earlier one
            first = {partition: self._seal(partition, rest.pop(0), identity) for partition, rest in batches.items()}
            await self._append(first, identity)
            batches = {partition: rest for partition, rest in batches.items() if rest}

    def _seal(self, partition: TopicPartition, batch: MemoryRecordsBuilder, identity: Identity) -> bytearray:
        sequence, is_transactional = self._sequences.get(partition, 0), identity.transactional_id is not None
        batch.set_producer_state(
            identity.producer_id, identity.epoch, sequence, is_transactional=is_transactional
        )  # fmt: skip
        self._sequences[partition] = (sequence + batch.next_offset()) % _SEQUENCES
        batch.close()
        sealed: bytearray = batch.buffer()
        return sealed

    async def _append(self, left: dict[TopicPartition, bytearray], identity: Identity) -> None:
        async def ask() -> None:
            refusals: list[BaseException] = []
            for sent in self.send(left, identity):
                try:
                    answer = await sent
                except errors.KafkaError as error:
                    refusals.append(error)
                    continue
                for topic in answer.responses:
                    for each in topic.partition_responses:
                        if FATES.get(each.error_code) is Fate.DONE:
                            del left[TopicPartition(topic.name, each.index)]
                        else:
                            refusal = errors.for_code(each.error_code)
                            refusals.append(
                                refusal(f"{topic.name}:{each.index}: {each.error_message or refusal.message}")
                            )
                            refusals[-1].topic = topic.name  # type: ignore[attr-defined] # for who knows the topics
            if left and not refusals:
                message = f"no answer for {len(left)} partitions"
                raise errors.KafkaError(message)
            requests.raise_worst(refusals)

        await self._asker.insist(ask, is_repeatable=True)

    def send(self, batches: Mapping[TopicPartition, bytearray], identity: Identity) -> list[Future]:
        """Begin to send sealed batches, one request to each leader. Raises LeaderNotAvailableError."""
        by_node: dict[int, dict[TopicPartition, bytearray]] = {}
        for partition, batch in batches.items():
            by_node.setdefault(self._network.leader(partition), {})[partition] = batch
        return [self._network.send(requests.produce(identity, each), node) for node, each in by_node.items()]
