"""The signature of a text's wording: near where two texts are variants of one another, whatever numbers and hosts.

Of the normalised text, in lower case, links, addresses and words that hold a digit (amounts, codes, telephone
numbers) are dropped, and so are a greeting at its beginning, punctuation and emoji. The MinHash (Broder 1997, by rensa)
of the 4-grams of what is left is the signature, one byte a hash (b-bit minwise hashing, Li and Koenig 2010). The share
of equal bytes estimates the Jaccard similarity of two texts.
"""

from __future__ import annotations

import array
import hashlib
import re
from typing import Final, TypeAlias

import numpy as np
import rensa
from numpy.typing import NDArray

from worker.model.normalise import NORMALISER_VERSION, normalise

Signature: TypeAlias = NDArray[np.uint8]

LENGTH: Final = 128
"""Bytes of a signature."""
LEAST_CHARACTERS: Final = 20
"""Of what is kept of a text, some four words: a shorter one is too short to tell, and belongs to no campaign."""
LEAST_LETTERS: Final = 8
"""Different ones: laughter is no campaign."""
SCHEME: Final = f"1.{NORMALISER_VERSION}.{rensa.RMinHash.ALGORITHM_VERSION}"
"""Ours, the normaliser's, rensa's: signatures of different schemes cannot be compared."""

_SEED: Final = 20_110_907
_GRAM: Final = 4
_MOST_CHARACTERS: Final = 1024
"""Six SMS: of a longer text, the beginning is looked at."""
_NEAR: Final = 2 * _MOST_CHARACTERS
"""Of a text as it is sent: with a disguise it is longer."""
_ID_BYTES: Final = 8

# Bounded, as all of these patterns are: a sender chooses the text.
_HOST_NAME: Final = r"(?:[a-z0-9-]{1,63}\.){1,8}[a-z]{2,24}(?![a-z])"
_VARIABLE: Final = re.compile(rf"[\d@]|https?:|www\.|{_HOST_NAME}")
_RUN: Final = re.compile(r"[!-~£€₦₹¥]+")
_HOST: Final = re.compile(rf"(?<![@a-z0-9.-]){_HOST_NAME}(?!@)")
_GREETING: Final = re.compile(
    r"[^\w]*(?:hi|hiya|hello|hey|dear|greetings|good (?:morning|afternoon|evening|day)|hola|buenos dias|buenas tardes"
    r"|bonjour|bonsoir|salut|hallo|guten tag|ciao|ola|oi|bom dia|merhaba|habari|jambo|kamusta|namaste|halo|salam)\b"
    r"(?:(?: [^\W\d_]+){0,2} ?[,!:;.-]+)?"
)
_MARKS: Final = ".,!?:;'\"()-"
_WORD: Final = re.compile(r"[^\W\d_]+")


def constant(text: str) -> str:
    """What of a text stays the same between variants of one campaign: its words, in lower case."""
    plain = normalise(text[:_NEAR])[:_MOST_CHARACTERS].lower()
    if greeting := _GREETING.match(plain):
        plain = plain[greeting.end() :]
    kept: list[str] = []
    for piece in plain.split():
        word = piece.strip(_MARKS)
        if word.isalpha():
            kept.append(word)
        elif word:
            kept += _WORD.findall(_RUN.sub(_without_variable, word))
    return " ".join(kept)


def _without_variable(run: re.Match[str]) -> str:
    return " " if _VARIABLE.search(run[0]) else run[0]


def signature_of(kept: str) -> Signature | None:
    """The signature of what is kept of a text, [LENGTH] bytes; None where that is too short to tell."""
    if len(kept) < LEAST_CHARACTERS or len(set(kept)) < LEAST_LETTERS:
        return None
    sketch = rensa.RMinHash(num_perm=LENGTH, seed=_SEED)
    sketch.update([kept[at : at + _GRAM] for at in range(len(kept) - _GRAM + 1)])
    return np.frombuffer(array.array("I", sketch.digest()), dtype=np.uint32).astype(np.uint8)


def hosts(text: str) -> set[str]:
    """The hosts of a text's links, as far as they look like hosts; those of e-mail addresses are none."""
    return set(_HOST.findall(text[:_MOST_CHARACTERS].lower()))


def name_of(founding: Signature) -> str:
    """A campaign's id, of the signature of its first message: 16 hexadecimal digits, the same on every worker."""
    return hashlib.blake2b(founding.tobytes(), digest_size=_ID_BYTES).hexdigest()
