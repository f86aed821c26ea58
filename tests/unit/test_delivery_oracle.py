"""The kill matrix's oracle: it must see what is lost, doubled and disordered, and be silent otherwise."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from tests.delivery import oracle, traffic
from tests.delivery.readers import Seen

TOTAL = 600


@pytest.fixture(autouse=True)
def _verdicts_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(value: bytes) -> Any:
        said = json.loads(value)
        return SimpleNamespace(id=said["id"], source=SimpleNamespace(offset=said["offset"]))

    monkeypatch.setattr(oracle, "decode_verdict", decode)


def fed() -> list[Seen]:
    return [Seen("in", 0, n, traffic.key(n), traffic.value(n)) for n in range(TOTAL)]


def verdict(seen: Seen) -> Seen:
    said = {"id": json.loads(seen.value or b"")["id"], "offset": seen.offset}
    return Seen("out", 0, seen.offset, seen.key, json.dumps(said).encode())


def answered(events: list[Seen]) -> tuple[list[Seen], list[bytes | None]]:
    poison = set(traffic.poisoned(TOTAL))
    verdicts = [verdict(seen) for seen in events if seen.value is not None and seen.value not in poison]
    return verdicts, [seen.value for seen in events if seen.value in poison]


def test_one_answer_to_each_event_in_order_is_exactly_once() -> None:
    found = oracle.compare(fed(), *answered(fed()), TOTAL)

    assert found.is_exactly_once
    assert (found.messages, found.poison, found.dead_letters, found.fed_twice) == (TOTAL, 6, 6, 0)


def test_an_event_that_is_in_the_input_twice_has_two_answers_and_not_one_or_three() -> None:
    events = fed()
    events.insert(2, events[1]._replace(offset=TOTAL))
    verdicts, letters = answered(events)

    right = oracle.compare(events, verdicts, letters, TOTAL)
    one = oracle.compare(events, [*verdicts[:2], *verdicts[3:]], letters, TOTAL)
    three = oracle.compare(events, [*verdicts, verdicts[-1]], letters, TOTAL)

    assert (right.lost, right.duplicated, right.fed_twice, right.messages) == (0, 0, 1, TOTAL + 1)
    assert (one.lost, one.is_exactly_once) == (1, False)
    assert (three.duplicated, three.is_exactly_once) == (1, False)


def test_what_is_lost_doubled_unknown_or_out_of_order_is_told() -> None:
    verdicts, letters = answered(fed())
    swapped = [*verdicts]
    later = next(at for at in range(1, len(swapped)) if swapped[at].key == swapped[0].key)
    swapped[0], swapped[later] = swapped[later], swapped[0]
    alien = verdicts[0]._replace(value=b'{"id": "m-99999999", "offset": 0}')

    assert oracle.compare(fed(), verdicts[1:], letters, TOTAL).lost == 1
    assert oracle.compare(fed(), [*verdicts, verdicts[-1]], letters, TOTAL).duplicated == 1
    assert oracle.compare(fed(), [*verdicts, alien], letters, TOTAL).unknown == 1
    assert oracle.compare(fed(), swapped, letters, TOTAL).reordered >= 1
    assert oracle.compare(fed(), verdicts, letters[1:], TOTAL).dead_letters_lost == 1
    assert oracle.compare(fed(), verdicts, [*letters, letters[0]], TOTAL).dead_letters_duplicated == 1
    assert oracle.compare(fed(), verdicts, [*letters, b"?"], TOTAL).dead_letters_unknown == 1


def test_an_input_that_lacks_what_was_sent_fails_the_run_itself() -> None:
    with pytest.raises(AssertionError, match="the input has not all"):
        oracle.compare(fed()[1:], *answered(fed()), TOTAL)
