"""A judge's answers for labelled rows, kept as a file: figures are made from it, as often as one likes."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from training import metrics, whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from training.metrics import Figure

FALSE_POSITIVES: Final = {"1-percent": 0.01, "0.1-percent": 0.001}
CLEAN: Final = "clean"
ATTACK: Final = "attack/"
OUTSIDE: Final = "outside"
"""The sets of rows in a judgement: the test rows as they are, disguised, and texts of another collection."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One set of rows: each one's true and given label (indices; -1: no answer), and its score of not being ham."""

    truth: NDArray[np.int8]
    given: NDArray[np.int8]
    score: NDArray[np.float64]

    @property
    def spam(self) -> NDArray[np.bool_]:
        """Whether a row is not ham."""
        return self.truth > 0

    @property
    def flagged(self) -> NDArray[np.bool_]:
        """Whether it was said not to be. A row without an answer counts as delivered."""
        return self.given > 0

    def measure(self, rows: NDArray[np.intp] | slice = slice(None)) -> dict[str, float]:
        """Every figure of these rows, or of some of them."""
        spam, score, flagged = self.spam[rows], self.score[rows], self.flagged[rows]
        found = {
            "f1": metrics.f1(spam, flagged),
            "mcc": metrics.mcc(spam, flagged),
            "auc": metrics.auc(spam, score),
            "pr-auc": metrics.pr_auc(spam, score),
            **{f"recall-at-{name}": metrics.recall_at(spam, score, most) for name, most in FALSE_POSITIVES.items()},
        }
        if score.size and score.min() >= 0 and score.max() <= 1:  # a margin is no probability
            found["ece"] = metrics.ece(spam, score)
        if self.truth.max(initial=0) > 1:
            found["macro-f1"] = metrics.macro_f1(self.truth[rows], self.given[rows])
        return found

    def figures(self) -> dict[str, Figure]:
        """Every figure with its interval, by bootstrap over rows."""
        return metrics.bootstrapped(self.measure, len(self.spam))

    def some(self, rows: NDArray[np.bool_]) -> Judged:
        """The rows that are true in the mask."""
        return Judged(self.truth[rows], self.given[rows], self.score[rows])


@dataclass(frozen=True, slots=True)
class JudgedSets:
    """One judge on one split: every set of rows. `about` says who was judged, on what."""

    sets: Mapping[str, Judged]
    about: Mapping[str, Any]

    @property
    def clean(self) -> Judged:
        """The test rows as they are."""
        return self.sets[CLEAN]

    @property
    def attacks(self) -> dict[str, Judged]:
        """The test rows under each disguise."""
        return {name.removeprefix(ATTACK): each for name, each in self.sets.items() if name.startswith(ATTACK)}

    def save(self, path: Path) -> None:
        """As arrays, nothing pickled; whole or not at all."""
        arrays = {
            f"{name}:{part}": getattr(each, part) for name, each in self.sets.items() for part in Judged.__slots__
        }
        with whole.writing(path) as making, making.open("wb") as opened:
            np.savez_compressed(opened, about=np.array(json.dumps(dict(self.about))), **arrays)


def load(path: Path, about: Mapping[str, Any]) -> JudgedSets | None:
    """Read a judgement; None when there is none at `path`, or when it is about something else."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            found = json.loads(str(arrays["about"]))
            if any(found.get(name) != value for name, value in about.items()):
                return None
            names = dict.fromkeys(name.rpartition(":")[0] for name in arrays.files if ":" in name)
            parts = Judged.__slots__
            return JudgedSets({name: Judged(*(arrays[f"{name}:{part}"] for part in parts)) for name in names}, found)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):  # half a file of another time: judged anew
        return None
