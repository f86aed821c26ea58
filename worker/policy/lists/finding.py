"""The telephone numbers in a text, however they are spaced. Nothing is kept. Hosts: `worker.policy.links`."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote

from worker.policy.forms import nfkc
from worker.policy.links import INVISIBLE

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORTEST, LONGEST = 7, 17
"""Digits of a telephone number in a text, as it is looked for: up to 15, and a 00 before them."""
_MOST: Final = 512
"""Spellings that are looked at in one text: nothing that a phone shows as one message has as many."""
_SHARED_RUN: Final = 8
"""Groups of digits that can be one number, as in 0 7 7 0 0 900 123."""
_DOTS_AND_DASHES: Final = str.maketrans("\u3002\u00b7\u2022\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "...-------")

# Possessive, so that the search is linear.
_ASCII_RUN: Final = re.compile(r"[0-9][0-9\s().\-/*_~]*+")
_RUN: Final = re.compile(r"\d[\d\s().\-/*_~]*+")
_NOT_DIGITS: Final = re.compile(r"\D+")


class Found(NamedTuple):
    """One host or number of a text: how it may be meant, as it stands first; and whether it surely is one."""

    spellings: tuple[str, ...]
    is_certain: bool


_FURTHER: Final = Found(("",), is_certain=True)
"""Stands for all numbers behind these: nobody's, so that what is allowed among these allows no others."""


def _visible(text: str) -> str:
    """The text as it is shown: percent-encoding read, nothing invisible, NFKC."""
    if "%" in text:
        text = unquote(text)
    if not text.isascii():
        text = nfkc(text.translate(INVISIBLE)).translate(_DOTS_AND_DASHES)
    return text


def numbers(text: str) -> tuple[Found, ...]:
    """The telephone numbers of a text, as digits without + or 00, in order.

    Where groups of digits may be one number or several, each way to read them is a spelling.
    """
    plain, left = _visible(text), _MOST
    found: list[Found] = []
    for match in (_ASCII_RUN if plain.isascii() else _RUN).finditer(plain):
        run = match[0]
        if len(run) < SHORTEST:
            continue
        if left <= 0:
            found.append(_FURTHER)
            break
        is_certain = run[0] == "0" or plain[max(0, match.start() - 2) : match.start()].endswith(("+", "+("))
        run = run.replace("(0)", "")
        spellings = tuple(dict.fromkeys(_readings(run)))[:left]
        if spellings:
            left -= len(spellings)
            found.append(Found(spellings, is_certain))
    return tuple(found)


def _readings(run: str) -> Iterator[str]:
    groups = [digits for group in run.split() if (digits := _plain_digits(group))]
    whole = "".join(groups)
    if len(whole) < SHORTEST:
        return
    yield whole.removeprefix("00")  # first, also when it is longer than a number: then nothing less is all of it
    if len(groups) == 1:
        return
    for first in range(min(len(groups), _MOST)):
        joined = ""
        for group in groups[first : first + _SHARED_RUN]:
            joined += group
            if len(joined) > LONGEST:
                break
            if len(joined) >= SHORTEST:
                yield joined.removeprefix("00")


def _plain_digits(group: str) -> str:
    digits = _NOT_DIGITS.sub("", group)
    return digits if digits.isascii() else "".join(str(unicodedata.digit(each)) for each in digits)
