"""Which of two judges is better on the same rows: paired tests, since both mostly err on the same ones."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from training.metrics import Figure
from worker.rollout.paired import PairedFigures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from training.judge.judged import Judged

_RESAMPLES: Final = 10_000
_BLOCK: Final = 500


class PairedComparison(NamedTuple):
    """F1 of the one less F1 of the other, with its interval; and McNemar's test of who is right where they differ."""

    difference: Figure
    only_one: int
    only_other: int
    p: float

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `no difference shown`: the interval decides."""
        if self.difference.low > 0:
            return "better"
        return "worse" if self.difference.high < 0 else "no difference shown"

    def as_figures(self, rows: str) -> PairedFigures:
        """As a file holds it; `rows` names the set."""
        low, high = self.difference.low, self.difference.high
        return PairedFigures(
            rows, self.verdict, self.difference.value, low, high, self.only_one, self.only_other, self.p
        )

    def __str__(self) -> str:
        """As a line for a person."""
        low, high = self.difference.low, self.difference.high
        return (
            f"{self.verdict}: F1 {self.difference.value:+.4f} [{low:+.4f}, {high:+.4f}]; "
            f"right alone {self.only_one} : {self.only_other}, McNemar p {self.p:.3f}"
        )


def compare(one: Judged, other: Judged, groups: Sequence[int] | NDArray[np.intp], *, seed: int = 0) -> PairedComparison:
    """Compare judges of the same rows, several splits laid end to end.

    `groups` names each row's cluster of near-duplicates: clusters are drawn with replacement, so that duplicates, and
    a message that several splits test, do not count as independent. Raises ValueError when the rows differ.
    """
    if not np.array_equal(one.spam, other.spam) or len(groups) != len(one.spam):
        message = "the two were not judged on the same rows"
        raise ValueError(message)
    _, place = np.unique(np.asarray(groups), return_inverse=True)
    counts = np.concatenate([_counts(judged, place) for judged in (one, other)], axis=1)
    dice = np.random.default_rng(seed)
    drawn = []
    for _ in range(_RESAMPLES // _BLOCK):
        weights = dice.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=_BLOCK)
        drawn.append(_difference(weights @ counts))
    low, high = np.percentile(np.concatenate(drawn), [2.5, 97.5])
    value = float(_difference(counts.sum(axis=0, keepdims=True))[0])
    right, right_too = one.flagged == one.spam, other.flagged == other.spam
    only_one, only_other = int((right & ~right_too).sum()), int((~right & right_too).sum())
    return PairedComparison(Figure(value, float(low), float(high)), only_one, only_other, mcnemar(only_one, only_other))


def mcnemar(only_one: int, only_other: int) -> float:
    """Exact, two-sided: the chance of so uneven a split of the disagreements if both were equally good."""
    both = only_one + only_other
    tail = sum(math.comb(both, count) for count in range(min(only_one, only_other) + 1))
    return float(min(1.0, 2 * tail / 2**both))


def _counts(judged: Judged, place: NDArray[np.intp]) -> NDArray[np.int64]:
    """For each group: caught, and twice-counted rest of F1's denominator: flagged and spam. [groups, 2]."""
    size = int(place.max()) + 1
    caught = np.bincount(place, judged.spam & judged.flagged, size)
    below = np.bincount(place, judged.spam.astype(int) + judged.flagged, size)
    return np.stack([caught, below], axis=1).astype(np.int64)


def _difference(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    caught, below, caught_too, below_too = counts.T
    return np.asarray(2 * caught / np.maximum(1, below) - 2 * caught_too / np.maximum(1, below_too), dtype=np.float64)
