"""From log odds to probabilities, and to a threshold: fitted on a slice of train that the model has not learnt from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from training import metrics
from worker.model.bundle import Bands, Calibration
from worker.model.classifier import HAM, platt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from training.fit.recipe import Budgets

_ROUNDS: Final = 100
_SETTLED: Final = 1e-9
_STIFFNESS: Final = 1e-3
"""Holds the slope of a slice that is separated without error, whose best slope would be infinite."""
_LOWEST, _HIGHEST = 0.05, 0.95
_FLAGGED: Final = 0.0075
"""The share of ham, plain or under any one disguise, that may be flagged for the sake of disguised spam: a hundredth is
what is aimed for, and a threshold chosen at a limit on some rows goes over it on others."""
_LOST: Final = 0.01
"""How much of the expected F1 may be lost for it."""
_GRAIN: Final = 10_000
"""Thresholds are given in this many parts."""


class CalibrationError(ValueError):
    """A slice that nothing can be fitted on: the model separates no labels there."""


def fit(odds: NDArray[np.float64], spam: NDArray[np.bool_]) -> Calibration:
    """Platt's (1999), with his targets off 0 and 1, by Newton's method. Raises CalibrationError.

    `odds` are log odds of not being ham.
    """
    positives, negatives = int(spam.sum()), int((~spam).sum())
    if not positives or not negatives or not np.isfinite(odds).all():
        message = "calibration needs finite scores of both ham and spam"
        raise CalibrationError(message)
    target = np.where(spam, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    scale = max(float(np.abs(odds).max()), _SETTLED)
    inputs = np.stack([odds / scale, np.ones(len(odds))], axis=1)
    prior = np.array([scale, 0.0])  # where nothing speaks against it: the model's own odds
    solution = prior.copy()
    held = np.diag([_STIFFNESS / scale, 0.0])

    def loss(at: NDArray[np.float64]) -> float:
        said = inputs @ at
        stiff: float = 0.5 * _STIFFNESS / scale * (at[0] - prior[0]) ** 2
        return float((np.logaddexp(0.0, said) - target * said).sum()) + stiff

    now = loss(solution)
    for _ in range(_ROUNDS):
        guess = sigmoid(inputs @ solution)
        slope = inputs.T @ (guess - target) + held @ (solution - prior)
        bend = (inputs * (guess * (1 - guess))[:, None]).T @ inputs + held + np.eye(2) * _SETTLED
        step = np.linalg.solve(bend, slope)
        step *= min(1.0, scale / max(float(np.abs(step).max()), _SETTLED))  # no farther than the data reach
        # Where a model is sure and wrong, the curve is flat and a whole step leads farther off: half of it, then
        # (Lin, Lin and Weng 2007).
        while (then := loss(solution - step)) > now and float(np.abs(step).max()) >= _SETTLED * scale:
            step /= 2
        solution, now = solution - step, then
        if float(np.abs(step).max()) < _SETTLED * scale:
            break
    if solution[0] <= 0:
        message = "the model's scores say nothing about its calibration slice: train it longer, or on more"
        raise CalibrationError(message)
    return Calibration(slope=float(solution[0] / scale), intercept=float(solution[1]))


def threshold(probabilities: NDArray[np.float64], ham: Sequence[NDArray[np.float64]] = ()) -> float:
    """From a slice's calibrated probabilities: the best F1 that they expect of themselves, or lower where that is free.

    No labels: the F1 of some fifty spam jumps from one message to the next, its expectation does not. `ham` are the
    probabilities of the slice's ham, as it is and under each disguise. Spam in disguise scores lower than plain, so the
    threshold goes down as far as it can without flagging too much of any of these, or losing much of the expected F1.
    """
    descending = np.sort(probabilities)[::-1]
    expected = 2 * np.cumsum(descending) / (np.arange(1, len(descending) + 1) + descending.sum())
    best = _below(descending, int(expected.argmax()))
    if not ham:
        return best
    nearly = _below(descending, int(np.flatnonzero(expected >= expected.max() - _LOST)[-1]))
    bars = [metrics.bar(np.zeros(len(each), dtype=np.bool_), each, _FLAGGED) for each in ham]
    above = (math.floor(max(_LOWEST, *bars) * _GRAIN) + 1) / _GRAIN
    return min(best, max(nearly, above))


def bands(
    lawful: Sequence[NDArray[np.float64]], blockable: Sequence[NDArray[np.float64]], highest: float, budgets: Budgets
) -> Bands:
    """Scores from which to flag and to block, so that no source's lawful texts exceed the budgets on this slice.

    `lawful` are the scores of each source's lawful texts, `blockable` the same with 0 for what is never blocked.
    `highest` is the highest score there is. A band that none reaches is brought down to just below it, whatever that
    costs: `shares` says how much.
    """
    top = (math.floor(highest * _GRAIN) - 1) / _GRAIN

    def above(scores: Sequence[NDArray[np.float64]], budget: float) -> float:
        bars = [metrics.bar(np.zeros(len(each), dtype=np.bool_), each, budget) for each in scores if len(each)]
        return min((math.floor(max(0.0, *bars) * _GRAIN) + 1) / _GRAIN, max(top, 1 / _GRAIN))

    flag_from = above(lawful, budgets.flagged)
    return Bands(flag_from, max(flag_from, above(blockable, budgets.blocked)))


def shares(scores: Sequence[NDArray[np.float64]], start: float) -> float:
    """The largest share of any source's texts that a band from `start` on takes."""
    return max((float((each >= start).mean()) for each in scores if len(each)), default=0.0)


def _below(descending: NDArray[np.float64], last: int) -> float:
    """Half-way between the last that is flagged and the next."""
    following = descending[last + 1] if last + 1 < len(descending) else 0.0
    return round(float(np.clip((descending[last] + following) / 2, _LOWEST, _HIGHEST)) * _GRAIN) / _GRAIN


def odds_of(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log odds of not being ham."""
    others = np.delete(logits, HAM, axis=1)
    top = others.max(axis=1)
    result: NDArray[np.float64] = top + np.log(np.exp(others - top[:, None]).sum(axis=1)) - logits[:, HAM]
    return result


def sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without overflow."""
    return platt(np.stack([np.zeros_like(values), values], axis=1), 1.0, 0.0)
