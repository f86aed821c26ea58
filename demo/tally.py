"""The oracle: from every event sent and every answer read, it finds what was lost, duplicated, reordered, misjudged.

A value: no clock, no client, no terminal. Times are seconds.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from demo.stream import SKIPPED, UNSCORED, VERDICT

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from demo.stream import Event

_HAM: Final = "ham"


@dataclass(slots=True)
class Confusion:
    """Ham and spam by outcome. Spam without a score is missed, ham without one passed: neither was called spam."""

    caught: int = 0
    missed: int = 0
    flagged: int = 0
    passed: int = 0

    @property
    def recall(self) -> float:
        """Share of spam that was caught."""
        return _share(self.caught, self.caught + self.missed)

    @property
    def precision(self) -> float:
        """Share of spam in what was called spam."""
        return _share(self.caught, self.caught + self.flagged)

    @property
    def f1(self) -> float:
        """Harmonic mean of the two."""
        return _share(2 * self.caught, 2 * self.caught + self.missed + self.flagged)

    @property
    def ham_flagged(self) -> float:
        """Share of ham that was called spam."""
        return _share(self.flagged, self.flagged + self.passed)


class Answer(NamedTuple):
    """One record read back, and which event it answers.

    `outcome` is `verdict`, `unscored` or a dead letter's reason; `seconds` ran from the event's sending to its reading.
    """

    number: int
    key: bytes | None
    outcome: str
    label: str | None = None
    score: float | None = None
    seconds: float = 0.0
    action: str = ""


@dataclass(slots=True)
class Tally:
    """Answers held against the events they answer; an event's number is its place in `events`."""

    events: Sequence[Event]
    verdicts: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)
    unscored: int = 0
    duplicated: int = 0
    disordered: int = 0
    unknown: int = 0
    """Answers to what was never sent, or under another key."""
    unexpected: list[tuple[int, str]] = field(default_factory=list)
    """Events that were answered otherwise than they had to be, with the answer."""
    confusions: dict[str, Confusion] = field(default_factory=dict)
    actions: dict[str, Counter[str]] = field(default_factory=dict)
    """Verdicts by action, of each kind that events name."""
    answered: Counter[str] = field(default_factory=Counter)
    """Distinct events answered, by part of the stream."""
    _expected: Counter[str] = field(init=False)
    _seen: bytearray = field(init=False)
    _latest: dict[tuple[bool, bytes | None], int] = field(init=False, default_factory=dict)
    _latencies: dict[str, list[float]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Nothing is answered yet."""
        self._expected = Counter(event.part for event in self.events if event.expected != SKIPPED)
        self._seen = bytearray(len(self.events))

    def add(self, answer: Answer) -> None:
        """Count one record that was read back."""
        is_letter = answer.outcome not in (VERDICT, UNSCORED)
        if is_letter:
            self.dead_letters[answer.outcome] += 1
        else:
            self.verdicts += 1
        if not 0 <= answer.number < len(self.events) or self.events[answer.number].key != answer.key:
            self.unknown += 1
        elif self._seen[answer.number]:
            self.duplicated += 1
        else:
            self._seen[answer.number] = 1
            self._judge(self.events[answer.number], answer)
            self._follow((is_letter, answer.key), answer.number)

    def _judge(self, event: Event, answer: Answer) -> None:
        self.answered[event.part] += 1
        self._latencies.setdefault(event.part, []).append(answer.seconds)
        self.unscored += answer.outcome == UNSCORED
        if answer.outcome != event.expected:
            self.unexpected.append((answer.number, answer.outcome))
        if event.kind:
            self.actions.setdefault(event.kind, Counter())[answer.action] += 1
        if event.is_spam is None:
            return
        confusion = self.confusions.setdefault(event.part, Confusion())
        is_called_spam = answer.label not in (None, _HAM)
        confusion.caught += event.is_spam and is_called_spam
        confusion.missed += event.is_spam and not is_called_spam
        confusion.flagged += not event.is_spam and is_called_spam
        confusion.passed += not event.is_spam and not is_called_spam

    def _follow(self, stream: tuple[bool, bytes | None], number: int) -> None:
        """Numbers rise in the order of sending, so that each key's must rise in each topic as it is read."""
        before = self._latest.get(stream, -1)
        self.disordered += number < before
        self._latest[stream] = max(number, before)

    def expected(self, part: str) -> int:
        """Events of this part that must be answered."""
        return self._expected[part]

    @property
    def lost(self) -> int:
        """Events that were not answered."""
        return self._expected.total() - self.answered.total()

    def unanswered(self, parts: Collection[str]) -> int:
        """Events of these parts that still wait for their answer."""
        return sum(self._expected[part] - self.answered[part] for part in parts)

    def failures(self) -> list[str]:
        """Failures in words; empty when each event was answered once, in order, and as expected."""
        counts = {
            "lost": self.lost,
            "duplicated": self.duplicated,
            "out of order within their key": self.disordered,
            "answers to nothing that was sent": self.unknown,
        }
        found = [f"{count:,} {what}" for what, count in counts.items() if count]
        for number, outcome in self.unexpected:
            found.append(f"event {number} had to be answered by {self.events[number].expected}, and was by {outcome}")
        return found

    def latency(self, share: float, parts: Collection[str]) -> float:
        """Seconds from sending to reading that this share of the events of these parts took at most."""
        return percentile([seconds for part in parts for seconds in self._latencies.get(part, ())], share)


@dataclass(slots=True)
class Pace:
    """Messages a second over the last `span` seconds."""

    span: float = 3.0
    _counts: deque[tuple[float, int]] = field(init=False, default_factory=deque)

    def add(self, now: float, count: int) -> None:
        """Count what was read at `now`."""
        if count:
            self._counts.append((now, count))

    def rate(self, now: float) -> float:
        """Messages a second, as of `now`."""
        while self._counts and self._counts[0][0] <= now - self.span:
            self._counts.popleft()
        return sum(count for _, count in self._counts) / self.span


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that this share of `values` does not pass (nearest rank); not a number when there is none."""
    if not values:
        return float("nan")
    rank = -int(-share * len(values) // 1)  # rounded up
    return sorted(values)[max(0, rank - 1)]


def disagreements(tally: Tally, series: Mapping[str, float]) -> list[str]:
    """Say where the worker's own counters differ from what was read back; `series` is its name's sum over labels."""
    skipped = sum(event.expected == SKIPPED for event in tally.events)
    counted = {
        "hamgate_verdicts_total": tally.verdicts,
        "hamgate_dead_letters_total": tally.dead_letters.total(),
        "hamgate_unscored_total": tally.unscored,
        "hamgate_tombstones_total": skipped,
        "hamgate_end_to_end_latency_seconds_count": tally.verdicts + tally.dead_letters.total(),
    }
    return [
        f"{name} says {series.get(name, 0):.0f}, the reader counted {count}"
        for name, count in counted.items()
        if series.get(name, 0) != count
    ]


def sums(exposition: str) -> dict[str, float]:
    """Sum each series of a /metrics text over all its labels, by name."""
    totals: dict[str, float] = {}
    for line in exposition.splitlines():
        sample = _SAMPLE.fullmatch(line)
        if sample:
            totals[sample["name"]] = totals.get(sample["name"], 0.0) + float(sample["value"])
    return totals


_SAMPLE: Final = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{.*\})? (?P<value>\S+)")


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
