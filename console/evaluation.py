"""Figures and plots of a bundle: of its evaluation, of benchmarks/results, and of the traffic beside them.

A plot is made of numbers alone: bars, points and lines in the units of an SVG's view box, drawn by plots.html.
"""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import numpy as np

from worker.rollout.drift import Reference, Seen, Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from console.window import VerdictWindow
    from worker.model.bundle import Bundle
    from worker.rollout.budgets import ScoreSpread

RESULTS: Final = Path(__file__).resolve().parent.parent / "benchmarks" / "results"
"""Where there is a checkout."""
_RESULTS_BYTES: Final = 8 << 20
FIGURES: Final = {
    "test-f1": "F1",
    "test-mcc": "MCC",
    "test-auc": "AUC",
    "test-pr-auc": "area under precision over recall",
    "test-recall-at-1-percent": "recall at 1 % false positives",
    "test-recall-at-0.1-percent": "recall at 0.1 % false positives",
    "test-ece": "calibration error (ECE)",
    "lawful-flagged": "lawful flagged",
    "lawful-blocked": "lawful blocked",
    "highest-score": "highest score",
}
"""Of a bundle's quality; of each but the last four more is better."""
LESS_IS_BETTER: Final = ("test-ece", "lawful-flagged", "lawful-blocked")
_RATES: Final = {"1 %": "recall-at-1-percent", "0.1 %": "recall-at-0.1-percent"}
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 640.0, 200.0, 40.0, 10.0, 34.0
_LEAST_BAR: Final = 1.0
_LEAST_SHARE: Final = 0.002
POINTS: Final = 24
SAMPLE: Final = 500
"""Verdicts that are looked at for each point."""
_LEAST_SCORES: Final = 30
NO_SCORES: Final = np.zeros(0)


class Bar(NamedTuple):
    """A rectangle; `kind` is a class of the style sheet."""

    x: float
    y: float
    width: float
    height: float
    kind: str


class Tick(NamedTuple):
    """A label of an axis."""

    x: float
    y: float
    text: str


class ReliabilityPoint(NamedTuple):
    """A bin of scores: its middle, the share of its texts that are spam, and the share of all texts that lie in it."""

    score: float
    spam: float
    share: float


@dataclass(frozen=True, slots=True)
class Histogram:
    """Bars of an evaluation's scores, by label where that is known, beside those of the traffic where there is any."""

    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    rows: tuple[tuple[str, ...], ...]
    """For whom a plot says nothing: each bin in words."""
    by_label: bool
    scored: int


class RecallFigure(NamedTuple):
    """Recall on one set of rows, by the rate of false positives; each with its interval in words."""

    rows: str
    values: tuple[tuple[float, str] | None, ...]
    ece: float | None


@dataclass(frozen=True, slots=True)
class Course:
    """Shares over time beside what the evaluation makes one expect, as lines of an SVG with gaps."""

    lines: tuple[tuple[str, tuple[str, ...]], ...]
    """By kind, each a list of `points` attributes."""
    ticks: tuple[Tick, ...]
    rows: tuple[tuple[str, ...], ...]
    ratios: dict[str, float] | None
    """The drift of all sampled verdicts, as workers count it: a multiple of what is expected."""
    scored: int
    hours: float
    scores: NDArray[np.float64]


def figure(bundle: Bundle, name: str) -> float | None:
    """A finite number of a bundle's quality."""
    found = bundle.quality.get(name)
    is_number = isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found)
    return float(found) if is_number else None  # type: ignore[arg-type]


def beside(candidate: Bundle, in_force: Bundle) -> list[tuple[str, float | None, float | None, str]]:
    """Each figure of both, and whether the candidate's is better, worse or the same."""
    found = []
    for name, title in FIGURES.items():
        mine, other = figure(candidate, name), figure(in_force, name)
        if mine is None and other is None:
            continue
        sense = ""
        if mine is not None and other is not None and name != "highest-score" and mine != other:
            sense = "better" if (mine > other) != (name in LESS_IS_BETTER) else "worse"
        found.append((title, mine, other, sense))
    return found


def are_on_the_same_rows(one: Bundle, other: Bundle) -> bool:
    """Whether both say that they were tested on the same rows."""
    held_out = one.quality.get("held-out")
    return isinstance(held_out, str) and bool(held_out) and held_out == other.quality.get("held-out")


def histogram(spread: ScoreSpread, now: NDArray[np.float64]) -> Histogram:
    """Draw an evaluation's scores; beside them those of the traffic, where there are enough."""
    edges = np.array([0.0, *spread.bounds, 1.0])
    is_now = len(now) >= _LEAST_SCORES
    seen = np.histogram(now, np.array([-math.inf, *spread.bounds, math.inf]))[0] / max(1, len(now))
    top = max(float(spread.shares.max()), float(seen.max()) if is_now else 0.0, 0.01)
    step = (_WIDTH - _LEFT) / len(spread.shares)
    wide = step * (0.4 if is_now else 0.8)
    bars: list[Bar] = []
    rows = []
    for at, share in enumerate(spread.shares):
        left = _LEFT + at * step + 0.1 * step
        spam = None if spread.spam is None else min(float(spread.spam[at]), float(share))
        parts = [("all", float(share))] if spam is None else [("spam", spam), ("ham", float(share) - spam)]
        bars += _stacked(parts, left, wide, top)
        if is_now:
            bars += _stacked([("now", float(seen[at]))], left + wide, wide, top)
        row = [f"{edges[at]:g} to {edges[at + 1]:g}", f"{share:.2%}"]
        row += [] if spam is None else [f"{spam:.2%}"]
        rows.append((*row, f"{seen[at]:.2%}" if is_now else "–"))
    below = _HEIGHT - _BOTTOM + 16
    ticks = [Tick(_LEFT + at * step, below, f"{edge:g}") for at, edge in enumerate(edges) if at % 2 == 0]
    ticks += _heights(top)
    return Histogram(tuple(bars), tuple(ticks), tuple(rows), spread.spam is not None, len(now) if is_now else 0)


def _stacked(parts: Iterable[tuple[str, float]], left: float, width: float, top: float) -> list[Bar]:
    made, base = [], _HEIGHT - _BOTTOM
    for kind, share in parts:
        if share <= 0:
            continue
        height = max(_LEAST_BAR, share / top * (_HEIGHT - _BOTTOM - _TOP))
        base -= height
        made.append(Bar(round(left, 2), round(base, 2), round(width, 2), round(height, 2), kind))
    return made


def _heights(top: float) -> list[Tick]:
    whole = _HEIGHT - _BOTTOM - _TOP
    digits = 0 if top >= 0.1 else 1  # noqa: PLR2004 ten percent
    return [Tick(_LEFT - 6, _TOP + whole * (1 - part) + 4, f"{part * top:.{digits}%}") for part in (0, 0.5, 1)]


def reliability(spread: ScoreSpread) -> list[ReliabilityPoint]:
    """How often a text of each bin is spam; nothing where nobody has said which are. Bins of few texts are left out."""
    if spread.spam is None:
        return []
    edges = np.array([0.0, *spread.bounds, 1.0])
    middles = (edges[:-1] + edges[1:]) / 2
    return [
        ReliabilityPoint(float(middle), min(1.0, float(spam / share)), float(share))
        for middle, spam, share in zip(middles, spread.spam, spread.shares, strict=True)
        if share >= _LEAST_SHARE
    ]


class _ResultRow(msgspec.Struct):
    name: str
    value: float
    range: str = ""
    extra: dict[str, Any] = {}


class ResultFiles:
    """The figures of traffic in benchmarks/results, where there is a checkout; each file is read once."""

    def __init__(self, folder: Path = RESULTS) -> None:
        self._folder = folder
        self._read: dict[Path, tuple[int, list[_ResultRow]]] = {}

    def recalls(self, bundle: Bundle) -> list[RecallFigure]:
        """Recall at false-positive rates: of the bundle's own test rows, and of each collection of a results file."""
        own = [figure(bundle, f"test-{name}") for name in _RATES.values()]
        found = []
        if any(each is not None for each in own):
            values = tuple(None if each is None else (each, "") for each in own)
            found.append(RecallFigure("test rows of its split", values, figure(bundle, "test-ece")))
        prefix = f"judge/{bundle.name}/traffic/"
        rows: dict[str, dict[str, _ResultRow]] = {}
        for row in self._rows(bundle, prefix):
            place, _, name = row.name.removeprefix(prefix).partition("/")
            if not place.startswith("baseline-") and math.isfinite(row.value):
                rows.setdefault(place, {})[name] = row
        for place, named in rows.items():
            if not any(name in named for name in _RATES.values()):
                continue
            asked = [named.get(name) for name in _RATES.values()]
            values = tuple(None if each is None else (each.value, each.range) for each in asked)
            ece = named.get("ece")
            found.append(RecallFigure(f"traffic, {place}", values, ece.value if ece else None))
        return found

    def _rows(self, bundle: Bundle, prefix: str) -> list[_ResultRow]:
        found: list[_ResultRow] = []
        for path in sorted(self._folder.glob(f"traffic-{bundle.name}-*.json")):
            try:
                state = path.stat()
                if state.st_size > _RESULTS_BYTES:
                    continue
                known = self._read.get(path)
                if known is None or known[0] != state.st_mtime_ns:
                    rows = msgspec.json.decode(path.read_bytes(), type=list[_ResultRow])
                    known = self._read[path] = state.st_mtime_ns, rows
            except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            if any(row.extra.get("bundle") == bundle.model for row in known[1]):  # the first figure says it for all
                found += [row for row in known[1] if row.name.startswith(prefix)]
        return found


def course(window: VerdictWindow, bundle: Bundle, now: float | None = None) -> Course | None:
    """What the verdicts of a bundle are like over the window's time; None where the bundle has given none."""
    now = time.time() if now is None else now
    oldest = window.oldest()
    if oldest is None or oldest >= now:
        return None
    edges = np.linspace(oldest, now + 1e-3, POINTS + 1)
    sampled = [
        window.scores(float(since), float(until), bundle.model, SAMPLE) for since, until in itertools.pairwise(edges)
    ]
    if not any(sampled):
        return None
    reference = Reference.read(bundle.quality)
    threshold = reference.threshold if reference else bundle.threshold
    counted = [_counted(each, reference, threshold) for each in sampled]
    scores = np.array([score for each in sampled for score, _ in each])
    return Course(
        lines=_lines(counted),
        ticks=_times(edges, _highest(counted)),
        rows=tuple(_row(float(edge), each) for edge, each in zip(edges[:-1], counted, strict=True)),
        ratios=_ratios(sampled, reference),
        scored=len(scores),
        hours=float(edges[1] - edges[0]) / 3600,
        scores=scores,
    )


class _Counted(NamedTuple):
    """One point: how many, and shares by kind; None: too few."""

    texts: int
    shares: dict[str, float] | None


def _counted(sample: Sequence[tuple[float, bool]], reference: Reference | None, threshold: float) -> _Counted:
    if len(sample) < _LEAST_SCORES:
        return _Counted(len(sample), None)
    seen = _seen(sample)
    shares = {"spam": float((seen.score >= threshold).mean()), "outside": float(seen.outside.mean())}
    if reference:
        texts, hits = reference.count(seen)
        expected = reference.expected @ texts / texts.sum()
        shares |= {
            "unsure": float(hits[2].sum() / texts.sum()),
            "outside-expected": float(expected[0]),
            "unsure-expected": float(expected[2]),
        }
    return _Counted(len(sample), shares)


def _seen(sample: Sequence[tuple[float, bool]]) -> Seen:
    score = np.array([score for score, _ in sample], dtype=np.float64)
    return Seen(score, np.zeros(len(sample)), np.array([bool(outside) for _, outside in sample], dtype=np.bool_))


def _ratios(sampled: Sequence[Sequence[tuple[float, bool]]], reference: Reference | None) -> dict[str, float] | None:
    if reference is None:
        return None
    whole = Window(reference)
    for each in sampled:
        if each:
            whole.observe(_seen(each))
    found = whole.ratios()
    return {name: found[name] for name in ("outside", "score")} if found else None


_DRAWN: Final = ("outside", "unsure", "outside-expected", "unsure-expected")
_SHARES: Final = ("spam", *_DRAWN)


def _highest(counted: Sequence[_Counted]) -> float:
    found = [share for each in counted if each.shares for kind, share in each.shares.items() if kind in _DRAWN]
    return max([*found, 0.02])


def _lines(counted: Sequence[_Counted]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    top, step = _highest(counted), (_WIDTH - _LEFT) / POINTS
    made = []
    for kind in _DRAWN:
        parts: list[list[str]] = [[]]
        for at, each in enumerate(counted):
            share = each.shares.get(kind) if each.shares else None
            if share is None:
                parts.append([])
                continue
            y = _TOP + (1 - share / top) * (_HEIGHT - _BOTTOM - _TOP)
            x = _LEFT + at * step  # a step, so that a point without neighbours is seen, too
            parts[-1].append(f"{x:.1f},{y:.1f} {x + step:.1f},{y:.1f}")
        made.append((kind, tuple(" ".join(each) for each in parts if each)))
    return tuple(made)


def _times(edges: NDArray[np.float64], top: float) -> tuple[Tick, ...]:
    step = (_WIDTH - _LEFT) / POINTS
    hours = (edges[-1] - edges[0]) / 3600
    form = "%d %b" if hours > 36 else "%H:%M" if hours > 2 else "%H:%M:%S"  # noqa: PLR2004
    named = [
        Tick(_LEFT + at * step, _HEIGHT - _BOTTOM + 16, time.strftime(form, time.gmtime(float(edges[at]))))
        for at in range(0, POINTS, POINTS // 6)
    ]
    return (*named, *_heights(top))


def _row(edge: float, each: _Counted) -> tuple[str, ...]:
    shares = each.shares or {}
    named = [f"{shares[kind]:.2%}" if kind in shares else "–" for kind in _SHARES]
    return (time.strftime("%Y-%m-%d %H:%M", time.gmtime(edge)), f"{each.texts:,}", *named)
