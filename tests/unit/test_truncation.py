"""What a topic has refused as too large is truncated the next time, and nothing else."""

from __future__ import annotations

import random

import pytest
from kafka import errors

from worker.broker.batches import BATCH_BYTES
from worker.broker.burying import Burial
from worker.messages import DeadLetter, Outgoing, Record, Unreadable, encode_dead_letter, is_truncated

TOPIC = "sms.dead-letters"
RANDOM = random.Random(7)


def letter(size: int, **changed: object) -> Outgoing:
    fields = {"key": b"k", "value": RANDOM.randbytes(size), "headers": (("x", b"y"),)} | changed
    record = Record("sms.events", 3, 41, 1.0, **fields)  # type: ignore[arg-type]
    return encode_dead_letter(DeadLetter(record, Unreadable.TOO_LARGE, 1.0))


def refusal(topic: str = TOPIC, kind: type[Exception] = errors.MessageSizeTooLargeError) -> Exception:
    error = kind(topic)
    error.topic = topic  # type: ignore[attr-defined]
    return error


def truncated(burial: Burial, *letters: Outgoing) -> list[bool]:
    return [is_truncated(Record(TOPIC, 0, 0, 1.0, each.key, each.value, each.headers)) for each in burial.fit(letters)]


def test_only_what_is_as_large_as_what_was_refused_is_truncated() -> None:
    burial, small, large, larger = Burial(TOPIC), letter(600_000), letter(1_200_000), letter(2_000_000)
    assert truncated(burial, small, large, larger) == [False, False, False]

    assert burial.refused(refusal(), [small, large])

    assert truncated(burial, small, large, larger) == [False, True, True]


@pytest.mark.parametrize("error", [refusal("sms.verdicts"), refusal(kind=errors.InvalidRecordError), OSError()])
def test_a_refusal_of_another_topic_or_kind_truncates_nothing(error: Exception) -> None:
    burial = Burial(TOPIC)

    assert not burial.refused(error, [letter(1_200_000)])
    assert truncated(burial, letter(1_200_000)) == [False]


def test_what_fits_a_batch_with_others_is_never_truncated_so_that_a_lower_limit_ends_the_worker() -> None:
    assert not Burial(TOPIC).refused(refusal(), [letter(BATCH_BYTES - 1000)])


def test_a_sender_who_sends_ever_smaller_ones_has_few_refused() -> None:
    burial, refused = Burial(TOPIC), 0
    for size in range(4_000_000, 1_100_000, -100_000):
        [sent] = burial.fit([letter(size)])
        if len(sent.value or b"") == size:
            refused += burial.refused(refusal(), [sent])

    assert refused <= 9


def test_a_key_or_headers_that_are_too_large_are_cut_too() -> None:
    burial = Burial(TOPIC)
    odd = letter(600_000, key=bytes(RANDOM.randbytes(700_000)), headers=(("x", RANDOM.randbytes(700_000)),))
    assert burial.refused(refusal(), [odd])

    [cut] = burial.fit([odd])

    assert len(cut.key or b"") + len(cut.value or b"") <= 2 << 16
    assert [name for name, _ in cut.headers] == [
        "truncated", "field", "byte-offset", "reason", "source-topic", "source-partition", "source-offset", "failed-at"
    ]  # fmt: skip
