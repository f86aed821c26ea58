"""What a teacher says of messages: of our own rows, by models that have not learnt them, and of unlabelled ones.

`data/taught` holds it, with a page that says how it was made (`make taught`, on a GPU). A student learns by these
probabilities (knowledge distillation, Hinton et al., arXiv 1503.02531). Nothing in it comes from a row of
`mixture.cut(rows, 0).test`, nor from a row of UCI at all, so that UCI's own splits stay honest.
"""

from __future__ import annotations

import gzip
import hashlib
import math
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Final, TypeVar

from training import whole
from training.data import mixture
from training.data import split as data
from training.data.split import LABELS, Row
from training.results import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

R = TypeVar("R", bound=Row)
FOLDER: Final = ROOT / "data" / "taught"
TEMPERATURE: Final = 1.5
"""Log-odds are divided by it: a teacher is surer of itself than it should be."""
WEIGHT: Final = 0.7
"""The teacher's share in what is learnt of a labelled row; the rest is the label's."""


def soften(rows: Iterable[R], folder: Path = FOLDER) -> tuple[R, ...]:
    """The rows, those that the teacher has judged with a probability of spam. Raises DataError."""
    known = _of_rows(folder)
    return tuple(_softened(row, known) for row in rows)


def unlabelled(folder: Path = FOLDER) -> tuple[Row, ...]:
    """Messages that nobody has labelled, each with the teacher's probability of spam. Raises DataError."""
    rows = []
    for line in _lines(folder / "messages.tsv.gz"):
        odds, _, text = line.partition("\t")
        spam = _probability(float(odds))
        rows.append(Row(text, LABELS[spam >= 0.5], spam=spam))  # noqa: PLR2004
    return tuple(rows)


def write(rows: Iterable[tuple[Row, float]], messages: Iterable[tuple[str, float]], folder: Path = FOLDER) -> None:
    """Write what `soften` and `unlabelled` read: log-odds of spam by row, and by message."""
    folder.mkdir(parents=True, exist_ok=True)
    _put(folder / "rows.tsv.gz", sorted(f"{_name(row.text)}\t{odds:.2f}" for row, odds in rows))
    _put(folder / "messages.tsv.gz", (f"{odds:.2f}\t{text}" for text, odds in messages))


def _softened(row: R, known: Mapping[str, float]) -> R:
    if (odds := known.get(_name(row.text))) is None:
        return row
    is_spam = float(row.label != LABELS[0])
    return replace(row, spam=WEIGHT * _probability(odds) + (1 - WEIGHT) * is_spam)


def _probability(odds: float) -> float:
    return 1 / (1 + math.exp(-odds / TEMPERATURE))


def _name(text: str) -> str:
    return hashlib.sha256(mixture.made_key(text).encode()).hexdigest()[:16]


@cache
def _of_rows(folder: Path) -> Mapping[str, float]:
    pairs = (line.split("\t") for line in _lines(folder / "rows.tsv.gz"))
    return {name: float(odds) for name, odds in pairs}


def _lines(file: Path) -> list[str]:
    try:
        with gzip.open(file, "rt", encoding="utf-8", newline="\n") as stream:
            return stream.read().splitlines()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        message = f"{file}: cannot be read ({type(error).__name__}); it comes with the repository"
        raise data.DataError(message) from None


def _put(file: Path, lines: Iterable[str]) -> None:
    with whole.writing(file) as making, making.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        packed.write("".join(f"{line}\n" for line in lines).encode())
