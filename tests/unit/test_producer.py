"""What the client's own producer would do without end is done at a pace."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from kafka import errors

from worker.broker import producer


def network(answer: object) -> Any:
    def await_ready(_: int, *, timeout_ms: float) -> object:
        assert timeout_ms > 0
        if isinstance(answer, Exception):
            raise answer
        return answer

    made = SimpleNamespace(await_ready=await_ready)
    producer._pause_between_tries(made)
    return made


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr("time.sleep", found.append)
    return found


def test_a_broker_that_cannot_be_reached_is_not_ready_after_a_pause(slept: list[float]) -> None:
    assert not network(errors.KafkaConnectionError("refused")).await_ready(1)

    assert slept == [producer._UNREACHABLE_PAUSE]


@pytest.mark.parametrize("is_ready", [True, False])
def test_one_that_answers_is_what_it_says_at_once(slept: list[float], *, is_ready: bool) -> None:
    assert network(is_ready).await_ready(1) == is_ready

    assert slept == []


def test_a_refusal_is_raised(slept: list[float]) -> None:
    with pytest.raises(errors.SaslAuthenticationFailedError):
        network(errors.SaslAuthenticationFailedError("no")).await_ready(1)

    assert slept == []
