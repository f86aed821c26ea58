"""Bands and budgets: the share of an evaluation that a band takes, and the bands that hold a budget of lawful texts.

Intervals are of 95 % and assume no distribution of the scores: order statistics for a threshold (David and Nagaraja,
Order Statistics, 2003, section 7.1), Clopper and Pearson's (Biometrika, 1934) for a share.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from worker.policy.bands import Banded

_SIDE: Final = 0.025
"""What each side of an interval leaves out."""
_GRAIN: Final = 1e-6
"""Published scores have six digits: a threshold this much above one leaves it out."""
_DIGITS: Final = 6
_STEPS: Final = 60


SPREAD: Final = "scores"
"""A spread's key in a bundle's quality: `{"bounds": [...], "shares": [...], "spam": [...]}`."""
# Not the evaluation's own deciles: eight of ten would lie within a thousandth of 0.
_BOUNDS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
_TOLERANCE: Final = 1e-3


@dataclass(frozen=True, slots=True)
class ScoreSpread:
    """How an evaluation's scores are spread: `bounds` between bins [bins - 1] and each bin's share of texts [bins].

    `spam` is the part of each share that is labelled spam; None where nobody has said which are.
    """

    bounds: NDArray[np.float64]
    shares: NDArray[np.float64]
    spam: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, scores: NDArray[np.float64], is_spam: NDArray[np.bool_] | None = None) -> Self:
        """Count an evaluation's scores by bins; there must be one at least."""
        edges = np.array([-math.inf, *_BOUNDS, math.inf])
        counts = np.histogram(scores, edges)[0]
        spam = None if is_spam is None else np.histogram(scores[is_spam], edges)[0] / counts.sum()
        return cls(np.array(_BOUNDS), counts / counts.sum(), spam)

    @classmethod
    def read(cls, quality: Mapping[str, Any]) -> Self | None:
        """The spread in a bundle's quality; None when there is none, or it is not sound."""
        stored = quality.get(SPREAD)
        if not isinstance(stored, dict):
            return None
        try:
            bounds, shares = (np.array(stored[name], dtype=np.float64) for name in ("bounds", "shares"))
        except (KeyError, TypeError, ValueError):
            return None
        is_sound = (
            bounds.ndim == shares.ndim == 1
            and len(shares) == len(bounds) + 1 > 1
            and bool((np.diff(bounds) > 0).all())
            and bool((shares >= 0).all())
            and abs(float(shares.sum()) - 1) < _TOLERANCE
        )
        return cls(bounds, shares, _part(stored.get("spam"), shares)) if is_sound else None

    def as_quality(self) -> dict[str, list[float]]:
        """The spread as a bundle's quality holds it."""
        said = {"bounds": self.bounds.tolist(), "shares": self.shares.round(6).tolist()}
        return said if self.spam is None else said | {"spam": self.spam.round(6).tolist()}


def _part(stored: Any, shares: NDArray[np.float64]) -> NDArray[np.float64] | None:  # noqa: ANN401 of a file
    try:
        part = np.array(stored, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    is_sound = part.shape == shares.shape and bool(((part >= 0) & (part <= shares + _TOLERANCE)).all())
    return part if is_sound else None


@dataclass(frozen=True, slots=True)
class Fitted:
    """The lowest threshold that at most a budget's share of lawful texts reaches, and how sure that is.

    `low` and `high` bound the threshold whose share is the budget exactly; `high` is None where there are too few texts
    to bound it. `reached` texts have the threshold or more; `share_low` and `share_high` bound their share in traffic.
    """

    budget: float
    texts: int
    threshold: float
    low: float
    high: float | None
    reached: int
    share_low: float
    share_high: float

    @property
    def is_known(self) -> bool:
        """Whether there are enough texts to say."""
        return self.high is not None

    @property
    def needed(self) -> int:
        """Texts from which on there are enough."""
        return needed(self.budget)


def needed(budget: float) -> int:
    """Texts that bound a budget's threshold: with fewer, none of them may lie beyond it."""
    return math.ceil(math.log(_SIDE) / math.log1p(-budget))


def fit(scores: NDArray[np.float64], budget: float) -> Fitted:
    """Choose the threshold for a budget from lawful texts' published scores; there must be one at least."""
    count = len(scores)
    descending = np.sort(scores)[::-1]
    allowed = min(math.floor(budget * count + 1e-9), count - 1)
    threshold = round(float(descending[allowed]) + _GRAIN, _DIGITS)
    below = _cumulative(count, budget)  # P(at most k of them lie beyond the true threshold)
    above = int(np.searchsorted(below, _SIDE, side="right"))  # the last rank that is rarely short of it
    under = int(np.searchsorted(below, 1 - _SIDE, side="left")) + 1  # the first rank that is rarely beyond it
    reached = int((scores >= threshold).sum())
    return Fitted(
        budget,
        count,
        threshold,
        low=float(descending[under - 1]) if under <= count else 0.0,
        high=float(descending[above - 1]) if above else None,
        reached=reached,
        share_low=_clopper_pearson(reached, count, lower=True),
        share_high=_clopper_pearson(reached, count, lower=False),
    )


def shares(spread: ScoreSpread, banded: Banded) -> Iterator[tuple[str, float, float]]:
    """What becomes of an evaluation by these bands: each name, and the least and most of the texts that it takes.

    Two numbers, as only the bins of the scores are known, and a band may cut one.
    """
    edges = np.array([0.0, *spread.bounds, 1.0])
    start, end = edges[:-1], edges[1:]
    for name, low, high in (
        ("delivered", 0.0, banded.flag_from),
        ("flagged", banded.flag_from, banded.block_from),
        ("blocked", banded.block_from, math.inf),
    ):
        within = (start >= low) & (end <= high)
        touched = (end > low) & (start < high)
        yield name, float(spread.shares[within].sum()), float(spread.shares[touched].sum())


def _cumulative(count: int, share: float) -> NDArray[np.float64]:
    """P(at most k of `count`) for k from 0: the binomial distribution."""
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count + 1)))])
    some = np.arange(count + 1)
    logs = factorials[count] - factorials - factorials[::-1] + some * math.log(share) + some[::-1] * math.log1p(-share)
    summed: NDArray[np.float64] = np.minimum(np.cumsum(np.exp(logs)), 1.0)
    return summed


def _clopper_pearson(successes: int, count: int, *, lower: bool) -> float:
    """One end of the interval of a share: the share at which so many, or more (or fewer), are just not rare."""
    if successes == (0 if lower else count):
        return 0.0 if lower else 1.0
    least, most = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (least + most) / 2
        if lower:
            is_rare = 1 - _cumulative(count, middle)[successes - 1] < _SIDE
        else:
            is_rare = _cumulative(count, middle)[successes] >= _SIDE
        least, most = (middle, most) if is_rare else (least, middle)
    return (least + most) / 2
