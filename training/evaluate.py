"""How good a recipe is, and how good one bundle: on test rows that share no near-twin with what it was trained on.

What is judged is the bundle, by the engine that serves it: what is measured is what is shipped.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from training import data, metrics
from training.disguises import DISGUISES
from worker.classifier import Classifier

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from training.data import Row, Split
    from training.metrics import Figure

SLICE: Final = 0.1
"""The share of train that is kept from learning, for calibration and threshold."""
FALSE_POSITIVES: Final = {"1-percent": 0.01, "0.1-percent": 0.001}


class Parts(NamedTuple):
    """Train cut in two, and test; no cluster of near-twins is in two of them."""

    fit: tuple[Row, ...]
    calibration: tuple[Row, ...]
    test: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """Scores of one set of rows, and what the threshold made of them."""

    spam: NDArray[np.bool_]
    score: NDArray[np.float64]
    flagged: NDArray[np.bool_]

    def measure(self, rows: NDArray[np.intp] | slice = slice(None)) -> dict[str, float]:
        """Every figure of these rows, or of some of them."""
        spam, score, flagged = self.spam[rows], self.score[rows], self.flagged[rows]
        return {
            "f1": metrics.f1(spam, flagged),
            "mcc": metrics.mcc(spam, flagged),
            "auc": metrics.auc(spam, score),
            **{f"recall-at-{name}": metrics.recall_at(spam, score, most) for name, most in FALSE_POSITIVES.items()},
        }

    def figures(self) -> dict[str, Figure]:
        """Every figure with its interval, by bootstrap over rows."""
        return metrics.bootstrapped(self.measure, len(self.spam))


@dataclass(frozen=True, slots=True)
class Attack:
    """One disguise put on all test rows: spam still caught of all spam, ham flagged of all ham."""

    caught: int
    spam: int
    flagged: int
    ham: int

    def __add__(self, other: Attack) -> Attack:
        """Both together, as over several splits."""
        return Attack(
            self.caught + other.caught, self.spam + other.spam, self.flagged + other.flagged, self.ham + other.ham
        )

    @property
    def recall(self) -> Figure:
        """The share of disguised spam that is caught."""
        return metrics.share(self.caught, self.spam)

    @property
    def ham_flagged(self) -> Figure:
        """The share of equally disguised ham that is flagged."""
        return metrics.share(self.flagged, self.ham)


@dataclass(frozen=True, slots=True)
class Report:
    """One bundle on one split: clean, disguised, and the linear baseline on the same rows."""

    seed: int
    clean: Judged
    attacks: Mapping[str, Attack]
    baseline: Judged


def cut(rows: Sequence[Row], seed: int) -> Parts:
    """The honest split of a seed, its train cut once more."""
    split: Split = data.split(rows, seed)
    fit, calibration = data.hold_out(split.train, seed, SLICE)
    return Parts(fit, calibration, split.test)


def evaluate(bundle: Path, parts: Parts, seed: int) -> Report:
    """Judge a bundle that was made of `parts.fit` and `parts.calibration`. Raises BundleError."""
    classifier = Classifier.load(bundle)
    attacks = {name: _attack(judge(classifier, _disguised(parts.test, name, seed))) for name in DISGUISES}
    learnt = (*parts.fit, *parts.calibration)  # the baseline has no use for a slice apart: it is not made poorer
    return Report(seed, judge(classifier, parts.test), attacks, linear(learnt, parts.test))


def judge(classifier: Classifier, rows: Sequence[Row]) -> Judged:
    """Score rows by the bundle's own threshold. A row without a score counts as delivered."""
    scores = classifier.judge(classifier.prepare([row.text for row in rows]))
    return Judged(_is_spam(rows), np.nan_to_num(scores.score), scores.label > 0)


def linear(train: Sequence[Row], test: Sequence[Row]) -> Judged:
    """The baseline: LinearSVC on TF-IDF of words 1-2 and characters 2-5 within words, as it comes, on the raw texts."""
    from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: PLC0415 -- only development has it
    from sklearn.pipeline import make_pipeline, make_union  # noqa: PLC0415
    from sklearn.svm import LinearSVC  # noqa: PLC0415

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    machine = make_pipeline(make_union(words, letters), LinearSVC())
    machine.fit([row.text for row in train], _is_spam(train))
    score = machine.decision_function([row.text for row in test])
    return Judged(_is_spam(test), score, score > 0)


def worst(attacks: Mapping[str, Attack]) -> tuple[str, str]:
    """The names of the attack that hides most spam, and of the one that has most ham flagged."""
    return (
        min(attacks, key=lambda name: attacks[name].recall.value),
        max(attacks, key=lambda name: attacks[name].ham_flagged.value),
    )


def together(reports: Sequence[Report]) -> dict[str, Attack]:
    """Every attack over all splits."""
    merged = dict(reports[0].attacks)
    for report in reports[1:]:
        merged = {name: merged[name] + attack for name, attack in report.attacks.items()}
    return merged


def means(reports: Sequence[Report]) -> dict[str, Figure]:
    """Each figure's mean over splits, with its interval; the baseline's under `baseline-`."""
    found: dict[str, list[float]] = {}
    for report in reports:
        for prefix, judged in (("", report.clean), ("baseline-", report.baseline)):
            for name, value in judged.measure().items():
                found.setdefault(prefix + name, []).append(value)
    return {name: metrics.mean(values) for name, values in found.items()}


def record(reports: Sequence[Report], name: str) -> Path:
    """Write the figures of several splits to benchmarks/results; a range is the 95 % interval. Returns the file."""
    from benchmarks.results import Entry  # noqa: PLC0415 -- the benchmarks are beside the package, not in it
    from benchmarks.results import record as write  # noqa: PLC0415

    splits = {"splits": len(reports), "f1": [round(report.clean.measure()["f1"], 4) for report in reports]}
    rows = [(f"{key}-mean" if key.endswith(("f1", "mcc", "auc")) else key, figure, splits)
            for key, figure in means(reports).items()]  # fmt: skip
    attacks = together(reports)
    hides, blames = worst(attacks)
    rows += [
        ("attack-recall-worst", attacks[hides].recall, {"attack": hides}),
        ("attack-ham-fpr-worst", attacks[blames].ham_flagged, {"attack": blames}),
    ]
    for key, attack in attacks.items():
        rows += [(f"attack/{key}/recall", attack.recall, {}), (f"attack/{key}/ham-fpr", attack.ham_flagged, {})]
    entries = [
        Entry(
            f"judge/{name}/{key}", "score" if "mean" in key else "share", round(figure.value, 4), figure.interval, extra
        )
        for key, figure, extra in rows
    ]
    return write(f"judge-{name}", entries)


def _disguised(rows: Sequence[Row], name: str, seed: int) -> list[Row]:
    dice = random.Random(f"{seed}-{name}")
    return [data.Row(DISGUISES[name](row.text, dice), row.label) for row in rows]


def _attack(judged: Judged) -> Attack:
    spam, flagged = judged.spam, judged.flagged
    return Attack(int((spam & flagged).sum()), int(spam.sum()), int((~spam & flagged).sum()), int((~spam).sum()))


def _is_spam(rows: Sequence[Row]) -> NDArray[np.bool_]:
    return np.array([row.label != data.LABELS[0] for row in rows])
