"""Records to the brokers without a transaction: each batch once, however often it is sent (an idempotent producer)."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from worker.broker import protocol as requests
from worker.broker.appending import Appender
from worker.broker.asking import Asker
from worker.broker.client.network import Network
from worker.broker.protocol import Identity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.broker.link import KafkaLink
    from worker.messages import Outgoing


class Producer:
    """An idempotent producer (KIP-98). One thread at a time.

    After an error what was not acknowledged may be written or not; the next records are written under a new id.
    """

    def __init__(self, link: KafkaLink) -> None:
        """Connect. Raises the client's errors."""
        self._identity: Identity | None = None
        self._network = Network(link)
        self._asker = Asker(self._network)
        self._appender = Appender(self._network, self._asker, link.compression)
        try:
            self._asker.run(self._identify, until=time.monotonic() + link.patience)
        except BaseException:
            self.close()
            raise

    def publish(
        self, messages: Mapping[str, Sequence[Outgoing]], *, until: float, timestamp: float | None = None
    ) -> None:
        """Write records, by topic and in order for each key, and return when all replicas in sync have them.

        `until` in `time.monotonic` seconds, `timestamp` in Unix seconds (None: now). Raises the brokers' permanent
        errors at once; at the deadline the last retriable error, or TooLateError.
        """
        self._network.catch_up()
        try:
            self._asker.run(lambda: self._publish(messages, timestamp), until=until)
        except BaseException:
            self._identity = None
            raise

    def close(self) -> None:
        """Close the connections: what is not acknowledged is not waited for."""
        self._network.close()

    async def _publish(self, messages: Mapping[str, Sequence[Outgoing]], timestamp: float | None) -> None:
        batches = await self._appender.build(messages, timestamp)
        await self._appender.append(batches, await self._identify())

    async def _identify(self) -> Identity:
        if self._identity is None:
            made = Identity(transactional_id=None)
            answer = await self._asker.insist(lambda: self._asker.ask_any(requests.init(made, 0.0)), is_repeatable=True)
            self._identity = replace(made, producer_id=answer.producer_id, epoch=answer.producer_epoch)
            self._appender.restart()
        return self._identity
