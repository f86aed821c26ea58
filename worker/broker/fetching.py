"""What a poll asks of the client's own thread: the next fetch as it returns, and one wait where nothing is there yet.

So the brokers answer while the records are worked on, as Kafka's own consumer has it. The client sends the next fetch
when the next poll comes, and a poll asks its thread twice, once to send and once to wait: each time both must be woken,
and each must have the interpreter back from the worker's other threads.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

from kafka import errors
from kafka.future import Future

if TYPE_CHECKING:
    from kafka import TopicPartition


class FetchesAhead:
    """A consumer's fetches, each sent before it is asked for. Used by the thread that polls."""

    def __init__(self, consumer: Any) -> None:  # noqa: ANN401 the client is untyped
        """Have the consumer's polls fetch by this."""
        self._fetcher, self._manager = consumer._fetcher, consumer._manager  # noqa: SLF001
        self._fetcher.fetch_records = self.fetch_records
        self._sending: Future | None = None

    def settle(self) -> None:
        """Wait until the next fetch is sent: to be called before a position changes, or a partition is paused."""
        sending, self._sending = self._sending, None
        if sending is None:
            return
        if not sending.is_done:
            self._manager.run(lambda: sending)
        elif sending.exception:
            raise sending.exception

    def fetch_records(
        self, max_records: int | None = None, *, update_offsets: bool = True, timeout_ms: float | None = None
    ) -> tuple[dict[TopicPartition, list[Any]], bool]:
        """As the client's own: records by partition, and whether there was nothing to wait for."""
        self.settle()
        fetched = functools.partial(self._fetcher.fetched_records, max_records, update_offsets=update_offsets)
        records, is_partial = fetched()
        is_idle = False
        if not records:
            is_idle = not self._manager.run(functools.partial(self._send_and_wait, timeout_ms, send=not is_partial))
            if not is_idle:
                records, is_partial = fetched()
        if records and not is_partial:
            self._sending = self._manager.call_soon(self._fetcher._send_fetches_async)  # noqa: SLF001
        return records, is_idle

    async def _send_and_wait(self, timeout_ms: float | None, *, send: bool) -> bool:
        """Wait until something has come, or until then; whether there was anything to wait for."""
        fetcher = self._fetcher
        if send:
            await fetcher._send_fetches_async()  # noqa: SLF001
        awaited = [*fetcher._fetch_futures]  # noqa: SLF001
        if fetcher._reset_task is not None and not fetcher._reset_task.is_done:  # noqa: SLF001
            awaited.append(fetcher._reset_task)  # noqa: SLF001
        if not awaited:
            return False
        come = Future()
        for each in awaited:
            each.add_both(lambda _: come.is_done or come.success(None))
        with contextlib.suppress(errors.KafkaTimeoutError):
            await self._manager.wait_for(come, timeout_ms)
        return True
