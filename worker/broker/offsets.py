"""Offset commits outside transactions, fenced by the group metadata of a poll."""

from __future__ import annotations

import functools
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kafka.protocol.metadata import CoordinatorType

from worker.broker import protocol as requests
from worker.broker.asking import Asker
from worker.broker.client.network import Network
from worker.broker.link import REQUEST_TIMEOUT

if TYPE_CHECKING:
    from worker.broker.link import KafkaLink
    from worker.messages import Positions


class Offsets:
    """Commits for a member by its metadata: the consumer's own commit is another thread's, with present metadata."""

    def __init__(self, link: KafkaLink) -> None:
        """Connect. Raises the client's errors."""
        self._network = Network(replace(link, client_id=f"{link.client_id}-offsets"))
        self._asker = Asker(self._network)

    def commit(self, positions: Positions, metadata: Any, *, until: float) -> None:  # noqa: ANN401 the client is untyped
        """Commit, asking again while the coordinator is moving. Raises the broker's error, or TooLateError.

        What is published and not committed is published again: there is time for one request, `until` or not.
        """
        request = requests.commit(positions, metadata)
        ask = functools.partial(self._asker.ask, CoordinatorType.GROUP, metadata.group_id, request)
        self._network.catch_up()
        # A second copy can only move the offset back to what was published before it: judged again, never lost.
        self._asker.run(
            lambda: self._asker.insist(ask, is_repeatable=True), until=max(until, time.monotonic() + REQUEST_TIMEOUT)
        )

    def close(self) -> None:
        """Close the connections."""
        self._network.close()
