"""How good a judge is: figures of scores against labels, each with its interval.

`spam` is a boolean array (True: not ham), `score` the probability of that, `flagged` what a threshold makes of it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    Booleans = NDArray[np.bool_]
    Numbers = NDArray[np.float64]

_RESAMPLES: Final = 1000
_BINS: Final = 10
_T_95: Final = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""Student's t for two-sided 95 %, by degrees of freedom: means of few splits."""
_Z_95: Final = 1.96


class Figure(NamedTuple):
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """As a table shows it."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    @property
    def interval(self) -> str:
        """The interval alone."""
        return f"{self.low:.4f} to {self.high:.4f}"


def f1(spam: Booleans, flagged: Booleans) -> float:
    """Harmonic mean of precision and recall; 0 when nothing is caught."""
    caught = int((spam & flagged).sum())
    return 2 * caught / max(1, int(spam.sum()) + int(flagged.sum()))


def mcc(spam: Booleans, flagged: Booleans) -> float:
    """Matthews's correlation; 0 when either side is all one class."""
    caught, missed = int((spam & flagged).sum()), int((spam & ~flagged).sum())
    wrong, right = int((~spam & flagged).sum()), int((~spam & ~flagged).sum())
    below = math.sqrt((caught + wrong) * (caught + missed) * (right + wrong) * (right + missed))
    return (caught * right - wrong * missed) / below if below else 0.0


def auc(spam: Booleans, score: Numbers) -> float:
    """The chance that a spam scores above a ham, ties counted half."""
    _, places, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    positives, negatives = int(spam.sum()), int((~spam).sum())
    if not positives or not negatives:
        return math.nan
    return float((ranks[spam].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def pr_auc(spam: Booleans, score: Numbers) -> float:
    """Average precision: the area under precision over recall, by steps; ties are one step."""
    if not spam.any():
        return math.nan
    order = np.argsort(-score, kind="stable")
    last = np.append(np.diff(score[order]) != 0, True)
    caught = np.cumsum(spam[order])[last]
    precision = caught / (np.flatnonzero(last) + 1)
    return float((np.diff(caught, prepend=0) * precision).sum() / caught[-1])


def macro_f1(truth: NDArray[np.int8], given: NDArray[np.int8]) -> float:
    """The mean of each class's F1, one against the others."""
    return float(np.mean([f1(truth == each, given == each) for each in np.unique(truth)]))


def reliability(spam: Booleans, score: Numbers) -> list[tuple[float, float, int]]:
    """(mean score, share of spam, number of rows) for each tenth of probability that has rows."""
    bins = np.minimum((score * _BINS).astype(int), _BINS - 1)
    return [
        (float(score[at].mean()), float(spam[at].mean()), int(at.sum()))
        for at in (bins == number for number in range(_BINS))
        if at.any()
    ]


def ece(spam: Booleans, score: Numbers) -> float:
    """Expected calibration error: the mean distance of promise and outcome over tenths of probability, by rows."""
    return sum(abs(said - came) * rows for said, came, rows in reliability(spam, score)) / len(score)


def bar(spam: Booleans, score: Numbers, false_positives: float) -> float:
    """The score above which at most this share of the ham lies."""
    ham = np.sort(score[~spam])[::-1]
    allowed = int(false_positives * len(ham) + 1e-9)
    return float(ham[allowed]) if allowed < len(ham) else -math.inf


def recall_at(spam: Booleans, score: Numbers, false_positives: float) -> float:
    """The most spam that any threshold catches while it flags at most this share of the ham."""
    return float((score[spam] > bar(spam, score, false_positives)).mean()) if spam.any() else math.nan


def bootstrapped(
    measure: Callable[[NDArray[np.intp]], Mapping[str, float]], size: int, *, seed: int = 0
) -> dict[str, Figure]:
    """Figures of `measure` on all rows, with 95 % bootstrap intervals over resampled rows."""
    dice = np.random.default_rng(seed)
    drawn = [measure(dice.integers(size, size=size)) for _ in range(_RESAMPLES)]
    figures = {}
    for name, value in measure(np.arange(size)).items():
        low, high = np.nanpercentile([each[name] for each in drawn], [2.5, 97.5])
        figures[name] = Figure(value, float(low), float(high))
    return figures


def clustered(
    measure: Callable[[NDArray[np.intp]], Mapping[str, float]],
    groups: Sequence[int] | NDArray[np.intp],
    *,
    seed: int = 0,
) -> dict[str, Figure]:
    """As `bootstrapped`, but whole groups are drawn again: rows of one family do not count as independent."""
    names, place = np.unique(np.asarray(groups), return_inverse=True)
    dice, rows = np.random.default_rng(seed), np.arange(len(place))
    drawn = []
    for _ in range(_RESAMPLES):
        times = np.bincount(dice.integers(len(names), size=len(names)), minlength=len(names))
        drawn.append(measure(np.repeat(rows, times[place])))
    figures = {}
    for name, value in measure(rows).items():
        low, high = _percentiles(np.array([each[name] for each in drawn]))
        figures[name] = Figure(value, low, high)
    return figures


def clustered_share(hits: Booleans, groups: Sequence[int] | NDArray[np.intp], *, seed: int = 0) -> Figure:
    """The share of rows that are hits, and its 95 % interval over groups drawn again; no row: NaN."""
    if not len(hits):
        return Figure(math.nan, math.nan, math.nan)
    names, place = np.unique(np.asarray(groups), return_inverse=True)
    counts = np.stack([np.bincount(place, hits, len(names)), np.bincount(place, minlength=len(names))], axis=1)
    weights = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=_RESAMPLES)
    drawn = weights @ counts
    return Figure(float(hits.mean()), *_percentiles(drawn[:, 0] / drawn[:, 1]))


def expected_precision(caught: float, flagged: float, spam: float) -> float:
    """The share of what is stopped that is spam, where `spam` of all texts is: by the two shares that were measured."""
    right, wrong = spam * caught, (1 - spam) * flagged
    return right / (right + wrong) if right + wrong else math.nan


def _percentiles(drawn: Numbers) -> tuple[float, float]:
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return math.nan, math.nan
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def mean(values: Sequence[float]) -> Figure:
    """The mean over splits and its 95 % interval by Student's t; one split alone has none."""
    middle = float(np.mean(values))
    if len(values) < 2:  # noqa: PLR2004 -- a spread needs two
        return Figure(middle, math.nan, math.nan)
    spread = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    reach = _T_95.get(len(values) - 1, _Z_95) * spread
    return Figure(middle, middle - reach, middle + reach)


def share(hits: int, of: int) -> Figure:
    """A share and its 95 % interval by Wilson, which stays honest at 0 and 1."""
    if not of:
        return Figure(math.nan, math.nan, math.nan)
    observed, square = hits / of, _Z_95**2
    middle = (observed + square / (2 * of)) / (1 + square / of)
    reach = _Z_95 * math.sqrt(observed * (1 - observed) / of + square / (4 * of * of)) / (1 + square / of)
    return Figure(observed, max(0.0, middle - reach), min(1.0, middle + reach))
