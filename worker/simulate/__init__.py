"""Traffic as a carrier sees it, for any broker: `hamgate simulate`.

    texts     what people, banks, shops and spammers write: all of it made up
    poison    what cannot be read, and what can but is odd
    shape     how many a second: the day, bursts, campaigns
    stream    events: a text, its sender, its headers
    sending   to the brokers, each at its time, whatever the brokers say to that

Nothing here is for judging a model: the texts are templates, and no figure of quality may be taken from them.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Final

from worker.simulate.sending import Sending, say_on_terminal
from worker.simulate.shape import Swells, TrafficShape
from worker.simulate.stream import Mix, Stream
from worker.simulate.texts import Given

if TYPE_CHECKING:
    import argparse

__all__ = ["Mix", "Sending", "Shape", "Stream", "Swells", "plan", "say_on_terminal"]

_BURST_LASTS: Final = 8.0
_CAMPAIGN_LASTS: Final = 45.0
_BURST_SIZES: Final = (3.0, 10.0)
_CAMPAIGN_SIZES: Final = (0.3, 2.0)


def plan(options: argparse.Namespace, seed: int, *, starts_at: float = 0.0) -> Sending:
    """The traffic that the command line asks for; `starts_at` is seconds after midnight. Raises ValueError, OSError."""
    dice = random.Random(seed)
    shape = TrafficShape(
        options.rate,
        options.day,
        starts_at,
        Swells(options.burst_every, _BURST_LASTS, _BURST_SIZES, random.Random(dice.random())),
        Swells(options.campaign_every, _CAMPAIGN_LASTS, _CAMPAIGN_SIZES, random.Random(dice.random())),
    )
    given = Given.read(Path(options.texts)) if options.texts else None
    mix = Mix(options.spam, options.poison, traced=options.traced, subscribers=options.subscribers)
    return Sending(shape, Stream(mix, f"s{seed:x}", dice, given), random.Random(dice.random()))
