"""How a judge does on traffic of today: the test rows of three collections, by kind, sender, language and link.

Each figure's interval is over clusters drawn again, since rows of one family are much alike. A text is `stopped` when
it is flagged or blocked. A baseline's bands are put where they take the same shares of the lawful calibration rows, so
that both spend the same budget.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from training import metrics
from training.data import mixture, modern
from training.data.disguises import VARIED, disguise
from training.data.split import LABELS
from training.data.surface import LINK
from training.judge import baselines
from training.judge.findings import NamedFigure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from training.data.mixture import MixtureParts, Sourced
    from worker.model.bundle import Bundle
    from worker.model.classifier import Classifier

    Scorer = Callable[[Sequence[Sourced]], NDArray[np.float64]]

FALSE_POSITIVES: Final = {"1-percent": (0.01, 0), "0.1-percent": (0.001, 0), "0.01-percent": (0.0001, 10_000)}
"""Shares of lawful texts that may be stopped, and the lawful texts that it takes to say so."""
SPAM_SHARES: Final = {"0.2-percent": 0.002, "1-percent": 0.01, "5-percent": 0.05}
"""Of all texts: what a carrier may have."""
BASELINE: Final = "baseline-"
"""The place of LinearSVC in figures' names."""


def sent_by(row: Sourced) -> str:
    """Whose a text of `data/modern` is, or pretends to be, by its kind."""
    if row.source != "modern" or row.label != LABELS[0]:
        return ""
    return "people" if row.kind in modern.kinds()["personal"] else "organisations"


SLICED: Final[Mapping[str, Callable[[Sourced], str]]] = {
    "source": lambda row: row.source,
    "from": sent_by,
    "link": lambda row: "with" if LINK.search(row.text) else "without",
    "language": lambda row: row.language if row.source == "modern" else "",
    "sender": lambda row: row.sender,
    "kind": lambda row: row.kind,
}
"""What texts are told apart by; an empty answer is no part."""


@dataclass(frozen=True, slots=True)
class Answers:
    """One judge's: scores of the rows, of each variation of them, and the scores from which it flags and blocks."""

    rows: Sequence[Sourced]
    score: NDArray[np.float64]
    varied: Mapping[str, NDArray[np.float64]]
    flag_from: float
    block_from: float
    is_probability: bool = True

    @property
    def scam(self) -> NDArray[np.bool_]:
        """Whether a row is not lawful."""
        return np.array([row.label != LABELS[0] for row in self.rows], dtype=np.bool_)

    @property
    def groups(self) -> NDArray[np.intp]:
        """Each row's cluster."""
        return np.array([row.cluster for row in self.rows], dtype=np.intp)


def bands(bundle: Bundle) -> tuple[float, float]:
    """The scores from which a bundle has texts flagged and blocked; its threshold where it says nothing else."""
    own = getattr(bundle, "bands", None)
    return (own.flag_from, own.block_from) if own else (bundle.threshold, bundle.threshold)


def model(classifier: Classifier) -> Scorer:
    """A bundle as a judge. A text without a score is delivered."""

    def score(rows: Sequence[Sourced]) -> NDArray[np.float64]:
        return np.nan_to_num(classifier.judge(classifier.prepare([row.text for row in rows])).score)

    return score


def linear(train: Sequence[Sourced]) -> Scorer:
    """LinearSVC as a judge."""
    judge = baselines.linear(train, LABELS)
    return lambda rows: judge(rows).score


def beside(
    scorer: Scorer, calibration: Sequence[Sourced], score: NDArray[np.float64], flag_from: float, block_from: float
) -> tuple[float, float]:
    """Bands for another judge that take the same shares of the lawful calibration rows; `score` are the first's."""
    lawful = np.array([row.label == LABELS[0] for row in calibration], dtype=np.bool_)
    own = np.sort(scorer(calibration)[lawful])[::-1]
    spent = [int((score[lawful] >= each).sum()) for each in (flag_from, block_from)]
    flag, block = (float(np.nextafter(own[count], np.inf)) if count < len(own) else -np.inf for count in spent)
    return flag, block


def ask(  # noqa: PLR0913 who, what, and how its scores are read
    scorer: Scorer,
    rows: Sequence[Sourced],
    flag_from: float,
    block_from: float,
    *,
    seed: int = 0,
    is_probability: bool = True,
) -> Answers:
    """Have the rows judged, plain and varied."""
    varied = {}
    for name in VARIED:
        texts = disguise(name, [row.text for row in rows], f"traffic-{seed}")
        varied[name] = scorer([replace(row, text=text) for row, text in zip(rows, texts, strict=True)])
    return Answers(rows, scorer(rows), varied, flag_from, block_from, is_probability)


def compare(bundle: Bundle, classifier: Classifier, parts: MixtureParts, *, seed: int = 0) -> dict[str, Answers]:
    """A bundle's answers and those of LinearSVC, fitted on the same rows, by their place in names."""
    scorer, (flag_from, block_from) = model(classifier), bands(bundle)
    found = {"": ask(scorer, parts.test, flag_from, block_from, seed=seed)}
    if baselines.are_here():
        other = linear(parts.fit)
        own = beside(other, parts.calibration, scorer(parts.calibration), flag_from, block_from)
        found[BASELINE] = ask(other, parts.test, *own, seed=seed, is_probability=False)
    return found


def figures(answers: Answers) -> Iterator[NamedFigure]:
    """All of one judge, without its place in their names."""
    scam, groups, score = answers.scam, answers.groups, answers.score
    source = np.array([row.source for row in answers.rows])
    for name in ("all", *mixture.SOURCES):
        at = source == name if name != "all" else np.ones(len(source), dtype=np.bool_)
        if scam[at].any() and not scam[at].all():
            yield from _ranking(name, scam[at], score[at], groups[at])
    yield from _precisions(answers)
    yield from _shares("all", "", np.ones(len(scam), dtype=np.bool_), answers)
    for what, part in SLICED.items():
        named = np.array([part(row) for row in answers.rows])
        for value in sorted(set(named) - {""}):
            yield from _shares(what, value, named == value, answers)
    for name, varied in answers.varied.items():
        yield _share(f"varied/{name}/scam/stopped", varied[scam] >= answers.flag_from, groups[scam])
        yield _share(f"varied/{name}/lawful/stopped", varied[~scam] >= answers.flag_from, groups[~scam])
    if answers.is_probability:
        for name in mixture.SOURCES:
            if (at := source == name).any():
                yield _calibration(name, scam[at], score[at], groups[at])


def _ranking(
    name: str, scam: NDArray[np.bool_], score: NDArray[np.float64], groups: NDArray[np.intp]
) -> Iterator[NamedFigure]:
    """AUC, and the recall at each share of lawful texts for which there are enough."""
    lawful = int((~scam).sum())
    rates = {key: share for key, (share, least) in FALSE_POSITIVES.items() if lawful >= least}

    def measure(rows: NDArray[np.intp]) -> dict[str, float]:
        some, theirs = scam[rows], score[rows]
        if some.all() or not some.any():
            return dict.fromkeys(("auc", *rates), np.nan)
        return {"auc": metrics.auc(some, theirs)} | {
            key: metrics.recall_at(some, theirs, share) for key, share in rates.items()
        }

    about = {"lawful": lawful, "scam": int(scam.sum()), "clusters": len(set(groups.tolist()))}
    for key, figure in metrics.clustered(measure, groups).items():
        yield NamedFigure(f"{name}/auc" if key == "auc" else f"{name}/recall-at-{key}", figure, about)


def _precisions(answers: Answers) -> Iterator[NamedFigure]:
    """What share of the stopped, and of the blocked, would be scams, where so much of all traffic is."""
    scam = answers.scam
    for what, bar in (("stopped", answers.flag_from), ("blocked", answers.block_from)):
        hit = answers.score >= bar

        def measure(rows: NDArray[np.intp], hit: NDArray[np.bool_] = hit) -> dict[str, float]:
            some, taken = scam[rows], hit[rows]
            if some.all() or not some.any():
                return dict.fromkeys(SPAM_SHARES, np.nan)
            caught, wrong = float(taken[some].mean()), float(taken[~some].mean())
            return {key: metrics.expected_precision(caught, wrong, share) for key, share in SPAM_SHARES.items()}

        for key, figure in metrics.clustered(measure, answers.groups).items():
            yield NamedFigure(f"precision/{key}-spam/{what}", figure, {})


def _shares(what: str, value: str, at: NDArray[np.bool_], answers: Answers) -> Iterator[NamedFigure]:
    """Of the lawful texts and of the scams of a part: the shares that are stopped and blocked."""
    part = f"{what}/{value}" if value else what
    for side, mask in (("lawful", ~answers.scam), ("scam", answers.scam)):
        here = at & mask
        if here.any():
            for done, bar in (("stopped", answers.flag_from), ("blocked", answers.block_from)):
                yield _share(f"{side}/{part}/{done}", answers.score[here] >= bar, answers.groups[here])


def _share(name: str, hits: NDArray[np.bool_], groups: NDArray[np.intp]) -> NamedFigure:
    about = {"rows": len(hits), "clusters": len(set(groups.tolist()))}
    return NamedFigure(name, metrics.clustered_share(hits, groups), about)


def _calibration(
    name: str, scam: NDArray[np.bool_], score: NDArray[np.float64], groups: NDArray[np.intp]
) -> NamedFigure:
    figure = metrics.clustered(lambda rows: {"ece": metrics.ece(scam[rows], score[rows])}, groups)["ece"]
    bins = [[round(said, 4), round(came, 4), rows] for said, came, rows in metrics.reliability(scam, score)]
    return NamedFigure(f"{name}/ece", figure, {"rows": len(scam), "reliability": bins})
