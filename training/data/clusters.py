"""Near-duplicates among messages: Jaccard >= 0.7 over character 5-grams, digits as 0, single linkage.

Exact up to some twenty thousand messages. Beyond, MinHash (Broder 1997) with banding proposes pairs and the exact
Jaccard decides on each: only a pair that is never proposed can be missed, and time and memory grow with the messages.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

SIMILAR: Final = 0.7
EXACT_MOST: Final = 20_000
"""Messages up to which every pair that could be similar is checked."""

_GRAM: Final = 5
_ROUNDING: Final = 1e-9
"""0.7 of a whole number may come out just above the whole number that it is."""
_DIGIT: Final = re.compile(r"\d")
_BANDS, _ROWS = 32, 4
"""A pair of Jaccard 0.7 is proposed with 0.9998, one of 0.3 with 0.23."""
_SEED: Final = 20_110_907
_CHUNK: Final = 50_000
_HOPELESS: Final = 0.54
"""An estimate this low, of 128 hashes, is of a pair below 0.7: four standard deviations."""
_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)  # odd, of well-mixed bits (the golden ratio's): Knuth's multiplier
_SHIFT: Final = np.uint64(29)


class PhaseCallback(Protocol):
    """Called with how many of `total` steps of a phase are done."""

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Show it."""


def silent(phase: str, done: int, total: int) -> None:
    """Show nothing."""


def cluster(keys: Sequence[str], progress: PhaseCallback = silent) -> list[int]:
    """A cluster's number for each key: the index of its first member."""
    return exact(keys) if len(keys) <= EXACT_MOST else by_minhash(keys, progress)


def exact(keys: Sequence[str]) -> list[int]:
    """Check every pair that could be similar: one that shares a rare gram (prefix filtering, Chaudhuri et al. 2006)."""
    forest = _Forest(len(keys))
    sets = [_grams(name) for name in keys]
    counts = Counter(gram for grams in sets for gram in grams)
    holders: defaultdict[str, list[int]] = defaultdict(list)
    for at, grams in enumerate(sets):
        rarest = sorted(grams, key=lambda gram: (counts[gram], gram))
        shared_least = math.ceil(SIMILAR * len(grams) - _ROUNDING)
        prefix = rarest[: len(grams) - shared_least + 1]
        for other in {each for gram in prefix for each in holders[gram]}:
            if forest.root(at) != forest.root(other) and _share(grams, sets[other]):
                forest.join(at, other)
        for gram in prefix:
            holders[gram].append(at)
    return forest.roots()


def joined(found: Sequence[int], marks: Sequence[str]) -> list[int]:
    """The clusters with those made one that hold the same mark; an empty mark joins nothing."""
    forest = _Forest(len(found))
    first: dict[str, int] = {}
    for at, (root, mark) in enumerate(zip(found, marks, strict=True)):
        forest.join(at, root)
        if mark:
            forest.join(at, first.setdefault(mark, at))
    return forest.roots()


def by_minhash(keys: Sequence[str], progress: PhaseCallback = silent) -> list[int]:
    """Propose pairs that agree on a whole band of MinHashes, and check each by its exact Jaccard."""
    forest = _Forest(len(keys))
    hashes = _minhashes(keys, progress)
    for band in range(_BANDS):
        progress("linking near-duplicates", band + 1, _BANDS)
        for one, other in _proposed(hashes, band):
            if forest.root(one) != forest.root(other) and _are_similar(keys[one], keys[other]):
                forest.join(one, other)
    return forest.roots()


def _proposed(hashes: NDArray[np.uint32], band: int) -> Iterator[tuple[int, int]]:
    """In each bucket of a band: every member with the first and with the one before it, unless they look hopeless."""
    columns = hashes[:, band * _ROWS : (band + 1) * _ROWS].astype(np.uint64)
    keys = np.zeros(len(hashes), dtype=np.uint64)
    for column in columns.T:
        keys = _mixed(keys * _FACTOR + column)
    order = np.argsort(keys, kind="stable")
    is_first = np.append(True, np.diff(keys[order]) != 0)
    first = order[np.maximum.accumulate(np.where(is_first, np.arange(len(order)), 0))]
    before = np.roll(order, 1)
    members = ~is_first
    pairs = np.concatenate([
        np.stack([order[members], before[members]], axis=1),
        np.stack([order[members], first[members]], axis=1)[(before != first)[members]],
    ])  # fmt: skip
    for start in range(0, len(pairs), _CHUNK):
        some = pairs[start : start + _CHUNK]
        likely = (hashes[some[:, 0]] == hashes[some[:, 1]]).mean(axis=1) > _HOPELESS
        yield from map(tuple, some[likely].tolist())


def _minhashes(keys: Sequence[str], progress: PhaseCallback) -> NDArray[np.uint32]:
    """[keys, 128], by rensa."""
    import rensa  # noqa: PLC0415 -- only many messages need it

    found = np.empty((len(keys), _BANDS * _ROWS), dtype=np.uint32)
    for start in range(0, len(keys), _CHUNK):
        grams, starts = _gram_hashes(keys[start : start + _CHUNK])
        matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(grams, starts, _BANDS * _ROWS, _SEED)
        found[start : start + _CHUNK] = matrix.to_rows()
        progress("hashing", min(start + _CHUNK, len(keys)), len(keys))
    return found


def _gram_hashes(keys: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """A 64-bit hash of each 5-gram of each key, end to end, and where each key's start. A shorter key is one gram."""
    padded = [_DIGIT.sub("0", key).ljust(_GRAM, "\0") for key in keys]
    lengths = np.array([len(key) for key in padded])
    letters = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    windows = np.zeros(len(letters) - _GRAM + 1, dtype=np.uint64)
    for place in range(_GRAM):
        windows = _mixed(windows * _FACTOR + letters[place : place + len(windows)])
    ends = np.cumsum(lengths)
    is_inside = np.ones(len(letters), dtype=bool)
    for place in range(1, _GRAM):  # a window that starts in a key's last four letters reaches into the next
        is_inside[ends - place] = False
    counts = np.cumsum(lengths - _GRAM + 1)
    return windows[is_inside[: len(windows)]], np.concatenate([[0], counts]).astype(np.uint64)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return (values ^ (values >> _SHIFT)) * _FACTOR


def _are_similar(one: str, other: str) -> bool:
    return _share(_grams(one), _grams(other))


def _share(grams: set[str], more: set[str]) -> bool:
    if min(len(grams), len(more)) < SIMILAR * max(len(grams), len(more)):
        return False
    shared = len(grams & more)
    return shared >= SIMILAR * (len(grams) + len(more) - shared)


def _grams(name: str) -> set[str]:
    name = _DIGIT.sub("0", name)
    return {name[at : at + _GRAM] for at in range(len(name) - _GRAM + 1)} or {name}


class _Forest:
    """Union-find. The least index names a cluster, so that its name, and every split, is the same in every process."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def root(self, at: int) -> int:
        parent = self._parent
        while parent[at] != at:
            parent[at] = at = parent[parent[at]]
        return at

    def join(self, one: int, other: int) -> None:
        one, other = self.root(one), self.root(other)
        self._parent[max(one, other)] = min(one, other)

    def roots(self) -> list[int]:
        return [self.root(at) for at in range(len(self._parent))]
