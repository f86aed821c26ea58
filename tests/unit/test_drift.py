"""Whether scores still look as they did: by the population stability index."""

from __future__ import annotations

import json

import numpy as np
import pytest

from worker.rollout.drift import LEAST, Reference, Window

DICE = np.random.default_rng(1)


def sample(count: int, spam: float = 0.13) -> np.ndarray:
    ham, bad = DICE.beta(0.3, 8, size=count), DICE.beta(8, 0.3, size=count)
    return np.where(DICE.random(count) < spam, bad, ham)


@pytest.fixture
def window() -> Window:
    return Window(Reference.of(sample(1100)))


def test_scores_of_the_same_kind_do_not_drift(window: Window) -> None:
    for _ in range(50):
        window.observe(sample(200))

    assert window.psi() == pytest.approx(0, abs=0.06)


def test_nothing_is_said_of_too_few(window: Window) -> None:
    window.observe(sample(LEAST - 1))
    assert window.psi() is None

    window.observe(sample(1))
    assert window.psi() is not None


@pytest.mark.parametrize(
    "scores",
    [sample(20_000, spam=0.6), sample(20_000) * 0.5 + 0.25, np.full(20_000, 0.5), np.zeros(20_000)],
    ids=["a campaign", "blunted", "all the same", "all ham"],
)
def test_scores_of_another_kind_do(window: Window, scores: np.ndarray) -> None:
    window.observe(scores)

    assert (window.psi() or 0) > 0.25


def test_what_was_is_forgotten(window: Window) -> None:
    window.observe(np.full(5_000, 0.5))
    assert (window.psi() or 0) > 0.25

    for _ in range(200):
        window.observe(sample(200))
    assert (window.psi() or 0) < 0.1


def test_a_reference_goes_through_a_bundle_unchanged() -> None:
    reference = Reference.of(sample(1000))

    again = Reference.read({"scores": json.loads(json.dumps(reference.as_quality())), "test-f1": 0.9})

    assert again is not None
    assert again.bounds.tolist() == reference.bounds.tolist()
    assert again.shares == pytest.approx(reference.shares, abs=1e-6)


@pytest.mark.parametrize(
    "scores",
    [
        None,
        5,
        {},
        {"bounds": [0.5]},
        {"bounds": [0.5], "shares": [1.0]},
        {"bounds": [0.6, 0.5], "shares": [0.2, 0.3, 0.5]},
        {"bounds": [0.5], "shares": [0.5, 0.6]},
        {"bounds": [0.5], "shares": [-0.5, 1.5]},
        {"bounds": ["x"], "shares": [0.5, 0.5]},
        {"bounds": [[0.5]], "shares": [0.5, 0.5]},
    ],
)
def test_what_is_no_reference_is_none(scores: object) -> None:
    assert Reference.read({"scores": scores}) is None
    assert Reference.read({}) is None
