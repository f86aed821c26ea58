"""Bugs that others have shipped in this place, to be planted into a worker of the tests; none is in the product."""

from __future__ import annotations

import functools
import time
from dataclasses import replace
from typing import Any

# Each is called in the worker's own process, before it starts: imports are its, not the test's.


def commits_before_it_publishes() -> None:
    """A worker that dies in between loses messages."""
    from worker.broker.sink import ExactlyOnceSink  # noqa: PLC0415

    write = ExactlyOnceSink.write

    def commit_first(sink: Any, verdicts: Any, dead_letters: Any, positions: Any, metadata: Any) -> None:
        write(sink, [], [], positions, metadata)
        write(sink, verdicts, dead_letters, {}, metadata)

    ExactlyOnceSink.write = commit_first  # type: ignore[method-assign]


def commits_the_last_offset_read() -> None:
    """Kafka wants the next one: whoever reads next judges one message of each partition again."""
    from worker.pipeline.batch import Batch  # noqa: PLC0415

    positions = Batch.positions.fget
    assert positions is not None
    Batch.positions = property(  # type: ignore[assignment, method-assign]
        lambda batch: {partition: at - 1 for partition, at in positions(batch).items()}
    )


def claims_at_commit_time() -> None:
    """Stamps a batch with the generation of its commit, not of its poll: the fence lets old records pass."""
    from worker.broker.source import KafkaSource  # noqa: PLC0415

    class Late:
        def __init__(self, consumer: Any) -> None:
            self._consumer = consumer

        def __getattr__(self, name: str) -> Any:
            return getattr(self._consumer.group_metadata(), name)

    KafkaSource.group_metadata = lambda source: Late(source._consumer)  # type: ignore[method-assign]


def keeps_the_offsets_of_an_aborted_transaction() -> None:
    """They go out with the next transaction, for partitions that are another's by then."""
    from kafka import errors  # noqa: PLC0415

    from worker.broker.sink import ExactlyOnceSink  # noqa: PLC0415
    from worker.pipeline.ports import RolledBackError  # noqa: PLC0415

    recover, write, unsent = ExactlyOnceSink._recover, ExactlyOnceSink.write, {}

    def keep(sink: Any, verdicts: Any, dead_letters: Any, positions: Any, metadata: Any) -> None:
        unsent.update(positions)
        write(sink, verdicts, dead_letters, dict(unsent), metadata)
        unsent.clear()

    def abort(sink: Any, cause: BaseException, *, elapsed: float) -> None:
        if not isinstance(cause, errors.IllegalGenerationError | errors.UnknownMemberIdError):
            unsent.clear()
            recover(sink, cause, elapsed=elapsed)
        sink._transactions.abort(until=time.monotonic() + 10)
        raise RolledBackError from cause

    ExactlyOnceSink._recover = abort  # type: ignore[assignment, method-assign]
    ExactlyOnceSink.write = keep  # type: ignore[method-assign]


def commits_what_is_in_flight_of_a_revoked_partition() -> None:
    """Takes the new metadata for whatever is in the pipe."""
    from worker.pipeline.inbox import Inbox  # noqa: PLC0415

    def move(inbox: Any, _: object, metadata: Any) -> int:
        inbox._metadata = metadata
        return 0

    def still_owned(inbox: Any, batch: Any) -> Any:
        return replace(batch, metadata=inbox._metadata or batch.metadata)

    Inbox.move = move  # type: ignore[method-assign]
    Inbox.still_owned = still_owned  # type: ignore[method-assign]


def sends_the_end_again() -> None:
    """Sends EndTxn again under the same epoch when its answer is lost: the first may come in the next transaction."""
    from worker.broker.transactions import Transactions  # noqa: PLC0415

    end = Transactions._end

    async def end_insistently(transactions: Any, *, is_commit: bool) -> None:
        asker = transactions._asker
        insist, asker.insist = asker.insist, functools.partial(asker.insist, is_repeatable=True)
        try:
            await end(transactions, is_commit=is_commit)
        finally:
            asker.insist = insist

    Transactions._end = end_insistently  # type: ignore[method-assign]
