"""Messages a second: a day's curve, bursts and campaigns, as a value that is given the time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random

_DAY: Final = 86_400.0
# Of the mean, by the hour: quiet at four in the morning, a rise at noon, the most at half past seven in the evening.
_HOURS: Final = (
    *(0.45, 0.30, 0.20, 0.15, 0.14, 0.18, 0.35, 0.65, 0.95, 1.10, 1.20, 1.30),
    *(1.45, 1.35, 1.25, 1.25, 1.35, 1.50, 1.70, 1.85, 1.75, 1.50, 1.10, 0.75),
)
_MEAN: Final = sum(_HOURS) / len(_HOURS)


def of_day(seconds: float, day: float = _DAY) -> float:
    """The rate over the day's mean, `seconds` after midnight of a day that lasts `day` seconds; 1 for a day of 0."""
    if not day:
        return 1.0
    hour = seconds / day * 24 % 24
    before, part = int(hour), hour % 1
    smooth = (1 - math.cos(math.pi * part)) / 2
    return (_HOURS[before] * (1 - smooth) + _HOURS[(before + 1) % 24] * smooth) / _MEAN


@dataclass(frozen=True, slots=True)
class Swell:
    """Something that lasts a while: a burst multiplies all traffic, a campaign adds spam; `size` is over the mean."""

    begins: float
    ends: float
    size: float
    number: int


@dataclass(slots=True)
class Swells:
    """One after the other at random: on average one every `every` seconds (0: none), for about `lasting` seconds."""

    every: float
    lasting: float
    size: tuple[float, float]
    dice: random.Random
    _now: Swell | None = None
    _next_begins: float = field(init=False, default=math.inf)
    _count: int = 0

    def __post_init__(self) -> None:
        """Draw when the first begins."""
        if self.every:
            self._next_begins = self.dice.expovariate(1 / self.every)

    def at(self, now: float) -> Swell | None:
        """Return the swell in progress at this time (seconds from the start), if any; times must not go back."""
        if self._now and now >= self._now.ends:
            self._now = None
        if not self._now and now >= self._next_begins:
            ends = now + self.lasting * self.dice.uniform(0.5, 1.5)
            self._now = Swell(now, ends, self.dice.uniform(*self.size), self._count)
            self._count += 1
            self._next_begins = ends + self.dice.expovariate(1 / self.every)
        return self._now


@dataclass(slots=True)
class TrafficShape:
    """The rate of ordinary messages and of a campaign's, each a second."""

    rate: float
    day: float
    starts_at: float  # seconds after midnight
    bursts: Swells
    campaigns: Swells

    def at(self, now: float) -> tuple[float, float, Swell | None]:
        """Ordinary rate, campaign's rate and which campaign, at this many seconds from the start."""
        burst, campaign = self.bursts.at(now), self.campaigns.at(now)
        ordinary = self.rate * of_day(self.starts_at + now, self.day) * (burst.size if burst else 1.0)
        return ordinary, self.rate * campaign.size if campaign else 0.0, campaign
