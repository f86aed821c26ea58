"""Toy messages to train on, so few and so alike in each label that a model of one layer learns them."""

from __future__ import annotations

import random
from typing import Final

HAM: Final = (
    "see you at home",
    "ok call me later mum",
    "lunch today at noon",
    "bring the charger please",
    "good night love",
)
SPAM: Final = ("free prize call now", "win cash claim today", "urgent reply to win", "winner claim your free tone")
WORDS: Final = (
    "alpha", "bravo", "delta", "hotel", "india", "kilo", "lima", "metro", "oscar", "papa", "romeo", "tango", "zulu",
)  # fmt: skip


def tsv(count: int) -> str:
    """Return `count` lines of label, tab and text, every third spam; no two texts are near-duplicates."""
    dice = random.Random(0)
    labelled = [("ham", HAM) if index % 3 else ("spam", SPAM) for index in range(count)]
    return "".join(
        f"{label}\t{dice.choice(phrases)} {' '.join(dice.sample(WORDS, 6))}\n" for label, phrases in labelled
    )
