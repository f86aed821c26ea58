"""Dead letters back to the input: chosen, as they first came, all at once."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from typing import Any

import pytest
from kafka import errors

from tests.contracts.worlds import InKafka, settled
from worker.broker import BrokerError, Publisher, Replayed, Selection, letter_at, replay
from worker.broker.client.network import UnknownOutcomeError
from worker.broker.transactions import Transactions
from worker.messages import DeadLetter, Outgoing, Record, Unreadable, encode_dead_letter, truncate_dead_letter

NOON = 1_800_000_000.0


def letter(number: int, reason: Unreadable, failed_at: float = NOON) -> Outgoing:
    headers = (("trace", b"%d" % number), ("empty", None))
    record = Record("sms.events", number % 3, number, NOON - 5, b"key-%d" % number, b"\xffbytes %d" % number, headers)
    return encode_dead_letter(DeadLetter(record, reason, failed_at))


@pytest.fixture
def letters(in_kafka: InKafka) -> list[Outgoing]:
    reasons = [Unreadable.INVALID_JSON, Unreadable.TOO_DEEP]
    buried = [letter(number, reasons[number % 2], NOON + number) for number in range(10)]
    source, sink = in_kafka.source(), in_kafka.sink()
    settled(in_kafka, source)
    sink.write([], [*buried, Outgoing(b"k", b"somebody else's")], {(in_kafka.input, 0): 0}, source.group_metadata())
    return buried


def replayed(
    world: InKafka,
    selection: Selection,
    *,
    dead_letters: str = "",
    events: str = "",
    again: bool = False,
    dry_run: bool = False,
) -> Replayed:
    return replay(
        world.place.link,
        selection,
        dead_letter_topic=dead_letters or world.dead_letters,
        input_topic=events or world.input,
        name=f"{world.place.group}.replay",
        again=again,
        dry_run=dry_run,
    )


def test_letters_return_byte_for_byte_without_what_burying_added(in_kafka: InKafka, letters: list[Outgoing]) -> None:
    assert replayed(in_kafka, Selection()).sent == {"invalid-json": 5, "too-deep": 5}

    found = sorted((record.key or b"", record.value, record.headers) for record in in_kafka.read(in_kafka.input))
    assert found == [(each.key, each.value, each.headers[:2]) for each in letters]


def test_a_dry_run_says_where_letters_lie_and_each_can_be_looked_at(in_kafka: InKafka, letters: list[Outgoing]) -> None:
    del letters
    link, topic = in_kafka.place.link, in_kafka.dead_letters

    found = replayed(in_kafka, Selection(), dry_run=True).last

    assert set(found) == {"invalid-json", "too-deep"}
    for reason, (partition, offset) in found.items():
        looked_at = letter_at(link, topic, partition, offset)
        assert looked_at
        assert (looked_at.reason, looked_at.record.offset) == (reason, offset)
    assert letter_at(link, topic, 0, 10_000) is None
    with pytest.raises(BrokerError, match="has no partition 77"):
        letter_at(link, topic, 77, 0)


def test_only_what_is_chosen_returns(in_kafka: InKafka, letters: list[Outgoing]) -> None:
    chosen = Selection(reasons=frozenset({Unreadable.TOO_DEEP}), since=NOON + 3, until=NOON + 7)

    assert replayed(in_kafka, chosen).sent == {"too-deep": 2}

    assert {record.value for record in in_kafka.read(in_kafka.input)} == {letters[3].value, letters[5].value}


def test_a_range_of_one_partition_returns(in_kafka: InKafka, letters: list[Outgoing]) -> None:
    del letters
    buried = in_kafka.read(in_kafka.dead_letters)
    [first, second, *_] = [each for each in buried if each.partition == buried[0].partition]

    replayed(in_kafka, Selection(partition=first.partition, from_offset=first.offset, to_offset=second.offset))

    assert [record.value for record in in_kafka.read(in_kafka.input)] == [first.value]


def test_a_dry_run_counts_and_sends_nothing(in_kafka: InKafka, letters: list[Outgoing]) -> None:
    del letters
    assert replayed(in_kafka, Selection(), dry_run=True).sent.total() == 10

    assert in_kafka.read(in_kafka.input) == []


def test_a_repeat_sends_nothing_twice_and_says_what_it_left(in_kafka: InKafka, letters: list[Outgoing]) -> None:
    first = Selection(reasons=frozenset({Unreadable.TOO_DEEP}), since=NOON + 3)
    replayed(in_kafka, first)

    dry, repeated, all_of_them = (
        replayed(in_kafka, first, dry_run=True),
        replayed(in_kafka, first),
        replayed(in_kafka, Selection()),
    )

    assert dry == repeated == Replayed(Counter(), Counter({"too-deep": 4}))
    assert all_of_them == Replayed(Counter({"invalid-json": 5, "too-deep": 1}), Counter({"too-deep": 4}))
    assert sorted(record.value or b"" for record in in_kafka.read(in_kafka.input)) == [each.value for each in letters]


def test_a_truncated_letter_is_counted_and_not_sent(in_kafka: InKafka, letters: list[Outgoing]) -> None:
    cut = truncate_dead_letter(letter(10, Unreadable.TOO_LARGE))
    with Publisher(in_kafka.place.link) as publisher:
        publisher.publish(in_kafka.dead_letters, [cut])

    first, second = replayed(in_kafka, Selection()), replayed(in_kafka, Selection(), again=True)

    assert first == Replayed(Counter({"invalid-json": 5, "too-deep": 5}), Counter(), Counter({"too-large": 1}))
    assert second.truncated == {"too-large": 1}
    found = sorted(record.value or b"" for record in in_kafka.read(in_kafka.input))
    assert found == sorted(2 * [each.value or b"" for each in letters])


def test_what_was_sent_back_is_sent_again_when_that_is_asked_for(in_kafka: InKafka, letters: list[Outgoing]) -> None:
    replayed(in_kafka, Selection())

    assert replayed(in_kafka, Selection(), again=True).sent.total() == 10

    assert Counter(record.value for record in in_kafka.read(in_kafka.input)) == {each.value: 2 for each in letters}


def test_a_replay_that_was_cut_short_is_ended_by_another(
    in_kafka: InKafka, letters: list[Outgoing], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[replay.__module__], "_LETTERS", 3)
    send, calls = Transactions.send, itertools.count(1)

    def cut_at_the_third(*arguments: Any, **named: Any) -> None:
        send(*arguments, **named)
        if next(calls) == 3:
            raise errors.KafkaConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(Transactions, "send", cut_at_the_third)
        with pytest.raises(BrokerError, match="6 were sent back before that"):
            replayed(in_kafka, Selection())
    assert len(in_kafka.read(in_kafka.input)) == 6

    assert replayed(in_kafka, Selection()).sent.total() == 4

    assert sorted(record.value or b"" for record in in_kafka.read(in_kafka.input)) == [each.value for each in letters]


@pytest.mark.parametrize("is_committed", [False, True])
def test_a_replay_whose_answer_is_lost_goes_on_and_sends_each_once(
    in_kafka: InKafka, letters: list[Outgoing], monkeypatch: pytest.MonkeyPatch, *, is_committed: bool
) -> None:
    replayed(in_kafka, Selection(since=NOON, until=NOON + 2))
    monkeypatch.setattr(sys.modules[replay.__module__], "_LETTERS", 3)
    commit, calls = Transactions.commit, itertools.count(1)

    def lose_the_second(*arguments: Any, **named: Any) -> None:
        is_lost = next(calls) == 2
        if is_committed or not is_lost:
            commit(*arguments, **named)
        if is_lost:
            raise UnknownOutcomeError

    monkeypatch.setattr(Transactions, "commit", lose_the_second)
    found = replayed(in_kafka, Selection())

    assert (found.sent.total(), found.left.total()) == (8, 2)
    assert sorted(record.value or b"" for record in in_kafka.read(in_kafka.input)) == [each.value for each in letters]


def test_an_unknown_outcome_ends_a_replay_that_sends_all_once_more(
    in_kafka: InKafka, letters: list[Outgoing], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: Any, **__: Any) -> None:
        raise UnknownOutcomeError

    monkeypatch.setattr(Transactions, "commit", lose)

    with pytest.raises(BrokerError, match=f"0 were sent back before that.*{len(letters)} more may be"):
        replayed(in_kafka, Selection(), again=True)


def test_a_topic_that_is_not_there_is_named(in_kafka: InKafka) -> None:
    with pytest.raises(BrokerError, match=r"topic sms\.lettres does not exist"):
        replayed(in_kafka, Selection(), dead_letters="sms.lettres", dry_run=True)
    with pytest.raises(BrokerError, match=r"topic sms\.evnets does not exist"):
        replayed(in_kafka, Selection(), events="sms.evnets")


def test_offsets_without_their_partition_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="--from-offset needs --partition"):
        Selection(from_offset=5)
    with pytest.raises(ValueError, match="--to-offset needs --partition"):
        Selection(to_offset=5)


def test_a_partition_that_is_not_there_is_refused(in_kafka: InKafka) -> None:
    with pytest.raises(BrokerError, match=r"has no partition 9; it has \[0, 1, 2, 3\]"):
        replayed(in_kafka, Selection(partition=9), dry_run=True)


def test_what_only_looks_like_a_letter_is_passed_over(in_kafka: InKafka, letters: list[Outgoing]) -> None:
    names = [name for name, _ in letters[0].headers[-5:]]
    forged = [
        Outgoing(b"k", b"v", tuple(zip(names, (b"too-deep", b"t", b"0", b"0", b"yesterday"), strict=True))),
        Outgoing(b"k", b"v", tuple(zip(names, (b"\xff", b"t", b"0", b"0", b"2026-01-31T08:00:00Z"), strict=True))),
    ]
    with Publisher(in_kafka.place.link) as publisher:
        publisher.publish(in_kafka.dead_letters, forged)

    assert replayed(in_kafka, Selection(), dry_run=True).sent.total() == len(letters)
