"""Real messages to measure with: the shipped SMS Spam Collection, in its own order and lengths, round and round."""

from __future__ import annotations

import itertools
from functools import cache
from typing import Final

from training.results import ROOT

COLLECTION: Final = ROOT / "data" / "uci" / "SMSSpamCollection"


@cache
def collection() -> tuple[str, ...]:
    """All 5,574 texts as they are in the file, repeats and all: speed is measured on what comes."""
    lines = COLLECTION.read_text(encoding="utf-8").split("\n")
    return tuple(line.partition("\t")[2] for line in lines if line)


def stream(count: int) -> list[str]:
    """The first `count` of them, beginning again when they are used up."""
    return list(itertools.islice(itertools.cycle(collection()), count))
