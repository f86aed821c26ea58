"""Several splits to figures with intervals, under the names that they have in results files."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from training import hardware, metrics, results
from training.data import split as data
from training.judge import compare
from training.judge.judged import CLEAN, FALSE_POSITIVES, OUTSIDE, Judged
from training.results import RESULTS, Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from training.data.split import Row
    from training.judge.evaluate import SplitReport
    from training.judge.judged import JudgedSets
    from training.metrics import Figure

PREFIX: Final = {"linear": "baseline", "boosted": "boosted"}
"""The baselines' place in the names of figures: "baseline" alone is the linear one."""
_SHORT, _LONG = 60, 130
"""In characters: about a third of the messages each; three quarters of the spam is long."""
_URL: Final = re.compile(r"https?:|www\.|\b[\w-]+\.(?:com|co|net|org|uk|tv|info|biz|mobi)\b", re.IGNORECASE)
_PHONE: Final = re.compile(r"\d(?:[ \-.()]?\d){6,}")
SLICES: Final[Mapping[str, Callable[[str], bool]]] = {
    "short": lambda text: len(text) <= _SHORT,
    "medium": lambda text: _SHORT < len(text) <= _LONG,
    "long": lambda text: len(text) > _LONG,
    "link": lambda text: _URL.search(text) is not None,
    "no-link": lambda text: _URL.search(text) is None,
    "phone-number": lambda text: _PHONE.search(text) is not None,
    "no-phone-number": lambda text: _PHONE.search(text) is None,
}


class NamedFigure(NamedTuple):
    """A figure, its name without the judge's, and what else a reader needs."""

    name: str
    figure: Figure
    extra: Mapping[str, Any]

    @property
    def unit(self) -> str:
        """A mean of a score, or a share of rows."""
        return "score" if "mean" in self.name or "difference" in self.name else "share"


def findings(reports: Sequence[SplitReport]) -> list[NamedFigure]:
    """All of them, in the order in which one reads them."""
    everyone = {"": [report.model for report in reports]}
    for name, prefix in PREFIX.items():
        if all(name in report.baselines for report in reports):
            everyone[f"{prefix}-"] = [report.baselines[name] for report in reports]
    found = [each for prefix, judgements in everyone.items() for each in _means(prefix, judgements)]
    for prefix, judgements in everyone.items():
        if prefix:
            found.append(_against(prefix, reports, judgements))
    for prefix, judgements in everyone.items():
        found += _attacks(prefix, judgements)
    for prefix, judgements in everyone.items():
        found += _outside(prefix, judgements)
    return [*found, *_slices(reports), *_classes(reports)]


def record(reports: Sequence[SplitReport], name: str, folder: Path = RESULTS) -> Path:
    """Write the figures under what judged them; a range is the 95 % interval. Returns the file."""
    where = _where([report.model for report in reports])
    devices = {f"{prefix}-": _where([report.baselines[judge] for report in reports if judge in report.baselines])
             for judge, prefix in PREFIX.items()}  # fmt: skip

    def entry(found: NamedFigure) -> Entry:
        device = next((there for prefix, there in devices.items() if found.name.startswith(prefix)), where)
        extra = {"device": device, "recorded-on": hardware.processor(), **found.extra}
        return Entry(
            f"judge/{name}/{found.name}", found.unit, round(found.figure.value, 4), found.figure.interval, extra
        )

    # A share of nothing, such as spam of a kind that no test row is, is no figure.
    entries = [entry(each) for each in findings(reports) if not math.isnan(each.figure.value)]
    return results.record(f"judge-{name}", entries, device=where, folder=folder)


def pooled(judgements: Sequence[JudgedSets], name: str = CLEAN) -> Judged:
    """One set of rows of every split, end to end."""
    sets = [judgement.sets[name] for judgement in judgements]
    return Judged(*(np.concatenate([getattr(each, part) for each in sets]) for part in Judged.__slots__))


def shares(judged: Judged) -> tuple[Figure, Figure]:
    """The share of its spam that is caught, and of its ham that is flagged."""
    caught = metrics.share(int((judged.spam & judged.flagged).sum()), int(judged.spam.sum()))
    return caught, metrics.share(int((~judged.spam & judged.flagged).sum()), int((~judged.spam).sum()))


def _means(prefix: str, judgements: Sequence[JudgedSets]) -> Iterator[NamedFigure]:
    """Each figure's mean over splits."""
    measured = [judgement.clean.measure() for judgement in judgements]
    for key in measured[0]:
        values = [each[key] for each in measured]
        figure = metrics.mean(values) if len(values) > 1 else judgements[0].clean.figures()[key]
        extra: dict[str, Any] = {"splits": len(values), "each": [round(value, 4) for value in values]}
        extra["judged-on"] = _where(judgements)
        if key == "ece":
            joined = pooled(judgements)
            extra["reliability"] = [[round(said, 4), round(came, 4), rows]
                                    for said, came, rows in metrics.reliability(joined.spam, joined.score)]  # fmt: skip
        yield NamedFigure(prefix + (key if key.startswith("recall") else f"{key}-mean"), figure, extra)


def _where(judgements: Sequence[JudgedSets]) -> str:
    """Names of the devices that judged; answers may come from several machines, and old ones do not say."""
    return ", ".join(sorted({str(judgement.about.get("device", "unknown")) for judgement in judgements}))


def _against(prefix: str, reports: Sequence[SplitReport], judgements: Sequence[JudgedSets]) -> NamedFigure:
    groups = [row.cluster for report in reports for row in report.exam.parts.test]
    found = compare.compare(pooled([report.model for report in reports]), pooled(judgements), groups)
    extra = {"verdict": found.verdict, "right-alone": found.only_one, "wrong-alone": found.only_other,
             "mcnemar-p": round(found.p, 4), "resampled": "clusters of near-duplicates"}  # fmt: skip
    return NamedFigure(f"f1-difference-to-{prefix.removesuffix('-')}", found.difference, extra)


def _attacks(prefix: str, judgements: Sequence[JudgedSets]) -> Iterator[NamedFigure]:
    """Each disguise over all splits: spam still caught, ham flagged; and the worst of both."""
    found = {name: shares(pooled(judgements, f"attack/{name}")) for name in judgements[0].attacks}
    hides = min(found, key=lambda name: found[name][0].value)
    blames = max(found, key=lambda name: found[name][1].value)
    yield NamedFigure(f"{prefix}attack-recall-worst", found[hides][0], {"attack": hides})
    yield NamedFigure(f"{prefix}attack-ham-fpr-worst", found[blames][1], {"attack": blames})
    shown = judgements[0].about.get("shown")
    for name, (recall, flagged) in found.items():
        met = {} if shown is None else {"met-in-training": name in shown}
        yield NamedFigure(f"{prefix}attack/{name}/recall", recall, met)
        yield NamedFigure(f"{prefix}attack/{name}/ham-fpr", flagged, {})


def _outside(prefix: str, judgements: Sequence[JudgedSets]) -> Iterator[NamedFigure]:
    """Texts of another collection: the same rows for every split's judge, so intervals are over rows, of the mean."""
    if any(OUTSIDE not in judgement.sets for judgement in judgements):
        return
    asked = [judgement.sets[OUTSIDE] for judgement in judgements]
    truth = asked[0].truth
    flagged = np.mean([each.flagged for each in asked], axis=0)
    allowed = FALSE_POSITIVES["1-percent"]
    within = np.mean([each.score > metrics.bar(each.spam, each.score, allowed) for each in asked], axis=0)
    for at, label in enumerate(data.THREE):
        here = truth == at
        yield NamedFigure(f"{prefix}outside/{label}/flagged", _mean_share(flagged[here]), {"rows": int(here.sum())})
        if at:
            yield NamedFigure(f"{prefix}outside/{label}/recall-at-1-percent", _mean_share(within[here]), {})


def _slices(reports: Sequence[SplitReport]) -> Iterator[NamedFigure]:
    texts = [row.text for report in reports for row in report.exam.parts.test]
    joined = pooled([report.model for report in reports])
    for name, holds in SLICES.items():
        some = joined.some(np.array([holds(text) for text in texts]))
        recall, flagged = shares(some)
        yield NamedFigure(f"slice/{name}/recall", recall, {"spam": int(some.spam.sum())})
        yield NamedFigure(f"slice/{name}/ham-fpr", flagged, {"ham": int((~some.spam).sum())})


def _classes(reports: Sequence[SplitReport]) -> Iterator[NamedFigure]:
    labels = reports[0].exam.labels
    if len(labels) == len(data.LABELS):
        return
    for prefix, judgements in (
        ("", [report.model for report in reports]),
        *((f"{PREFIX[name]}-", [report.baselines[name] for report in reports]) for name in reports[0].baselines),
    ):
        for at, label in enumerate(labels):
            each = [metrics.f1(one.clean.truth == at, one.clean.given == at) for one in judgements]
            yield NamedFigure(
                f"{prefix}class/{label}/f1-mean", metrics.mean(each), {"each": [round(f, 4) for f in each]}
            )


def _mean_share(values: Any) -> Figure:  # noqa: ANN401 an array of shares, one a row
    return metrics.bootstrapped(lambda rows: {"share": float(values[rows].mean())}, len(values))["share"]


def misjudged(reports: Sequence[SplitReport]) -> Iterator[tuple[int, Row, str, float]]:
    """Split, row, label given and score of every test row that was judged wrongly, the surest errors first."""
    for report in reports:
        clean = report.model.clean
        wrong = np.flatnonzero(clean.truth != clean.given)
        for at in sorted(wrong, key=lambda at: -abs(clean.score[at] - 0.5)):
            given = report.exam.labels[clean.given[at]] if clean.given[at] >= 0 else "unscored"
            yield report.seed, report.exam.parts.test[at], given, float(clean.score[at])
