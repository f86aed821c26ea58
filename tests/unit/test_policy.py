"""From a score to an action."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.messages import Action
from worker.model.policy import Policy, PolicyError


def policy(
    threshold: float = 0.5,
    *,
    flag_from: float | None = None,
    block_from: float | None = None,
    unscored: str = "unscored",
) -> Policy:
    return Policy.make(threshold, flag_from=flag_from, block_from=block_from, on_unscored=unscored)


def test_spam_is_blocked_from_the_threshold_on_when_no_band_is_set() -> None:
    assert policy(0.5).action(0.4999) is Action.DELIVER
    assert policy(0.5).action(0.5) is Action.BLOCK


def test_the_band_between_deliver_and_block_is_flagged() -> None:
    banded = policy(0.5, flag_from=0.3, block_from=0.9)

    assert [banded.action(score) for score in (0.29, 0.3, 0.89, 0.9)] == [
        Action.DELIVER, Action.FLAG, Action.FLAG, Action.BLOCK,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "action"),
    [("unscored", Action.UNSCORED), ("fail-open", Action.DELIVER), ("fail-closed", Action.BLOCK)],
)
def test_what_happens_without_a_score_is_the_operators_choice(setting: str, action: Action) -> None:
    assert policy(unscored=setting).unscored is action


@pytest.mark.parametrize(("flag_from", "block_from"), [(0.6, None), (None, 0.4), (0.6, 0.9)])
def test_a_band_beside_the_threshold_is_refused_by_name(flag_from: float | None, block_from: float | None) -> None:
    with pytest.raises(PolicyError, match=r"HAMGATE_FLAG_FROM .*HAMGATE_BLOCK_FROM .*allowed: flag_from <= threshold"):
        policy(0.5, flag_from=flag_from, block_from=block_from)


@given(st.tuples(*[st.floats(0.001, 0.999)] * 3).map(sorted), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_score_is_never_treated_more_kindly(bands: list[float], one: float, other: float) -> None:
    flag_from, threshold, block_from = bands
    severity = [Action.DELIVER, Action.FLAG, Action.BLOCK].index
    banded = policy(threshold, flag_from=flag_from, block_from=block_from)

    low, high = sorted((one, other))

    assert severity(banded.action(low)) <= severity(banded.action(high))
