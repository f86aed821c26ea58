"""When a sink that is refused goes on, and when it gives up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from kafka import errors

from worker.broker import BrokerError, ExactlyOnceSink, KafkaLink, sink
from worker.pipeline.ports import FencedError, RolledBackError

PATIENCE = 60.0
METADATA: Any = SimpleNamespace(group_id="hamgate", generation_id=1, member_id="m", group_instance_id=None)


class Refused:
    """Transactions that the group refuses."""

    stray_inits, version = 0, 1

    def __init__(self, *_: object) -> None: ...

    def send(self, *_: object, **__: object) -> None:
        raise errors.IllegalGenerationError

    def close(self) -> None: ...


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=1000.0, sleep=lambda _: None)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(sink, "time", clock)
    monkeypatch.setattr(sink, "Transactions", Refused)
    return clock


def refused(clock: SimpleNamespace, after: list[float]) -> None:
    """Writes, each so many seconds after the one before."""
    writer = ExactlyOnceSink(
        KafkaLink("none:1", patience=PATIENCE),
        verdict_topic="v",
        dead_letter_topic="d",
        transactional_id="hamgate.one",
        transaction_timeout=10.0,
    )
    for seconds in after:
        clock.now += seconds
        with pytest.raises(RolledBackError):
            writer.write([], [], {}, METADATA)


def test_rollbacks_with_an_idle_hour_between_them_end_nobody(clock: SimpleNamespace) -> None:
    refused(clock, [0.0, 3600.0, 3600.0])


def test_a_sink_that_is_refused_for_longer_than_its_patience_gives_up(clock: SimpleNamespace) -> None:
    with pytest.raises(BrokerError, match=r"no transaction has succeeded for 60 s; last: .*IllegalGeneration"):
        refused(clock, [0.0, *([5.0] * 14)])


class Fenced(Refused):
    """Transactions whose epoch was fenced, by one of this worker's own late requests or by another worker."""

    def send(self, *_: object, **__: object) -> None:
        raise errors.InvalidProducerEpochError


def test_a_late_request_of_its_own_fences_a_sink_once_and_it_goes_on(
    clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink, "Transactions", type("AskedTwice", (Fenced,), {"stray_inits": 1}))
    writer = ExactlyOnceSink(
        KafkaLink("none:1"), verdict_topic="v", dead_letter_topic="d", transactional_id="one", transaction_timeout=10.0
    )
    monkeypatch.setattr(sink, "Transactions", Fenced)

    with pytest.raises(RolledBackError):
        writer.write([], [], {}, METADATA)
    with pytest.raises(FencedError):
        writer.write([], [], {}, METADATA)
    assert clock.now == 1000.0
