"""The signature of a text's wording: near where two texts are variants of one another, whatever numbers and hosts.

Of the normalised text, in lower case, links, addresses and words that hold a digit (amounts, codes, telephone
numbers) are dropped, and so are a greeting at its beginning, punctuation and emoji. The MinHash (Broder 1997, by rensa)
of the 3-grams of what is left is the signature, one byte a hash (b-bit minwise hashing, Li and Koenig 2010). The share
of equal bytes estimates the Jaccard similarity of two texts. All texts of a batch are hashed at once.
"""

from __future__ import annotations

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
SCHEME: Final = f"2.{NORMALISER_VERSION}.{rensa.RMinHash.ALGORITHM_VERSION}"
"""Ours, the normaliser's, rensa's: signatures of different schemes cannot be compared."""

_SEED: Final = 20_110_907
_GRAM: Final = 3
"""Characters that are hashed together."""
_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)
_MIXED: Final = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))
_LAST_SHIFT: Final = np.uint64(31)
"""Of the finaliser of SplitMix64 (Steele, Lea, Flood 2014), by which near grams have hashes that are far."""
_MOST_CHARACTERS: Final = 1024
"""Six SMS: of a longer text, the beginning is looked at."""
_NEAR: Final = 2 * _MOST_CHARACTERS
"""Of a text as it is sent: with a disguise it is longer."""
_ID_BYTES: Final = 8
_ZERO: Final = np.zeros(1, dtype=np.int64)

# Bounded, as all of these patterns are: a sender chooses the text.
_HOST_NAME: Final = r"(?:[a-z0-9-]{1,63}\.){1,8}[a-z]{2,24}(?![a-z])"
_VARIABLE: Final = re.compile(rf"[\d@]|https?:|www\.|{_HOST_NAME}")
_RUN: Final = re.compile(r"[!-~£€₦₹¥]+")
_GREETING: Final = re.compile(
    r"[^\w]*(?:hi|hiya|hello|hey|dear|greetings|good (?:morning|afternoon|evening|day)|hola|buenos dias|buenas tardes"
    r"|bonjour|bonsoir|salut|hallo|guten tag|ciao|ola|oi|bom dia|merhaba|habari|jambo|kamusta|namaste|halo|salam)\b"
    r"(?:(?: [^\W\d_]+){0,2} ?[,!:;.-]+)?"
)
_MARKS: Final = ".,!?:;'\"()-"
_WORD: Final = re.compile(r"[^\W\d_]+")


def constant(text: str, *, is_plain: bool = False) -> str:
    """What of a text stays the same between variants of one campaign: its words, in lower case.

    `is_plain`: normalising it would change white space alone.
    """
    plain = (" ".join(text[:_NEAR].split()) if is_plain else normalise(text[:_NEAR]))[:_MOST_CHARACTERS].lower()
    if greeting := _GREETING.match(plain):
        plain = plain[greeting.end() :]
    kept: list[str] = []
    for piece in plain.split():
        if piece.isalpha():
            kept.append(piece)
        elif (word := piece.strip(_MARKS)).isalpha():
            kept.append(word)
        elif word:
            kept += _WORD.findall(_RUN.sub(_without_variable, word))
    return " ".join(kept)


def _without_variable(run: re.Match[str]) -> str:
    return " " if _VARIABLE.search(run[0]) else run[0]


def is_enough(kept: str) -> bool:
    """Whether what is kept of a text is long enough to tell, and no laughter."""
    return len(kept) >= LEAST_CHARACTERS and len(set(kept)) >= LEAST_LETTERS


def signatures_of(kept: Sequence[str]) -> NDArray[np.uint8]:
    """The signatures of what is kept of some texts, [texts, LENGTH] bytes; of each there `is_enough`."""
    units = np.frombuffer("".join(kept).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    lengths = np.array([len(each) for each in kept])
    count = len(units) - _GRAM + 1
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
