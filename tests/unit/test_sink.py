"""When a sink that is refused goes on, and when it gives up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from kafka import errors

from worker.broker import BrokerError, ExactlyOnceSink, KafkaLink, sink
from worker.stream import FencedError, RolledBackError

PATIENCE = 60.0
CLAIM: Any = SimpleNamespace(group_id="hamgate", generation_id=1, member_id="m", group_instance_id=None)


class Refused:
    """Transactions that the group refuses; ending one is refused by `ending`."""

    ending: Exception | None = None
    asked: ClassVar[list[str]] = []

    def __init__(self, *_: object) -> None: ...

    def begin(self, *_: object, **__: object) -> None:
        self.asked.append("begin")

    def abort(self, **_: object) -> None:
        self.asked.append("abort")
        if self.ending:
            raise self.ending

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


def made() -> ExactlyOnceSink:
    return ExactlyOnceSink(
        KafkaLink("none:1", patience=PATIENCE),
        verdict_topic="v",
        dead_letter_topic="d",
        transactional_id="hamgate.one",
        transaction_timeout=10.0,
    )


def refused(clock: SimpleNamespace, after: list[float]) -> None:
    """Writes, each so many seconds after the one before."""
    writer = made()
    for seconds in after:
        clock.now += seconds
        with pytest.raises(RolledBackError):
            writer.write([], [], {}, CLAIM)


def test_rollbacks_with_an_idle_hour_between_them_end_nobody(clock: SimpleNamespace) -> None:
    refused(clock, [0.0, 3600.0, 3600.0])


def test_a_sink_that_is_refused_for_longer_than_its_patience_gives_up(clock: SimpleNamespace) -> None:
    with pytest.raises(BrokerError, match=r"no transaction has succeeded for 60 s; last: .*IllegalGeneration"):
        refused(clock, [0.0, *([5.0] * 14)])


@pytest.mark.parametrize(("seconds", "raised"), [(2.0, FencedError), (11.0, RolledBackError)])
def test_who_has_ended_what_was_begun_ahead_is_told_by_when_it_was_seen_and_not_by_when_it_is_said(
    clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, seconds: float, raised: type[Exception]
) -> None:
    """Within the transaction's time it was a rival, who must not be fenced in turn; after it, the broker."""
    monkeypatch.setattr(Refused, "ending", errors.InvalidProducerEpochError())
    monkeypatch.setattr(Refused, "asked", [])
    writer = made()
    writer.begin(CLAIM)
    clock.now += seconds
    writer.let_go()
    clock.now += 3600

    with pytest.raises(raised):
        writer.write([], [], {}, CLAIM)
    assert Refused.asked == ["begin", "abort"]


def test_nothing_is_let_go_of_that_was_not_begun(clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Refused, "asked", [])
    writer = made()
    stranger: Any = SimpleNamespace(group_id="hamgate", generation_id=-1, member_id="", group_instance_id=None)

    writer.begin(stranger)
    writer.let_go()

    assert clock.now
    assert not Refused.asked
