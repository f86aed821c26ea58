"""Texts to token ids: without disguise, in the bundle's own pieces, cut to its bound, and what was done to them.

What runs a model is not needed for it, and is not imported: it is as well done by a process of its own
(`worker.model.tokenizer_process`).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray  # noqa: TC002 # a field's type
from tokenizers import Tokenizer

from worker.messages import OF_SENDERS, Flag
from worker.model.coverage import is_outside
from worker.model.languages import CODES, language_of
from worker.model.normalise import is_uncovered, normalise
from worker.model.notices import kind_of
from worker.model.words import Pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from worker.model.bundle import Coverage

_OF_TEXTS: Final = [flag for flag in Flag if flag not in OF_SENDERS]
_BIT: Final[dict[Flag | None, int]] = {None: 0} | {flag: 1 << at for at, flag in enumerate(_OF_TEXTS)}
FLAGS: Final = tuple(
    tuple(flag.value for flag in _OF_TEXTS if index & _BIT[flag]) for index in range(1 << len(_OF_TEXTS))
)
"""What was done to a text, and what it is. `tokenise` answers with indexes into this."""
LANGUAGES: Final = (None, *CODES)
"""`tokenise` answers with indexes into this, too."""
_LANGUAGE: Final = {code: index for index, code in enumerate(LANGUAGES)}

# No piece of a vocabulary is longer in practice; beyond this many characters for each token that will be kept, a
# text's middle cannot reach the model, and tokenising it would let one hostile message stall its whole batch.
_CHARACTERS_A_TOKEN: Final = 32
# Before disguises are undone a text may be this much longer; the middle of more is not looked at.
_DISGUISE: Final = 2
# Of a text that was normalised so much is handed on, for who compares texts with one another.
_KEPT: Final = 1024

_NO_TOKENS: Final = np.empty(0, dtype=np.int32)


class Tokenised(NamedTuple):
    """A text's token ids (none where nothing is left of it), its index into FLAGS, and its index into LANGUAGES.

    `plain` is the beginning of what normalising made of it, where it changed more than white space.
    """

    tokens: NDArray[np.int32]
    flags: int
    language: int
    plain: str | None = None


class UnreadableTokenizerError(Exception):
    """A tokenizer.json that is none; says what the library says."""


def parse(description: bytes) -> Tokenizer:
    """Return the tokenizer of a tokenizer.json. Slow. Raises UnreadableTokenizerError."""
    try:
        return Tokenizer.from_buffer(description)
    except Exception as error:  # the library knows no other kind of error
        raise UnreadableTokenizerError(str(error)) from error


class TextTokenizer:
    """A tokenizer, which is then this one's, the most tokens that a text keeps, and what its bundle covers.

    Without the last, no text is `outside`.
    """

    pids: tuple[int, ...] = ()  # it is part of this process
    has_ended = False

    def __init__(self, tokenizer: Tokenizer, max_tokens: int, covered: Coverage | None = None) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = (
            True  # `</s>` in a message is four characters, not the sender's word to the model
        )
        self._pieces = Pieces(tokenizer)
        self._max_tokens = max_tokens
        self._covered = covered
        self._reach = max_tokens * _CHARACTERS_A_TOKEN

    def tokenise(self, texts: Sequence[str]) -> Iterable[Tokenised]:
        """For each text, in order, its tokens, flags and language.

        A text of more than `max_tokens` keeps its first and its last half of them: what a spammer wants done (a link,
        a number to call) stands at an end, and padding one end must not hide the other.
        """
        near = [_ends(text, _DISGUISE * self._reach) for text in texts]
        plain = [normalise(text) for text in near]
        encoded = self._pieces.encode([_ends(text, self._reach) for text in plain])
        return map(self._finished, texts, near, plain, encoded)

    def begin(self, texts: Sequence[str]) -> Callable[[], Iterable[Tokenised]]:
        """Begin to `tokenise`; what is returned, called, has the answer. Here nobody is at it before that."""
        return functools.partial(self.tokenise, texts)

    def _finished(self, text: str, seen: str, plain: str, ids: NDArray[np.int32]) -> Tokenised:
        tokens = ids if plain else _NO_TOKENS
        is_truncated = len(tokens) > self._max_tokens or len(seen) < len(text)
        language = language_of(plain)
        flags = _BIT[kind_of(plain)]
        is_normalised = is_uncovered(seen, plain)
        flags += _BIT[Flag.NORMALISED] * is_normalised + _BIT[Flag.TRUNCATED] * is_truncated
        if self._covered and plain:
            # What is beyond the reach was not cut, so a text that long is compared by what was.
            was_cut = plain if len(plain) <= 2 * self._reach else plain[: 2 * self._reach]
            flags += _BIT[Flag.OUTSIDE] * is_outside(was_cut, len(tokens), language, self._covered)
        if len(tokens) > self._max_tokens:
            tokens = cut(tokens, self._max_tokens)
        return Tokenised(tokens, flags, _LANGUAGE[language], plain[:_KEPT] if is_normalised else None)


def cut(tokens: NDArray[np.int32], most: int) -> NDArray[np.int32]:
    """The first and the last half of what is too long; the first has the odd one. `most` is at least 1."""
    tail = most // 2
    return np.concatenate([tokens[: most - tail], tokens[len(tokens) - tail :]])


def _ends(text: str, half: int) -> str:
    """The first and the last `half` characters."""
    return text if len(text) <= 2 * half else text[:half] + text[-half:]
