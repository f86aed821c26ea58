"""Transactions by our own requests: what need not wait for an answer is not made to.

A transaction needs five requests, and the client's own producer sends each when the one before is answered. Only this
much is in Kafka's protocol (KIP-98, KIP-447): partitions and the group's offsets are added, then both are written, then
it is ended. So the two additions go out together, and before the records are even encoded (`prepare`); records and
offsets go out together; and the end follows. One broker answers its requests in order, so what is for one broker goes
over one connection: its checks of one transaction would put each other off (KIP-890).
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeVar

from kafka import TopicPartition, errors
from kafka.protocol.metadata import CoordinatorType, FindCoordinatorRequest
from kafka.protocol.producer import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    EndTxnRequest,
    InitProducerIdRequest,
    ProduceRequest,
    TxnOffsetCommitRequest,
)

from worker.broker.batches import build
from worker.broker.link import REQUEST_TIMEOUT, milliseconds
from worker.broker.network import Network, TooLateError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from kafka.future import Future
    from kafka.record.memory_records import MemoryRecordsBuilder

    from worker.broker.link import KafkaLink
    from worker.messages import Outgoing, Positions

    Batches = dict[TopicPartition, list[MemoryRecordsBuilder]]

Answer = TypeVar("Answer")

# The newest that need no transaction.version 2 of the brokers (KIP-890), and that a broker since 2.5 knows.
_NEWEST: Final = 3
_OLDEST_PRODUCE, _NEWEST_PRODUCE = 3, 9
_ALL_REPLICAS: Final = -1
# What passes: it is asked again, of whoever is in charge by then, until the deadline.
_PASSING: Final = (errors.RetriableError, errors.UnknownBrokerIdError)
_MOVED: Final = (
    errors.NotCoordinatorError,
    errors.CoordinatorNotAvailableError,
    errors.RequestTimedOutError,
    errors.InvalidMetadataError,
    errors.NodeNotReadyError,
    errors.UnknownBrokerIdError,
)
_NOT_TRIED: Final = errors.OperationNotAttemptedError
_PAUSE: Final = 0.02
# While the markers of the transaction before are being written: that takes a millisecond or two.
_SETTLING_PAUSE: Final = 0.001
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
        self._name, self._timeout = transactional_id, timeout
        self._coordinators: dict[CoordinatorType, int] = {}
        self._sequences: dict[TopicPartition, int] = {}
        self._written: deque[frozenset[TopicPartition]] = deque(maxlen=_REMEMBERED)
        self._added: set[TopicPartition] = set()
        self._group: str | None = None
        self._opening: list[Future] | None = None
        self._trouble: BaseException | None = None
        self._turn = 0
        self._producer = {"producer_id": -1, "producer_epoch": -1}
        self._network = Network(link)
        try:
            self._run(self._init, until=time.monotonic() + link.patience)
        except BaseException:
            self.close()
            raise

    def prepare(self, group_id: str) -> None:
        """Begin a transaction that will commit this group's offsets, and go on without waiting for the answer."""
        node = self._coordinators.get(CoordinatorType.TRANSACTION)
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
        self._run(lambda: self._send(messages, positions, claim, notes or {}), until=until)

    def commit(self, *, until: float) -> None:
        """Commit. Raises as `send` does; then it may have been committed all the same."""
        self._run(lambda: self._end(is_commit=True), until=until)

    def abort(self, *, until: float) -> None:
        """Abort. Raises as `send` does."""
        self._run(lambda: self._end(is_commit=False), until=until)

    def close(self) -> None:
        """Let go at once; an open transaction is left to be aborted."""
        self._network.close()

    # --- asking -------------------------------------------------------------------------------------------------

    def _run(self, work: Callable[[], Awaitable[None]], *, until: float) -> None:
        self._trouble = None
        try:
            self._network.run(work, until=until)
        except TooLateError:
            if self._trouble:
                raise self._trouble from None
            raise

    async def _insist(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """Ask until no error that passes is the answer."""
        while True:
            try:
                return await ask()
            except _PASSING as error:
                await self._let_pass(error)

    async def _let_pass(self, error: BaseException) -> None:
        self._trouble = error
        if isinstance(error, errors.ConcurrentTransactionsError):
            await self._network.sleep(_SETTLING_PAUSE)
            return
        if isinstance(error, _MOVED):
            self._coordinators.clear()
        if isinstance(error, errors.InvalidMetadataError | errors.UnknownBrokerIdError):
            await self._network.refresh()
        await self._network.sleep(_PAUSE)

    async def _coordinator(self, kind: CoordinatorType, key: str) -> int:
        node = self._coordinators.get(kind)
        if node is None:
            request = FindCoordinatorRequest(key=key, key_type=kind.value, coordinator_keys=[key])
            answer = await self._network.send(request, None)
            found = answer.coordinators[0] if answer.coordinators else answer  # KIP-699
            _require(found.error_code)
            if not self._network.knows(found.node_id):
                await self._network.refresh()
            node = self._coordinators[kind] = found.node_id
        return node

    async def _transaction_coordinator(self) -> int:
        return await self._coordinator(CoordinatorType.TRANSACTION, self._name)

    # --- the five requests --------------------------------------------------------------------------------------

    async def _init(self) -> None:
        async def ask() -> Any:  # noqa: ANN401
            request = InitProducerIdRequest(
                transactional_id=self._name,
                transaction_timeout_ms=milliseconds(self._timeout),
                **self._producer,
                max_version=_NEWEST,
            )
            answer = await self._network.send(request, await self._transaction_coordinator())
            _require(answer.error_code)
            return answer

        answer = await self._insist(ask)
        self._producer = {"producer_id": answer.producer_id, "producer_epoch": answer.producer_epoch}

    def _ask_to_add(self, node: int, partitions: Iterable[TopicPartition], group_id: str) -> list[Future]:
        """Send what makes partitions and the group's offsets part of the transaction, where they are not yet."""
        asked = []
        new = frozenset(partitions) - self._added
        if group_id != self._group:
            request = AddOffsetsToTxnRequest(
                transactional_id=self._name, group_id=group_id, **self._producer, max_version=_NEWEST
            )
            asked.append(self._network.send(request, node))
            self._group = group_id
        if new:
            topic = AddPartitionsToTxnRequest.AddPartitionsToTxnTopic
            request = AddPartitionsToTxnRequest(
                v3_and_below_transactional_id=self._name,
                v3_and_below_producer_id=self._producer["producer_id"],
                v3_and_below_producer_epoch=self._producer["producer_epoch"],
                v3_and_below_topics=[topic(name=name, partitions=indexes) for name, indexes in _by_topic(new).items()],
                max_version=_NEWEST,
            )
            asked.append(self._network.send(request, node))
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
                node = await self._transaction_coordinator()
                await _all(self._ask_to_add(node, partitions, group_id))
            except errors.KafkaError:
                self._added, self._group = set(), None
                raise

        await self._insist(ask)

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
        offsets = self._offsets(positions, claim, notes) if positions else None
        node = self._coordinators.get(CoordinatorType.GROUP)
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
                partitions = await self._network.partitions(topic)
                # Those without a key go to one partition, as Kafka's own clients do it; the next time to another.
                keyless = self._turn % len(partitions)
                for index, batch in build(records, len(partitions), stamp, keyless=keyless):
                    batches.setdefault(TopicPartition(topic, partitions[index]), []).append(batch)
        return batches

    def _seal(self, partition: TopicPartition, batch: MemoryRecordsBuilder) -> bytearray:
        """Number a batch, so that the brokers count it once however often it is sent."""
        sequence = self._sequences.get(partition, 0)
        producer_id, epoch = self._producer.values()
        batch.set_producer_state(producer_id, epoch, sequence, is_transactional=True)
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
            _raise_worst(refusals)

        await self._insist(ask)

    def _ask_to_produce(self, batches: Mapping[TopicPartition, bytearray]) -> list[Future]:
        by_node: dict[int, list[TopicPartition]] = {}
        for partition in batches:
            by_node.setdefault(self._network.leader(partition), []).append(partition)
        data = ProduceRequest.TopicProduceData
        return [
            self._network.send(
                ProduceRequest(
                    transactional_id=self._name,
                    acks=_ALL_REPLICAS,
                    timeout_ms=milliseconds(REQUEST_TIMEOUT),
                    topic_data=[
                        data(
                            name=name,
                            partition_data=[
                                data.PartitionProduceData(index=index, records=batches[TopicPartition(name, index)])
                                for index in indexes
                            ],
                        )
                        for name, indexes in _by_topic(partitions).items()
                    ],
                    min_version=_OLDEST_PRODUCE,
                    max_version=_NEWEST_PRODUCE,
                ),
                node,
            )
            for node, partitions in by_node.items()
        ]

    def _offsets(self, positions: Positions, claim: Any, notes: Mapping[tuple[str, int], str]) -> Any:  # noqa: ANN401
        topic = TxnOffsetCommitRequest.TxnOffsetCommitRequestTopic
        return TxnOffsetCommitRequest(
            transactional_id=self._name,
            group_id=claim.group_id,
            generation_id=claim.generation_id,
            member_id=claim.member_id,
            group_instance_id=claim.group_instance_id,
            topics=[
                topic(
                    name=name,
                    partitions=[
                        topic.TxnOffsetCommitRequestPartition(
                            partition_index=index,
                            committed_offset=positions[name, index],
                            committed_leader_epoch=-1,
                            committed_metadata=notes.get((name, index), ""),
                        )
                        for index in indexes
                    ],
                )
                for name, indexes in _by_topic(positions).items()
            ],
            **self._producer,
            max_version=_NEWEST,
        )

    async def _commit_offsets(self, request: Any, asked: Future | None) -> None:  # noqa: ANN401
        async def ask() -> None:
            nonlocal asked
            if asked is None:
                asked = self._network.send(request, await self._coordinator(CoordinatorType.GROUP, request.group_id))
            now, asked = asked, None
            answer = await now
            _require_all((topic.name, each.error_code) for topic in answer.topics for each in topic.partitions)

        await self._insist(ask)

    async def _end(self, *, is_commit: bool) -> None:
        async def ask() -> None:
            request = EndTxnRequest(
                transactional_id=self._name, committed=is_commit, **self._producer, max_version=_NEWEST
            )
            answer = await self._network.send(request, await self._transaction_coordinator())
            _require(answer.error_code)

        await self._insist(ask)
        self._added, self._group, self._opening = set(), None, None


def _by_topic(partitions: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    by_topic: dict[str, list[int]] = {}
    for topic, index in partitions:
        by_topic.setdefault(topic, []).append(index)
    return by_topic


async def _all(asked: Iterable[Future]) -> None:
    """Await all answers to additions, then raise the worst there is among them."""
    refusals: list[BaseException] = []
    for each in asked:
        try:
            answer = await each
            if isinstance(answer, AddPartitionsToTxnResponse):
                results = answer.results_by_topic_v3_and_below
                _require_all((t.name, p.partition_error_code) for t in results for p in t.results_by_partition)
            else:
                _require(answer.error_code)
        except errors.KafkaError as error:
            refusals.append(error)
    _raise_worst(refusals)


def _require(code: int, *what: object) -> None:
    if code:
        raise errors.for_code(code)(*what)


def _require_all(codes: Iterable[tuple[str, int]]) -> None:
    """Raise the worst of the refusals of these topics, with its topic."""
    _raise_worst([errors.for_code(code)(topic) for topic, code in codes if code])


def _raise_worst(refusals: Sequence[BaseException]) -> None:
    """What does not pass comes before what does, and a reason before `not attempted`."""
    if refusals:
        raise min(refusals, key=lambda each: (isinstance(each, _PASSING), isinstance(each, _NOT_TRIED)))
