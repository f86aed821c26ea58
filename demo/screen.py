"""The display while the demo runs: a table that fills on a terminal, plain lines anywhere else."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from demo.stream import BURST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from demo.tally import Answer, Confusion, Tally

_REDRAW_EVERY: Final = 0.5
_LINE_EVERY: Final = 2.0
_SHOWN: Final = 6
_WIDEST: Final = 110
_PLAIN_WIDTH: Final = 100


@dataclass(frozen=True, slots=True)
class Moment:
    """Progress at one time: seconds since the first event, the part being sent, messages answered a second."""

    elapsed: float
    part: str
    rate: float


def console() -> Console:
    """A terminal no wider than is readable; a file or a pipe at a width of its own."""
    given = Console(highlight=False)
    return Console(highlight=False, width=min(given.width, _WIDEST) if given.is_terminal else _PLAIN_WIDTH)


def screen(console: Console, tally: Tally, parts: Sequence[str]) -> Terminal | Lines:
    """A live table for a terminal, else plain lines."""
    return Terminal(console, tally, parts) if console.is_terminal else Lines(console, tally)


@dataclass(slots=True)
class Lines:
    """A line every two seconds, for a file or a pipe."""

    console: Console
    tally: Tally
    _shown: float = field(init=False, default=0.0)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End."""

    def read(self, answers: Sequence[Answer]) -> None:
        """Single answers are not shown: no message's text belongs in a file."""

    def show(self, now: Moment, *, at_once: bool = False) -> None:
        """Say how things stand, when that was not just said."""
        if now.elapsed - self._shown < _LINE_EVERY and not at_once:
            return
        self._shown = now.elapsed
        tally = self.tally
        confusion = tally.confusions.get(now.part)
        facts = [f"{now.elapsed:5.1f} s  {now.part:<11}  {tally.answered.total():>6,} answered  {now.rate:>5,.0f}/s"]
        if confusion:
            facts += [f"spam caught {caught(confusion)}", f"ham flagged {flagged(confusion)}"]
            facts += [f"p50 {milliseconds(tally, 0.5, now.part)}", f"p99 {milliseconds(tally, 0.99, now.part)}"]
        facts += [f"dead letters {tally.dead_letters.total()}"]
        self.console.print("  ".join(facts), soft_wrap=True)


@dataclass(slots=True)
class Terminal:
    """A table that fills while a person looks on, and the messages just judged."""

    console: Console
    tally: Tally
    parts: Sequence[str]
    _latest: deque[Answer] = field(init=False, default_factory=lambda: deque(maxlen=_SHOWN))
    _live: Live = field(init=False)
    _shown: float = field(init=False, default=-math.inf)

    def __enter__(self) -> Self:
        """Take the lower part of the terminal."""
        self._live = Live(console=self.console, auto_refresh=False, transient=True)
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Clear it: the summary says all that the table said."""
        self._live.stop()

    def read(self, answers: Sequence[Answer]) -> None:
        """Keep the last few to show."""
        self._latest.extend(answers[-_SHOWN:])

    def show(self, now: Moment, *, at_once: bool = False) -> None:
        """Draw, when that was not just done: the reader has to wait for it."""
        if now.elapsed - self._shown >= _REDRAW_EVERY or at_once:
            self._shown = now.elapsed
            self._live.update(
                Group("", self._progress(now), "", self._table(now), *self._dead_letters(), *self._feed())
            )
            self._live.refresh()

    def _progress(self, now: Moment) -> RenderableType:
        done, total = self.tally.answered.total(), sum(self.tally.expected(part) for part in self.parts)
        line = Table.grid(padding=(0, 2))
        bar = ProgressBar(total, done, width=36)
        line.add_row(
            f"{now.elapsed:3.0f} s", bar, f"{done:,} of {total:,}", f"[bold]{now.rate:,.0f}[/] messages a second"
        )
        return line

    def _table(self, now: Moment) -> RenderableType:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("part")
        for heading in ("answered", "spam caught", "ham flagged", "p50", "p99"):
            table.add_column(heading, justify="right", min_width=11)
        for part in self.parts:
            confusion = self.tally.confusions.get(part)
            cells = [f"{self.tally.answered[part]:,} of {self.tally.expected(part):,}"]
            cells += [caught(confusion), flagged(confusion)] if confusion else ["", ""]
            if part == BURST:
                cells += ["[dim]all at once[/]"]
            elif self.tally.answered[part]:
                cells += [milliseconds(self.tally, share, part) for share in (0.5, 0.99)]
            table.add_row(part, *cells, style="bold" if part == now.part else "")
        return table

    def _dead_letters(self) -> list[RenderableType]:
        letters = self.tally.dead_letters
        reasons = ", ".join(f"{reason} {count}" for reason, count in letters.items())
        return [Text.assemble(("dead letters  ", "bold"), f"{letters.total()}  ", (reasons, "dim"))]

    def _feed(self) -> list[RenderableType]:
        feed = Table.grid(padding=(0, 2), expand=True)
        feed.add_column(width=8)
        feed.add_column(width=4)
        feed.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for answer in self._latest:
            is_spam = answer.label not in (None, "ham")
            shown = Text(answer.label or answer.outcome, style="bold red" if is_spam else "green")
            feed.add_row(
                shown, "" if answer.score is None else f"{answer.score:.2f}", Text(visible(self.tally, answer))
            )
        return ["", Text("just judged, with the probability of spam", style="dim"), feed]


def visible(tally: Tally, answer: Answer) -> str:
    """The message's text on one line, with a dot for each character that would not show."""
    text = tally.events[answer.number].text if 0 <= answer.number < len(tally.events) else ""
    return "".join(character if character.isprintable() else "·" for character in " ".join(text.split()))


def caught(confusion: Confusion) -> str:
    """Spam that was caught, of how much."""
    return f"{confusion.caught:,} of {confusion.caught + confusion.missed:,}"


def flagged(confusion: Confusion) -> str:
    """Ham that was flagged, of how much."""
    return f"{confusion.flagged:,} of {confusion.flagged + confusion.passed:,}"


def milliseconds(tally: Tally, share: float, *parts: str) -> str:
    """The latency that this share of the parts' messages had at most."""
    return f"{tally.latency(share, parts) * 1000:,.0f} ms"
