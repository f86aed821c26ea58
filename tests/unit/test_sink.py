"""When a sink that is refused goes on, and when it gives up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from kafka import errors
from structlog.testing import capture_logs

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


class Stuck(Refused):
    """Transactions that too few replicas take; and the next session cannot be made."""

    made = 0

    def __init__(self, *_: object) -> None:
        type(self).made += 1
        if self.made > 1:
            message = "hamgate.one"
            raise errors.ConcurrentTransactionsError(message)

    def send(self, *_: object, **__: object) -> None:
        message = "sms.verdicts"
        raise errors.NotEnoughReplicasError(message)


def test_the_first_refusal_is_logged_at_once_and_stands_in_the_cause_when_the_rebuild_fails(
    clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink, "Transactions", type("Once", (Stuck,), {}))

    with capture_logs() as said, pytest.raises(BrokerError) as raised:
        refused(clock, [0.0])

    assert [(line["event"], line["log_level"]) for line in said] == [("transaction refused", "warning")]
    assert "NotEnoughReplicasError: sms.verdicts" in said[0]["cause"]
    assert "ConcurrentTransactionsError" in str(raised.value)
    assert "before that: [Error 19] NotEnoughReplicasError: sms.verdicts" in str(raised.value)
    assert "min.insync.replicas" in str(raised.value)


def test_the_cause_of_the_first_of_many_refusals_is_in_the_last_word(
    clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    causes = iter([errors.NotEnoughReplicasError("sms.verdicts"), *[errors.InvalidTxnStateError("one")] * 20])

    class Changing(Refused):
        def send(self, *_: object, **__: object) -> None:
            raise next(causes)

    monkeypatch.setattr(sink, "Transactions", Changing)

    with pytest.raises(BrokerError, match=r"60 s; last: .*InvalidTxnState.*first: .*NotEnoughReplicas.*sms.verdicts"):
        refused(clock, [0.0, *([5.0] * 14)])


def test_what_a_rebalance_refuses_is_no_line_of_its_own(clock: SimpleNamespace) -> None:
    with capture_logs() as said:
        refused(clock, [0.0])

    assert said == []


def test_a_lost_connection_is_no_line_of_its_own_either(
    clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Lost(Refused):
        def send(self, *_: object, **__: object) -> None:
            raise errors.KafkaConnectionError

    monkeypatch.setattr(sink, "Transactions", Lost)

    with capture_logs() as said:
        refused(clock, [0.0])

    assert said == []


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
