"""Messages into the fixed shapes that a captured graph takes: laid end to end, filled up to a size known beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from worker.engine.kinds import Tokens

SIZES: Final = (
    *(32, 64, 128, 256, 384, 512, 640, 768, 1024, 1152, 1280, 1536, 1792, 2048, 2304, 2560),
    *(3072, 3456, 3840, 4224, 4992, 5760, 6336, 7296, 8448),
)
"""Token sizes that get a graph of their own: each about a fifth above the last, as a batch takes as long as its size.

The large ones divide into whole waves of 128 x 256 tiles on 132 multiprocessors for the matrices of TinyLlama: 8,448
tokens are 22 waves of the gate and up product, 4 of the down and output ones, 5 of query, key and value.
"""

_TOKENS_A_MESSAGE: Final = 16
"""A size has a place for a message for each so many tokens; real messages have 28. Shorter ones fill places first."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Messages laid end to end in `size` tokens and `places`.

    `starts` is, for each token, where its message starts. `ends` is each message's last token. What fills up the tail
    is messages of one token each, which no place reads; a place left over reads token 0. `rows` says which messages of
    the batch these are.
    """

    rows: NDArray[np.int64]
    tokens: NDArray[np.int32]
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]


def places(size: int) -> int:
    """Number of messages that a size can hold."""
    return max(16, size // _TOKENS_A_MESSAGE)


def sizes_for(longest: int, most: int) -> tuple[int, ...]:
    """The sizes worth having: up to `most` tokens, but large enough for the longest message."""
    fitting = [size for size in SIZES if size <= most]
    top = fitting[-1] if fitting else SIZES[0]
    if top >= longest:
        return tuple(fitting or SIZES[:1])
    return (*fitting, -(-longest // SIZES[0]) * SIZES[0])


def pack(tokens: Sequence[Tokens], sizes: Sequence[int], *, shared: int = 0) -> Iterator[Packed]:
    """Lay messages end to end in their order, each run of them in the smallest size that holds it.

    The first `shared` tokens of each are left out; a message that is nothing else is in no run. `sizes` ascend. Raises
    ValueError on a message without tokens, or with more than the largest size.
    """
    lengths = np.fromiter(map(len, tokens), dtype=np.int64, count=len(tokens))
    if len(lengths) and not 0 < lengths.min() <= lengths.max() <= sizes[-1] + shared:
        message = f"a message of {lengths.min()} or {lengths.max()} tokens; 1 to {sizes[-1] + shared} are allowed"
        raise ValueError(message)
    left = np.flatnonzero(lengths > shared)
    lengths = lengths[left] - shared
    totals = np.concatenate([[0], lengths.cumsum()])
    first = 0
    while first < len(lengths):
        last = int(np.searchsorted(totals, totals[first] + sizes[-1], side="right")) - 1
        last = min(last, first + places(sizes[-1]))
        total = totals[last] - totals[first]
        size = next(size for size in sizes if size >= total and places(size) >= last - first)
        rows = left[first:last]
        yield _lay([tokens[row][shared:] for row in rows.tolist()], rows, lengths[first:last], size)
        first = last


def _lay(tokens: Sequence[Tokens], rows: NDArray[np.int64], lengths: NDArray[np.int64], size: int) -> Packed:
    ends = lengths.cumsum() - 1
    total = int(ends[-1]) + 1
    flat = np.zeros(size, dtype=np.int32)
    np.concatenate(tokens, out=flat[:total], casting="same_kind")
    starts = np.arange(size, dtype=np.int32)
    starts[:total] = np.repeat(ends + 1 - lengths, lengths)
    padded = np.zeros(places(size), dtype=np.int32)
    padded[: len(rows)] = ends
    return Packed(rows, flat, starts, padded)
