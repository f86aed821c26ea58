"""Transactions by our own requests: nothing is sent twice under one producer epoch, and nothing waits that need not.

The rules of a session, each with its reason:

1. A request whose answer is missing may still arrive (KIP-890, KAFKA-14053). It is not sent again under the same
   producer epoch: the caller closes, and makes a new session, whose InitProducerId fences the old epoch.
2. Produce is the exception. Its sequence numbers make a second copy count once, so it is sent again.
3. InitProducerId is sent again too: each copy takes a new producer epoch and harms only its own sender (`stray_inits`).
4. A request that a broker refused by a retriable error is over. It is asked again.

Which requests there are depends on the transaction version of the cluster:

                 version 1 (KIP-98, KIP-447)                       version 2 (KIP-890)
    prepare      AddOffsetsToTxn, AddPartitionsToTxn               -
    send         (what was not foreseen is added)
                 Produce and TxnOffsetCommit, together             Produce v12 and TxnOffsetCommit v5, together
    commit       EndTxn                                            EndTxn v5, which returns the next epoch

The client's own producer sends each request when the one before is answered, from a thread of its own, and its calls
may wait for ever.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from kafka import errors
from kafka.protocol.metadata import CoordinatorType

from worker.broker import protocol as requests
from worker.broker.appending import Appender
from worker.broker.asking import Asker
from worker.broker.client.network import Network
from worker.broker.protocol import Identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kafka import TopicPartition
    from kafka.future import Future

    from worker.broker.link import KafkaLink
    from worker.messages import Outgoing, Positions

# A transaction is begun with the partitions that so many before it have written to.
_REMEMBERED: Final = 4


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
        self._written: deque[frozenset[TopicPartition]] = deque(maxlen=_REMEMBERED)
        self._added: set[TopicPartition] = set()
        self._group: str | None = None
        self._opening: list[Future] | None = None
        self._is_empty = True
        self.stray_inits = 0
        """InitProducerId requests without an answer. Each may still arrive, once, and fence this session."""
        self._network = Network(link)
        self._asker = Asker(self._network)
        self._appender = Appender(self._network, self._asker, link.compression)
        try:
            self._asker.run(self._init, until=time.monotonic() + link.patience)
        except BaseException:
            self.close()
            raise

    @property
    def version(self) -> int:
        """The transaction version in force: 1, or 2 where the cluster has finalised it."""
        return self._identity.version

    def prepare(self, group_id: str) -> None:
        """Begin a transaction that will commit this group's offsets, and go on without waiting for the answer."""
        node = self._asker.known(CoordinatorType.TRANSACTION)
        if self.version == 1 and self._opening is None and node is not None:
            self._network.catch_up()
            self._opening = self._ask_to_add(node, frozenset().union(*self._written), group_id)
            self._network.catch_up()

    def send(
        self,
        messages: Mapping[str, Sequence[Outgoing]],
        positions: Positions,
        metadata: Any,  # noqa: ANN401 the client is untyped
        notes: Mapping[tuple[str, int], str] | None = None,
        *,
        until: float,
    ) -> None:
        """Make messages, by topic and in order for each key, and the group's positions part of the transaction.

        `notes` stand beside the positions. Returns when all is acknowledged by all replicas in sync. Raises the
        brokers' permanent errors at once, UnknownOutcomeError when an answer is lost, and at the deadline the last
        retriable error or TooLateError.
        """
        self._asker.run(lambda: self._send(messages, positions, metadata, notes or {}), until=until)

    def commit(self, *, until: float) -> None:
        """Commit. Raises as `send` does; then it may have been committed all the same."""
        self._asker.run(lambda: self._end(is_commit=True), until=until)

    def abort(self, *, until: float) -> None:
        """Abort. Raises as `send` does."""
        self._asker.run(lambda: self._end(is_commit=False), until=until)

    def close(self) -> None:
        """Close the connections; an open transaction is left to be aborted."""
        self._network.close()

    # --- a transaction's steps ----------------------------------------------------------------------------------

    async def _ask_coordinator(self, request: Any) -> Any:  # noqa: ANN401 the client is untyped
        return await self._asker.ask(CoordinatorType.TRANSACTION, self._identity.transactional_id or "", request)

    async def _init(self) -> None:
        features = await self._asker.insist(lambda: self._asker.ask_any(requests.features()), is_repeatable=True)
        version = requests.transaction_version(features)
        request = requests.init(self._identity, self._timeout)
        answer = await self._asker.insist(
            lambda: self._ask_coordinator(request), is_repeatable=True, lost=self._count_stray
        )
        self._identity = replace(
            self._identity, producer_id=answer.producer_id, epoch=answer.producer_epoch, version=version
        )

    def _count_stray(self) -> None:
        self.stray_inits += 1

    def _ask_to_add(self, node: int, partitions: Iterable[TopicPartition], group_id: str) -> list[Future]:
        """Send what makes partitions and the group's offsets part of the transaction, where they are not yet.

        One broker answers its requests in order, so both go over one connection: its checks of one transaction would
        put each other off (KIP-890).
        """
        asked = []
        new = frozenset(partitions) - self._added
        if group_id != self._group:
            asked.append(self._network.send(requests.add_offsets(self._identity, group_id), node))
            self._group = group_id
        if new:
            asked.append(self._network.send(requests.add_partitions(self._identity, new), node))
            self._added |= new
        self._is_empty = self._is_empty and not asked
        return asked

    async def _open(self, partitions: Iterable[TopicPartition], group_id: str) -> None:
        """Wait until these are part of the transaction, `prepare`d or not."""
        asked, self._opening = self._opening or [], []

        async def ask() -> None:
            nonlocal asked
            prepared, asked = asked, []
            try:
                await _all(prepared)
                node = await self._asker.coordinator(
                    CoordinatorType.TRANSACTION, self._identity.transactional_id or ""
                )  # fmt: skip
                await _all(self._ask_to_add(node, partitions, group_id))
            except errors.KafkaError:
                self._added, self._group = set(), None
                raise

        await self._asker.insist(ask)

    async def _send(
        self,
        messages: Mapping[str, Sequence[Outgoing]],
        positions: Positions,
        metadata: Any,  # noqa: ANN401
        notes: Mapping[tuple[str, int], str],
    ) -> None:
        batches = await self._appender.build(messages)
        if self.version == 1:
            await self._open(batches, metadata.group_id)
        self._written.append(frozenset(batches))
        self._is_empty = self._is_empty and not batches and not positions
        offsets = requests.commit_offsets(self._identity, positions, metadata, notes) if positions else None
        node = self._asker.known(CoordinatorType.GROUP)
        asked = self._network.send(offsets, node) if offsets and node is not None else None
        await self._appender.append(batches, self._identity)
        if offsets:
            await self._commit_offsets(offsets, asked)

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
        if self._is_empty:
            return
        request = requests.end(self._identity, is_commit=is_commit)
        answer = await self._asker.insist(lambda: self._ask_coordinator(request))
        self._added, self._group, self._opening, self._is_empty = set(), None, None, True
        if self.version > 1:
            self._identity = replace(self._identity, producer_id=answer.producer_id, epoch=answer.producer_epoch)
            self._appender.restart()


async def _all(asked: Iterable[Future]) -> None:
    """Await all answers, then raise the worst error among them."""
    refusals: list[BaseException] = []
    for each in asked:
        try:
            requests.require_all(await each)
        except errors.KafkaError as error:
            refusals.append(error)
    requests.raise_worst(refusals)
