"""A worker's state is derived from its parts, the graver first."""

from __future__ import annotations

import pytest

from tests.fakes import FakeBroker, FakeSink
from tests.unit.test_pipeline import make, read
from tests.unit.test_service import Run, until
from worker.pipeline.ports import RolledBackError
from worker.pipeline.service import Service
from worker.process.states import State, state

CALM = {
    "has_ended": False,
    "is_stopping": False,
    "is_rebuilding": False,
    "is_assigned": True,
    "is_rewinding": False,
}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, State.RUNNING),
        ({"is_rewinding": True}, State.ROLLING_BACK),
        ({"is_rewinding": True, "is_assigned": False}, State.JOINING),
        ({"is_rewinding": True, "is_rebuilding": True}, State.REBUILDING),
        ({"is_stopping": True, "is_rebuilding": True}, State.DRAINING),
        ({"is_stopping": True, "has_ended": True}, State.STOPPED),
    ],
)
def test_the_gravest_of_what_holds_is_the_state(changed: dict[str, bool], expected: State) -> None:
    assert state(**CALM | changed) == expected


def test_a_worker_joins_runs_drains_and_stops() -> None:
    broker = FakeBroker()
    pipeline = make(broker)
    assert Service(pipeline, grace=1, stall=1).state() == State.JOINING

    running = Run(pipeline)
    until(lambda: running.service.state() == State.RUNNING)
    running.service.stop()

    assert running.ended()
    assert running.service.state() == State.STOPPED


def test_a_refused_transaction_rolls_back_until_the_reader_has_followed() -> None:
    broker = FakeBroker()
    broker.feed(b'{"text": "hello"}')
    pipeline = make(broker, FakeSink(broker, RolledBackError("refused")))
    service = Service(pipeline, grace=1, stall=1)
    read(pipeline)
    pipeline.judge()

    pipeline.write()
    assert service.state() == State.ROLLING_BACK
    read(pipeline)

    assert service.state() == State.RUNNING
