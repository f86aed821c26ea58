"""Every error code of the protocol is classified, and the sink does as its class says."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from kafka import errors

from worker.broker import BrokerError, ExactlyOnceSink, KafkaLink, sink
from worker.broker import protocol as requests
from worker.broker.client.network import TooLateError, UnknownOutcomeError
from worker.broker.link import explain
from worker.broker.refusals import FATES, OTHERS, Fate, fate, lasting
from worker.pipeline.ports import FencedError, RolledBackError

if TYPE_CHECKING:
    from collections.abc import Iterator

METADATA: Any = SimpleNamespace(group_id="hamgate", generation_id=1, member_id="m", group_instance_id=None)
ENDS = {Fate.PERMANENT: BrokerError, Fate.FENCING: FencedError}


def codes() -> Iterator[int]:
    kinds = (each for each in vars(errors).values() if inspect.isclass(each))
    return (kind.errno for kind in kinds if getattr(kind, "errno", None) is not None)


KNOWN = sorted(set(codes()))


def test_every_code_that_the_client_knows_is_classified_once() -> None:
    assert set(FATES) | OTHERS == set(KNOWN)
    assert not set(FATES) & OTHERS


@pytest.mark.parametrize("code", FATES)
def test_what_is_asked_again_is_what_the_protocol_calls_retriable(code: int) -> None:
    is_retriable = isinstance(errors.for_code(code)(), requests.RETRIABLE)

    assert (FATES[code] is Fate.RETRIABLE) == is_retriable


@pytest.mark.parametrize("code", [code for code in KNOWN if FATES.get(code) is not Fate.DONE])
def test_a_sink_ends_by_a_permanent_refusal_at_once_and_by_no_other(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused:
        stray_inits, version = 0, 1

        def __init__(self, *_: object) -> None: ...

        def send(self, *_: object, **__: object) -> None:
            raise errors.for_code(code)

        def close(self) -> None: ...

    monkeypatch.setattr(sink, "Transactions", Refused)
    writer = ExactlyOnceSink(
        KafkaLink("none:1"), verdict_topic="v", dead_letter_topic="d", transactional_id="one", transaction_timeout=10.0
    )

    with pytest.raises(ENDS.get(lasting(errors.for_code(code)()), RolledBackError)):
        writer.write([], [], {}, METADATA)


@pytest.mark.parametrize(
    "kind", [errors.InvalidRecordError, errors.InvalidTimestampError, errors.MessageSizeTooLargeError]
)
def test_a_refused_record_comes_with_what_to_do(kind: type[Exception]) -> None:
    assert fate(kind("sms.verdicts")) is Fate.PERMANENT
    said = explain(kind("sms.verdicts"), KafkaLink("none:1"))
    assert "sms.verdicts" in said
    assert "as `hamgate check` says" in said


def test_what_has_no_code_of_the_table_rolls_back_and_what_was_not_sent_is_sent_again() -> None:
    assert fate(errors.for_code(9999)()) is Fate.ABORTABLE
    assert fate(UnknownOutcomeError("no answer")) is Fate.ABORTABLE
    assert fate(TooLateError()) is not Fate.PERMANENT
    assert fate(errors.NodeNotReadyError()) is Fate.RETRIABLE
    assert lasting(errors.NodeNotReadyError()) is Fate.ABORTABLE
    assert lasting(errors.UnknownTopicOrPartitionError("sms.verdicts")) is Fate.PERMANENT


def test_of_several_refusals_the_gravest_is_raised() -> None:
    refusals = [
        errors.NotLeaderForPartitionError(),
        errors.OutOfOrderSequenceNumberError(),
        errors.InvalidRecordError(),
        errors.InvalidProducerEpochError(),
    ]

    with pytest.raises(errors.InvalidRecordError):
        requests.raise_worst(refusals)
    with pytest.raises(errors.InvalidProducerEpochError):
        requests.raise_worst([refusals[0], refusals[1], refusals[3]])
