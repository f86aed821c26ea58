"""Thresholds for budgets of lawful texts, their intervals, and what bands take of an evaluation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.policy.bands import Banded
from worker.rollout import budgets

beta = pytest.importorskip("scipy.stats").beta


@given(st.lists(st.floats(0, 0.999999).map(lambda x: round(x, 6)), min_size=1, max_size=300), st.floats(0.001, 0.5))
def test_no_more_than_the_budget_reaches_the_threshold(scores: list[float], budget: float) -> None:
    fitted = budgets.fit(np.array(scores), budget)

    assert sum(score >= fitted.threshold for score in scores) == fitted.reached <= budget * len(scores) + 1e-6


@given(st.integers(1, 400), st.floats(0.001, 0.5))
def test_a_threshold_is_no_higher_than_it_must_be(count: int, budget: float) -> None:
    scores = np.arange(count) / 1000

    fitted = budgets.fit(scores, budget)

    allowed = min(math.floor(budget * count + 1e-9), count - 1)
    assert fitted.threshold == pytest.approx(scores[count - 1 - allowed] + 1e-6)


def test_a_spread_keeps_which_part_of_each_bin_is_spam_and_one_without_it_is_read_too() -> None:
    scores, is_spam = np.array([0.001, 0.001, 0.97, 0.97]), np.array([False, True, True, True])

    spread = budgets.ScoreSpread.of(scores, is_spam)
    read = budgets.ScoreSpread.read({"scores": spread.as_quality()})

    assert read
    assert read.spam is not None
    assert (read.spam[0], read.spam[-3], read.spam.sum()) == (0.25, 0.5, 0.75)
    plain = budgets.ScoreSpread.read({"scores": budgets.ScoreSpread.of(scores).as_quality()})
    assert plain
    assert plain.spam is None


@pytest.mark.parametrize("part", ["x", [1.0], [9.0] * 16, [-1.0] * 16, [[0.0]] * 16, None])
def test_a_part_that_is_not_sound_is_left_out_and_the_spread_is_kept(part: object) -> None:
    stored = budgets.ScoreSpread.of(np.array([0.5])).as_quality() | {"spam": part}

    read = budgets.ScoreSpread.read({"scores": stored})

    assert read
    assert read.spam is None


@pytest.mark.parametrize(("reached", "count"), [(0, 50), (1, 50), (24, 2400), (50, 50)])
def test_the_interval_of_a_share_is_clopper_and_pearsons(reached: int, count: int) -> None:
    low = 0.0 if reached == 0 else beta.ppf(0.025, reached, count - reached + 1)
    high = 1.0 if reached == count else beta.ppf(0.975, reached + 1, count - reached)

    assert budgets._clopper_pearson(reached, count, lower=True) == pytest.approx(low, abs=1e-9)
    assert budgets._clopper_pearson(reached, count, lower=False) == pytest.approx(high, abs=1e-9)


def test_the_interval_of_a_threshold_holds_the_true_one_as_often_as_it_says() -> None:
    dice = np.random.default_rng(0)
    budget, rounds, held = 0.05, 400, 0
    for _ in range(rounds):
        fitted = budgets.fit(dice.random(500), budget)
        assert fitted.high is not None
        held += fitted.low <= 1 - budget <= fitted.high

    assert 0.93 <= held / rounds <= 1


@pytest.mark.parametrize(("budget", "least"), [(0.01, 368), (0.001, 3688)])
def test_too_few_texts_give_no_threshold_that_is_known(budget: float, least: int) -> None:
    assert budgets.needed(budget) == least
    assert not budgets.fit(np.linspace(0, 0.9, least - 1), budget).is_known
    assert budgets.fit(np.linspace(0, 0.9, least), budget).is_known


def test_scores_of_which_many_are_the_same_are_all_below_or_all_above() -> None:
    fitted = budgets.fit(np.full(1000, 0.25), 0.01)

    assert (fitted.threshold, fitted.reached) == (0.250001, 0)


def test_what_bands_take_of_an_evaluation_is_known_to_its_bins() -> None:
    reference = budgets.ScoreSpread(np.array([0.1, 0.5, 0.9]), np.array([0.8, 0.1, 0.06, 0.04]))

    exact = list(budgets.shares(reference, Banded(0.5, 0.1, 0.9)))
    cut = list(budgets.shares(reference, Banded(0.5, 0.3, 0.7)))
    never = list(budgets.shares(reference, Banded(0.5, 0.5, math.inf)))

    assert [(low, high) for _, low, high in exact] == [
        pytest.approx((0.8, 0.8)), pytest.approx((0.16, 0.16)), pytest.approx((0.04, 0.04)),
    ]  # fmt: skip
    assert [(name, pytest.approx(low), pytest.approx(high)) for name, low, high in cut] == [
        ("delivered", 0.8, 0.9), ("flagged", 0.0, 0.16), ("blocked", 0.04, 0.1),
    ]  # fmt: skip
    assert never[-1][1:] == (0.0, 0.0)
