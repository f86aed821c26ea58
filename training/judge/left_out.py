"""What a judge says of kinds of text that it has never seen: whole kinds are left out of training, in turns.

A kind's near-twins among the others are left out with it. Scams that are left out are ranked against lawful test rows;
bands lie where 1 % of the lawful calibration rows are stopped.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from training import metrics
from training.data import mixture
from training.data.split import LABELS, DataError
from training.judge.findings import NamedFigure

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from numpy.typing import NDArray

    from training.data.mixture import MixtureParts, Sourced
    from training.judge.traffic import Scorer

    Maker = Callable[[MixtureParts, int], Scorer]
    """Trains a judge on the fitting part of these, calibrates it on their slice; the number is the turn's."""

_BUDGET: Final = 0.01


@dataclass(frozen=True, slots=True)
class TurnAnswers:
    """One turn's: rows of the kinds left out, their scores, and those of the lawful test rows of other kinds."""

    rows: Sequence[Sourced]
    score: NDArray[np.float64]
    lawful: NDArray[np.float64]
    flag_from: float


def kind(row: Sourced) -> str:
    """`label/kind`; empty for a row that has no kind."""
    return f"{row.truth}/{row.kind}" if row.kind else ""


def turns(rows: Sequence[Sourced], asked: str) -> list[frozenset[str]]:
    """Which kinds to leave out together: a number of turns over all of them, or their names between commas.

    Raises DataError.
    """
    known = sorted({kind(row) for row in rows} - {""})
    if asked.isdigit() and int(asked) > 1:
        dealt = random.Random(0).sample(known, len(known))
        # Lawful kinds and scams alike in every turn.
        dealt.sort(key=lambda name: name.startswith(f"{LABELS[0]}/"))
        return [frozenset(part) for turn in range(int(asked)) if (part := dealt[turn :: int(asked)])]
    named = frozenset(name.strip() for name in asked.split(","))
    if unknown := sorted(named - set(known)):
        message = f"--leave-out {unknown[0]!r}: two turns or more, or kinds as label/kind, such as {known[-1]}"
        raise DataError(message)
    return [named]


def parted(parts: MixtureParts, kinds: Collection[str]) -> tuple[MixtureParts, tuple[Sourced, ...]]:
    """The parts without these kinds, and without near-twins of their rows; and the rows left out."""
    everything = [row for part in parts for row in part]
    gone = tuple(row for row in everything if kind(row) in kinds)
    clusters = {each for row in gone for each in (row.cluster, *row.near)}

    def rest(rows: Sequence[Sourced]) -> tuple[Sourced, ...]:
        return tuple(row for row in mixture.without(rows, kinds) if not row.is_of(clusters))

    return mixture.MixtureParts(*(rest(part) for part in parts)), gone


def ask(parts: MixtureParts, left: Sequence[frozenset[str]], make: Maker) -> list[TurnAnswers]:
    """Train and ask once for each turn."""
    found = []
    for number, kinds in enumerate(left):
        rest, gone = parted(parts, kinds)
        scorer = make(rest, number)
        calibration = scorer(_lawful(rest.calibration))
        bar = metrics.bar(np.zeros(len(calibration), dtype=np.bool_), calibration, _BUDGET)
        flag_from = float(np.nextafter(bar, np.inf))
        found.append(TurnAnswers(gone, scorer(gone), scorer(_lawful(rest.test)), flag_from))
    return found


def figures(answers: Sequence[TurnAnswers]) -> Iterator[NamedFigure]:
    """Each kind's, and all kinds together: the mean of the AUCs, with its interval over kinds."""
    aucs: list[float] = []
    single: list[NamedFigure] = []
    for turn in answers:
        kinds = np.array([kind(row) for row in turn.rows])
        for name in sorted(set(kinds)):
            at = kinds == name
            single += _of_kind(name, turn, at)
            if not name.startswith(f"{LABELS[0]}/"):
                aucs.append(single[-2].figure.value)
    if aucs:
        every = metrics.clustered(lambda rows: {"auc": float(np.mean(np.array(aucs)[rows]))}, np.arange(len(aucs)))
        yield NamedFigure("left-out/scam/auc", every["auc"], {"kinds": len(aucs)})
    for side in ("scam", "lawful"):
        hits, groups = _pooled(answers, is_scam=side == "scam")
        if len(hits):
            figure = metrics.clustered_share(hits, groups)
            yield NamedFigure(f"left-out/{side}/stopped", figure, {"rows": len(hits)})
    yield from single


def _of_kind(name: str, turn: TurnAnswers, at: NDArray[np.bool_]) -> Iterator[NamedFigure]:
    """A scam's AUC, then the share of the kind that is stopped."""
    score, groups = (
        turn.score[at],
        np.array([row.cluster for row, is_here in zip(turn.rows, at, strict=True) if is_here]),
    )
    about = {"rows": len(score), "clusters": len(set(groups.tolist()))}
    if not name.startswith(f"{LABELS[0]}/"):

        def measure(rows: NDArray[np.intp]) -> dict[str, float]:
            scam = np.repeat([True, False], [len(rows), len(turn.lawful)])
            return {"auc": metrics.auc(scam, np.concatenate([score[rows], turn.lawful]))}

        yield NamedFigure(f"left-out/{name}/auc", metrics.clustered(measure, groups)["auc"], about)
    yield NamedFigure(f"left-out/{name}/stopped", metrics.clustered_share(score >= turn.flag_from, groups), about)


def _pooled(answers: Sequence[TurnAnswers], *, is_scam: bool) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    hits = [
        (score >= turn.flag_from, row.cluster)
        for turn in answers
        for row, score in zip(turn.rows, turn.score.tolist(), strict=True)
        if (row.label != LABELS[0]) == is_scam
    ]
    return np.array([hit for hit, _ in hits], dtype=np.bool_), np.array([group for _, group in hits], dtype=np.intp)


def _lawful(rows: Sequence[Sourced]) -> tuple[Sourced, ...]:
    return tuple(row for row in rows if row.label == LABELS[0])
