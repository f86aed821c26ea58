"""A run to a bundle in force: judged beside the one that it would replace, and refused where it is worse."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from training.bundle import export
from training.data import split as data
from training.fit import published as reference
from training.judge import compare, evaluate
from training.judge.judged import ATTACK, CLEAN
from worker.model.bundle import MANIFEST, Bundle
from worker.rollout import drift

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from training.judge.evaluate import Exam
    from training.judge.judged import JudgedSets


class WorseBundleError(Exception):
    """The new bundle is worse than the one in force, which stays. The text says where, and how to replace it anyway."""


def ship(  # noqa: PLR0913 what a bundle is made of, and where it goes
    run: Path,
    exam: Exam,
    data_digest: str,
    out: Path,
    *,
    even_if_worse: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Bundle:
    """Make a bundle of a run and put it at `out`, with what it scored on the exam's test rows written into it.

    A bundle that stands there is judged on the same rows, plain and under each disguise. Where the paired interval of
    the difference in F1 says that the new one is worse, it is refused, unless `even_if_worse`.
    Raises WorseBundleError, ExportError, CalibrationError, BundleError.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        made = export.export(run, exam.parts.calibration, data_digest, making / "bundle")
        judgement = evaluate.evaluate(made.folder, exam)
        if (out / MANIFEST).exists():
            worse = _worse(judgement, evaluate.evaluate(out, exam), exam, tell)
            if worse and not even_if_worse:
                message = (
                    f"worse than {Bundle.load(out).model} at {out} on the same rows ({', '.join(worse)}); "
                    "it stays in force. --even-if-worse ships it all the same"
                )
                raise WorseBundleError(message)
        quality = {**made.quality, "split": exam.seed, "held-out": data.digest(exam.parts.test)}
        quality |= {f"test-{name}": round(value, 4) for name, value in judgement.clean.measure().items()}
        quality |= drift.usual(reference.classifier(made.folder), _unlearnt(exam))
        return export.with_quality(made, quality, out)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _unlearnt(exam: Exam) -> list[str]:
    """The test rows' texts; where they are too few to say what is usual, with those that were calibrated on."""
    test, calibration = exam.parts.test, exam.parts.calibration
    return [row.text for row in (test if len(test) >= drift.LEAST else (*test, *calibration))]


def _worse(made: JudgedSets, in_force: JudgedSets, exam: Exam, tell: Callable[[str], None]) -> Sequence[str]:
    groups = [row.cluster for row in exam.parts.test]
    worse = []
    for name in (CLEAN, *(f"{ATTACK}{each}" for each in made.attacks)):
        found = compare.compare(made.sets[name], in_force.sets[name], groups)
        tell(f"{name:<20} {found}")
        if found.verdict == "worse":
            worse.append(name)
    return worse
