"""Dead letters back to the input: chosen, as they first came, all at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contracts.worlds import InKafka, settled
from worker.broker import Selection, replay
from worker.messages import DeadLetter, Outgoing, Record, Unreadable, bury

if TYPE_CHECKING:
    from collections import Counter

NOON = 1_800_000_000.0


def letter(number: int, reason: Unreadable, failed_at: float = NOON) -> Outgoing:
    headers = (("trace", b"%d" % number), ("empty", None))
    record = Record("sms.events", number % 3, number, NOON - 5, b"key-%d" % number, b"\xffbytes %d" % number, headers)
    return bury(DeadLetter(record, reason, failed_at))


@pytest.fixture
def letters(in_kafka: InKafka) -> list[Outgoing]:
    reasons = [Unreadable.INVALID_JSON, Unreadable.TOO_DEEP]
    buried = [letter(number, reasons[number % 2], NOON + number) for number in range(10)]
    source, sink = in_kafka.source(), in_kafka.sink()
    settled(in_kafka, source)
    sink.write([], [*buried, Outgoing(b"k", b"somebody else's")], {(in_kafka.input, 0): 0}, source.claim())
    return buried


def replayed(world: InKafka, selection: Selection, *, dry_run: bool = False) -> Counter[str]:
    return replay(
        world.place.link,
        selection,
        dead_letter_topic=world.dead_letters,
        input_topic=world.input,
        transactional_id=f"{world.place.group}.replay",
        dry_run=dry_run,
    )


def test_letters_return_byte_for_byte_without_what_burying_added(in_kafka: InKafka, letters: list[Outgoing]) -> None:
    assert replayed(in_kafka, Selection()) == {"invalid-json": 5, "too-deep": 5}

    found = sorted((record.key or b"", record.value, record.headers) for record in in_kafka.read(in_kafka.input))
    assert found == [(each.key, each.value, each.headers[:2]) for each in letters]


def test_only_what_is_chosen_returns(in_kafka: InKafka, letters: list[Outgoing]) -> None:
    chosen = Selection(reasons=frozenset({Unreadable.TOO_DEEP}), since=NOON + 3, until=NOON + 7)

    assert replayed(in_kafka, chosen) == {"too-deep": 2}

    assert {record.value for record in in_kafka.read(in_kafka.input)} == {letters[3].value, letters[5].value}


def test_a_range_of_one_partition_returns(in_kafka: InKafka, letters: list[Outgoing]) -> None:
    del letters
    buried = in_kafka.read(in_kafka.dead_letters)
    [first, second, *_] = [each for each in buried if each.partition == buried[0].partition]

    replayed(in_kafka, Selection(partition=first.partition, from_offset=first.offset, to_offset=second.offset))

    assert [record.value for record in in_kafka.read(in_kafka.input)] == [first.value]


def test_a_dry_run_counts_and_sends_nothing(in_kafka: InKafka, letters: list[Outgoing]) -> None:
    del letters
    assert replayed(in_kafka, Selection(), dry_run=True).total() == 10

    assert in_kafka.read(in_kafka.input) == []
