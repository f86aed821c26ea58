"""Whether the traffic still fits what the bundle was evaluated on, however much of it is spam.

Three signals, each counted over the last few thousand texts beside what the evaluation makes one expect:

    outside  texts flagged so, or cut into more tokens a character than nearly any text of the evaluation
    tokens   texts cut finer than 95 of 100 of the evaluation's texts of the same side
    score    texts whose score is less sure than those of 95 of 100 of the evaluation's texts of the same side

A text's side is ham or spam, by the bundle's own threshold. What is expected depends on the sides that are seen, so
that more or less of the spam that a model knows is no drift; and only a surplus is one, so that easier texts are none.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import numpy as np

from worker.messages import Flag

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from worker.metrics import Gauge
    from worker.model.classifier import Classifier, Prepared
    from worker.model.models_in_service import Model, Role

QUALITY: Final = "drift"
"""A reference's key in a bundle's quality."""
SIGNALS: Final = ("outside", "tokens", "score")
LEAST: Final = 1000
"""Texts, of an evaluation as of traffic; with fewer, chance alone gives ratios that mean nothing."""
_TAIL: Final = 0.05
"""The share of the evaluation's texts of each side that are called unsure, and finely cut."""
_FINEST: Final = 0.999
"""The share of the evaluation's texts that are no finer than what is taken for outside."""
_SHORT: Final = 12
"""Characters below which how finely a text is cut says nothing."""
# A message counts for half after about this many others.
_HALF_LIFE: Final = 3500
# Of all texts: no signal is a multiple of less, so that a single odd text is not many times what was expected.
_LEAST_EXPECTED: Final = 0.01
_DIGITS: Final = 6


class Seen(NamedTuple):
    """Of each text: its score, its tokens a character (0 of a short one), whether it is outside."""

    score: NDArray[np.float64]
    fineness: NDArray[np.float64]
    outside: NDArray[np.bool_]

    @classmethod
    def of(cls, texts: Sequence[str], prepared: Sequence[Prepared], score: NDArray[np.float64]) -> Self:
        """Texts as they came, and what was made of them; those without a finite score are left out."""
        lengths = np.array([len(text) for text in texts], dtype=np.float64)
        tokens = np.array([len(each.tokens) for each in prepared], dtype=np.float64)
        outside = np.array([Flag.OUTSIDE in each.flags for each in prepared], dtype=np.bool_)
        fineness = np.where(lengths < _SHORT, 0.0, tokens / np.maximum(1, lengths))
        scored = np.isfinite(score)
        return cls(score[scored], fineness[scored], outside[scored])


@dataclass(frozen=True, slots=True)
class Reference:
    """An evaluation: where each side's tails begin, ham's first, and what share of each side lies in them.

    `score` are ham's highest sure score and spam's lowest, `fineness` the bound of each side in tokens a character,
    `finest` that of both. `expected` is [signal, side], in the order of SIGNALS.
    """

    threshold: float
    score: tuple[float, float]
    fineness: tuple[float, float]
    finest: float
    expected: NDArray[np.float64]

    @classmethod
    def of(cls, seen: Seen, threshold: float) -> Self:
        """The tails of an evaluation's texts. A side without texts has none."""
        is_spam = seen.score >= threshold
        sides = [seen.fineness[~is_spam], seen.fineness[is_spam]]
        score = _quantile(seen.score[~is_spam], 1 - _TAIL, threshold), _quantile(seen.score[is_spam], _TAIL, threshold)
        fineness = _quantile(sides[0], 1 - _TAIL, math.inf), _quantile(sides[1], 1 - _TAIL, math.inf)
        bare = cls(threshold, score, fineness, _quantile(seen.fineness, _FINEST, math.inf), np.zeros((3, 2)))
        texts, hits = bare.count(seen)
        return dataclasses.replace(bare, expected=hits / np.maximum(1, texts))

    @classmethod
    def made(cls, classifier: Classifier, texts: Sequence[str]) -> Self:
        """The reference of an evaluation's texts, judged here."""
        prepared = classifier.prepare(texts)
        score = classifier.judge(prepared).score
        return cls.of(Seen.of(texts, prepared, score), classifier.bundle.threshold)

    @classmethod
    def read(cls, quality: Mapping[str, Any]) -> Self | None:
        """The reference in a bundle's quality; None when there is none, or it is not sound."""
        stored = quality.get(QUALITY)
        if not isinstance(stored, dict):
            return None
        try:
            score, fineness = (_pair(stored[name]) for name in ("score", "tokens-a-character"))
            threshold, finest = float(stored["threshold"]), float(stored["finest"])
            expected = np.array([stored["expected"][signal] for signal in SIGNALS], dtype=np.float64)
        except (KeyError, TypeError, ValueError):
            return None
        is_sound = (
            0 <= score[0] <= threshold <= score[1] <= 1
            and min(*fineness, finest) > 0
            and expected.shape == (len(SIGNALS), 2)
            and bool(((expected >= 0) & (expected <= 1)).all())
        )
        return cls(threshold, score, fineness, finest, expected) if is_sound else None

    def as_quality(self) -> dict[str, Any]:
        """The reference as a bundle's quality holds it."""
        return {
            "threshold": self.threshold,
            "score": list(self.score),
            "tokens-a-character": [_finite(bound) for bound in self.fineness],
            "finest": _finite(self.finest),
            "expected": dict(zip(SIGNALS, self.expected.round(_DIGITS).tolist(), strict=True)),
        }

    def count(self, seen: Seen) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Texts of each side, and how many of them lie in each signal's tail: [side], [signal, side]."""
        is_spam = seen.score >= self.threshold
        side = is_spam.astype(np.intp)
        tails = (
            seen.outside | (seen.fineness > self.finest),
            seen.fineness > np.where(is_spam, self.fineness[1], self.fineness[0]),
            (seen.score > self.score[0]) & (seen.score < self.score[1]),
        )
        hits = [np.bincount(side, tail, minlength=2) for tail in tails]
        return np.bincount(side, minlength=2).astype(np.float64), np.array(hits)


@dataclass(slots=True)
class Window:
    """The last few thousand texts, old ones fading, beside a reference."""

    reference: Reference
    seen: int = 0
    _texts: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    _hits: NDArray[np.float64] = field(default_factory=lambda: np.zeros((len(SIGNALS), 2)))

    def observe(self, seen: Seen) -> None:
        """Take in a batch."""
        count = len(seen.score)
        texts, hits = self.reference.count(seen)
        fading = math.exp2(-count / _HALF_LIFE)
        self._texts = self._texts * fading + texts
        self._hits = self._hits * fading + hits
        self.seen += count

    def ratios(self) -> dict[str, float] | None:
        """What is seen of each signal as a multiple of what was expected; None while too few texts are seen."""
        if self.seen < LEAST:
            return None
        expected = np.maximum(self.reference.expected @ self._texts, _LEAST_EXPECTED * self._texts.sum())
        return dict(zip(SIGNALS, (self._hits.sum(axis=1) / expected).tolist(), strict=True))


@dataclass(slots=True)
class Drift:
    """A window for each role's model, begun anew when the role gets another one."""

    gauge: Gauge
    _windows: dict[Role, tuple[Model, Window | None]] = field(default_factory=dict)

    def observe(
        self, model: Model, texts: Sequence[str], prepared: Sequence[Prepared], score: NDArray[np.float64]
    ) -> None:
        """Take in a batch, and show the ratios once they mean something."""
        known, window = self._windows.get(model.role, (None, None))
        if known is not model:
            if window and window.ratios() is not None:
                for signal in SIGNALS:
                    self.gauge.remove(model.role, signal)
            window = Window(model.reference) if model.reference else None
            self._windows[model.role] = model, window
        if window:
            window.observe(Seen.of(texts, prepared, score))
            for signal, ratio in (window.ratios() or {}).items():
                self.gauge.labels(model.role, signal).set(ratio)


def usual(classifier: Classifier, texts: Sequence[str]) -> dict[str, Any]:
    """The entry for a bundle's quality, from texts that it has not learnt; empty where they are too few.

    Of fewer than `LEAST` texts the tails are so uncertain that ordinary traffic would be called drift.
    """
    return {QUALITY: Reference.made(classifier, texts).as_quality()} if len(texts) >= LEAST else {}


def _quantile(values: NDArray[np.float64], share: float, otherwise: float) -> float:
    return round(float(np.quantile(values, share)), _DIGITS) if len(values) else otherwise


def _pair(stored: Sequence[float | None]) -> tuple[float, float]:
    one, other = (math.inf if each is None else float(each) for each in stored)
    return one, other


def _finite(bound: float) -> float | None:
    """JSON has no infinity: none, a bound that no text is above."""
    return bound if math.isfinite(bound) else None
