"""A group whose offsets are gone, as after a week without workers: what was judged is not judged again in silence."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest
from kafka.admin import KafkaAdminClient

from tests.integration.harness import Traffic, Watch, WorkerProcess, until

if TYPE_CHECKING:
    from collections.abc import Callable

MESSAGES = 20


def due(traffic: Traffic) -> int:
    """How many answers all that was sent has, once each."""
    return len(traffic.sent) + traffic.poison.total()


@pytest.fixture
def forgotten(start: Callable[..., WorkerProcess], traffic: Traffic, watch: Watch) -> None:
    """A worker has judged all there is and has ended; then the brokers forget its group."""
    traffic.feed(MESSAGES)
    worker = start()
    until(lambda: watch.seen() == due(traffic))
    worker.send(signal.SIGTERM)
    assert worker.ended() == 0
    with KafkaAdminClient(**traffic.place.link.options()) as admin:
        until(lambda: admin.delete_groups([traffic.place.group])[traffic.place.group] == "OK")


@pytest.mark.usefixtures("forgotten")
def test_it_stops_the_worker_by_name_and_count(
    start: Callable[..., WorkerProcess], traffic: Traffic, watch: Watch
) -> None:
    worker = start(ready=False)

    assert worker.ended(within=60) == 1
    assert f"group {traffic.place.group} has no position" in worker.said()
    assert "HAMGATE_OFFSET_OUT_OF_RANGE" in worker.said()
    assert watch.seen() == due(traffic)


@pytest.mark.usefixtures("forgotten")
def test_by_policy_it_goes_on_from_the_end_and_a_restart_does_not_ask_again(
    start: Callable[..., WorkerProcess], traffic: Traffic, watch: Watch
) -> None:
    worker = start(offset_out_of_range="latest")
    until(lambda: "committed offset forgotten" in worker.said())
    worker.send(signal.SIGTERM)
    assert worker.ended() == 0

    traffic.feed(MESSAGES)
    start()

    until(lambda: watch.seen() == due(traffic))
    time.sleep(1)
    assert watch.seen() == due(traffic)
    assert len({verdict.id for verdict in watch.verdicts}) == len(watch.verdicts)


@pytest.mark.usefixtures("forgotten")
def test_by_policy_all_that_is_retained_is_judged_again_with_an_error_for_each_partition(
    start: Callable[..., WorkerProcess], traffic: Traffic, watch: Watch
) -> None:
    worker = start(offset_out_of_range="earliest")

    until(lambda: watch.seen() == 2 * due(traffic))
    said = [line for line in worker.said().splitlines() if "committed offset forgotten" in line]
    assert 1 <= len(said) <= 4
    assert all('"level": "error"' in line or '"level":"error"' in line for line in said)
    assert all('"messages":' in line for line in said)
