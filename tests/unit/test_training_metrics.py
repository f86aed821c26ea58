from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, matthews_corrcoef, roc_auc_score

from training import metrics
from training.bundle import calibrate
from training.bundle.calibrate import CalibrationError
from training.fit.recipe import Budgets

if TYPE_CHECKING:
    from numpy.typing import NDArray

BUDGETS = Budgets()
ROWS = st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=4, max_size=60).filter(
    lambda rows: 0 < sum(is_spam for is_spam, _ in rows) < len(rows)
)


@given(ROWS)
def test_figures_agree_with_those_of_scikit_learn(rows: list[tuple[bool, int]]) -> None:
    spam, score = np.array([row[0] for row in rows]), np.array([row[1] / 10 for row in rows])
    flagged = score >= 0.5

    assert metrics.f1(spam, flagged) == pytest.approx(f1_score(spam, flagged, zero_division=0))
    assert metrics.mcc(spam, flagged) == pytest.approx(matthews_corrcoef(spam, flagged))
    assert metrics.auc(spam, score) == pytest.approx(roc_auc_score(spam, score))


def test_recall_at_a_share_of_false_positives_counts_only_thresholds_that_keep_to_it() -> None:
    spam = np.array([False] * 100 + [True] * 4)
    score = np.concatenate([np.linspace(0, 0.6, 99), [0.9], [0.95, 0.8, 0.6, 0.1]])

    assert metrics.recall_at(spam, score, 0.0) == 0.25
    assert metrics.recall_at(spam, score, 0.01) == 0.5
    assert metrics.recall_at(spam, score, 1.0) == 1.0


def test_intervals_hold_the_value_and_say_when_there_is_none() -> None:
    of_splits, of_one = metrics.mean([0.9, 0.92, 0.94, 0.96, 0.98]), metrics.mean([0.9])

    assert of_splits.value == pytest.approx(0.94)
    assert (of_splits.low, of_splits.high) == pytest.approx((0.9007, 0.9793), abs=1e-4)
    assert np.isnan(of_one.low)
    assert metrics.share(0, 100).high == pytest.approx(0.037, abs=1e-3)
    assert metrics.share(100, 100).high == pytest.approx(1.0)


def test_the_bootstrap_is_the_same_each_time_and_narrows_with_rows() -> None:
    def width(size: int) -> float:
        rows = np.arange(size) % 2 == 0
        figure = metrics.bootstrapped(lambda drawn: {"share": float(rows[drawn].mean())}, size)["share"]
        assert figure == metrics.bootstrapped(lambda drawn: {"share": float(rows[drawn].mean())}, size)["share"]
        return figure.high - figure.low

    assert width(1000) < width(50)


def test_calibration_finds_the_slope_and_intercept_that_labels_were_drawn_with() -> None:
    dice = np.random.default_rng(0)
    odds = dice.normal(0, 4, 20_000)
    spam = dice.random(20_000) < calibrate.sigmoid(0.5 * odds - 1.0)

    fitted = calibrate.fit(odds, spam)

    assert (fitted.slope, fitted.intercept) == pytest.approx((0.5, -1.0), abs=0.05)


def test_calibration_of_a_model_that_is_sure_and_now_and_then_wrong_finds_the_best_there_is() -> None:
    dice = np.random.default_rng(0)
    for _ in range(50):
        spam = dice.random(446) < 0.13
        reach = dice.uniform(10, 25)
        odds = np.where(spam, dice.normal(reach, 2, 446), dice.normal(-reach, 2, 446))
        odds[dice.choice(446, 4, replace=False)] *= -1  # a whole step of Newton's leads far off here

        found = calibrate.fit(odds, spam)

        here = _loss(odds, spam, found.slope, found.intercept)
        near = [(found.slope * share, found.intercept + off) for share in (0.98, 1.02) for off in (-0.05, 0, 0.05)]
        assert all(here <= _loss(odds, spam, *other) for other in near)


def _loss(odds: NDArray[np.float64], spam: NDArray[np.bool_], slope: float, intercept: float) -> float:
    """Platt's: the cross-entropy to targets off 0 and 1."""
    target = np.where(spam, (spam.sum() + 1) / (spam.sum() + 2), 1 / ((~spam).sum() + 2))
    said = slope * odds + intercept
    return float((np.logaddexp(0, said) - target * said).sum())


def test_calibration_of_a_slice_separated_without_error_stays_finite() -> None:
    fitted = calibrate.fit(np.array([-7.0] * 40 + [7.0] * 5), np.array([False] * 40 + [True] * 5))

    assert 0 < fitted.slope < 10
    assert np.isfinite(fitted.intercept)


@pytest.mark.parametrize(
    ("odds", "spam"),
    [
        pytest.param([1.0, 2.0], [True, True], id="one-class"),
        pytest.param([np.nan, 2.0], [True, False], id="not-a-number"),
        pytest.param([-3.0, -2.0, 2.0, 3.0], [True, True, False, False], id="upside-down"),
    ],
)
def test_calibration_refuses_what_it_cannot_be_fitted_on(odds: list[float], spam: list[bool]) -> None:
    with pytest.raises(CalibrationError):
        calibrate.fit(np.array(odds), np.array(spam))


def test_the_threshold_lies_between_what_is_sure_and_what_is_not() -> None:
    assert 0.3 < calibrate.threshold(np.array([0.01] * 90 + [0.99] * 10)) < 0.7
    assert 0.05 <= calibrate.threshold(np.zeros(5)) <= 0.95


def test_the_threshold_goes_down_while_hardly_any_ham_is_flagged_plain_or_disguised() -> None:
    slice_ = np.array([0.01] * 350 + [0.99] * 50)
    plain, disguised = np.full(350, 0.01), np.array([0.01] * 340 + [0.2] * 2 + [0.15] * 8)

    assert 0.05 < calibrate.threshold(slice_, [plain]) < 0.06  # as low as any may be
    found = calibrate.threshold(slice_, [plain, disguised])

    assert 0.15 < found < 0.16  # two of 350 are flagged, three would be more than 0.75 %
    assert found < calibrate.threshold(slice_)


def test_the_threshold_is_never_above_what_plain_messages_alone_would_give() -> None:
    slice_ = np.array([0.01] * 350 + [0.99] * 50)

    assert calibrate.threshold(slice_, [np.full(350, 0.9)]) == calibrate.threshold(slice_)


def test_the_threshold_does_not_go_down_where_plain_messages_would_lose_by_it() -> None:
    unsure = np.concatenate([np.full(300, 0.001), np.linspace(0.2, 0.3, 20), np.full(50, 0.99)])

    found = calibrate.threshold(unsure, [np.full(300, 0.001)])

    assert found > 0.2  # twenty more to flag, of which fifteen are ham


def test_bands_hold_the_budgets_for_every_source() -> None:
    dice = np.random.default_rng(0)
    chat, notices = dice.beta(1, 60, 3000), dice.beta(1, 20, 2000)

    bands = calibrate.bands([chat, notices], [chat, notices], 0.99, BUDGETS)

    for each in (chat, notices):
        assert (each >= bands.flag_from).mean() <= BUDGETS.flagged
        assert (each >= bands.block_from).mean() <= BUDGETS.blocked
    assert (notices >= bands.flag_from).mean() > 0.9 * BUDGETS.flagged  # no higher than they must be
    assert calibrate.shares([chat, notices], bands.flag_from) == (notices >= bands.flag_from).mean()


def test_what_is_never_blocked_takes_nothing_of_the_budget_for_blocking() -> None:
    scores = np.array([0.01] * 1000 + [0.9] * 5)
    blockable = np.where(scores > 0.5, 0.0, scores)

    assert calibrate.bands([scores], [scores], 0.99, BUDGETS).block_from > 0.9
    found = calibrate.bands([scores], [blockable], 0.99, BUDGETS)
    assert found.block_from == found.flag_from < 0.02


def test_bands_are_within_reach_of_the_highest_score_whatever_the_lawful_texts_score() -> None:
    bands = calibrate.bands([np.full(50, 0.97)], [np.full(50, 0.97)], 0.97, BUDGETS)

    assert bands.flag_from <= bands.block_from < 0.97
    assert calibrate.shares([np.full(50, 0.97)], bands.block_from) == 1.0


def test_log_odds_are_of_everything_that_is_not_ham() -> None:
    logits = np.array([[0.0, np.log(1.0), np.log(3.0)], [2.0, -1000.0, 1.0]])

    assert calibrate.odds_of(logits) == pytest.approx([np.log(4.0), -1.0])
