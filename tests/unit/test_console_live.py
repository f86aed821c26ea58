"""Counts of the last minutes, and the newest verdicts."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.live import Live, _bucket, _quantile
from tests.consoles import buried, judged
from worker.messages import Action, Latency

NOW = 1_800_000_000.5


def test_verdicts_and_dead_letters_are_counted_in_their_seconds() -> None:
    live = Live()
    live.take(
        [judged(0, at=NOW - 2), judged(1, at=NOW - 2, action=Action.BLOCK), judged(2, at=NOW - 1, flags=("outside",))],
        [buried(0, b"x", at=NOW - 1)],
        NOW,
    )
    state = live.state(NOW)

    assert state["points"][-3:] == [
        [1799999998, 1, 0, 1, 0, 0],
        [1799999999, 1, 0, 0, 0, 1],
        [1800000000, 0, 0, 0, 0, 0],
    ]
    assert len(state["points"]) == 301
    minute = state["minute"]
    assert (minute["total"], minute["deliver"], minute["block"], minute["outside"], minute["dead"]) == (3, 2, 1, 1, 1)
    assert minute["rate"] == pytest.approx(3 / 60)


def test_the_newest_are_given_once_to_whoever_says_what_he_has() -> None:
    live = Live()
    live.take([judged(n, at=NOW) for n in range(100)], [], NOW)
    first = live.state(NOW)
    live.take([judged(100, at=NOW)], [], NOW)
    second = live.state(NOW, after=first["count"])

    assert [each["id"] for each in first["newest"]] == [f"m-{n}" for n in range(60, 100)]
    assert [each["id"] for each in second["newest"]] == ["m-100"]
    assert live.state(NOW, after=second["count"])["newest"] == []


def test_what_is_older_than_the_chart_is_not_counted_and_memory_is_bounded() -> None:
    live = Live()
    for step in range(2000):
        live.take([judged(step, at=NOW + step - 400 * (step % 2))], [], NOW + step)

    assert len(live._seconds) <= 301
    assert live.state(NOW + 2000)["minute"]["total"] == 30


def test_a_record_of_the_future_counts_as_of_now() -> None:
    live = Live()
    live.take([judged(0, at=NOW + 1000)], [], NOW)

    assert live.state(NOW)["points"][-1][1] == 1


@given(st.lists(st.floats(0, 1e7), min_size=1), st.sampled_from([0.5, 0.99]))
def test_a_quantile_is_within_six_percent_of_the_true_one(latencies: list[float], share: float) -> None:
    found = _quantile(Counter(map(_bucket, latencies)), share)
    exact = sorted(latencies)[max(0, -(-int(share * 1000) * len(latencies) // 1000) - 1)]

    assert found is not None
    assert max(exact, 0.1) * 0.999 <= found <= max(exact, 0.1) * 1.061


def test_no_verdict_has_no_latency() -> None:
    assert Live().state(NOW)["minute"]["p99"] is None


def test_a_score_keeps_its_digits_and_a_latency_its_fraction() -> None:
    live = Live()
    live.take([judged(0, at=NOW, score=0.123456, latency_ms=Latency(1, 1, 1, 7.25))], [], NOW)
    [shown] = live.state(NOW)["newest"]

    assert (shown["score"], shown["latency"], shown["href"]) == (0.123456, 7.25, "/history/0/0")
