"""Output at the terminal: the console, a bar while it runs, figures with their intervals."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from worker.rollout import drift

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from training.data.clusters import PhaseCallback
    from training.fit.batches import ProgressCallback
    from training.judge.findings import NamedFigure
    from training.judge.sweep import SweepOutcome
    from training.metrics import Figure
    from worker.model.bundle import Bundle


class _Console(Console):
    """Lets the command end as one whose reader has gone; rich would end it with 1."""

    def on_broken_pipe(self) -> None:
        """Raise what is being handled."""
        raise  # noqa: PLE0704 -- BrokenPipeError


console: Final = _Console(highlight=False, soft_wrap=True)


@contextlib.contextmanager
def progress(before: str = "") -> Iterator[ProgressCallback]:
    """A bar on a terminal; elsewhere a line each tenth of the way."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    last = TextColumn("loss {task.fields[loss]:.3f}, {task.fields[rate]:,.0f} tokens/s")
    with Progress(*columns, last, console=console, disable=not console.is_terminal) as bar:
        tasks: dict[str, Any] = {}
        clocks: dict[str, _Clock] = {}

        def show(phase: str, step: int, steps: int, loss: float, tokens: int) -> None:
            stage = phase.split(",", maxsplit=1)[0]
            if stage not in tasks:
                tasks[stage] = bar.add_task(phase, total=steps, loss=loss, rate=0.0)
                clocks[stage] = _Clock(step)
            rate, left = clocks[stage].tick(step, steps, tokens)
            bar.update(tasks[stage], description=before + phase, completed=step, loss=loss, rate=rate)
            if not console.is_terminal and step * 10 // steps != (step - 1) * 10 // steps:
                figures = f"loss {loss:.3f}, {rate:,.0f} tokens/s, {left:.0f} s left"
                console.print(f"{before}{phase}: {step}/{steps}, {figures}")

        yield show


@contextlib.contextmanager
def steps() -> Iterator[PhaseCallback]:
    """A bar for what has phases; elsewhere than on a terminal a line each phase."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        tasks: dict[str, Any] = {}

        def show(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = bar.add_task(phase, total=total)
                if not console.is_terminal and total > 1:
                    console.print(f"{phase}: {total:,}")
            bar.update(tasks[phase], completed=done)

        yield show


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


def describe(made: Bundle) -> None:
    """A bundle in a few lines."""
    console.print(f"{made.folder}: {made.model}, labels {', '.join(made.labels)}, threshold {made.threshold}")
    for name, value in made.quality.items():
        if not isinstance(value, dict):
            console.print(f"  {name} {value}")
    if drift.QUALITY not in made.quality:
        few = f"fewer than {drift.LEAST:,} texts that it has not learnt from"
        console.print(f"  WARNING: no drift monitoring: {few}; `hamgate check` will warn, too")
    for canary in made.canaries:
        console.print(f"  canary {canary.label}: {canary.text}", markup=False)


def tell(found: Sequence[NamedFigure], name: str, over: str) -> None:
    """Findings as tables: one judge a column where several were asked the same."""
    figures = {each.name: each.figure for each in found}
    judges = {"": name, "baseline-": "LinearSVC", "boosted-": "boosted"}
    judges = {prefix: title for prefix, title in judges.items() if f"{prefix}f1-mean" in figures}
    others = tuple(prefix for prefix in judges if prefix)
    tables = {
        "": Table(title=rf"{name}, {over} \[95 % interval]"),
        "attack": Table(title="the test rows, disguised: spam caught, ham flagged"),
        "outside": Table(title="texts of another collection"),
        "slice": Table(title="by kind of text"),
        "class": Table(title="by class, F1"),
    }
    for table in tables.values():
        for column in ("", *judges.values()):
            table.add_column(column)
    for key in (key for key in figures if not key.startswith(others or "\0") and "difference" not in key):
        cells = [_plain(figures[prefix + key]) if prefix + key in figures else "" for prefix in judges]
        tables[key.partition("/")[0] if "/" in key else ""].add_row(key, *cells)
    console.print(*(table for table in tables.values() if table.row_count))
    for each in found:
        if "difference" in each.name:
            against = f"{each.name}: {each.extra['verdict']}, {each.figure.value:+.4f} [{each.figure.interval}]"
            console.print(f"{against}, McNemar p {each.extra['mcnemar-p']}", markup=False)


def ranking(found: Sequence[SweepOutcome]) -> None:
    """Configurations of a sweep, the best first."""
    table = Table(title=r"on slices of train \[95 % interval over splits]")
    for column in ("configuration", "F1", "worst disguise, caught", "ham flagged", "trainable", "seconds", "GiB"):
        table.add_column(column)
    for each in found:
        memory = "" if each.peak_gib is None else f"{each.peak_gib:.2f}"
        table.add_row(each.configuration, _plain(each.f1), _plain(each.attacked), _plain(each.blamed),
                      f"{each.parameters:,}", f"{each.seconds:.0f}", memory)  # fmt: skip
    console.print(table)


def _plain(figure: Figure) -> str:
    return str(figure).replace("[", r"\[")
