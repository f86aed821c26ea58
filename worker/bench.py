"""How fast this machine judges, and what to set for it: `hamgate bench` measures, then says so.

Messages are made up, of the lengths that traffic has. What is measured is the model alone, from token ids to scores:
the brokers' part is in `hamgate_commit_seconds`, once it runs.
"""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from worker.pipeline.batching import MAX_MESSAGES, CostModel
from worker.simulate.texts import chat, notice, spam

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from worker.model.classifier import Classifier, Prepared

_MESSAGES: Final = 4096
_SMALLEST: Final = 64
_WORTH: Final = 0.95
"""A budget this near to the quickest is quick enough, when it is smaller: its messages wait less."""
_SHARE_OF_LATENCY: Final = 0.5
"""Share of the latency budget that a batch may take: the rest is for waiting and writing."""


@dataclass(frozen=True, slots=True)
class Point:
    """Batches of one size: the tokens and messages that one had on average, and its median seconds."""

    budget: int
    tokens: float
    messages: float
    seconds: float

    @property
    def rate(self) -> float:
        """Messages a second, one batch after another."""
        return self.messages / self.seconds


@dataclass(frozen=True, slots=True)
class Advice:
    """Settings for this machine, and the speed they give."""

    token_budget: int
    messages_a_second: float
    batch_seconds: float
    single_seconds: float
    fixed_seconds: float
    seconds_a_token: float

    def as_settings(self) -> dict[str, str]:
        """The settings to make, by their variables."""
        return {"HAMGATE_TOKEN_BUDGET": str(self.token_budget)}


def texts(count: int = _MESSAGES) -> list[str]:
    """Made-up messages, always the same: half of people, a third of programs, the rest spam."""
    dice = random.Random(0)
    kinds: tuple[Callable[[random.Random], str], ...] = (chat, chat, chat, notice, notice, spam)
    return [dice.choice(kinds)(dice) for _ in range(count)]


def measure(
    classifier: Classifier, seconds: float, *, clock: Callable[[], float] = time.perf_counter
) -> Iterator[Point]:
    """Time batches of every size from small to the engine's own budget, each for so many seconds at least."""
    prepared = classifier.prepare(texts())
    for budget in _budgets(classifier.engine.token_budget):
        batches = _cut(prepared, budget)
        classifier.judge(batches[0])  # the first of a size is slow
        times: list[float] = []
        until = clock() + seconds
        while len(times) < len(batches) and (len(times) < 3 or clock() < until):  # noqa: PLR2004 # a median needs them
            began = clock()
            classifier.judge(batches[len(times)])
            times.append(clock() - began)
        done = batches[: len(times)]
        tokens = statistics.fmean(sum(map(len, batch)) for batch in done)
        yield Point(budget, tokens, statistics.fmean(map(len, done)), statistics.median(times))


def single(classifier: Classifier, *, count: int = 200, clock: Callable[[], float] = time.perf_counter) -> float:
    """Median seconds of a message that is judged alone."""
    times = []
    for message in classifier.prepare(texts(count)):
        began = clock()
        classifier.judge([message])
        times.append(clock() - began)
    return statistics.median(times)


def advise(points: Sequence[Point], latency_budget: float, single_seconds: float) -> Advice:
    """The smallest budget that is nearly the quickest of those whose batches leave time to wait and to write."""
    in_time = [point for point in points if point.seconds <= _SHARE_OF_LATENCY * latency_budget] or [points[0]]
    quickest = max(point.rate for point in in_time)
    chosen = next(point for point in in_time if point.rate >= _WORTH * quickest)
    cost = CostModel()
    for point in points:
        cost.observe(round(point.tokens), point.seconds)
    fixed = cost.estimate(0)
    return Advice(
        token_budget=chosen.budget,
        messages_a_second=chosen.rate,
        batch_seconds=chosen.seconds,
        single_seconds=single_seconds,
        fixed_seconds=fixed,
        seconds_a_token=(cost.estimate(1_000_000) - fixed) / 1_000_000,
    )


def report(found: Advice, *, engine: str, threads: int) -> dict[str, Any]:
    """The advice as JSON values; times in milliseconds, of a token in microseconds."""
    return {
        "engine": engine,
        "threads": threads,
        "set": found.as_settings(),
        "messages_per_second": round(found.messages_a_second, 1),
        "batch_ms": round(1e3 * found.batch_seconds, 3),
        "single_ms": round(1e3 * found.single_seconds, 3),
        "fixed_ms": round(1e3 * found.fixed_seconds, 3),
        "microseconds_a_token": round(1e6 * found.seconds_a_token, 4),
    }


def _budgets(most: int) -> list[int]:
    sizes = [_SMALLEST]
    while sizes[-1] * 2 < most:
        sizes.append(sizes[-1] * 2)
    return [*(size for size in sizes if size < most), most]


def _cut(prepared: Sequence[Prepared], budget: int) -> list[list[Prepared]]:
    """Messages in order, in batches as the worker's are; a last, smaller one only where there is no other."""
    batches: list[list[Prepared]] = [[]]
    held = 0
    for message in prepared:
        if batches[-1] and (held + len(message) > budget or len(batches[-1]) == MAX_MESSAGES):
            batches.append([])
            held = 0
        batches[-1].append(message)
        held += len(message)
    return batches[:-1] or batches
