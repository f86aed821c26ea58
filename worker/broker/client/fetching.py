"""A poll that asks the client's I/O thread once: to send a fetch and to wait for it.

The client asks once for each, and an answer that arrives between the two is waited past. Each question wakes both
threads, and each needs the interpreter back from the worker's other threads.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

from kafka import errors
from kafka.future import Future

if TYPE_CHECKING:
    from kafka import TopicPartition


def ask_once(consumer: Any) -> None:  # noqa: ANN401 the client is untyped
    """Replace a consumer's fetch by one that does so."""
    fetcher = consumer._fetcher  # noqa: SLF001

    def fetch_records(
        max_records: int | None = None, *, update_offsets: bool = True, timeout_ms: float | None = None
    ) -> tuple[dict[TopicPartition, list[Any]], bool]:
        """As the client's own: records by partition, and whether there was nothing to wait for."""
        fetched = functools.partial(fetcher.fetched_records, max_records, update_offsets=update_offsets)
        records, is_partial = fetched()
        if records:
            if not is_partial:
                fetcher.send_fetches()
            return records, False
        wait = functools.partial(_send_and_wait, fetcher, timeout_ms, send=not is_partial)
        has_waited = fetcher._manager.run(wait)  # noqa: SLF001
        if has_waited:
            records, _ = fetched()
        return records, not has_waited

    fetcher.fetch_records = fetch_records


async def _send_and_wait(fetcher: Any, timeout_ms: float | None, *, send: bool) -> bool:  # noqa: ANN401
    """Wait until something has come, or until then. False when there was nothing to wait for."""
    if send:
        await fetcher._send_fetches_async()  # noqa: SLF001
    if fetcher._completed_fetches:  # noqa: SLF001 it came after the look; what was sent for is the other partitions
        return True
    awaited = [*fetcher._fetch_futures]  # noqa: SLF001
    if fetcher._reset_task is not None and not fetcher._reset_task.is_done:  # noqa: SLF001
        awaited.append(fetcher._reset_task)  # noqa: SLF001
    if not awaited:
        return False
    come = Future()
    for each in awaited:
        each.add_both(lambda _: come.is_done or come.success(None))
    with contextlib.suppress(errors.KafkaTimeoutError):
        await fetcher._manager.wait_for(come, timeout_ms)  # noqa: SLF001
    return True
