"""The link hosts and telephone numbers in a text. Disguises that a phone would still link are undone; nothing is kept.

More is found than is linked: a name before an @, a file in a path. For a block that is the safe side. An allowance
asks that all that is surely a host, or a number, is allowed: see `is_certain`.
"""

from __future__ import annotations

import functools
import html
import re
import socket
import unicodedata
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote

import idna

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_HOST: Final = 253
SHORTEST, LONGEST = 7, 17
"""Digits of a telephone number in a text, as it is looked for: up to 15, and a 00 before them."""
_MOST: Final = 512
"""Spellings that are looked at in one text: nothing that a phone shows as one message has as many."""
_SHARED_RUN: Final = 8
"""Groups of digits that can be one number, as in 0 7 7 0 0 900 123."""

# Default_Ignorable_Code_Point of Unicode, without C1: neither shown nor part of a host (UTS 46).
_IGNORED: Final = re.compile(
    "[\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")
_PILES: Final = re.compile(r"[^\w\s\x00-\x7f]{33,}")  # marks upon marks, which NFKC sorts in quadratic time
_DOTS_AND_DASHES: Final = str.maketrans("\u3002\u00b7\u2022\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "...-------")

# What parts a host from what stands around it: white space, ASCII but letters, digits and . - _; and punctuation.
_HOST: Final = re.compile(r"[^\s\x00-,/:-@\[-^`{-\xbf\u2010-\u205e\u3000-\u303f]+")
_ASCII_HOST: Final = re.compile(r"(?<![a-z0-9_-])[a-z0-9_-]++(?:\.[a-z0-9_-]++)++")
_INNER_DOT: Final = re.compile(r"\.[^\s.]")
_WHOLE_NUMBER_HOST: Final = re.compile(r"(?://|@)(?:(0x[0-9a-f]{1,8}|\d{8,10})(?![\w.])|\[([0-9a-f:.]{2,45})\])")
_IPV4_PART: Final = re.compile(r"0x[0-9a-f]{1,8}|\d{1,10}")
_PARTS: Final = 4
_EDGES: Final = ".-_"

# Possessive, so that the search is linear.
_ASCII_RUN: Final = re.compile(r"[0-9][0-9\s().\-/*_~]*+")
_RUN: Final = re.compile(r"\d[\d\s().\-/*_~]*+")
_NOT_DIGITS: Final = re.compile(r"\D+")


class Found(NamedTuple):
    """One host or number of a text: how it may be meant, as it stands first; and whether it surely is one."""

    spellings: tuple[str, ...]
    is_certain: bool


def visible(text: str) -> str:
    """The text as it is shown or opened: entities and percent-encoding read, nothing invisible, in lower case, NFKC."""
    if "&" in text:
        text = html.unescape(text)
    if "%" in text:
        text = unquote(text)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", _PILES.sub(" ", _IGNORED.sub("", text))).translate(_DOTS_AND_DASHES)
    if not text.isprintable():
        text = _CONTROLS.sub("", text)
    return text.lower()


def hosts(plain: str) -> tuple[Found, ...]:
    """The hosts of a text that is `visible`, in ASCII (A-labels), in order."""
    if "\\" in plain:
        plain = plain.replace("\\", "/")  # as browsers do
    found = [*_numeric(plain)] if "//" in plain else []
    if not _INNER_DOT.search(plain):
        return tuple(found)
    pattern = _ASCII_HOST if plain.isascii() else _HOST
    for match in pattern.finditer(plain):
        if "." in match[0] and (one := _host(match, plain)):
            found.append(one)
            if len(found) >= _MOST:
                break
    return tuple(found)


def _host(match: re.Match[str], plain: str) -> Found | None:
    written = match[0].strip(_EDGES)
    host = ascii_host(written) if len(written) <= LONGEST_HOST else None
    spellings: tuple[str, ...] = () if host is None else (host,)
    if not written.isascii():  # 请看evil.example现在: a phone links what is ASCII
        spellings += tuple(dict.fromkeys(each[0].strip(_EDGES) for each in _ASCII_HOST.finditer(written)))
    if not spellings:
        return None
    before = plain[max(0, match.start() - 2) : match.start()]
    parts = spellings[0].split(".")
    if _IPV4_PART.fullmatch(parts[-1]):
        if before != "//" and len(parts) != _PARTS:
            return None  # a price, a time, a version
        spellings = (_ipv4(spellings[0]) or spellings[0],)
    is_certain = (
        before == "//" or before.endswith("@") or (parts[-1] in top_level_domains() and not before.endswith("/"))
    )
    return Found(spellings, is_certain)


def _numeric(plain: str) -> Iterator[Found]:
    for match in _WHOLE_NUMBER_HOST.finditer(plain):
        if address := _ipv4(match[1]) if match[1] else match[2]:
            yield Found((address,), is_certain=True)


def _ipv4(written: str) -> str | None:
    """An address in any of the spellings that browsers take, as four decimal numbers."""
    try:
        return socket.inet_ntoa(socket.inet_aton(written))
    except OSError:
        return None


def ascii_host(written: str) -> str | None:
    """A host in its one ASCII form (UTS 46, A-labels); None where it cannot be one."""
    if written.isascii():
        return written.lower()
    try:
        return idna.encode(written, uts46=True).decode()
    except (idna.IDNAError, UnicodeError):
        pass
    # Registered all the same, as emoji are, or about to be looked up so.
    try:
        return ".".join(
            part if part.isascii() else "xn--" + part.encode("punycode").decode()
            for part in unicodedata.normalize("NFKC", written.casefold()).split(".")
        )
    except UnicodeError:
        return None


@functools.cache
def top_level_domains() -> frozenset[str]:
    """All of them, of the public suffix list as it was installed."""
    return frozenset(rule.rsplit(".", 1)[-1].lstrip("!*") for rule in _rules())


def _rules() -> Iterator[str]:
    from importlib import resources  # noqa: PLC0415 once

    text = (resources.files("publicsuffixlist") / "public_suffix_list.dat").read_text("utf-8")
    for line in text.splitlines():
        if line and not line.startswith("//"):
            rule = line.split()[0]
            yield ascii_host(rule) or rule


def numbers(plain: str) -> tuple[Found, ...]:
    """The telephone numbers of a text that is `visible`, as digits without + or 00, in order.

    Where groups of digits may be one number or several, each way to read them is a spelling.
    """
    found: list[Found] = []
    left = _MOST
    for match in (_ASCII_RUN if plain.isascii() else _RUN).finditer(plain):
        run = match[0]
        if len(run) < SHORTEST:
            continue
        is_certain = run[0] == "0" or plain[max(0, match.start() - 2) : match.start()].endswith(("+", "+("))
        run = run.replace("(0)", "")
        spellings = tuple(dict.fromkeys(_readings(run)))[:left]
        if spellings:
            left -= len(spellings)
            found.append(Found(spellings, is_certain))
        if left <= 0:
            break
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
