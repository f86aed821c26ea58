"""An unreadable event never stops its partition, however its sender compressed it."""

from __future__ import annotations

import base64
import contextlib
import random
from typing import TYPE_CHECKING

import pytest

from tests.contracts.worlds import InKafka, settled, values
from worker.broker import AtLeastOnceSink
from worker.messages import (
    TRUNCATED_BYTES,
    DeadLetter,
    Outgoing,
    Record,
    Unreadable,
    decode_dead_letter,
    encode_dead_letter,
    is_truncated,
)
from worker.pipeline.ports import RolledBackError

if TYPE_CHECKING:
    from worker.broker import KafkaSource
    from worker.pipeline.ports import Sink

pytestmark = pytest.mark.broker


def letter_of(event: Record) -> Outgoing:
    return encode_dead_letter(DeadLetter(event, Unreadable.TOO_LARGE, 1.0))


def well_compressed(size: int) -> bytes:
    """Bytes like JSON's, of which gzip makes 3/4."""
    return base64.b64encode(random.Random(7).randbytes(size * 3 // 4))


def buried(in_kafka: InKafka, sink: Sink, source: KafkaSource, event: Outgoing) -> Record:
    """The dead letter of an event, that of an ordinary one beside it; each refusal is rolled back once."""
    sent = Record(in_kafka.input, 0, 7, 1.0, event.key, event.value, event.headers)
    verdict, letters = Outgoing(b"k", b"verdict"), [letter_of(sent)]
    for _ in range(2):
        with contextlib.suppress(RolledBackError):
            sink.write([verdict], letters, {(in_kafka.input, 0): 8}, source.group_metadata())
            break
    [letter] = in_kafka.read(in_kafka.dead_letters)
    assert verdict.value in values(in_kafka.read(in_kafka.verdicts))
    return letter


def test_an_event_that_its_sender_compressed_better_than_lz4_is_buried_whole(in_kafka: InKafka) -> None:
    source, sink = in_kafka.source(), in_kafka.sink()
    settled(in_kafka, source)
    event = Outgoing(b"k", well_compressed(1_280_000), (("x", b"y"),))

    letter = buried(in_kafka, sink, source, event)

    assert decode_dead_letter(letter) == event
    assert not is_truncated(letter)


@pytest.mark.parametrize("is_exactly_once", [True, False])
def test_an_event_that_fits_no_dead_letter_is_buried_truncated_with_its_place(
    in_kafka: InKafka, *, is_exactly_once: bool
) -> None:
    source = in_kafka.source()
    topics = {"verdict_topic": in_kafka.verdicts, "dead_letter_topic": in_kafka.dead_letters}
    sink = in_kafka.sink() if is_exactly_once else AtLeastOnceSink(in_kafka.place.as_client("writer"), **topics)
    settled(in_kafka, source)
    event = Outgoing(b"k", random.Random(7).randbytes(2_000_000), (("x", b"y"),))

    letter = buried(in_kafka, sink, source, event)

    assert is_truncated(letter)
    assert letter.value == (event.value or b"")[:TRUNCATED_BYTES]
    assert letter.key == b"k"
    headers = dict(letter.headers)
    assert (headers["x"], headers["truncated"], headers["reason"]) == (b"y", b"2000000", b"too-large")
    assert (headers["source-topic"], headers["source-offset"]) == (in_kafka.input.encode(), b"7")
    sink.close()
