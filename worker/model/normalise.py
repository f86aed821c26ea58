"""The normaliser: what a spammer hides, made plain, so that a model reads what a person would have read.

Entities are unescaped, C1 controls read as cp1252, look-alikes and accents brought back to ASCII, invisible characters
dropped, s p a c e d and d.o.t.t.e.d words joined, l3tters restored inside words, white space collapsed. Phone numbers,
prices, codes and addresses stay as they were, and so does the case: a tokeniser may fold it, shouting is a signal.
Text without disguise, which is nearly all of it, leaves after one translate and a few substring searches.
"""

from __future__ import annotations

import html
import re
import string
import sys
import unicodedata
from typing import Final

from worker.lookalikes import LETTERS, MARKS

NORMALISER_VERSION: Final = 1
"""Raised by any change of what `normalise` answers: a bundle is only served with the version it was trained with."""

_MAX_PASSES: Final = 8
"""Undoing one disguise may uncover another. Real messages settle in two passes; this bounds the hostile ones."""


def normalise(text: str) -> str:
    """Return `text` without its disguises. Idempotent, total (lone surrogates too), linear in length."""
    for _ in range(_MAX_PASSES):
        collapsed = " ".join(text.split())
        if collapsed.replace("£", "").isascii() and not _is_suspicious(collapsed):
            return collapsed
        plain = _uncover(text)
        if plain == text:
            return plain
        text = plain
    return " ".join(_WORD_PROPER.findall(text))  # layer upon layer is hostile: only words no rule touches are kept


def is_uncovered(text: str, plain: str) -> bool:
    """Say whether normalising `text` to `plain` changed more than white space."""
    return text != plain and text.split() != plain.split()


def _uncover(text: str) -> str:
    """Undo each disguise once, in the order in which they cover each other."""
    if "&" in text:
        text = _ENTITY.sub(_unescaped, _ENTITY.sub(_unescaped, text))
    if not text.replace("£", "").isascii():
        text = _as_latin(text)
    text = _join_dotted(_SPACED.sub(_joined_letters, _CONTROL.sub("", text)))
    words = text.split()
    plain = " ".join(words)
    return " ".join([_restored(word) for word in words]) if _has_leet(plain.translate(_SHAPE)) else plain


# The quick path: letters become a, digits that pass for letters 1, joiners a dot, controls NUL; the rest stays.
_JOINERS: Final = "._*~-"
_LEET: Final = str.maketrans("013457@$!|€", "oieastasile")
_SHAPE: Final = str.maketrans(
    string.ascii_letters + "013457@$|" + _JOINERS + "".join(map(chr, (*range(9), *range(14, 28), 127))),
    "a" * 52 + "1" * 9 + "." * len(_JOINERS) + "\0" * 24,
)


def _is_suspicious(text: str) -> bool:
    shape = f" {text.translate(_SHAPE)} "
    return _has_leet(shape) or " a a " in shape or "a.a.a" in shape or "&" in shape or "\0" in shape


def _has_leet(shape: str) -> bool:
    return "a1" in shape or "1a" in shape or "a!a" in shape or "€" in shape


_ENTITY: Final = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
"""The semicolon is asked for, so that `?a=1&copy=2` in a link stays as it is."""


def _unescaped(entity: re.Match[str]) -> str:
    return html.unescape(entity[0])


_C1: Final[dict[int, str | None]] = {
    code: unicodedata.normalize("NFKC", bytes([code]).decode("cp1252", "ignore")) or None for code in range(0x80, 0xA0)
}
_SURROGATES: Final = dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
_FORMATS: Final[dict[int, None]] = dict.fromkeys(
    code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) == "Cf"
)
_VARIATION_SELECTORS: Final = dict.fromkeys((*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
_CHARACTERS: Final[dict[int, str | None]] = {**_SURROGATES, **_FORMATS, **_VARIATION_SELECTORS, **_C1, **MARKS}

_MARK: Final = "\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
_PILE: Final = re.compile(rf"([{_MARK}]{{3}})[{_MARK}]+")
_MARKS: Final = re.compile(rf"[{_MARK}]+")
_COMBINING: Final = "".join(
    each for each in map(chr, range(0x300, 0x1F000)) if unicodedata.combining(unicodedata.normalize("NFKD", each)[0])
)
_RUN: Final = re.compile(f"[{_COMBINING}]{{32,}}")
"""More of them on one letter than any script has."""
_ON_LATIN: Final = re.compile(rf"(?:(?<=[\x00-\x7f])|^)[{_MARK}]+")
_FOREIGN: Final = re.compile(r"[^\W\d_\x00-\x7f]|[\U0001f150-\U0001f1ff]")
_FOREIGN_WORD: Final = re.compile(r"[^\W\d_]*[^\W\d_\x00-\x7f][^\W\d_]*")
_LATIN_WORD: Final = re.compile(r"[A-Za-z]{2,}")
_ASCII_LETTER: Final = re.compile(r"[A-Za-z]")


def _as_latin(text: str) -> str:
    """Bring compatibility forms, accents on Latin letters and look-alikes back to ASCII."""
    text = text.translate(_CHARACTERS)
    if _MARKS.search(text):
        text = _PILE.sub(r"\1", text)
    text = unicodedata.normalize("NFKD", _RUN.sub(_ordered, text))
    if _MARKS.search(text):
        text = _ON_LATIN.sub("", text)
    if _FOREIGN.search(text):
        text = _without_lookalikes(text)
    return unicodedata.normalize("NFC", text)


def _ordered(run: re.Match[str]) -> str:
    """Put combining characters in their canonical order, as NFKD does, whose own sort is quadratic."""
    marks = "".join([unicodedata.normalize("NFKD", mark) for mark in run[0]])
    return "".join(sorted(marks, key=unicodedata.combining))


def _without_lookalikes(text: str) -> str:
    """Spell look-alikes as Latin, except in words of a message that is truly written in another script."""
    words = [word for word in _FOREIGN_WORD.findall(text) if not _ASCII_LETTER.search(word)]
    genuine = sum(not word.translate(LETTERS).isascii() for word in words)
    keeps_foreign = genuine > len(_LATIN_WORD.findall(text))

    def spelt(match: re.Match[str]) -> str:
        word = match[0]
        latin = word.translate(LETTERS)
        is_mixed = _ASCII_LETTER.search(word) is not None
        return latin if is_mixed or (latin.isascii() and not keeps_foreign) else word

    return _ENCLOSED.sub(lambda match: match[0].translate(LETTERS), _FOREIGN_WORD.sub(spelt, text))


_ENCLOSED: Final = re.compile("[\U0001f150-\U0001f169\U0001f170-\U0001f189\U0001f1e6-\U0001f1ff]+")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0e-\x1b\x7f]+")

_SPACED: Final = re.compile(r"(?:(?<!\S)|(?<=\s[£$]))\S(?:\s+\S(?![^\s.,!?])){2,}")
_SLANG_LETTERS: Final = frozenset("aiurcbnkyxmodg")
"""Letters that stand alone in texting (`r u ok`, `c u`, `I a m`): three of these in a row are not joined."""


def _joined_letters(spaced: re.Match[str]) -> str:
    """Join single letters; where gaps differ in width, the wider ones were the spaces between words."""
    pieces = re.split(r"(\s+)", spaced[0])
    singles, gaps = pieces[::2], pieces[1::2]
    letters = [single.lower() for single in singles if single.isalpha()]
    has_few = len(letters) < 3 or (len(letters) == 3 and _SLANG_LETTERS.issuperset(letters))  # noqa: PLR2004 -- fewer are no word
    if has_few or len(set(letters)) == 1 or 2 * sum(map(str.isalnum, singles)) < len(singles):
        return spaced[0]
    narrow = min(map(len, gaps))
    joined = [single + ("" if len(gap) == narrow else " ") for single, gap in zip(singles, gaps, strict=False)]
    return _SEAM.sub(" ", "".join(joined) + singles[-1])


_SEAM: Final = re.compile(r"(?<=[A-Za-z])(?=[£$]?\d{3})|(?<=\d\d)(?=[A-Za-z]{3})")
"""Between a joined word and a joined number, whose gap was as wide as the others."""


_DOTTED: Final = re.compile(
    rf"(?<![A-Za-z0-9])[A-Za-z0-9](?=([{_JOINERS}]))(?:\1[A-Za-z0-9](?![A-Za-z0-9])){{2,}}",
)
_DOTTED_PAIR: Final = re.compile(r"(?<![A-Za-z0-9.])([A-Za-z])\.([A-Za-z])(?![A-Za-z0-9.])")
_PHONE_DIGITS: Final = 7
"""Fewer single digits with dots between them are a version, a score or an address; this many, a spelt-out number."""


def _join_dotted(text: str) -> str:
    dotted = 0

    def joined(match: re.Match[str]) -> str:
        nonlocal dotted
        word = match[0].replace(match[1], "")
        digits = sum(character.isdigit() for character in word)
        if digits == len(word) < _PHONE_DIGITS or len(word) > digits > len(word) // 2:
            return match[0]
        dotted += 1
        return word

    text = _DOTTED.sub(joined, text)
    return _DOTTED_PAIR.sub(r"\1\2", text) if dotted > 1 else text


_ADDRESS: Final = re.compile(r"/|www\.|[A-Za-z0-9]\.[A-Za-z]{2}", re.IGNORECASE)
_CORE: Final = re.compile(r"[A-Za-z0-9@$€](?:[A-Za-z0-9@$!|€]{0,40}[A-Za-z0-9])?")
_POSTCODE: Final = re.compile(r"[a-z]{1,2}\d[a-z\d]?\d[a-z]{2}")
_SLANG: Final = frozenset(
    {"any1", "some1", "sum1", "every1", "no1", "b4", "b4u", "be4", "gr8", "l8r", "m8", "h8", "w8"}
)
_AMOUNT: Final = re.compile(r"[$€]\d|\d.*[$€]")
_CAPITAL_CODE: Final = re.compile(r"[A-Z]{1,2}\d{1,2}[A-Z]?|[A-Z]+\d{2}")
_SYLLABLE: Final = re.compile(r"[a-z]{2}")
_UNSPEAKABLE: Final = re.compile(r"^[b-df-hj-np-tv-xz]{4}|[b-df-hj-np-tv-xz]{5}")


def _restored(word: str) -> str:
    """Restore the letters that digits stand for in `word`, unless it is an address."""
    if word.isalpha() or not _has_leet(word.translate(_SHAPE)) or _is_address(word):
        return word
    return _CORE.sub(lambda core: _without_leet(core[0]), word)


def _is_address(word: str) -> bool:
    return _ADDRESS.search(word) is not None or word.rfind(".") > word.find("@") >= 0


def _without_leet(core: str) -> str:
    """Restore a word that is mostly letters; leave codes, prices, ordinals, units and texting's own digits."""
    lower = core.lower()
    letters = [character for character in lower if character.isalpha()]
    substitutes = len(core) - len(letters)
    plain = lower.replace("11", "ll").translate(_LEET)
    if (
        not substitutes
        or len(letters) < max(2, substitutes)
        or not plain.isalpha()
        or _UNSPEAKABLE.search(plain)
        or lower in _SLANG
        or _AMOUNT.search(lower)
        or _POSTCODE.fullmatch(lower)
        or not _is_leet(lower)
        or (core.upper() == core and _CAPITAL_CODE.fullmatch(core))
        or (core.upper() == core and not _SYLLABLE.search(lower))
    ):
        return core
    if core.upper() == core:
        return plain.upper()
    return core[0] + plain[1:] if core[0].isalpha() else plain


def _is_leet(word: str) -> bool:
    """A substitute between letters tells; at the ends only what no unit, count or model number has."""
    # `now!call` and `me@home` lack a space rather than hide a vowel.
    inner = _INNER.search(word) or _HIDDEN_VOWEL.fullmatch(word)
    if _COUNT.match(word):
        return False
    tail = len(word) - len(word.rstrip(string.digits))
    if tail > 1:
        return word.endswith(("11", "33"))
    return bool(inner) or word.startswith(("0", "$", "7h")) or word[-1] == "0"


_INNER: Final = re.compile(r"[a-z](?:(?P<same>[0-9$|€])(?P=same)?|[1345][134](?=[a-z]{1,2}$)|(?=.*\d)[!@])[a-z]")
_HIDDEN_VOWEL: Final = re.compile(r"[a-z]?[b-df-hj-np-tv-z][!@][b-df-hj-np-tv-z][a-z]{0,3}")
_COUNT: Final = re.compile(r"\d{2}|[13457](?:st|nd|rd|th|am|pm|p|ppm|hrs?|yrs?|min|mth|day|wk|year)")
_WORD_PROPER: Final = re.compile(r"[A-Za-z]{2,}")
