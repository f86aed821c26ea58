"""The signature of a text's wording: near where two texts are variants of one another, whatever numbers and hosts.

Of the normalised text, in lower case, links, addresses and words that hold a digit (amounts, codes, telephone
numbers) are dropped, and so are a greeting at its beginning, punctuation and emoji; that it links is kept. The MinHash
(Broder 1997, by rensa) of the 3-grams of what is left is the signature, one byte a hash (b-bit minwise hashing, Li and
Koenig 2010). The share of equal bytes estimates the Jaccard similarity of two texts. All texts of a batch are hashed at
once.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import rensa
from numpy.typing import NDArray

from worker.model.normalise import NORMALISER_VERSION, normalise

if TYPE_CHECKING:
    from collections.abc import Sequence

Signature: TypeAlias = NDArray[np.uint8]

LENGTH: Final = 128
"""Bytes of a signature."""
LEAST_CHARACTERS: Final = 20
"""Of what is kept of a text, some four words: a shorter one is too short to tell, and belongs to no campaign."""
LEAST_LETTERS: Final = 8
"""Different ones: laughter is no campaign."""
SCHEME: Final = f"3.{NORMALISER_VERSION}.{rensa.RMinHash.ALGORITHM_VERSION}"
"""Ours, the normaliser's, rensa's: signatures of different schemes cannot be compared."""

LINKING: Final = "@"
"""Before the words of a text with a link: no text without one is near it. A scam that copies a lawful notice word for
word, and adds its link, is no variant of the notice.
"""
_OTHER_ALPHABET: Final = np.uint64(32)
_SEED: Final = 20_110_907
_GRAM: Final = 3
"""Characters that are hashed together."""
_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)
_MIXED: Final = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))
_LAST_SHIFT: Final = np.uint64(31)
"""Of the finaliser of SplitMix64 (Steele, Lea, Flood 2014), by which near grams have hashes that are far."""
_MOST_CHARACTERS: Final = 1024
"""Six SMS: of a longer text, the beginning is looked at."""
NEAR: Final = 2 * _MOST_CHARACTERS
"""Of a text as it is sent: with a disguise it is longer."""
_ID_BYTES: Final = 8
_ZERO: Final = np.zeros(1, dtype=np.int64)

_TOP_LEVEL: Final = (2, 24)
"""Letters of a host's last label."""
_LETTER, _RUN, _VARIES, _LABEL, _SMALL, _POINT = 1, 2, 4, 8, 16, 32
"""What a character is, by bits: a letter, part of a run, why a run is dropped; of a host's label, a to z, or ending
what begins a link.
"""
_PATTERNS: Final = {
    _LETTER: r"[^\W\d_]", _RUN: "[!-~£€₦₹¥]", _VARIES: "[0-9@]", _LABEL: "[a-z0-9-]", _SMALL: "[a-z]", _POINT: "[.:]",
}  # fmt: skip
_CODES: Final = 0x33480
"""There are no letters from here on (Unicode 16): private ones are none."""
_SEPARATOR: Final = "\n"
_GREETING: Final = re.compile(
    r"[^\w]*(?:hi|hiya|hello|hey|dear|greetings|good\s+(?:morning|afternoon|evening|day)|hola|buenos\s+dias|buenas\s+tardes"
    r"|bonjour|bonsoir|salut|hallo|guten\s+tag|ciao|ola|oi|bom\s+dia|merhaba|habari|jambo|kamusta|namaste|halo|salam)\b"
    r"(?:(?:\s+[^\W\d_]+){0,2}\s*[,!:;.-]+)?"
)


def constant(text: str) -> str:
    """What stays the same between variants of one campaign: a text's words, in lower case, and whether it links."""
    return constants([normalise(text[:NEAR])])[0]


def constants(plain: Sequence[str]) -> list[str]:
    """As `constant`, of texts that are normalised but for white space; at once, which takes a third of the time."""
    if not plain:
        return []
    read = [*map(_read, plain)]
    ends = np.cumsum([len(each) + 1 for each in read]) - 1
    joined = _SEPARATOR.join((*read, ""))
    units = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    what = _classes().take(units, mode="clip")
    points = np.flatnonzero(what & (_VARIES | _POINT))
    is_point = (what[points] & _POINT).astype(np.bool_)
    links = _links(units, what, points[is_point])
    is_shown = (what & _LETTER).astype(np.bool_)
    is_shown &= ~_is_in_run_of(what, np.concatenate((points[~is_point], links)))
    shown = np.where(is_shown, units, np.uint32(ord(" ")))
    shown[ends] = ord(_SEPARATOR)
    is_shown[:-1] |= is_shown[1:]  # and the place in front of each word
    is_shown[ends] = True
    found = shown[is_shown].tobytes().decode("utf-32-le", "surrogatepass")
    kept = [each.strip(" ") for each in found.split(_SEPARATOR)[:-1]]
    for place in {*np.searchsorted(ends, links).tolist()}:
        kept[place] = LINKING + kept[place]
    return kept


def _read(plain: str) -> str:
    """The beginning of a text in lower case, without a greeting."""
    if len(plain) > _MOST_CHARACTERS:
        plain = " ".join(plain[:NEAR].split())
    read = plain[:_MOST_CHARACTERS].lower()
    greeting = _GREETING.match(read)
    return read[greeting.end() :] if greeting else read


@functools.cache
def _classes() -> NDArray[np.uint8]:
    """What each character is; the last one stands for all behind it."""
    every = "".join(map(chr, range(_CODES)))
    found = np.zeros(_CODES + 1, dtype=np.uint8)
    for bit, pattern in _PATTERNS.items():
        found[[match.start() for match in re.finditer(pattern, every)]] |= bit
    return found


def _is_in_run_of(what: NDArray[np.uint8], places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """What stands in a run, between white space, with one of the places."""
    is_run = (what & _RUN).astype(np.bool_)
    is_first = is_run.copy()
    is_first[1:] &= ~is_run[:-1]
    runs = np.cumsum(is_first, dtype=np.int32)
    varies = np.zeros(runs[-1] + 1, dtype=np.bool_)
    varies[runs[places]] = True
    return varies[runs] & is_run


def _links(units: NDArray[np.uint32], what: NDArray[np.uint8], points: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of the points that stand between a label and a top level, or end a link's beginning."""
    dots = points[units[points] == ord(".")]
    dots = dots[(what[dots - 1] & _LABEL).astype(np.bool_)]
    ends = np.flatnonzero(what & _SMALL == 0)
    letters = ends[np.searchsorted(ends, dots, side="right")] - dots - 1
    least, most = _TOP_LEVEL
    links = [_endings(units, points, begins) for begins in ("http:", "https:", "www.")]
    return np.concatenate((dots[(least <= letters) & (letters <= most)], *links))


def _endings(units: NDArray[np.uint32], places: NDArray[np.int64], word: str) -> NDArray[np.int64]:
    """Those of the places at which a word ends."""
    for back, character in enumerate(reversed(word)):
        places = places[units[places - back] == ord(character)]  # what is before the first place is a separator
    return places


def is_enough(kept: str) -> bool:
    """Whether what is kept of a text is long enough to tell, and no laughter."""
    words = kept.removeprefix(LINKING)
    return len(words) >= LEAST_CHARACTERS and len(set(words)) >= LEAST_LETTERS


def signatures_of(kept: Sequence[str]) -> NDArray[np.uint8]:
    """The signatures of what is kept of some texts, [texts, LENGTH] bytes; of each there `is_enough`."""
    units = np.frombuffer("".join(kept).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    lengths = np.array([len(each) for each in kept])
    count = len(units) - _GRAM + 1
    links = np.array([each.startswith(LINKING) for each in kept], dtype=np.uint64)
    units |= np.repeat(links << _OTHER_ALPHABET, lengths)
    hashes = units[:count].copy()
    for at in range(1, _GRAM):
        hashes *= _FACTOR
        hashes += units[at : count + at]
    for shift, factor in _MIXED:
        hashes ^= hashes >> shift
        hashes *= factor
    hashes ^= hashes >> _LAST_SHIFT
    is_of_one = np.ones(count, dtype=np.bool_)
    for at in range(1, _GRAM):
        is_of_one[np.cumsum(lengths[:-1]) - at] = False  # what begins in one text and ends in the next
    begins = np.concatenate((_ZERO, np.cumsum(lengths - _GRAM + 1)))
    digests = rensa.RMinHash.digest_matrix_from_flat_token_hashes(hashes[is_of_one], begins, LENGTH, _SEED).to_rows()
    flat = np.fromiter(itertools.chain.from_iterable(digests), np.uint32, len(kept) * LENGTH)
    return flat.astype(np.uint8).reshape(-1, LENGTH)


def name_of(founding: Signature) -> str:
    """A campaign's id, of the signature of its first message: 16 hexadecimal digits, the same on every worker."""
    return hashlib.blake2b(founding.tobytes(), digest_size=_ID_BYTES).hexdigest()
