"""A coordinator that is named and cannot be reached is asked for a few times a second, and no more."""

from __future__ import annotations

import logging
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

from kafka import KafkaConsumer
from kafka.future import Future
from kafka.net.compat import KafkaNetClient
from kafka.protocol.metadata import FindCoordinatorRequest, FindCoordinatorResponse

from deploy.kafka.node import LOOPBACK, free_port
from worker.broker.client.membership import pause_lookups

if TYPE_CHECKING:
    import pytest

SECONDS = 1.0


def consumer_of(asked: list[object]) -> KafkaConsumer:
    """A consumer whose brokers all name a coordinator that refuses every connection."""

    def unconnected(**configs: object) -> KafkaNetClient:
        client = KafkaNetClient(**{key: value for key, value in configs.items() if key != "bootstrap_timeout_ms"})
        manager = client._manager
        coordinator = FindCoordinatorResponse.Coordinator(
            key="group", node_id=3, host=LOOPBACK, port=free_port(), error_code=0, error_message=None
        )

        def send(request: object, **_: object) -> Future:
            assert isinstance(request, FindCoordinatorRequest)
            asked.append(request)
            return Future().success(FindCoordinatorResponse(throttle_time_ms=0, coordinators=[coordinator]))

        manager.send, client.least_loaded_node = send, lambda: 1
        manager.bootstrap = lambda *_, **__: None
        manager.broker_version_data = SimpleNamespace(broker_version=(4, 0), api_version=(4, 0))
        return client

    return KafkaConsumer(
        group_id="group", bootstrap_servers=f"{LOOPBACK}:{free_port()}", retry_backoff_ms=20, kafka_client=unconnected
    )


def test_a_coordinator_that_cannot_be_reached_is_asked_for_a_few_times_a_second(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked: list[object] = []
    consumer = consumer_of(asked)
    pause_lookups(consumer)
    caplog.set_level(logging.WARNING, "kafka.coordinator")
    try:
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            consumer._coordinator.ensure_coordinator_ready(timeout_ms=100)
    finally:
        consumer.close(autocommit=False, timeout_ms=0)

    assert 2 <= len(asked) <= 15 * SECONDS
    assert len([each for each in caplog.messages if "Marking the coordinator dead" in each]) <= 2 * len(asked)
