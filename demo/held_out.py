"""The messages that the shipped model has never seen, and what a spammer would do to them."""

from __future__ import annotations

from typing import Final

from demo.stream import Disguise, Row
from training import data
from training.disguises import DISGUISES

SPLIT: Final = 0
"""The split whose train rows models/nano was made of."""

SHOWN: Final[dict[str, Disguise]] = {name: DISGUISES[name] for name in ("lookalikes", "zero-width", "spaced", "leet")}


def held_out() -> list[Row]:
    """The test messages of the honest split."""
    split = data.split(data.prepare().rows, SPLIT)
    return [Row(row.text, row.label != data.LABELS[0]) for row in split.test]
