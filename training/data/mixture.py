"""What the shipped judge learns from and is judged by: three collections, each cut by clusters of near-duplicates.

UCI's test rows are those of its own honest split, so that figures stay comparable. Of Mendeley's set only the texts
that UCI lacks are taken. Clusters are found over all three at once, and a group of `data/modern` is never parted: no
near-duplicate of any collection's test row is learnt from. Voices that were written later are split by themselves.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from training.data import clusters, modern
from training.data import split as data
from training.data.split import LABELS, MENDELEY, THREE, Row

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

SOURCES: Final = ("uci", "mendeley", "modern")
_PARTS: Final = (*((source, 0) for source in SOURCES), *(("modern", each) for each in range(1, len(modern.ROUNDS))))
"""What is split by itself: each collection, and each later round of `data/modern`, so that no row changes sides."""
HELD_OUT: Final = "held-out-mixture"
"""The digest of a mixture's test rows, in a bundle's quality."""
LEARNT: Final = "collections"
"""The digests of collections that a mixture's train rows are part of, in a bundle's quality."""
_LETTERS: Final = re.compile(r"\w+")
SLICE: Final = 0.1
"""The share of each collection's train that is kept from learning, for calibration and bands."""


@dataclass(frozen=True, slots=True)
class Sourced(Row):
    """A row of two labels; `truth` is its label of three. Only `data/modern` fills the rest."""

    truth: str = ""
    sender: str = ""
    language: str = "en"
    voice: str = ""


class MixtureParts(NamedTuple):
    """Train cut in two, and test; no cluster is in two of them."""

    fit: tuple[Sourced, ...]
    calibration: tuple[Sourced, ...]
    test: tuple[Sourced, ...]


def read() -> tuple[Sourced, ...]:
    """Every row of the three collections, with clusters over all of them; UCI's first, in its own order."""
    uci = data.prepare().rows
    mendeley, _ = data.new_rows(MENDELEY, uci, THREE)
    known = {data.key(row.text) for row in (*uci, *mendeley)} - {""}
    # A group keeps UCI's own clusters whole.
    rows = [_sourced(row, "uci", f"uci-{row.cluster}") for row in uci]
    rows += [_sourced(row, "mendeley", "") for row in mendeley]
    ours = [_modern(message) for message in modern.read() if data.key(message.text) not in known]
    rows += [row for row in ours if not round_of(row)]
    rows = [replace(row, cluster=each) for row, each in zip(rows, _clusters(rows), strict=True)]
    for number in range(1, len(modern.ROUNDS)):
        rows += _later(rows, [row for row in ours if round_of(row) == number])
    return tuple(rows)


def _clusters(rows: Sequence[Sourced]) -> list[int]:
    return clusters.joined(clusters.cluster([made_key(row.text) for row in rows]), [row.group for row in rows])


def _later(rows: Sequence[Sourced], more: Sequence[Sourced]) -> list[Sourced]:
    """The rows of a later round, clustered so that what `rows` are split into does not change.

    One that is a near-duplicate of any of `rows` is borrowed: it is in their cluster, and tests nothing.
    """
    found = _clusters([*rows, *more])
    near: defaultdict[int, set[int]] = defaultdict(set)
    for row, root in zip(rows, found, strict=False):
        near[root] |= {row.cluster, *row.near}
    return [
        replace(
            row,
            cluster=min(near[root], default=len(rows) + root),
            borrowed=bool(near[root]),
            near=tuple(sorted(near[root])),
        )
        for row, root in zip(more, found[len(rows) :], strict=True)
    ]


def made_key(text: str) -> str:
    """The key that the shipped split, `data/taught` and nano were made by: of runs of letters and digits alone.

    `data.key` tells more apart. Whoever makes all three anew puts it here: one of them alone would learn of test rows.
    """
    return " ".join(_LETTERS.findall(unicodedata.normalize("NFKC", text).lower()))


def cut(rows: Sequence[Sourced], seed: int) -> MixtureParts:
    """A fifth of each part's clusters to test, of the rest a tenth to calibration; UCI's test is its own."""
    test = own = _uci_test(rows, seed)
    for part in _PARTS[1:]:
        test = [*test, *cast("tuple[Sourced, ...]", data.split(_left(rows, part, own), seed).test)]
    calibration: list[Sourced] = []
    for part in _PARTS:
        calibration += cast("tuple[Sourced, ...]", data.hold_out(_left(rows, part, test), seed, SLICE)[1])
    taken = {row.cluster for row in (*test, *calibration)}
    return MixtureParts(tuple(row for row in rows if not row.is_of(taken)), tuple(calibration), tuple(test))


def made_without(test: Iterable[Sourced]) -> dict[str, Any]:
    """What a bundle's quality says of its test rows: digests of UCI's and of all, and of the collection UCI."""
    test = tuple(test)
    return {
        "held-out": data.digest(of(test, SOURCES[0])),
        HELD_OUT: data.digest(test),
        LEARNT: [data.prepare().digest],
    }


def digest(rows: Iterable[Row]) -> str:
    """Name all of the rows that a split is made of."""
    return hashlib.sha256(data.digest(rows).encode()).hexdigest()


def of(rows: Iterable[Sourced], source: str) -> tuple[Sourced, ...]:
    """The rows of one collection."""
    return tuple(row for row in rows if row.source == source)


def without(rows: Iterable[Sourced], kinds: Collection[str]) -> tuple[Sourced, ...]:
    """The rows of other kinds than these, each named `label/kind`, such as `smishing/toll`."""
    return tuple(row for row in rows if f"{row.truth}/{row.kind}" not in kinds)


def _uci_test(rows: Sequence[Sourced], seed: int) -> list[Sourced]:
    """UCI's test rows by the split of UCI alone, whose clusters are its own."""
    own = of(rows, "uci")
    alone = [Row(row.text, row.label, int(row.group.removeprefix("uci-"))) for row in own]
    texts = {row.text for row in data.split(alone, seed).test}
    return [row for row in own if row.text in texts]


def _left(rows: Sequence[Sourced], part: tuple[str, int], taken: Iterable[Sourced]) -> tuple[Sourced, ...]:
    """A part's rows of other clusters than those of `taken`."""
    gone = {row.cluster for row in taken}
    return tuple(row for row in rows if (row.source, round_of(row)) == part and row.cluster not in gone)


def round_of(row: Sourced) -> int:
    """The round that a row's voice was written in; 0 of any other collection."""
    return modern.ROUND.get(row.voice, 0)


def _sourced(row: Row, source: str, group: str) -> Sourced:
    return Sourced(row.text, _of_two(row.label), group=group, source=source, truth=row.label)


def _modern(message: modern.Message) -> Sourced:
    return Sourced(
        message.text,
        _of_two(message.label),
        group=message.group,
        source="modern",
        truth=message.label,
        kind=message.kind,
        sender=message.sender,
        language=message.language,
        voice=message.voice,
    )


def _of_two(label: str) -> str:
    return LABELS[0] if label == LABELS[0] else LABELS[1]
