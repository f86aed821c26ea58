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
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import numpy as np

from training import whole
from training.data import mixture
from training.data import split as data
from training.data.split import LABELS, Row
from training.results import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

R = TypeVar("R", bound=Row)
FOLDER: Final = ROOT / "data" / "taught"
_ROWS: Final = "rows.tsv.gz"
_MESSAGES: Final = "messages.tsv.gz"
_STATES: Final = "states.npy"
TEMPERATURE: Final = 1.5
"""Log-odds are divided by it: a teacher is surer of itself than it should be."""
WEIGHT: Final = 0.7
"""The teacher's share in what is learnt of a labelled row; the rest is the label's."""


class Told(NamedTuple):
    """What a teacher says of a text: log-odds of spam, and its state, a signed byte a value (`batches.STATE_UNIT`)."""

    odds: float
    state: bytes = b""


def soften(rows: Iterable[R], folder: Path = FOLDER) -> tuple[R, ...]:
    """The rows, those that the teacher has judged with a probability of spam, and its state. Raises DataError."""
    known = _read(folder).rows
    return tuple(_softened(row, known) for row in rows)


def unlabelled(folder: Path = FOLDER) -> tuple[Row, ...]:
    """Messages that nobody has labelled, each with the teacher's probability and state. Raises DataError."""
    rows = []
    for text, told in _read(folder).messages:
        spam = _probability(told.odds)
        rows.append(Row(text, LABELS[spam >= 0.5], spam=spam, state=told.state))  # noqa: PLR2004
    return tuple(rows)


def write(rows: Iterable[tuple[Row, Told]], messages: Iterable[tuple[str, Told]], folder: Path = FOLDER) -> None:
    """Write what `soften` and `unlabelled` read: of each row, and of each message.

    Raises ValueError where some have a state, and others none or one of another length.
    """
    folder.mkdir(parents=True, exist_ok=True)
    named, messages = sorted((_name(row.text), told) for row, told in rows), list(messages)
    (values,) = {len(told.state) for _, told in (*named, *messages)} or {0}
    (folder / _STATES).unlink(missing_ok=True)
    _put(folder / _ROWS, (f"{name}\t{told.odds:.2f}" for name, told in named))
    _put(folder / _MESSAGES, (f"{told.odds:.2f}\t{text}" for text, told in messages))
    if values:
        states = np.frombuffer(b"".join(told.state for _, told in (*named, *messages)), np.int8)
        with whole.writing(folder / _STATES) as making, making.open("wb") as opened:
            np.save(opened, states.reshape(-1, values), allow_pickle=False)


def _softened(row: R, known: Mapping[str, Told]) -> R:
    if (told := known.get(_name(row.text))) is None:
        return row
    is_spam = float(row.label != LABELS[0])
    return replace(row, spam=WEIGHT * _probability(told.odds) + (1 - WEIGHT) * is_spam, state=told.state)


def _probability(odds: float) -> float:
    return 1 / (1 + math.exp(-odds / TEMPERATURE))


def _name(text: str) -> str:
    return hashlib.sha256(mixture.made_key(text).encode()).hexdigest()[:16]


class _All(NamedTuple):
    rows: Mapping[str, Told]
    messages: Sequence[tuple[str, Told]]


@cache
def _read(folder: Path) -> _All:
    rows, messages = _lines(folder / _ROWS), _lines(folder / _MESSAGES)
    states = _states(folder / _STATES, len(rows) + len(messages))
    pairs = (line.split("\t") for line in rows)
    parted = (line.partition("\t") for line in messages)
    return _All(
        {name: Told(float(odds), state) for (name, odds), state in zip(pairs, states, strict=False)},
        [(text, Told(float(odds), state)) for (odds, _, text), state in zip(parted, states[len(rows) :], strict=True)],
    )


def _states(file: Path, count: int) -> list[bytes]:
    """The states of so many texts, of the rows and then the messages; empty where there are none. Raises DataError."""
    if not file.exists():
        return [b""] * count
    try:
        found = np.load(file, allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        message = f"{file}: cannot be read ({type(error).__name__}); it comes with the repository"
        raise data.DataError(message) from None
    if found.dtype != np.int8 or found.ndim != 2 or len(found) != count:  # noqa: PLR2004 -- texts, values
        message = f"{file}: not a row of bytes for each of the {count:,} texts beside it; it comes with the repository"
        raise data.DataError(message)
    return [each.tobytes() for each in found]


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
