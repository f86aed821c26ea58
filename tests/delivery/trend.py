"""Whether something grows: the slope of what was sampled over time, with its interval, against its own noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

_HOUR: Final = 3600.0
_BLOCKS: Final = 12
_ROUNDING: Final = 1e-6  # what never changes has a slope of some 1e-15, not of nothing
_RESAMPLES: Final = 2000


@dataclass(frozen=True)
class Trend:
    """A slope an hour with its 95 % interval; `noise` is the standard deviation about the line, `mean` the level."""

    per_hour: float
    low: float
    high: float
    mean: float
    noise: float

    @property
    def is_growth(self) -> bool:
        """Whether it rises for sure, and in an hour by more than it wavers anyway."""
        return self.low > _ROUNDING and self.per_hour > self.noise

    def __str__(self) -> str:
        verdict = "grows" if self.is_growth else "flat"
        return (
            f"{self.per_hour:+.3f} an hour ({self.low:+.3f} .. {self.high:+.3f}), "
            f"mean {self.mean:.1f}, noise {self.noise:.2f}: {verdict}"
        )


def trend(seconds: Sequence[float], values: Sequence[float]) -> Trend:
    """Fit a line; the interval is from resampling blocks of residuals, since neighbours in time are alike."""
    at, value = np.asarray(seconds, dtype=float) / _HOUR, np.asarray(values, dtype=float)
    slope, start = np.polyfit(at, value, 1)
    residuals = value - (slope * at + start)
    chance = np.random.default_rng(1)
    blocks = np.array_split(residuals, min(_BLOCKS, len(residuals)))
    slopes = []
    for _ in range(_RESAMPLES):
        drawn = np.concatenate([blocks[block] for block in chance.integers(len(blocks), size=len(blocks) + 1)])
        slopes.append(np.polyfit(at, slope * at + start + drawn[: len(at)], 1)[0])
    low, high = np.percentile(slopes, [2.5, 97.5])
    return Trend(float(slope), float(low), float(high), float(value.mean()), float(residuals.std()))
