"""When a batch is complete: a value that is given the time, and holds no clock, thread or socket.

A batch leaves when it is full, when its oldest message would be late if it waited longer, or when nothing more is at
hand. So at low load a message goes alone and at once, and at high load batches grow by themselves to what the model
and the transaction need.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

# A batch of the past counts for half after about 70 others: minutes at low load, a second at high.
_FORGETTING: Final = 0.99
# What a stall took says nothing of what the next will take: more than so many times what was expected counts as that.
_SURPRISE: Final = 1.5
# The writer's time is guessed rather too short: a batch that is judged too early waits a little, one that is judged too
# late lets the writer wait, and everybody with it.
_EARLY: Final = 0.8


class Weighed(Protocol):
    """An item of a batch: it has a cost in tokens and a time it was made."""

    @property
    def tokens(self) -> int:
        """Its tokens in the token budget; 0 if it will not be judged."""

    @property
    def timestamp(self) -> float:
        """When its message was handed to the broker, in Unix seconds."""

    @property
    def revision(self) -> int:
        """The revision of the models in service: a batch holds items of one revision only."""


Item = TypeVar("Item", bound=Weighed)


@dataclass(slots=True)
class CostModel:
    """Seconds from a batch's leaving to its commit, learnt while running: time = fixed + slope * tokens.

    Least squares with exponential forgetting; never below zero in either term.
    """

    weight: float = 0.0
    tokens: float = 0.0
    seconds: float = 0.0
    tokens_squared: float = 0.0
    tokens_seconds: float = 0.0

    def observe(self, tokens: int, seconds: float) -> None:
        """Learn from one batch that has gone all the way."""
        self.weight = self.weight * _FORGETTING + 1
        self.tokens = self.tokens * _FORGETTING + tokens
        self.seconds = self.seconds * _FORGETTING + seconds
        self.tokens_squared = self.tokens_squared * _FORGETTING + tokens * tokens
        self.tokens_seconds = self.tokens_seconds * _FORGETTING + tokens * seconds

    def estimate(self, tokens: int) -> float:
        """Seconds that a batch of this size will take; 0 before anything was learnt."""
        if not self.weight:
            return 0.0
        mean_tokens, mean_seconds = self.tokens / self.weight, self.seconds / self.weight
        variance = self.tokens_squared / self.weight - mean_tokens**2
        covariance = self.tokens_seconds / self.weight - mean_tokens * mean_seconds
        # All batches of one size say nothing of the slope: the mean is the best guess there is.
        slope = max(0.0, covariance / variance) if variance > 1e-6 * max(1.0, mean_tokens**2) else 0.0
        return max(0.0, mean_seconds + slope * (tokens - mean_tokens))


@dataclass(slots=True)
class Pace:
    """Seconds that a batch should go on filling, because cut now it would only wait for the writer.

    Told when the writer takes up what waits for it and is done with that, and what judging and writing have taken: so
    that a batch is cut just early enough to be judged when the writer is free. Where judging takes longer than writing,
    as under load, that is at once; where it takes less, a message waits for one transaction before its own.
    """

    judging: CostModel = field(default_factory=CostModel)
    writing: CostModel = field(default_factory=CostModel)
    _busy_until: float | None = None
    _queued: int = 0

    def judged(self, tokens: int, messages: int, seconds: float) -> None:
        """A batch was judged, and waits for the writer."""
        self.judging.observe(tokens, seconds)
        self._queued += messages

    def began(self, messages: int, now: float) -> None:
        """The writer has taken up all that waited for it."""
        self._busy_until, self._queued = now + _EARLY * self.writing.estimate(messages), 0

    def ended(self, messages: int, seconds: float) -> None:
        """The writer is free."""
        self._busy_until = None
        expected = self.writing.estimate(messages)
        self.writing.observe(messages, min(seconds, _SURPRISE * expected) if expected else seconds)

    def hold(self, tokens: int, now: float) -> float:
        """Seconds that a batch of this size may still fill; 0 when it should be cut."""
        if self._busy_until is not None:  # whatever is judged until then goes into the next transaction
            writer_free_in = max(0.0, self._busy_until - now)
        elif self._queued:
            writer_free_in = _EARLY * self.writing.estimate(self._queued)
        else:
            return 0.0
        return max(0.0, writer_free_in - self.judging.estimate(tokens))


MAX_MESSAGES: Final = 2048
"""Messages of a batch: of any but the shortest, the engine's token budget bounds it first."""


@dataclass(slots=True)
class MicroBatcher(Generic[Item]):
    """Messages waiting for their batch, in arrival order, which is the order they leave in.

    `token_budget` and `max_messages` bound a batch (one message alone may pass the token budget); `latency_budget` is
    the age in seconds that a message should not pass before its verdict is committed.
    """

    token_budget: int
    max_messages: int
    latency_budget: float
    cost: CostModel = field(default_factory=CostModel)
    _waiting: deque[Item] = field(default_factory=deque)
    _tokens: int = 0

    def __len__(self) -> int:
        """Messages waiting."""
        return len(self._waiting)

    @property
    def tokens(self) -> int:
        """Tokens waiting."""
        return self._tokens

    @property
    def oldest(self) -> float | None:
        """The timestamp of the message that came first; None when nothing waits."""
        return self._waiting[0].timestamp if self._waiting else None

    @property
    def is_full(self) -> bool:
        """Whether what waits makes a whole batch or more."""
        return self._tokens >= self.token_budget or len(self._waiting) >= self.max_messages

    def add(self, item: Item) -> None:
        """Let a message wait."""
        self._waiting.append(item)
        self._tokens += item.tokens

    def wait(self, now: float) -> float | None:
        """Seconds that what waits may still do so: 0 when it must leave, None when nothing waits."""
        if not self._waiting:
            return None
        if self.is_full:
            return 0.0
        # Clocks differ: a timestamp ahead of ours must not hold a message longer than one that is just made.
        age = max(0.0, now - self._waiting[0].timestamp)
        return max(0.0, self.latency_budget - age - self.cost.estimate(self._tokens))

    def take(self, now: float, *, nothing_at_hand: bool = False) -> list[Item]:
        """The next batch, or an empty list when it may still wait."""
        if not (nothing_at_hand or self.wait(now) == 0.0):
            return []
        return self._cut()

    def retain(self, is_wanted: Callable[[Item], bool]) -> None:
        """Discard everything else: the broker sends it again, to the next owner of its partition."""
        self._waiting = deque(item for item in self._waiting if is_wanted(item))
        self._tokens = sum(item.tokens for item in self._waiting)

    def _cut(self) -> list[Item]:
        count, tokens = 0, 0
        for item in itertools.islice(self._waiting, self.max_messages):
            if count and (tokens + item.tokens > self.token_budget or item.revision != self._waiting[0].revision):
                break
            count, tokens = count + 1, tokens + item.tokens
        self._tokens -= tokens
        return [self._waiting.popleft() for _ in range(count)]
