"""From a score to an action."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.messages import Action, Flag
from worker.model.bundle import Bands, Thresholds
from worker.policy.bands import Policy, PolicyError

DELIVER, FLAG, BLOCK = Action.DELIVER, Action.FLAG, Action.BLOCK


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


# What is done with a score below, within and above the flagged band, by flags and HAMGATE_ON_OUTSIDE.
TABLE = {
    ((), "flag"): (DELIVER, FLAG, BLOCK),
    ((), "as-scored"): (DELIVER, FLAG, BLOCK),
    ((), "deliver"): (DELIVER, FLAG, BLOCK),
    ((Flag.NORMALISED, Flag.TRUNCATED), "flag"): (DELIVER, FLAG, BLOCK),
    ((Flag.OUTSIDE,), "flag"): (DELIVER, FLAG, FLAG),
    ((Flag.OUTSIDE,), "as-scored"): (DELIVER, FLAG, BLOCK),
    ((Flag.OUTSIDE,), "deliver"): (DELIVER, DELIVER, DELIVER),
    ((Flag.ONE_TIME_CODE,), "flag"): (DELIVER, FLAG, FLAG),
    ((Flag.ONE_TIME_CODE,), "as-scored"): (DELIVER, FLAG, FLAG),
    ((Flag.NOTICE,), "flag"): (DELIVER, FLAG, FLAG),
    ((Flag.NORMALISED, Flag.NOTICE), "deliver"): (DELIVER, FLAG, FLAG),
    ((Flag.OUTSIDE, Flag.NOTICE), "flag"): (DELIVER, FLAG, FLAG),
    ((Flag.OUTSIDE, Flag.NOTICE), "as-scored"): (DELIVER, FLAG, FLAG),
    ((Flag.OUTSIDE, Flag.NOTICE), "deliver"): (DELIVER, DELIVER, DELIVER),
}


@pytest.mark.parametrize(("flags", "setting"), TABLE)
def test_what_is_done_with_a_text_of_these_flags(flags: tuple[Flag, ...], setting: str) -> None:
    made = Policy.make(0.5, flag_from=0.3, block_from=0.9, on_unscored="unscored", on_outside=setting)
    names = tuple(str(flag) for flag in flags)  # as a tokenizer process tells them

    assert tuple(made.action(score, names) for score in (0.1, 0.6, 0.95)) == TABLE[flags, setting]


def bundled(threshold: float = 0.5, *, flag_from: float | None = None, block_from: float | None = None) -> Policy:
    return Policy.make(
        threshold,
        flag_from=flag_from,
        block_from=block_from,
        on_unscored="unscored",
        bands=Bands(0.4, 0.8),
        by_language={"hi": Thresholds(flag_from=0.6, block_from=0.9, threshold=0.7)},
    )


def test_a_bundles_bands_hold_where_none_is_set() -> None:
    assert [bundled().action(score) for score in (0.39, 0.4, 0.79, 0.8)] == [DELIVER, FLAG, FLAG, BLOCK]
    assert [bundled(block_from=0.7).action(score) for score in (0.39, 0.4, 0.7)] == [DELIVER, FLAG, BLOCK]


def test_a_bundles_bands_give_way_to_a_threshold_beside_them() -> None:
    assert [bundled(0.9).action(score) for score in (0.4, 0.85, 0.9)] == [FLAG, FLAG, BLOCK]
    assert [bundled(0.1).action(score) for score in (0.09, 0.1, 0.8)] == [DELIVER, FLAG, BLOCK]


def test_a_language_has_its_own_bands_where_the_bundle_has_them() -> None:
    made = bundled()

    assert [made.action(score, (), "hi") for score in (0.5, 0.6, 0.85, 0.9)] == [DELIVER, FLAG, FLAG, BLOCK]
    assert made.action(0.5, (), "fr") is made.action(0.5, (), None) is FLAG
    assert (made.banded_of("hi").threshold, made.banded_of("fr").threshold) == (0.7, 0.5)


def test_a_set_band_is_one_for_all_languages() -> None:
    made = bundled(flag_from=0.2, block_from=0.95)

    assert [made.action(score, (), "hi") for score in (0.19, 0.2, 0.94, 0.95)] == [DELIVER, FLAG, FLAG, BLOCK]


def test_blocking_from_1_on_blocks_nothing() -> None:
    assert policy(0.5, block_from=1.0).action(1.0) is FLAG


@pytest.mark.parametrize(
    ("made", "named"),
    [
        (policy(0.5), []),
        (policy(0.5, block_from=0.979), []),
        (policy(0.5, block_from=0.98), ["HAMGATE_BLOCK_FROM 0.98"]),
        (policy(0.5, block_from=1.0), []),  # it says itself that it blocks nothing
        (policy(0.99), ["HAMGATE_THRESHOLD 0.99"]),
        (policy(0.99, flag_from=0.985), ["HAMGATE_THRESHOLD 0.99", "HAMGATE_FLAG_FROM 0.985"]),
        (bundled(block_from=0.99), ["HAMGATE_BLOCK_FROM 0.99", "HAMGATE_BLOCK_FROM 0.99 (hi)"]),
    ],
)
def test_a_band_that_no_score_reaches_is_named_by_its_setting(made: Policy, named: list[str]) -> None:
    assert [said.partition(":")[0] for said in made.beyond(0.98)] == named
