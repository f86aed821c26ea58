"""Whether the bundle's evaluation covers texts like this one: by script, language, and how finely it is cut."""

from __future__ import annotations

import functools
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING, Final

from worker.model.bundle import Coverage
from worker.model.languages import language_of

if TYPE_CHECKING:
    from collections.abc import Iterable

_LEAST: Final = 40
"""Characters below which how finely a text is cut says nothing."""
_MOST: Final = 0.2
"""The share of a text's letters that may be of other scripts."""
_LOOKED_AT: Final = 256
"""Characters, from the start, whose script is looked at."""
_ENOUGH: Final = 20
"""Texts from which on a script, a language or a kind counts as covered."""
_WITHIN: Final = 0.995
"""The share of the covered texts that are cut no finer than the bound."""


@functools.lru_cache(maxsize=8192)
def script(letter: str) -> str:
    """The first word of a letter's Unicode name (LATIN, ARABIC, CJK); empty for what is no letter."""
    return unicodedata.name(letter, "").partition(" ")[0].partition("-")[0] if letter.isalpha() else ""


def scripts(text: str) -> Counter[str]:
    """How many letters of each script, in the first part of a text."""
    found = Counter(map(script, text[:_LOOKED_AT]))
    del found[""]
    return found


def is_outside(plain: str, tokens: int, language: str | None, covered: Coverage) -> bool:
    """Say so of a normalised text of this language (None: unknown) that is cut into so many tokens."""
    if covered.languages and language and language not in covered.languages:
        return True
    if len(plain) >= _LEAST and tokens > covered.tokens_a_character * len(plain):
        return True
    if plain.isascii():
        return bool(covered.scripts) and "LATIN" not in covered.scripts and any(map(str.isalpha, plain))
    found = scripts(plain)
    other = sum(count for name, count in found.items() if name not in covered.scripts)
    return other > _MOST * found.total()


def of(texts: Iterable[tuple[str, int]], kinds: Iterable[str] = ()) -> Coverage:
    """What an evaluation of these covers: normalised texts with their counts of tokens, and their kinds, if known.

    Languages are those that the detector finds, as it is asked when a text is judged.
    """
    written: Counter[str] = Counter()
    spoken: Counter[str] = Counter()
    fineness: list[float] = []
    for plain, tokens in texts:
        found = scripts(plain)
        written.update(name for name, count in found.items() if 2 * count > found.total())
        spoken.update(filter(None, [language_of(plain)]))
        if len(plain) >= _LEAST:
            fineness.append(tokens / len(plain))
    fineness.sort()
    bound = fineness[min(len(fineness) - 1, int(_WITHIN * len(fineness)))] if fineness else 1.0
    return Coverage(
        scripts=_enough(written),
        languages=_enough(spoken),
        kinds=_enough(Counter(kind for kind in kinds if kind)),
        tokens_a_character=round(bound + 5e-5, 4),
    )


def _enough(counts: Counter[str]) -> tuple[str, ...]:
    return tuple(sorted(name for name, count in counts.items() if count >= _ENOUGH))
