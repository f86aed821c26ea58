"""Whether scores still look as they did when the bundle was evaluated: the population stability index."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from worker.metrics import Gauge
    from worker.model.models_in_service import Model, Role

QUALITY: Final = "scores"
"""Its key in a bundle's quality: `{"bounds": [...], "shares": [...]}`, one share more than there are bounds."""

# Not the evaluation's own deciles: eight of ten would lie within a thousandth of 0, where a rounding is a drift.
_BOUNDS: Final = (0.01, 0.02, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.98, 0.99)
# A message counts for half after about this many others.
_HALF_LIFE: Final = 3500
# With fewer, chance alone gives a number that means nothing.
LEAST: Final = 500
# So that an empty bin is unlikely, not impossible.
_PRIOR: Final = 0.5
_TOLERANCE: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Reference:
    """Distribution of an evaluation's scores: `shares` of the bins that `bounds` cut."""

    bounds: NDArray[np.float64]
    shares: NDArray[np.float64]

    @classmethod
    def of(cls, scores: NDArray[np.float64]) -> Self:
        """Count an evaluation's scores by bins."""
        bounds = np.array(_BOUNDS)
        counts = _counts(bounds, scores)
        return cls(bounds, counts / counts.sum())

    @classmethod
    def read(cls, quality: Mapping[str, Any]) -> Self | None:
        """Read it from a bundle's quality; None when it is not there, or is none."""
        scores = quality.get(QUALITY)
        if not isinstance(scores, dict):
            return None
        try:
            bounds, shares = (np.array(scores[name], dtype=np.float64) for name in ("bounds", "shares"))
        except (KeyError, TypeError, ValueError):
            return None
        is_sound = (
            bounds.ndim == shares.ndim == 1
            and len(shares) == len(bounds) + 1 > 1
            and bool((np.diff(bounds) > 0).all())
            and bool((shares >= 0).all())
            and abs(float(shares.sum()) - 1) < _TOLERANCE
        )
        return cls(bounds, shares) if is_sound else None

    def as_quality(self) -> dict[str, list[float]]:
        """Give it as a bundle's quality holds it."""
        return {"bounds": self.bounds.tolist(), "shares": self.shares.round(6).tolist()}


@dataclass(slots=True)
class Window:
    """The last few thousand scores, old ones fading, beside a reference."""

    reference: Reference
    seen: int = 0
    _counts: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        """Begin with none."""
        self._counts = np.zeros(len(self.reference.shares))

    def observe(self, scores: NDArray[np.float64]) -> None:
        """Take in finite scores."""
        self._counts *= math.exp2(-len(scores) / _HALF_LIFE)
        self._counts += _counts(self.reference.bounds, scores)
        self.seen += len(scores)

    def psi(self) -> float | None:
        """Sum of (now - then) * ln(now / then) over the bins; None while too few are seen."""
        if self.seen < LEAST:
            return None
        bins = len(self._counts)
        now = (self._counts + _PRIOR) / (self._counts.sum() + _PRIOR * bins)
        # The evaluation had about a thousand rows: the same prior weighs little there too.
        then = (self.reference.shares * LEAST + _PRIOR) / (LEAST + _PRIOR * bins)
        return float(((now - then) * np.log(now / then)).sum())


@dataclass(slots=True)
class Drift:
    """A window for each role's model, begun anew when the role gets another one."""

    gauge: Gauge
    _windows: dict[Role, tuple[Model, Window | None]] = field(default_factory=dict)

    def observe(self, model: Model, scores: NDArray[np.float64]) -> None:
        """Take in a batch's finite scores, and show the index once it means something."""
        known, window = self._windows.get(model.role, (None, None))
        if known is not model:
            if window and window.psi() is not None:
                self.gauge.remove(model.role)
            window = Window(model.reference) if model.reference else None
            self._windows[model.role] = model, window
        if window:
            window.observe(scores)
            if (psi := window.psi()) is not None:
                self.gauge.labels(model.role).set(psi)


def _counts(bounds: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.bincount(np.searchsorted(bounds, scores, side="left"), minlength=len(bounds) + 1)
