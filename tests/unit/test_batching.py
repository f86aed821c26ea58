"""When a batch is cut, by the time passed in."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.pipeline.batching import CostModel, MicroBatcher, Pace


@dataclass(frozen=True)
class Item:
    tokens: int
    timestamp: float = 0.0
    revision: int = 0


def batcher(*, token_budget: int = 100, max_messages: int = 10, latency_budget: float = 0.1) -> MicroBatcher[Item]:
    return MicroBatcher(token_budget, max_messages, latency_budget)


def test_nothing_waits_for_ever_when_nothing_waits() -> None:
    empty = batcher()

    assert empty.wait(now=0.0) is None
    assert empty.take(now=0.0) == []
    assert empty.take(now=0.0, nothing_at_hand=True) == []


def test_a_message_waits_until_its_latency_budget_is_spent() -> None:
    waiting = batcher(latency_budget=0.1)
    waiting.add(Item(5, timestamp=1.0))

    assert waiting.wait(now=1.04) == pytest.approx(0.06)
    assert waiting.take(now=1.04) == []
    assert waiting.take(now=1.1) == [Item(5, timestamp=1.0)]


def test_a_message_goes_alone_when_nothing_more_is_at_hand() -> None:
    waiting = batcher()
    waiting.add(Item(5, timestamp=1.0))

    assert waiting.take(now=1.0, nothing_at_hand=True) == [Item(5, timestamp=1.0)]


def test_the_time_to_judge_is_taken_off_the_wait() -> None:
    waiting = batcher(latency_budget=0.1)
    waiting.cost.observe(tokens=10, seconds=0.03)
    waiting.add(Item(10, timestamp=1.0))

    assert waiting.wait(now=1.0) == pytest.approx(0.07)


def test_a_clock_ahead_of_ours_does_not_hold_a_message_back() -> None:
    waiting = batcher(latency_budget=0.1)
    waiting.add(Item(5, timestamp=500.0))

    assert waiting.wait(now=1.0) == pytest.approx(0.1)


@pytest.mark.parametrize(("items", "taken"), [([60, 40], 2), ([60, 50], 1), ([1] * 11, 10), ([500], 1), ([0] * 10, 10)])
def test_a_full_batch_leaves_at_once_and_no_fuller_than_allowed(items: list[int], taken: int) -> None:
    waiting = batcher(token_budget=100, max_messages=10)
    for tokens in items:
        waiting.add(Item(tokens, timestamp=1.0))

    assert waiting.wait(now=1.0) == 0.0
    assert len(waiting.take(now=1.0)) == taken
    assert len(waiting) == len(items) - taken


def test_what_is_not_retained_is_gone() -> None:
    waiting = batcher()
    for tokens in (5, 6, 7):
        waiting.add(Item(tokens))

    waiting.retain(lambda item: item.tokens != 6)

    assert (len(waiting), waiting.tokens) == (2, 12)
    assert [item.tokens for item in waiting.take(now=9.0)] == [5, 7]


@given(
    st.lists(st.integers(0, 300), max_size=60),
    st.integers(1, 200),
    st.integers(1, 20),
    st.lists(st.floats(0, 10), min_size=1, max_size=60).map(sorted),
)
def test_messages_leave_in_order_once_each_and_within_the_budgets(
    tokens: list[int], token_budget: int, max_messages: int, times: list[float]
) -> None:
    waiting = batcher(token_budget=token_budget, max_messages=max_messages)
    arriving = [Item(count, timestamp=float(number)) for number, count in enumerate(tokens)]
    pending, left = iter(arriving), list[Item]()

    for now in times:
        for item in itertools.islice(pending, 3):
            waiting.add(item)
        batch = waiting.take(now)
        assert len(batch) <= max_messages
        assert len(batch) <= 1 or sum(item.tokens for item in batch) <= token_budget
        left += batch
    for item in pending:
        waiting.add(item)
    while batch := waiting.take(now=20.0, nothing_at_hand=True):
        left += batch

    assert left == arriving
    assert waiting.tokens == 0


def test_a_cost_model_knows_nothing_at_first() -> None:
    assert CostModel().estimate(1000) == 0.0


def test_a_cost_model_learns_a_line() -> None:
    cost = CostModel()
    for tokens in (100, 400, 900, 1600):
        cost.observe(tokens, 0.005 + 2e-5 * tokens)

    assert cost.estimate(3000) == pytest.approx(0.065, rel=1e-6)
    assert cost.estimate(0) == pytest.approx(0.005, rel=1e-6)


def test_a_cost_model_that_saw_one_size_only_says_its_mean() -> None:
    cost = CostModel()
    for seconds in (0.01, 0.02, 0.03):
        cost.observe(500, seconds)

    assert cost.estimate(5000) == pytest.approx(0.02, rel=0.01)


def test_a_cost_model_follows_a_machine_that_slows_down() -> None:
    cost = CostModel()
    for round_ in range(1000):
        cost.observe(100 + round_ % 7, 0.01)
    for round_ in range(500):
        cost.observe(100 + round_ % 7, 0.05)

    assert cost.estimate(103) == pytest.approx(0.05, rel=0.05)


@given(st.lists(st.tuples(st.integers(0, 100_000), st.floats(0, 100)), max_size=50), st.integers(0, 1_000_000))
def test_no_estimate_is_below_zero(seen: list[tuple[int, float]], tokens: int) -> None:
    cost = CostModel()
    for size, seconds in seen:
        cost.observe(size, seconds)

    assert cost.estimate(tokens) >= 0.0


def paced(*, judging: float, writing: float) -> Pace:
    pace = Pace()
    pace.judged(tokens=100, messages=4, seconds=judging)
    pace.began(messages=4, now=0.0)
    pace.ended(messages=4, seconds=writing)
    return pace


def test_nothing_is_held_back_from_a_writer_that_is_free() -> None:
    assert paced(judging=0.002, writing=0.01).hold(tokens=100, now=1.0) == 0.0


def test_a_batch_is_cut_just_early_enough_to_be_judged_when_the_writer_is_free() -> None:
    pace = paced(judging=0.002, writing=0.01)

    pace.judged(tokens=100, messages=4, seconds=0.002)
    pace.began(messages=4, now=1.0)

    assert pace.hold(tokens=100, now=1.003) == pytest.approx(0.8 * 0.010 - 0.003 - 0.002)
    assert pace.hold(tokens=100, now=1.009) == 0.0


def test_a_stall_of_the_writer_holds_the_next_batches_hardly_longer() -> None:
    pace = paced(judging=0.002, writing=0.01)
    for seconds in (0.01, 0.01, 3.0, 0.01):
        pace.began(messages=4, now=1.0)
        pace.ended(messages=4, seconds=seconds)
    pace.began(messages=4, now=1.0)

    assert 0.006 < pace.hold(tokens=100, now=1.0) < 0.008


def test_a_writer_that_becomes_slower_is_followed() -> None:
    pace = paced(judging=0.002, writing=0.01)
    for _ in range(300):
        pace.began(messages=4, now=1.0)
        pace.ended(messages=4, seconds=0.1)
    pace.began(messages=4, now=1.0)

    assert pace.hold(tokens=100, now=1.0) == pytest.approx(0.078, rel=0.1)


def test_what_waits_for_a_busy_writer_holds_nothing_longer_since_all_goes_into_its_next_transaction() -> None:
    pace = paced(judging=0.002, writing=0.01)
    pace.judged(tokens=100, messages=4, seconds=0.002)
    pace.began(messages=4, now=1.0)

    pace.judged(tokens=100, messages=4, seconds=0.002)

    assert pace.hold(tokens=100, now=1.004) == pytest.approx(0.8 * 0.010 - 0.004 - 0.002)


def test_what_a_free_writer_is_about_to_take_up_holds_the_next_for_its_time() -> None:
    pace = paced(judging=0.002, writing=0.01)

    pace.judged(tokens=100, messages=4, seconds=0.002)

    assert pace.hold(tokens=100, now=1.0) == pytest.approx(0.8 * 0.010 - 0.002)


def test_a_writer_that_is_late_holds_nothing_back() -> None:
    pace = paced(judging=0.002, writing=0.01)
    pace.judged(tokens=100, messages=4, seconds=0.002)
    pace.began(messages=4, now=1.0)

    assert pace.hold(tokens=100, now=99.0) == 0.0


def test_where_judging_takes_longer_than_writing_nothing_is_held_back() -> None:
    pace = paced(judging=0.05, writing=0.01)

    pace.judged(tokens=100, messages=4, seconds=0.05)
    pace.began(messages=4, now=1.0)

    assert pace.hold(tokens=100, now=1.0) == 0.0
