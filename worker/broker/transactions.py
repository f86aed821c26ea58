"""Transactions by our own requests: what need not wait for an answer is not made to.

A transaction needs five requests, and the client's own producer sends each when the one before is answered. Only this
much is in Kafka's protocol (KIP-98, KIP-447): partitions and the group's offsets are added, then both are written, then
it is ended. So the two additions go out together, and before the records are even encoded (`prepare`); records and
offsets go out together; and the end follows. One broker answers its requests in order, so what is for one broker goes
over one connection: its checks of one transaction would put each other off (KIP-890).
"""

from __future__ import annotations

import functools
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from kafka import TopicPartition, errors
from kafka.protocol.metadata import CoordinatorType

from worker.broker import requests
from worker.broker.asking import Asker
from worker.broker.batches import build
from worker.broker.link import milliseconds
from worker.broker.network import Network
from worker.broker.requests import Identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kafka.future import Future
    from kafka.record.memory_records import MemoryRecordsBuilder

    from worker.broker.link import KafkaLink
    from worker.messages import Outgoing, Positions

    Batches = dict[TopicPartition, list[MemoryRecordsBuilder]]

# A transaction is begun with the partitions that so many before it have written to.
_REMEMBERED: Final = 4
_SEQUENCES: Final = 1 << 31


class Transactions:
    """One transactional id's transactions, one after another. One thread at a time.

    Every call waits until its deadline at most, in `time.monotonic` seconds. After one that has raised nothing may be
    assumed of the transaction, and no other call but `close` is allowed: make a new one of the same name, which aborts
    what was left open.
    """

    def __init__(self, link: KafkaLink, transactional_id: str, timeout: float) -> None:
        """Connect, fence every earlier producer of that name and abort what it left; `timeout` in seconds.

        Raises the client's errors.
        """
        self._identity, self._timeout = Identity(transactional_id), timeout
        self._sequences: dict[TopicPartition, int] = {}
        self._written: deque[frozenset[TopicPartition]] = deque(maxlen=_REMEMBERED)
        self._added: set[TopicPartition] = set()
        self._group: str | None = None
        self._opening: list[Future] | None = None
        self._turn = 0
        self._network = Network(link)
        self._asker = Asker(self._network)
        try:
            self._asker.run(self._init, until=time.monotonic() + link.patience)
        except BaseException:
            self.close()
            raise

    def prepare(self, group_id: str) -> None:
        """Begin a transaction that will commit this group's offsets, and go on without waiting for the answer."""
        node = self._asker.known(CoordinatorType.TRANSACTION)
        if self._opening is None and node is not None:
            self._network.catch_up()
            self._opening = self._ask_to_add(node, frozenset().union(*self._written), group_id)
            self._network.catch_up()

    def send(
        self,
        messages: Mapping[str, Sequence[Outgoing]],
        positions: Positions,
        claim: Any,  # noqa: ANN401 the client is untyped
        notes: Mapping[tuple[str, int], str] | None = None,
        *,
        until: float,
    ) -> None:
        """Make messages, by topic and in order for each key, and the group's positions part of the transaction.

        `notes` stand beside the positions. Returns when all is acknowledged by all replicas in sync. Raises the
        brokers' errors; of those that pass, the last one, at the deadline.
        """
        self._asker.run(lambda: self._send(messages, positions, claim, notes or {}), until=until)

    def commit(self, *, until: float) -> None:
        """Commit. Raises as `send` does; then it may have been committed all the same."""
        self._asker.run(lambda: self._end(is_commit=True), until=until)

    def abort(self, *, until: float) -> None:
        """Abort. Raises as `send` does."""
        self._asker.run(lambda: self._end(is_commit=False), until=until)

    def close(self) -> None:
        """Let go at once; an open transaction is left to be aborted."""
        self._network.close()

    # --- a transaction's steps ----------------------------------------------------------------------------------

    async def _ask_coordinator(self, request: Any) -> Any:  # noqa: ANN401 the client is untyped
        return await self._asker.ask(CoordinatorType.TRANSACTION, self._identity.transactional_id, request)

    async def _init(self) -> None:
        request = requests.init(self._identity, self._timeout)
        answer = await self._asker.insist(lambda: self._ask_coordinator(request))
        self._identity = replace(self._identity, producer_id=answer.producer_id, epoch=answer.producer_epoch)

    def _ask_to_add(self, node: int, partitions: Iterable[TopicPartition], group_id: str) -> list[Future]:
        """Send what makes partitions and the group's offsets part of the transaction, where they are not yet."""
        asked = []
        new = frozenset(partitions) - self._added
        if group_id != self._group:
            asked.append(self._network.send(requests.add_offsets(self._identity, group_id), node))
            self._group = group_id
        if new:
            asked.append(self._network.send(requests.add_partitions(self._identity, new), node))
            self._added |= new
        return asked

    async def _open(self, partitions: Iterable[TopicPartition], group_id: str) -> None:
        """See to it that these are part of the transaction, `prepare`d or not."""
        asked, self._opening = self._opening or [], []

        async def ask() -> None:
            nonlocal asked
            prepared, asked = asked, []
            try:
                await _all(prepared)
                node = await self._asker.coordinator(CoordinatorType.TRANSACTION, self._identity.transactional_id)
                await _all(self._ask_to_add(node, partitions, group_id))
            except errors.KafkaError:
                self._added, self._group = set(), None
                raise

        await self._asker.insist(ask)

    async def _send(
        self,
        messages: Mapping[str, Sequence[Outgoing]],
        positions: Positions,
        claim: Any,  # noqa: ANN401
        notes: Mapping[tuple[str, int], str],
    ) -> None:
        batches = await self._build(messages)
        await self._open(batches, claim.group_id)
        self._written.append(frozenset(batches))
        offsets = requests.commit_offsets(self._identity, positions, claim, notes) if positions else None
        node = self._asker.known(CoordinatorType.GROUP)
        asked = self._network.send(offsets, node) if offsets and node is not None else None
        while batches:  # of a partition one at a time: a later one must never stand before an earlier
            await self._produce({partition: self._seal(partition, rest.pop(0)) for partition, rest in batches.items()})
            batches = {partition: rest for partition, rest in batches.items() if rest}
        if offsets:
            await self._commit_offsets(offsets, asked)

    async def _build(self, messages: Mapping[str, Sequence[Outgoing]]) -> Batches:
        batches: Batches = {}
        stamp = milliseconds(time.time())
        self._turn += 1
        for topic, records in messages.items():
            if records:
                partitions = await self._asker.insist(functools.partial(self._network.partitions, topic))
                # Those without a key go to one partition, as Kafka's own clients do it; the next time to another.
                keyless = self._turn % len(partitions)
                for index, batch in build(records, len(partitions), stamp, keyless=keyless):
                    batches.setdefault(TopicPartition(topic, partitions[index]), []).append(batch)
        return batches

    def _seal(self, partition: TopicPartition, batch: MemoryRecordsBuilder) -> bytearray:
        """Number a batch, so that the brokers count it once however often it is sent."""
        sequence, who = self._sequences.get(partition, 0), self._identity
        batch.set_producer_state(who.producer_id, who.epoch, sequence, is_transactional=True)
        self._sequences[partition] = (sequence + batch.next_offset()) % _SEQUENCES
        batch.close()
        sealed: bytearray = batch.buffer()
        return sealed

    async def _produce(self, left: dict[TopicPartition, bytearray]) -> None:
        async def ask() -> None:
            refusals: list[BaseException] = []
            for sent in self._ask_to_produce(left):
                try:
                    answer = await sent
                except errors.KafkaError as error:
                    refusals.append(error)
                    continue
                for topic in answer.responses:
                    for each in topic.partition_responses:
                        refusal = errors.for_code(each.error_code)
                        if refusal in (errors.NoError, errors.DuplicateSequenceNumberError):
                            del left[TopicPartition(topic.name, each.index)]
                        else:
                            refusals.append(refusal(f"{topic.name}: {each.error_message or refusal.message}"))
            if left and not refusals:
                message = f"no answer for {len(left)} partitions"
                raise errors.KafkaError(message)
            requests.raise_worst(refusals)

        await self._asker.insist(ask)

    def _ask_to_produce(self, batches: Mapping[TopicPartition, bytearray]) -> list[Future]:
        by_node: dict[int, dict[TopicPartition, bytearray]] = {}
        for partition, batch in batches.items():
            by_node.setdefault(self._network.leader(partition), {})[partition] = batch
        return [self._network.send(requests.produce(self._identity, each), node) for node, each in by_node.items()]

    async def _commit_offsets(self, request: Any, asked: Future | None) -> None:  # noqa: ANN401
        async def ask() -> None:
            nonlocal asked
            if asked is None:
                node = await self._asker.coordinator(CoordinatorType.GROUP, request.group_id)
                asked = self._network.send(request, node)
            now, asked = asked, None
            requests.require_all(await now)

        await self._asker.insist(ask)

    async def _end(self, *, is_commit: bool) -> None:
        request = requests.end(self._identity, is_commit=is_commit)
        await self._asker.insist(lambda: self._ask_coordinator(request))
        self._added, self._group, self._opening = set(), None, None


async def _all(asked: Iterable[Future]) -> None:
    """Await all answers, then raise the worst error among them."""
    refusals: list[BaseException] = []
    for each in asked:
        try:
            requests.require_all(await each)
        except errors.KafkaError as error:
            refusals.append(error)
    requests.raise_worst(refusals)
