"""Who has written to whom, in either direction: two Bloom filters, of which the older is dropped when one is full.

Each is of 64-bit words, and a pair has its four bits in one of them (a blocked filter: Putze, Sanders, Singler, 2007).
The two filters' words lie side by side, so that a pair is one place in memory.
"""

from __future__ import annotations

from typing import Final

import numpy as np

PAIRS: Final = 32_000_000
"""Pairs that one filter takes. Between so many and twice as many are remembered."""
MISTAKEN: Final = 0.01
"""Of new pairs, at most this share is taken for known ones, by both filters together when they are full."""
_PAIRS_A_WORD: Final = 4
_TWELVE: Final = (1 << 12) - 1
_TWO: Final = tuple(1 << (each & 63) | 1 << (each >> 6) for each in range(_TWELVE + 1))
"""Two bits of a word, by twelve of a hash."""


class Contacts:
    """Remembers pairs of addresses, in 128 MiB. Never forgets one of the last `pairs`."""

    def __init__(self, pairs: int = PAIRS) -> None:
        """Take the memory; the system gives it page by page as it is written."""
        words = 1 << (pairs // _PAIRS_A_WORD - 1).bit_length()
        self._filters = np.zeros((words, 2), dtype=np.uint64)
        self._words = self._filters.reshape(-1).data.cast("B").cast("Q")
        self._which = words - 1
        self._pairs = self._left = pairs
        self._newer = 0

    def take_memory(self) -> None:
        """Have the system give the memory now, before anything is in it: else the first messages wait for it."""
        self._filters.fill(0)

    def meet(self, one: int, other: int) -> bool:
        """Whether these two, given by their hashes, were unknown to each other. From now on they are known."""
        pair = hash((one, other) if one < other else (other, one))
        bits = _TWO[pair & _TWELVE] | _TWO[pair >> 12 & _TWELVE]
        words, at = self._words, (pair >> 24 & self._which) * 2
        newer = words[at + self._newer]
        if newer & bits == bits:
            return False
        words[at + self._newer] = newer | bits
        is_new = words[at + 1 - self._newer] & bits != bits
        self._left -= 1
        if not self._left:
            self._turn()
        return is_new

    def _turn(self) -> None:
        """Drop the older filter: half of the memory is written, once in so many pairs."""
        self._newer, self._left = 1 - self._newer, self._pairs
        self._filters[:, self._newer] = 0

    @property
    def bytes(self) -> int:
        """Memory of both filters."""
        return self._filters.nbytes
