"""How good a recipe is, and how good one bundle: on test rows that share no near-duplicate with what it was trained on.

What is judged is the bundle, by the engine that serves it: what is measured is what is shipped. Each split's answers
are kept as a file, so that splits can be judged on different machines and put together on another.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from training import hardware
from training.data import split as data
from training.data.disguises import DISGUISES, disguise
from training.fit import published as reference
from training.judge import baselines, judged
from training.judge.judged import ATTACK, CLEAN, OUTSIDE, Judged, JudgedSets
from worker.model.bundle import Bundle

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from training.data.split import Row
    from training.judge.baselines import Judge
    from worker.model.classifier import Classifier

SLICE: Final = 0.1
"""The share of train that is kept from learning, for calibration and threshold."""


class Parts(NamedTuple):
    """Train cut in two, and test; no cluster of near-duplicates is in two of them."""

    fit: tuple[Row, ...]
    calibration: tuple[Row, ...]
    test: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Exam:
    """One split as every judge of it sees it: what may be learnt from, the rows asked, their labels' names.

    `outside` are rows of another collection, under the three labels of `data.THREE` whatever the judge's own are.
    """

    seed: int
    parts: Parts
    labels: tuple[str, ...]
    outside: tuple[Row, ...] = ()

    @property
    def digest(self) -> str:
        """Names what is asked, and the labels' order: answers to anything else are not mixed up with these."""
        asked = data.digest((*self.parts.test, *self.outside))
        return asked if self.labels == data.LABELS else f"{asked} {','.join(self.labels)}"


@dataclass(frozen=True, slots=True)
class SplitReport:
    """One split: the exam, the judge's answers, and those of the baselines, where they can be had."""

    exam: Exam
    model: JudgedSets
    baselines: Mapping[str, JudgedSets]

    @property
    def seed(self) -> int:
        """The number of the split."""
        return self.exam.seed


def cut(rows: Sequence[Row], seed: int) -> Parts:
    """The honest split of a seed, its train cut once more."""
    split = data.split(rows, seed)
    fit, calibration = data.hold_out(split.train, seed, SLICE)
    return Parts(fit, calibration, split.test)


def evaluate(bundle: Path, exam: Exam, about: Mapping[str, object] | None = None) -> JudgedSets:
    """Judge a bundle that was made of the exam's `fit` and `calibration` rows. Raises BundleError."""
    known = {"judge": Bundle.load(bundle).digest, "rows": exam.digest, "seed": exam.seed}
    return answers(functools.partial(judge, reference.classifier(bundle)), exam, {**known, **(about or {})})


def baseline(name: str, exam: Exam, kept: Path | None = None) -> JudgedSets:
    """Fit a baseline on all of train and judge it. It needs no calibration slice, so it loses none of its rows."""
    learnt = (*exam.parts.fit, *exam.parts.calibration)
    about = {"judge": name, "rows": exam.digest, "seed": exam.seed, "train": data.digest(learnt)}
    found = judged.load(kept, about) if kept else None
    if found is None:
        found = answers(baselines.BASELINES[name](learnt, exam.labels), exam, about | {"device": hardware.processor()})
        if kept:
            found.save(kept)
    return found


def judge(classifier: Classifier, rows: Sequence[Row]) -> Judged:
    """Score rows by the bundle's own threshold. A row without a score counts as delivered."""
    scores = classifier.judge(classifier.prepare([row.text for row in rows]))
    names = classifier.labels if {row.label for row in rows} <= set(classifier.labels) else data.THREE
    truth = np.array([names.index(row.label) for row in rows], dtype=np.int8)
    return Judged(truth, scores.label.astype(np.int8), np.nan_to_num(scores.score))


def answers(judge: Judge, exam: Exam, about: Mapping[str, object]) -> JudgedSets:
    """Every question of an exam, put to any judge: test rows plain and under each disguise, and those from outside."""
    sets = {CLEAN: judge(exam.parts.test)}
    sets |= {ATTACK + name: judge(_disguised(exam.parts.test, name, exam.seed)) for name in DISGUISES}
    if exam.outside:
        # A judge of two labels has no name for smishing: it is asked about spam, and separated by its true label alone.
        plain = [data.Row(row.text, row.label if row.label in exam.labels else data.LABELS[1]) for row in exam.outside]
        found = judge(plain)
        truth = np.array([data.THREE.index(row.label) for row in exam.outside], dtype=np.int8)
        sets[OUTSIDE] = Judged(truth, found.given, found.score)
    return JudgedSets(sets, about)


def _disguised(rows: Sequence[Row], name: str, seed: int) -> list[Row]:
    texts = disguise(name, [row.text for row in rows], str(seed))
    return [data.Row(text, row.label) for text, row in zip(texts, rows, strict=True)]
