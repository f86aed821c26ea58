"""Whatever is sent becomes a verdict or a dead letter, in bounded time. The long form is `make fuzz`."""

from __future__ import annotations

from tests.fuzz.cases import case
from tests.fuzz.path import Path
from worker.messages import Unreadable


def test_ten_thousand_hostile_events_each_become_a_verdict_or_a_dead_letter_within_their_bound() -> None:
    path = Path()

    for at in range(0, 10_000, 250):
        path.pass_through([case(number) for number in range(at, at + 250)])

    assert sum(path.counted.values()) == 10_000
    of_events = set(Unreadable) - {Unreadable.UNREADABLE_BATCH}
    assert of_events <= set(path.counted), "every reason is among the cases"
    assert path.counted["verdict"] > 3_000
    assert path.counted["empty-text"] > 0
    assert path.counted["non-finite-score"] > 0


def test_a_case_is_the_same_whenever_it_is_made() -> None:
    assert [case(number) for number in range(100)] == [case(number) for number in range(100)]
