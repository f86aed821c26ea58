"""Unicode's compatibility forms in a time that is linear in the text's length.

Marks upon one letter are put in order by a sort that is quadratic: a text of 64 KiB of them would take seconds.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_MOST: Final = 32
"""Marks on one letter: more than any script has, and those behind them are dropped."""
_FIRST_MARK: Final = "\u0300"
"""Below it are the letters of most Latin texts that are not ASCII."""
_LAST_MARK: Final = 0x1F000


def _is_mark(character: str) -> bool:
    """Whether it is one once it is decomposed: two half-width letters of Japanese are, and no mark before."""
    return unicodedata.combining(unicodedata.normalize("NFKD", character)[0]) > 0


_MARKS: Final = "".join(filter(_is_mark, map(chr, range(0x300, _LAST_MARK))))
_PILE: Final = re.compile(f"([{_MARKS}]{{{_MOST}}})[{_MARKS}]+")


def nfkc(text: str) -> str:
    """As `unicodedata.normalize`, but for piles of marks."""
    return text if text.isascii() else unicodedata.normalize("NFKC", _without_piles(text))


def nfkd(text: str) -> str:
    """As `unicodedata.normalize`, but for piles of marks."""
    return text if text.isascii() else unicodedata.normalize("NFKD", _without_piles(text))


def _without_piles(text: str) -> str:
    return text if max(text) < _FIRST_MARK else _PILE.sub(r"\1", text)
