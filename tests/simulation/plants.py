"""Bugs that others have shipped in this place, each as a part that a simulated worker can be given."""

from __future__ import annotations

import functools
import types
from typing import TYPE_CHECKING, Any, Final

from kafka import errors

from tests.simulation.clients import SimConsumer
from tests.simulation.cluster import INPUT
from tests.simulation.process import Parts
from worker.broker import ExactlyOnceSink, KafkaSource
from worker.broker.transactions import Transactions
from worker.pipeline.batch import Batch
from worker.pipeline.ports import RolledBackError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.messages import Outgoing, Positions
    from worker.pipeline.inbox import Inbox
    from worker.pipeline.ports import GroupMetadata
    from worker.pipeline.stages import Pipeline


class CommitsFirst(ExactlyOnceSink):
    """Commits the offsets, then publishes: what dies between is lost."""

    def write(
        self,
        verdicts: Sequence[Outgoing],
        dead_letters: Sequence[Outgoing],
        positions: Positions,
        metadata: GroupMetadata,
    ) -> None:
        super().write([], [], positions, metadata)
        super().write(verdicts, dead_letters, {}, metadata)


class _LateMetadata:
    """The group's metadata as of whenever it is asked for."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer.group_metadata(), name)


class AsksLate(KafkaSource):
    """Stamps a batch with the generation of its commit, not of its poll."""

    def group_metadata(self) -> GroupMetadata:
        return _LateMetadata(self._consumer)


class KeepsOffsets(ExactlyOnceSink):
    """Aborts, and goes on with what the aborted transaction was to commit, as the client's own producer does."""

    _unsent: Positions | None = None

    def write(
        self,
        verdicts: Sequence[Outgoing],
        dead_letters: Sequence[Outgoing],
        positions: Positions,
        metadata: GroupMetadata,
    ) -> None:
        self._unsent = {**(self._unsent or {}), **positions}
        super().write(verdicts, dead_letters, self._unsent, metadata)
        self._unsent = None

    def _recover(self, cause: BaseException, *, elapsed: float) -> Any:
        if not isinstance(cause, errors.IllegalGenerationError | errors.UnknownMemberIdError):
            self._unsent = None
            super()._recover(cause, elapsed=elapsed)
        self._transactions.abort(until=float("inf"))
        raise RolledBackError from cause


class EndsEarly(ExactlyOnceSink):
    """Commits without waiting for the leaders' word that they have the records."""

    def _connect(self) -> Transactions:
        made = super()._connect()

        async def send_only(batches: Any, identity: Any) -> None:
            appender = made._appender
            appender.send(
                {place: appender._seal(place, each[0], identity) for place, each in batches.items()}, identity
            )

        made._appender.append = send_only  # type: ignore[method-assign]
        return made


class EndsTwice(ExactlyOnceSink):
    """Sends EndTxn again under the same epoch when the connection is lost, as most clients did until KIP-890."""

    def _connect(self) -> Transactions:
        made = super()._connect()
        insist = made._asker.insist

        async def end(*, is_commit: bool) -> None:
            made._asker.insist = functools.partial(insist, is_repeatable=True)  # type: ignore[method-assign]
            try:
                await Transactions._end(made, is_commit=is_commit)
            finally:
                made._asker.insist = insist  # type: ignore[method-assign]

        made._end = end  # type: ignore[method-assign]
        return made


class ReadsUnstable(SimConsumer):
    """Begins at an offset that an open transaction is about to move."""

    def __init__(self, process: Any, **configs: Any) -> None:
        super().__init__(process, **configs | {"isolation_level": "read_uncommitted"})


def _keep_what_waits(pipeline: Pipeline) -> None:
    """Let what was polled before a rebalance go on into the new generation, revoked partitions and all."""

    move = pipeline.inbox.move

    def keep_all(_: Any, metadata: GroupMetadata) -> int:
        return move(frozenset((INPUT, number) for number in range(99)), metadata)

    pipeline.inbox.move = keep_all  # type: ignore[method-assign]


def _forget_to_rewind(pipeline: Pipeline) -> None:
    """Discard a refused batch, and read on behind it."""

    def begin(inbox: Inbox) -> tuple[int, None]:
        inbox._not_rewound = None
        return inbox.ownership, None

    pipeline.inbox.begin = types.MethodType(begin, pipeline.inbox)  # type: ignore[method-assign]


def _shift_positions(by: int) -> Any:
    def shift(pipeline: Pipeline) -> None:
        take = pipeline.inbox.take

        class Shifted(Batch):
            @property
            def positions(self) -> Positions:
                return {partition: max(0, at + by) for partition, at in super().positions.items()}

        def take_shifted() -> Batch | None:
            batch = take()
            return batch and Shifted(batch.ownership, batch.metadata, batch.items, batch.taken_at)

        pipeline.inbox.take = take_shifted  # type: ignore[method-assign]

    return shift


PLANTS: Final = {
    "commit before publish": Parts(sink=CommitsFirst),
    "offset of the last one read": Parts(pipeline=_shift_positions(-1)),
    "offset one too far": Parts(pipeline=_shift_positions(+1)),
    "metadata taken at commit time": Parts(source=AsksLate),
    "stale offsets after an abort": Parts(sink=KeepsOffsets),
    "commit before the records are acknowledged": Parts(sink=EndsEarly),
    "in-flight batch of a revoked partition committed": Parts(pipeline=_keep_what_waits),
    "no rewind after a rollback": Parts(pipeline=_forget_to_rewind),
    "end of a transaction sent again under the same epoch": Parts(sink=EndsTwice),
    "offsets read past an open transaction": Parts(consumer=ReadsUnstable),
}
