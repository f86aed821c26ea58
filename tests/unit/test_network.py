"""What is known of a topic when nobody answers: nothing, and not that there is none."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import errors
from kafka.net.selector import NetworkSelector

from worker.broker.network import Network

TOPIC = "sms.verdicts"


class Metadata:
    """What the client knows of a cluster; `refused` while nobody answers it."""

    def __init__(self, *topics: str) -> None:
        self.topics, self.refused = set(topics), False
        self.unauthorized_topics: set[str] = set()
        self._asked_for: set[str] = set()
        self._known: set[str] = set()

    def add_topic(self, topic: str) -> None:
        self._asked_for.add(topic)

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return {1, 0} if topic in self._known else None

    async def refresh_metadata(self) -> None:
        if self.refused:
            raise errors.KafkaConnectionError
        self._known = self._asked_for & self.topics


def partitions(metadata: Metadata) -> list[int]:
    net = NetworkSelector()
    client = SimpleNamespace(_manager=SimpleNamespace(cluster=metadata), _net=net)
    link: Any = SimpleNamespace(connect=lambda *_, **__: client)
    network = Network(link)
    try:
        return network.run(lambda: network.partitions(TOPIC), until=time.monotonic() + 5)
    finally:
        net.close()


def test_a_topic_that_nobody_could_be_asked_for_is_not_called_unknown() -> None:
    metadata = Metadata(TOPIC)
    metadata.refused = True

    with pytest.raises(errors.KafkaConnectionError):
        partitions(metadata)

    metadata.refused = False
    assert partitions(metadata) == [0, 1]


def test_a_topic_that_the_brokers_do_not_have_is_unknown() -> None:
    with pytest.raises(errors.UnknownTopicOrPartitionError, match=TOPIC):
        partitions(Metadata())
