"""The summary at the end: correctness, completeness and speed, and what to try next."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich import box
from rich.table import Table

from demo.held_out import are_unseen
from demo.screen import milliseconds
from demo.stream import BURST, SKIPPED, WARM_UP, parts
from demo.tally import Confusion
from worker.messages import Action

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from demo.tally import Tally

_SERIES: Final = ("hamgate_verdicts_total{", "hamgate_transactions_total{", "hamgate_end_to_end_latency_seconds_count")
_LABELS: Final = ("ham", "spam", "smishing")
_WORST: Final = 3
_PROMISING: Final = "WINNER!! You have been selected for a £900 prize. Call 09061701461 to claim"


@dataclass(frozen=True, slots=True)
class Run:
    """Results of a run: answers, the paced parts' rate, seconds of the burst and of all, the worker's counters."""

    tally: Tally
    model: str
    rate: float
    burst_seconds: float
    seconds: float
    metrics_url: str
    exposition: str
    failures: Sequence[str]

    @property
    def judged(self) -> list[str]:
        """The parts that say something of quality and of latency."""
        return [part for part in parts(self.tally.events) if part not in (WARM_UP, BURST)]


def report(console: Console, run: Run) -> None:
    """Print it all."""
    console.rule("[bold]Was it right?", align="left")
    _judged(console, run)
    console.rule("[bold]What became of the traffic of today?", align="left")
    _banded(console, run.tally)
    console.rule("[bold]Is it all there, once and in order?", align="left")
    _delivered(console, run.tally)
    console.rule("[bold]How fast was it?", align="left")
    _speed(console, run)
    console.rule("[bold]What does the worker say?", align="left")
    _metrics(console, run)
    console.rule("[bold]What next?", align="left")
    _next(console)
    for failure in run.failures:
        console.print(f"[bold red]FAILED[/] {failure}", soft_wrap=True)
    if not run.failures:
        console.print(f"[bold green]done[/] in {run.seconds:.0f} s")


def _judged(console: Console, run: Run) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("held-out messages")
    for heading in ("spam caught", "missed", "ham passed", "flagged", "recall", "precision", "F1", "of ham flagged"):
        table.add_column(heading, justify="right")
    for part in run.judged:
        of = run.tally.confusions.get(part, Confusion())
        counts = [f"{count:,}" for count in (of.caught, of.missed, of.passed, of.flagged)]
        table.add_row(part, *counts, f"{of.recall:.3f}", f"{of.precision:.3f}", f"{of.f1:.3f}", f"{of.ham_flagged:.1%}")
    console.print(table)
    if are_unseen():
        console.print(f"Judged by {run.model}, which was made without these messages.", end=" ")
    else:
        console.print(f"[red]{run.model} may have learnt from these messages; `make model` makes one without them.[/]")
    console.print("It is small, and shipped for trying hamgate out: its figures are not those of a tuned TinyLlama.")


def _banded(console: Console, tally: Tally) -> None:
    """What became of today's messages by their kind: all of each label, then the kinds furthest from what is right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("messages of today (synthetic)")
    for heading in ("messages", "delivered", "flagged", "blocked"):
        table.add_column(heading, justify="right")
    for label in _LABELS:
        kinds = {kind: counts for kind, counts in tally.actions.items() if kind.startswith(f"{label}/")}
        wrong = Action.DELIVER if label != _LABELS[0] else Action.BLOCK
        worst = sorted(kinds, key=lambda kind: (-kinds[kind][wrong], -kinds[kind][Action.FLAG], kind))[:_WORST]
        _add(table, f"[bold]{label}, {len(kinds)} kinds", sum(kinds.values(), Counter()))
        for kind in worst:
            _add(table, f"  {kind.partition('/')[2]}", kinds[kind])
    console.print(table)


def _add(table: Table, name: str, counts: Counter[str]) -> None:
    total = counts.total()
    shares = (f"{counts[action] / max(1, total):.1%}" for action in (Action.DELIVER, Action.FLAG, Action.BLOCK))
    table.add_row(name, f"{total:,}", *shares)


def _delivered(console: Console, tally: Tally) -> None:
    skipped = sum(event.expected == SKIPPED for event in tally.events)
    letters = ", ".join(f"{reason} {count}" for reason, count in sorted(tally.dead_letters.items()))
    console.print(
        f"[bold]{len(tally.events):,} in[/] = {tally.verdicts:,} verdicts ({tally.unscored} of them unscored) "
        f"+ {tally.dead_letters.total()} dead letters + {skipped} tombstone, which is skipped"
    )
    console.print(f"dead letters: {letters}")
    console.print(
        f"[bold]{tally.lost} lost, {tally.duplicated} duplicated, {tally.disordered} out of order[/], "
        f"{tally.unknown} unknown, {len(tally.unexpected)} answered otherwise than they had to be; "
        "counted by a read_committed reader of the demo's own"
    )


def _speed(console: Console, run: Run) -> None:
    tally, burst = run.tally, run.tally.answered[BURST]
    console.print(
        f"at {run.rate:,.0f} messages a second: [bold]p50 {milliseconds(tally, 0.5, *run.judged)}, "
        f"p99 {milliseconds(tally, 0.99, *run.judged)}[/] from sending an event to reading its committed verdict"
    )
    if burst:
        console.print(
            f"{burst:,} at once: [bold]{burst / run.burst_seconds:,.0f} messages a second[/] from the first event sent "
            f"to the last verdict read, with broker, worker and demo sharing {os.cpu_count()} cores"
        )


def _metrics(console: Console, run: Run) -> None:
    for line in run.exposition.splitlines():
        if line.startswith(_SERIES):
            console.print(line, style="dim", markup=False, soft_wrap=True)
    console.print(
        f"That was {run.metrics_url}. It ends with the demo; `make demo ARGS=--keep` leaves it there to be looked at."
    )


def _next(console: Console) -> None:
    steps = (
        (f'.venv/bin/hamgate predict "{_PROMISING}"', "judge a text of your own, without a broker"),
        ("make demo ARGS=--keep", "the same, then leave broker and worker running, with their metrics"),
        ("make broker worker", "the worker by itself, on a broker that keeps its data"),
        (".venv/bin/hamgate print-settings", "everything that can be set"),
    )
    for command, meaning in steps:
        console.print(f"[bold]{command}[/]\n    {meaning}", soft_wrap=True)
