"""LoRA configurations compared on slices of train: resumable, several at once, with a table and a plot.

A sweep is a TOML file: a recipe, and lists of values for its fields: every combination of a grid, or the recipe as it
is and one change of it at a time (an ablation), or both.

    recipe = "nano"
    [grid]
    "lora.r" = [4, 8, 16]
    "fit.learning_rate" = [2e-4, 5e-4]
    [one]
    "fit.augment" = [false]

Test rows are never seen: each configuration learns from a part of a split's train rows, has its threshold from the
calibration slice, and is judged on the rest. What is best here is then judged once, by `evaluate`.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from training import metrics, results, whole
from training.bundle import export
from training.data import split as data
from training.fit import checkpoint, pretrain, recipe, runs, train
from training.fit import published as reference
from training.fit.recipe import Recipe, RecipeError
from training.fit.runs import Run
from training.judge import evaluate, findings
from training.results import RESULTS, Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from training.fit.batches import ProgressCallback
    from training.judge.evaluate import Parts
    from training.metrics import Figure

_VALIDATED: Final = 0.2
"""The share of the fitting rows that a configuration is judged by."""
_SEED: Final = 77
_OUTCOME: Final = "outcome.json"
_MEASURED: Final = {"f1", "attacked", "blamed", "parameters", "seconds", "peak_gib", "trained-on"}
UNCHANGED: Final = "as-it-is"
"""The name of the recipe without a change."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One configuration on one split; `values` are what the grid gave it."""

    values: dict[str, Any]
    chosen: Recipe
    seed: int

    @property
    def name(self) -> str:
        """Its folder's name, and the name of its configuration with the split's number."""
        return f"{self.configuration}-{self.seed}"

    @property
    def configuration(self) -> str:
        """The values, as a file may be called."""
        name = "_".join(f"{field.rpartition('.')[2]}={_plain(value)}" for field, value in self.values.items())
        return name or UNCHANGED


class SweepOutcome(NamedTuple):
    """A configuration's figures over its splits, and its mean cost.

    `attacked` is the share of spam that is caught under the worst disguise, `blamed` that of ham flagged under its.
    """

    configuration: str
    f1: Figure
    attacked: Figure
    blamed: Figure
    parameters: int
    seconds: float
    peak_gib: float | None
    each: tuple[float, ...]
    trained_on: tuple[str, ...]


def load(path: Path, splits: int) -> tuple[str, list[Trial]]:
    """The recipe's name and every trial of a sweep, configurations in the grid's order. Raises RecipeError."""
    try:
        asked = tomllib.loads(path.read_text())
        base = recipe.load(Path(asked["recipe"]))
        grid = asked.get("grid", {}) if "one" in asked else asked["grid"]
        lists, changes = (
            [[(field, value) for value in values] for field, values in table.items()]
            for table in (grid, asked.get("one", {}))
        )
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror})"
        raise RecipeError(message) from None
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as error:
        message = f"{path}: a sweep has `recipe` and a table `grid` or `one` of lists ({error})"
        raise RecipeError(message) from None
    combined = [dict(pairs) for pairs in itertools.product(*lists)]  # of no lists: one, without a change
    combined += [{field: value} for values in changes for field, value in values]
    return base.name, [
        Trial(values, _changed(base, values, path), seed) for values in combined for seed in range(splits)
    ]


def run(
    trial: Trial, folder: Path, rows: Sequence[data.Row], labels: tuple[str, ...], *, progress: ProgressCallback
) -> None:
    """Train and judge one trial, unless its outcome is there already; leaves `outcome.json`, whole or not at all."""
    run_, outcome = folder / trial.name, folder / trial.name / _OUTCOME
    if _known(trial, folder):
        return
    parts = evaluate.cut(rows, trial.seed)
    learnt, validated = data.hold_out(parts.fit, trial.seed + _SEED, _VALIDATED)
    _take_base(trial, learnt, folder)
    train.fit(trial.chosen, learnt, run_, seed=trial.seed, progress=progress, labels=labels)
    cost = json.loads((run_ / "training.json").read_text())
    made = export.export(run_, parts.calibration, "", run_ / "bundle")
    found = _judged(made.folder, parts, validated, trial.seed, labels)
    found |= {"parameters": cost["trainable_parameters"], "seconds": cost["seconds"], "peak_gib": cost["peak_gib"]}
    found["trained-on"] = cost["device"]
    whole.write(outcome, json.dumps(found, indent=1) + "\n")


def run_all(  # noqa: PLR0913, PLR0917 what a trial's process is told
    path: Path,
    trials: Sequence[Trial],
    folder: Path,
    jobs: Sequence[str],
    report: Callable[[str], None],
    rows: Sequence[str] = (),
) -> None:
    """Run what is not done yet, a process a trial, one on each of `jobs`: a GPU's number, or nothing for the CPU.

    `rows` are the options that name the rows to learn from.
    A trial that fails is reported and left out; the others go on. The same command goes on where it stopped.
    """
    free: SimpleQueue[str] = SimpleQueue()
    for job in jobs:
        free.put(job)

    def one(at: int) -> tuple[Trial, str]:
        device = free.get()
        environment = {**os.environ, **({"CUDA_VISIBLE_DEVICES": device} if device else {})}
        command = [sys.executable, "-m", "training", "sweep", str(path), "--runs", str(folder)]
        command += ["--splits", str(splits), "--trial", str(at), *rows]
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
        finally:
            free.put(device)
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return trials[at], "done" if done.returncode == 0 else f"failed: {last}"

    splits = 1 + max(trial.seed for trial in trials)
    open_ = [at for at, trial in enumerate(trials) if not _known(trial, folder)]
    report(f"{len(trials) - len(open_)} of {len(trials)} trials are done already")
    with ThreadPoolExecutor(len(jobs)) as pool:
        waiting = [pool.submit(one, at) for at in open_]
        for number, each in enumerate(as_completed(waiting), 1):
            trial, how = each.result()
            report(f"{number}/{len(open_)} {trial.name}: {how}")


def outcomes(trials: Sequence[Trial], folder: Path) -> Iterator[SweepOutcome]:
    """Every configuration of which something is known, the best F1 first."""
    known: dict[str, list[dict[str, Any]]] = {}
    for trial in trials:
        if outcome := _known(trial, folder):
            known.setdefault(trial.configuration, []).append(outcome)
    found = [
        SweepOutcome(
            name,
            metrics.mean([each["f1"] for each in of]),
            metrics.mean([each["attacked"] for each in of]),
            metrics.mean([each["blamed"] for each in of]),
            of[0]["parameters"],
            sum(each["seconds"] for each in of) / len(of),
            max((each["peak_gib"] for each in of if each["peak_gib"] is not None), default=None),
            tuple(round(each["f1"], 4) for each in of),
            tuple(sorted({each["trained-on"] for each in of})),
        )
        for name, of in known.items()
    ]
    yield from sorted(found, key=lambda outcome: -outcome.f1.value)


def record(found: Sequence[SweepOutcome], name: str, stem: str, folder: Path = RESULTS) -> Path:
    """Write the figures as `sweep/<recipe>/<configuration>/...`, under what trained them.

    The file is the sweep's own, by the `stem` of its name. Returns it.
    """
    entries = []
    for each in found:
        extra = {"splits": len(each.each), "each": list(each.each), "trained-on": ", ".join(each.trained_on),
                 "judged-by": "slices of train", "trainable-parameters": each.parameters}  # fmt: skip
        said: list[tuple[str, str, float, str]] = [
            ("f1-mean", "score", each.f1.value, each.f1.interval),
            ("attack-recall-worst", "share", each.attacked.value, each.attacked.interval),
            ("attack-ham-fpr-worst", "share", each.blamed.value, each.blamed.interval),
            ("seconds", "s", each.seconds, ""),
        ]
        if each.peak_gib is not None:
            said.append(("peak-gib", "GiB", each.peak_gib, ""))
        entries += [
            Entry(f"sweep/{name}/{each.configuration}/{what}", unit, round(value, 4), reach, extra)
            for what, unit, value, reach in said
        ]
    there = ", ".join(sorted({device for each in found for device in each.trained_on}))
    what = f"sweep-{stem}" if stem.startswith(name) else f"sweep-{name}-{stem}"
    return results.record(what, entries, device=there, folder=folder)


def plot(found: Sequence[SweepOutcome], path: Path) -> None:
    """F1 with its interval over trainable parameters; a point's size is its time."""
    from matplotlib.figure import Figure as Canvas  # noqa: PLC0415 -- only development has it

    figure = Canvas(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    longest = max(outcome.seconds for outcome in found)
    for outcome in found:
        reach = [[outcome.f1.value - outcome.f1.low], [outcome.f1.high - outcome.f1.value]]
        axes.errorbar(outcome.parameters, outcome.f1.value, yerr=reach, color="#b0b0b0", capsize=3)
        axes.scatter(outcome.parameters, outcome.f1.value, s=20 + 120 * outcome.seconds / longest, color="#1b5e9b")
        axes.annotate(outcome.configuration, (outcome.parameters, outcome.f1.value), fontsize=6, xytext=(6, 4),
                      textcoords="offset points")  # fmt: skip
    axes.set(xscale="log", xlabel="trainable parameters", ylabel="F1 on slices of train, 95 % interval")
    figure.savefig(path, dpi=120, metadata={"Software": None})


def _take_base(trial: Trial, learnt: Sequence[data.Row], folder: Path) -> None:
    """Copy the base that another trial has made of the same rows in the same way: it takes longer than all the rest."""
    asked, run_ = Run(trial.chosen, trial.seed, data.digest(learnt), data.LABELS), folder / trial.name
    if trial.chosen.pretraining is None or any((run_ / begun).exists() for begun in ("base", "pretraining")):
        return

    def made_of(run: Run) -> tuple[object, ...]:
        return run.seed, run.rows, pretrain.made_by(run.recipe)

    made = next((base for base in folder.glob("*/base") if made_of(runs.read(base.parent)) == made_of(asked)), None)
    if made is None:
        return
    runs.begin(run_, asked)
    making = checkpoint.fresh(run_ / "making")
    for part in ("tokenizer", "base"):  # the base last: it says that both are there
        shutil.copytree(made.with_name(part), making / part)
        whole.move(making / part, run_ / part)


def _known(trial: Trial, folder: Path) -> dict[str, Any] | None:
    """A trial's outcome; None where there is none, or one of a version that measured less, or of another recipe."""
    run_ = folder / trial.name
    try:
        found: dict[str, Any] = json.loads((run_ / _OUTCOME).read_bytes())
    except (FileNotFoundError, ValueError):  # none, or one that a crash has cut: measured anew
        return None
    return found if found.keys() >= _MEASURED and _is_of(trial, run_) else None


def _is_of(trial: Trial, run_: Path) -> bool:
    """Whether it is of the trial's recipe, as far as it can be known: outcomes travel without their runs."""
    try:
        return not (run_ / runs.FILE).exists() or runs.read(run_).recipe == trial.chosen
    except runs.RunError:  # of a version that knew other fields
        return False


def _judged(
    bundle: Path, parts: Parts, validated: Sequence[data.Row], seed: int, labels: tuple[str, ...]
) -> dict[str, Any]:
    """F1; the least spam caught under a disguise, and the most ham flagged under one; the threshold."""
    exam = evaluate.Exam(seed, evaluate.Parts(parts.fit, parts.calibration, tuple(validated)), labels)
    classifier = reference.classifier(bundle)
    answers = evaluate.answers(lambda rows: evaluate.judge(classifier, rows), exam, {})
    caught, flagged = zip(*(findings.shares(each) for each in answers.attacks.values()), strict=True)
    return {
        "f1": answers.clean.measure()["f1"],
        "attacked": min(each.value for each in caught),
        "blamed": max(each.value for each in flagged),
        "threshold": classifier.threshold,
    }


def _changed(base: Recipe, values: dict[str, Any], path: Path) -> Recipe:
    """The recipe with the grid's values in it, checked like any other."""
    plain = base.resolved()
    for field, value in values.items():
        *tables, name = field.split(".")
        table = plain
        for each in tables:
            if not isinstance(table.get(each), dict):
                message = f"{path}: the recipe has no table {each!r} for {field}"
                raise RecipeError(message)
            table = table[each]
        table[name] = value
    try:
        return msgspec.convert(plain, Recipe)
    except msgspec.ValidationError as error:
        message = f"{path}: {error}"
        raise RecipeError(message) from None


def _plain(value: Any) -> str:  # noqa: ANN401 whatever a grid holds
    if isinstance(value, list):
        return "+".join(map(_plain, value))
    return "".join(letter for letter in str(value) if letter.isalnum() or letter in ".-")
