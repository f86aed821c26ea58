"""What each command does, one function each; what a person reads is printed here and nowhere else in training."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from training import calibrate, data, evaluate, export, recipe, train
from training.batches import DivergedError
from training.model import ModelError
from training.passes import NoRoomError
from worker.bundle import Base, Bundle, BundleError
from worker.classifier import Classifier
from worker.engine import UnsupportedModelError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from training.batches import Progress as Told
    from training.data import Row
    from training.evaluate import Report
    from training.metrics import Figure

EXPECTED: Final = (
    BundleError, DivergedError, ModelError, NoRoomError, UnsupportedModelError, calibrate.CalibrationError,
    export.ExportError,
)  # fmt: skip
"""What a person can mend, shown without a traceback."""

_console: Final = Console(highlight=False, soft_wrap=True)


def prepare(options: argparse.Namespace) -> int:
    """Say what was read, dropped and kept; write the parts if asked to."""
    prepared = data.prepare(options.data)
    for line in data.report(prepared):
        _console.print(line)
    parts = evaluate.cut(prepared.rows, options.seed)
    for name, rows in parts._asdict().items():
        _console.print(f"split {options.seed}: {name:<11} {len(rows):>5,}  spam {_spam(rows):,}")
        if options.out:
            _write_rows(options.out / f"{name}.tsv", rows)
    return 0


def fit(options: argparse.Namespace) -> int:
    """Train on the fitting part of one split's train rows."""
    chosen, prepared = recipe.load(options.recipe), data.prepare(options.data)
    parts = evaluate.cut(prepared.rows, options.seed)
    with _progress() as told:
        train.fit(chosen, parts.fit, options.run, seed=options.seed, progress=told)
    _console.print(f"trained: {options.run}. Next: python -m training export {options.run} <bundle>")
    return 0


def to_bundle(options: argparse.Namespace) -> int:
    """Make a bundle of a run."""
    chosen, prepared = recipe.load(options.recipe), data.prepare(options.data)
    parts = evaluate.cut(prepared.rows, options.seed)
    _describe(export.export(chosen, options.run, parts.calibration, prepared.digest, options.out))
    return 0


def judge(options: argparse.Namespace) -> int:
    """Judge a bundle on one split, or a recipe on several; the figures go to benchmarks/results."""
    prepared = data.prepare(options.data)
    if options.bundle:
        name = Bundle.load(options.bundle).name
        reports = [evaluate.evaluate(options.bundle, evaluate.cut(prepared.rows, options.seed), options.seed)]
    else:
        chosen = recipe.load(options.recipe)
        name = chosen.name
        reports = []
        for seed in range(options.splits):
            parts, run = evaluate.cut(prepared.rows, seed), options.runs / f"{name}-{seed}"
            with _progress(f"split {seed}, ") as told:
                train.fit(chosen, parts.fit, run, seed=seed, progress=told)
            export.export(chosen, run, parts.calibration, prepared.digest, run / "bundle")
            reports.append(evaluate.evaluate(run / "bundle", parts, seed))
            _console.print(_line(reports[-1]))
    _tell(reports, name)
    if not options.bundle:
        _console.print(f"written: {evaluate.record(reports, name)}")
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
        labels=tuple(label.strip() for label in options.labels.split(",")),
        max_tokens=options.max_tokens,
    )
    rows = data.prepare(options.calibrate).rows if options.calibrate else ()
    _describe(export.import_adapter(options.adapter, origin, options.out, calibration=rows))
    return 0


def nano(options: argparse.Namespace) -> int:
    """Rebuild the shipped model from the shipped data; it must know its canaries."""
    chosen, prepared = recipe.load(Path("nano")), data.prepare()
    parts = evaluate.cut(prepared.rows, 0)
    with _progress() as told:
        train.fit(chosen, parts.fit, options.run, seed=0, progress=told)
    made = export.export(chosen, options.run, parts.calibration, prepared.digest, options.run / "bundle")
    if unknown := export.missed(made):
        _console.print(f"{len(unknown)} of its canaries are judged wrongly; not shipped: {options.run / 'bundle'}")
        return 1
    scores = evaluate.judge(Classifier.load(made.folder), parts.test)
    quality = {f"test-{name}": round(value, 4) for name, value in scores.measure().items()}
    shipped = export.with_quality(made, {"split": 0, "held-out": data.digest(parts.test), **quality}, options.out)
    _describe(shipped)
    shutil.rmtree(made.folder)
    return 0


def predict(options: argparse.Namespace) -> int:
    """Label and probability of each text."""
    classifier = Classifier.load(options.bundle)
    scores = classifier.judge(classifier.prepare(options.texts))
    for text, score, label in zip(options.texts, scores.score, scores.label, strict=True):
        _console.print(f"{classifier.labels[label] if label >= 0 else 'unscored'}  {score:.3f}  {text}", markup=False)
    return 0


COMMANDS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "prepare": prepare,
    "train": fit,
    "export": to_bundle,
    "evaluate": judge,
    "import": bring,
    "nano": nano,
    "predict": predict,
}


@contextlib.contextmanager
def _progress(before: str = "") -> Iterator[Told]:
    """A bar on a terminal; elsewhere a line each tenth of the way."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    last = TextColumn("loss {task.fields[loss]:.3f}, {task.fields[rate]:,.0f} tokens/s")
    with Progress(*columns, last, console=_console, disable=not _console.is_terminal) as bar:
        tasks: dict[str, Any] = {}
        clocks: dict[str, _Clock] = {}

        def told(phase: str, step: int, steps: int, loss: float, tokens: int) -> None:
            stage = phase.split(",", maxsplit=1)[0]
            if stage not in tasks:
                tasks[stage] = bar.add_task(phase, total=steps, loss=loss, rate=0.0)
                clocks[stage] = _Clock(step)
            rate, left = clocks[stage].tick(step, steps, tokens)
            bar.update(tasks[stage], description=before + phase, completed=step, loss=loss, rate=rate)
            if not _console.is_terminal and step * 10 // steps != (step - 1) * 10 // steps:
                figures = f"loss {loss:.3f}, {rate:,.0f} tokens/s, {left:.0f} s left"
                _console.print(f"{before}{phase}: {step}/{steps}, {figures}")

        yield told


class _Clock:
    """Tokens a second and seconds left, over all that a stage has done since it was first heard of."""

    def __init__(self, step: int) -> None:
        self._since, self._first, self._tokens = time.monotonic(), step, 0

    def tick(self, step: int, steps: int, tokens: int) -> tuple[float, float]:
        """The first step, which is when the clock starts, is not counted."""
        if step == self._first:
            return 0.0, 0.0
        self._tokens += tokens
        passed = max(time.monotonic() - self._since, 1e-9)
        return self._tokens / passed, passed / (step - self._first) * (steps - step)


def _describe(made: Bundle) -> None:
    _console.print(f"{made.folder}: {made.model}, labels {', '.join(made.labels)}, threshold {made.threshold}")
    for name, value in made.quality.items():
        _console.print(f"  {name} {value}")
    for canary in made.canaries:
        _console.print(f"  canary {canary.label}: {canary.text}", markup=False)


def _line(report: Report) -> str:
    clean, baseline = report.clean.measure(), report.baseline.measure()
    return f"split {report.seed}: F1 {clean['f1']:.3f}, LinearSVC {baseline['f1']:.3f}; attacks: " + ", ".join(
        f"{name} {a.recall.value:.2f}/{a.ham_flagged.value:.3f}" for name, a in report.attacks.items()
    )


def _tell(reports: Sequence[Report], name: str) -> None:
    """Figures with their intervals: over splits when there are several, else over the rows of the one."""
    both: Mapping[str, Figure]
    if len(reports) > 1:
        both, over = evaluate.means(reports), f"mean of {len(reports)} splits"
    else:
        clean, baseline = reports[0].clean.figures(), reports[0].baseline.figures()
        both, over = clean | {f"baseline-{key}": figure for key, figure in baseline.items()}, f"split {reports[0].seed}"
    table = Table(title=f"{name}, {over} [95 % interval]".replace("[", r"\["))
    for column in ("", name, "LinearSVC, same rows"):
        table.add_column(column)
    for key in (key for key in both if not key.startswith("baseline-")):
        table.add_row(key, _plain(both[key]), _plain(both[f"baseline-{key}"]))
    attacks = Table(title="the same rows, disguised")
    for column in ("", "spam caught", "ham flagged"):
        attacks.add_column(column)
    for key, attack in evaluate.together(reports).items():
        attacks.add_row(key, _plain(attack.recall), _plain(attack.ham_flagged))
    _console.print(table, attacks)


def _plain(figure: Figure) -> str:
    return str(figure).replace("[", r"\[")


def _spam(rows: Sequence[Row]) -> int:
    return sum(row.label != data.LABELS[0] for row in rows)


def _write_rows(path: Path, rows: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A line is a row: a text's own line ends, which no row of the collection has, would break that.
    path.write_text("".join(f"{row.label}\t{' '.join(row.text.splitlines())}\n" for row in rows), encoding="utf-8")
