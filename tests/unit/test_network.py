"""A topic is unknown, not absent, when no broker answers."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import errors
from kafka.future import Future
from kafka.net.selector import NetworkSelector

from worker.broker.client.network import Network, UnknownOutcomeError

TOPIC = "sms.verdicts"


class Metadata:
    """The client's metadata of a cluster; `refused` while nobody answers it."""

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


class Connection:
    """The client's connection, as far as `Network.send` asks; `is_open`: whether it was ever established."""

    closed, paused = False, frozenset[str]()

    def __init__(self, failure: Exception, *, is_open: bool) -> None:
        self.failure, self.init_future = failure, Future()
        self.init_future.success(None) if is_open else self.init_future.failure(failure)

    def send_request(self, _: object) -> Future:
        return Future().failure(self.failure)


def failure(connection: Any) -> BaseException:
    manager = SimpleNamespace(get_connection=lambda _: connection)
    link: Any = SimpleNamespace(connect=lambda *_, **__: SimpleNamespace(_manager=manager, _net=None))
    sent = Network(link).send(object(), 1)
    assert sent.exception
    return sent.exception


@pytest.mark.parametrize("lost", [errors.KafkaConnectionError(), errors.RequestTimedOutError(), errors.Cancelled()])
def test_the_outcome_of_a_request_without_an_answer_is_unknown(lost: Exception) -> None:
    assert isinstance(failure(Connection(lost, is_open=True)), UnknownOutcomeError)


@pytest.mark.parametrize("refused", [errors.KafkaConnectionError(), errors.SaslAuthenticationFailedError()])
def test_a_request_whose_connection_was_never_established_was_not_sent(refused: Exception) -> None:
    assert failure(Connection(refused, is_open=False)) is refused


def test_a_request_that_the_broker_does_not_know_was_not_sent() -> None:
    refused = errors.IncompatibleBrokerVersion("Produce")

    assert failure(Connection(refused, is_open=True)) is refused


@pytest.mark.parametrize("state", ["closed", "paused"])
def test_a_connection_that_takes_nothing_is_not_ready(state: str) -> None:
    connection = Connection(errors.KafkaConnectionError(), is_open=True)
    setattr(connection, state, {"throttle"})

    assert isinstance(failure(connection), errors.NodeNotReadyError)
