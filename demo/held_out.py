"""The messages that the shipped model has never seen, and what a spammer would do to them."""

from __future__ import annotations

import functools
from typing import Final

from demo.stream import Disguise, Row
from training.data import mixture
from training.data import split as data
from training.data.disguises import DISGUISES
from worker.model.bundle import Bundle
from worker.settings import SHIPPED_BUNDLE

SPLIT: Final = 0
"""The split whose train rows models/nano was made of."""

SHOWN: Final[dict[str, Disguise]] = {name: DISGUISES[name] for name in ("lookalikes", "zero-width", "spaced", "leet")}


def held_out() -> list[Row]:
    """UCI's test messages of the honest split."""
    return [Row(row.text, row.label != data.LABELS[0]) for row in mixture.of(_test(), "uci")]


def today() -> list[Row]:
    """Test messages of `data/modern`, which is synthetic, with their kinds: `ham/delivery`, `smishing/toll`."""
    return [
        Row(row.text, row.label != data.LABELS[0], kind=f"{row.truth}/{row.kind}")
        for row in mixture.of(_test(), "modern")
    ]


def are_unseen() -> bool:
    """Whether the shipped bundle itself says that it was made without these very messages."""
    return Bundle.load(SHIPPED_BUNDLE).quality.get(mixture.HELD_OUT) == data.digest(_test())


@functools.cache
def _test() -> tuple[mixture.Sourced, ...]:
    return mixture.cut(mixture.read(), SPLIT).test
