"""Nothing lost, nothing doubled, order kept: whatever happens to the worker in the middle of its work."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.integration.harness import Traffic, Watch, WorkerProcess, exactly_once, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy.kafka.node import Node


def under_way(watch: Watch, more: int = 100) -> None:
    """Wait until so many more results have been seen."""
    awaited = watch.seen() + more
    until(lambda: watch.seen() >= awaited)


def test_a_worker_told_to_stop_finishes_and_the_next_goes_on_where_it_stopped(
    start: Callable[..., WorkerProcess], traffic: Traffic, watch: Watch
) -> None:
    with traffic.flowing():
        worker = start()
        under_way(watch)
        worker.send(signal.SIGTERM)
        assert worker.ended() == 0
        start()

    exactly_once(traffic, watch)


@pytest.mark.long
def test_a_worker_killed_in_mid_batch_is_replaced_without_loss_or_repeat(
    start: Callable[..., WorkerProcess], traffic: Traffic, watch: Watch
) -> None:
    with traffic.flowing():
        for _ in range(2):
            worker = start()
            under_way(watch, 150)
            worker.send(signal.SIGKILL)
            worker.ended()
        start()

    exactly_once(traffic, watch)


@pytest.mark.long
def test_workers_that_join_and_leave_share_the_work_without_loss_or_repeat(
    start: Callable[..., WorkerProcess], traffic: Traffic, watch: Watch
) -> None:
    with traffic.flowing():
        first = start("one")
        under_way(watch)
        second = start("two")
        until(lambda: first.metric("hamgate_rebalances_total") >= 2)
        until(lambda: second.metric("hamgate_verdicts_total") > 0)
        first.send(signal.SIGTERM)
        assert first.ended() == 0
        under_way(watch)
        second.send(signal.SIGKILL)
        second.ended()
        start("one")

    exactly_once(traffic, watch)


def test_a_worker_that_slept_through_its_session_repeats_nothing_when_it_wakes(
    start: Callable[..., WorkerProcess], traffic: Traffic, watch: Watch
) -> None:
    with traffic.flowing():
        sleeper, heir = start("one", ready=False), start("two", ready=False)
        until(lambda: sleeper.is_ready() and heir.is_ready())
        under_way(watch)
        sleeper.send(signal.SIGSTOP)
        until(lambda: heir.metric("hamgate_assigned_partitions") == traffic.place.partitions)
        sleeper.send(signal.SIGCONT)
        until(lambda: heir.metric("hamgate_assigned_partitions") < traffic.place.partitions)
        under_way(watch)

    exactly_once(traffic, watch)
    assert sleeper.is_running()


def test_the_older_of_two_workers_of_one_name_stops(
    start: Callable[..., WorkerProcess], traffic: Traffic, watch: Watch
) -> None:
    with traffic.flowing():
        older = start("same")
        under_way(watch)
        newer = start("same", ready=False)
        assert older.ended() == 1
        until(newer.is_ready, within=60)

    exactly_once(traffic, watch)
    assert '"cause": "FencedError: another instance has taken over' in older.said()


@pytest.mark.long
def test_a_broker_that_is_restarted_ends_no_worker(
    start: Callable[..., WorkerProcess], traffic: Traffic, watch: Watch, kafka: Node
) -> None:
    traffic.feed(500)
    worker = start()
    under_way(watch)

    kafka.kill()
    time.sleep(1)
    kafka.start()

    traffic.feed(500)
    exactly_once(traffic, watch)
    assert worker.is_running()


@pytest.mark.long
def test_at_least_once_loses_nothing_when_killed(
    start: Callable[..., WorkerProcess], traffic: Traffic, watch: Watch
) -> None:
    with traffic.flowing():
        worker = start(delivery="at-least-once")
        under_way(watch)
        worker.send(signal.SIGKILL)
        worker.ended()
        start(delivery="at-least-once")

    until(lambda: {verdict.id for verdict in watch.verdicts} == set(traffic.sent))
    until(lambda: {letter.value for letter in watch.dead_letters} == set(traffic.poison))


@pytest.mark.long
def test_at_least_once_goes_on_when_its_broker_is_restarted(
    start: Callable[..., WorkerProcess], traffic: Traffic, watch: Watch, kafka: Node
) -> None:
    traffic.feed(500)
    worker = start(delivery="at-least-once")
    under_way(watch)

    kafka.kill()
    time.sleep(1)
    kafka.start()

    traffic.feed(500)
    until(lambda: {verdict.id for verdict in watch.verdicts} == set(traffic.sent), within=60)
    until(lambda: {letter.value for letter in watch.dead_letters} == set(traffic.poison))
    assert worker.is_running()
