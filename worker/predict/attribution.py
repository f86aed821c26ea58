"""Which words moved a score: each is left out of the normalised text in turn, and the loss of log odds is its share.

Bounded: at most 96 words or stretches of words, and as many variants as fit into the time given.
"""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from worker.model.classifier import published
from worker.model.normalise import normalise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.model.classifier import Classifier

PATIENCE: Final = 2.0
"""Seconds that an explanation may take."""
_WORD: Final = re.compile(r"\S+")
_MOST: Final = 96
"""Words that are left out one by one; of a longer text neighbours go together."""
_TURN: Final = 32
"""Variants of one batch."""
READ: Final = 4096
"""Characters of a text that are explained: what a model keeps of a longer one is cut before that."""
_LEAST: Final = 1e-6
"""Of a score: its last digit."""


class WordShare(msgspec.Struct, frozen=True, gc=False):
    """A word, or a stretch of words, and the log odds of spam that it adds; None where time ran out before it."""

    word: str
    odds: float | None


@dataclass(frozen=True, slots=True)
class Attribution:
    """The words in the order of the text, with the log odds of the whole and what no single word accounts for."""

    words: tuple[WordShare, ...]
    odds: float | None
    rest: float | None
    """`odds` less the sum of the words' shares."""
    is_partial: bool = False
    """Whether time ran out, or only the text's beginning was looked at."""

    def top(self, most: int) -> list[WordShare]:
        """Return those that moved the score most, either way, the strongest first."""
        known = [each for each in self.words if each.odds]
        return sorted(known, key=lambda each: -abs(each.odds or 0.0))[:most]


def attribute(classifier: Classifier, text: str, *, patience: float = PATIENCE) -> Attribution:
    """Explain one text's score. Words are those of the normalised text, which is what the model reads."""
    until = time.monotonic() + patience
    plain = normalise(text[:READ])
    stretches = _stretches(plain)
    [whole] = _log_odds(classifier, [plain])
    if whole is None or not stretches:
        return Attribution(tuple(WordShare(plain[a:b], None) for a, b in stretches), whole, None)
    shares: list[float | None] = []
    for first in range(0, len(stretches), _TURN):
        if shares and time.monotonic() > until:
            break
        turn = stretches[first : first + _TURN]
        without = _log_odds(classifier, [f"{plain[:a].rstrip()} {plain[b:].lstrip()}".strip() for a, b in turn])
        shares += [whole - (0.0 if each is None else each) for each in without]
    is_partial = len(shares) < len(stretches) or len(text) > READ
    shares += [None] * (len(stretches) - len(shares))
    words = tuple(WordShare(plain[a:b], share) for (a, b), share in zip(stretches, shares, strict=True))
    return Attribution(words, whole, whole - sum(share or 0.0 for share in shares), is_partial)


def _stretches(plain: str) -> list[tuple[int, int]]:
    """Where words begin and end; of too many, as many neighbours together as make few enough."""
    words = [word.span() for word in _WORD.finditer(plain)]
    size = math.ceil(len(words) / _MOST) or 1
    return [(words[at][0], words[min(at + size, len(words)) - 1][1]) for at in range(0, len(words), size)]


def _log_odds(classifier: Classifier, texts: Sequence[str]) -> list[float | None]:
    """The log odds of each text's score, to the digits that a verdict gives; None where it has none."""
    scores = classifier.judge(classifier.prepare(texts))
    return [
        log_odds(score) if is_scored else None
        for score, is_scored in zip(published(scores.score).tolist(), scores.scored.tolist(), strict=True)
    ]


def log_odds(score: float) -> float:
    """A probability's log odds, within what a verdict's digits can tell."""
    inside = min(max(score, _LEAST), 1 - _LEAST)
    return math.log(inside / (1 - inside))
