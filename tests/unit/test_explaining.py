"""Every error that ends something names an address, a topic or a setting, and mostly what to do."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import pytest
from kafka import errors

from worker.broker import KafkaLink
from worker.broker.client.connecting import OUTAGES
from worker.broker.client.network import TooLateError, UnknownOutcomeError
from worker.broker.link import explain

if TYPE_CHECKING:
    from collections.abc import Iterator

LINK = KafkaLink("a.example:9092,b.example:9092")
NO_NAME = errors.KafkaConnectionError("DNS Resolution failure")
KINDS = [
    kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, errors.KafkaError) and kind.__init__ is errors.KafkaError.__init__
]


@pytest.fixture(autouse=True)
def _no_outage() -> Iterator[None]:
    OUTAGES._away.clear()
    yield
    OUTAGES._away.clear()


@pytest.mark.parametrize("kind", [*KINDS, TooLateError, UnknownOutcomeError])
def test_every_error_names_a_setting_or_the_brokers(kind: type[errors.KafkaError]) -> None:
    said = explain(kind(), LINK)

    assert "; " in said
    assert "HAMGATE_" in said or LINK.brokers in said or "topic" in said or "grant this user" in said


@pytest.mark.parametrize("error", [errors.NodeNotReadyError(1), TooLateError(), UnknownOutcomeError("no answer")])
def test_an_advertised_name_that_cannot_be_resolved_is_named_with_where_it_comes_from(error: Exception) -> None:
    OUTAGES.failed("kafka-1.internal:9092", NO_NAME, LINK.brokers)

    said = explain(error, LINK)

    assert "kafka-1.internal:9092" in said
    assert "DNS Resolution failure" in said
    assert "advertised.listeners" in said


def test_a_name_of_ours_that_cannot_be_resolved_is_a_setting() -> None:
    OUTAGES.failed("a.example:9092", errors.KafkaConnectionError("DNS Resolution failure"), LINK.brokers)

    said = explain(errors.KafkaTimeoutError("Unable to bootstrap"), LINK)

    assert "a.example:9092: " in said
    assert "HAMGATE_BROKERS" in said
    assert "advertised.listeners" not in said


def test_a_broker_that_is_away_is_no_cause_of_what_another_refuses() -> None:
    OUTAGES.failed("b.example:9092", errors.KafkaConnectionError("111 ECONNREFUSED"), LINK.brokers)

    assert "ECONNREFUSED" not in explain(errors.InvalidTopicError("sms.verdicts"), LINK)
    assert "ECONNREFUSED" not in explain(errors.NodeNotReadyError(2), KafkaLink("another.example:9092"))
    assert "b.example:9092: KafkaConnectionError: 111 ECONNREFUSED" in explain(errors.NodeNotReadyError(2), LINK)


def test_mixed_rebalance_protocols_name_the_setting() -> None:
    assert "HAMGATE_REBALANCE" in explain(errors.InconsistentGroupProtocolError("hamgate"), LINK)
