"""Recognises one-time codes and plain notices: texts that inform, and give nobody to reach and nothing to do.

Such a text cannot defraud by itself: it has no link, no number to call and no request. So it is never blocked on its
text alone. `notices.toml` has the words, of a dozen languages. In doubt a text is not recognised, and is treated as its
score says.
"""

from __future__ import annotations

import functools
import itertools
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from worker.messages import Flag

_WORDS: Final = Path(__file__).with_suffix(".toml")
_LONGEST: Final = 480
"""Characters: three parts of an SMS. What is longer is not read."""
_REMEMBERED: Final = 65_536
"""Words whose meaning is not looked up again."""

_DIGIT: Final = re.compile(r"\d")
# Somebody to reach: a link or host, an address, a USSD code, nine digits or more that are no date or time.
_LINK: Final = re.compile(r"://|\.[^\W\d_]{2}|@\w|[*#]\d+[*#]")
_BOUND: Final = re.compile(r"@[\w.-]+ #\w+$")
"""The last line of a domain-bound code (WICG, "Origin-bound one-time codes"): for the phone, not a link to follow."""
_TIME: Final = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|\d{1,2}[:.]\d{2}(?:[:.]\d{2})?(?!\d)")
_NUMBER: Final = re.compile(r"\d(?:[ ().-]{0,2}\d){8}")
_CODE: Final = re.compile(
    r"(?<![\w/.,*+€$£-])"
    r"(?:\d{4,8}|\d{3}[ -]\d{3}|[A-Z]{1,2}-\d{4,8}|(?=[A-Z]*\d)(?=\d*[A-Z])[A-Z\d]{6,8})"
    r"(?![\w/*-]|[.,]\d)"
)
_ENTER: Final = re.compile(r"\b(?:use|enter|usa|ingresa|utilisez|saisissez|digite|masukkan|gunakan|weka) \d{4,8} ")
_AROUND: Final = ".,:;!?()[]{}<>\"'«»…।،؟-*_"
_CODES, _EVENTS, _ASKS, _LURES = 1, 2, 4, 8


@dataclass(frozen=True, slots=True)
class _Words:
    """What words mean, as bits; and the warnings that are no requests."""

    meanings: tuple[tuple[int, re.Pattern[str]], ...]
    warning: re.Pattern[str]

    @classmethod
    def read(cls) -> Self:
        words_of = tomllib.loads(_WORDS.read_text("utf-8"))
        tables = ((_CODES, "codes"), (_EVENTS, "events"), (_ASKS, "asks"), (_LURES, "lures"))
        warnings = "|".join("".join(parts) for parts in words_of["warnings"].values())
        words = ((bit, itertools.chain.from_iterable(words_of[name].values())) for bit, name in tables)
        return cls(
            tuple((bit, re.compile("|".join(each))) for bit, each in words), re.compile(rf"(?<!\w)(?:{warnings})")
        )


@functools.cache
def _words() -> _Words:
    return _Words.read()


@functools.lru_cache(maxsize=_REMEMBERED)
def _meaning(word: str) -> int:
    word = word.strip(_AROUND)
    return sum(bit for bit, words in _words().meanings if words.fullmatch(word))


def _meanings(text: str) -> int:
    found = 0
    for word in text.split():
        found |= _meaning(word)
    return found


def kind_of(plain: str) -> Flag | None:
    """ONE_TIME_CODE, NOTICE, or None, for a normalised text."""
    if len(plain) > _LONGEST or not _DIGIT.search(plain):
        return None
    if _LINK.search(plain) and ("#" not in plain or _LINK.search(plain := _BOUND.sub("", plain))):
        return None
    if _NUMBER.search(plain) and _NUMBER.search(_TIME.sub(" ", plain)):
        return None
    words = plain.lower()
    found = _meanings(words)
    if (found & _CODES or _ENTER.search(words)) and _CODE.search(plain):
        return None if _meanings(_words().warning.sub(" ", words)) & _ASKS else Flag.ONE_TIME_CODE
    return Flag.NOTICE if found & _EVENTS and not found & (_ASKS | _LURES) and "?" not in plain else None
