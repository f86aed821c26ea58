"""The last messages and verdicts, found by text, id or place: two rings of fixed size, searched only for a report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from worker.feedback.records import SaidVerdict
from worker.feedback.reports import HAM, SPAM, ReportedPlace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from worker.messages import Verdict

NEWEST: Final = 8
"""Messages of one text that are looked at."""
_MESSAGE: Final = np.dtype([("text", "u8"), ("sender", "u8"), ("offset", "i8"), ("partition", "i4")])
_VERDICT: Final = np.dtype(
    [("id", "u8"), ("offset", "i8"), ("partition", "i4"), ("score", "f4"), ("label", "i1"), ("action", "i1")]
)
BYTES_A_MESSAGE: Final = _MESSAGE.itemsize + _VERDICT.itemsize
_LABELS: Final = (None, HAM, SPAM)
_ACTIONS: Final = ("deliver", "flag", "block", "unscored")


class RecentMessage(NamedTuple):
    """One message as it is put in: hashes of text and sender (worker/policy/hashing.py), no sender is empty."""

    text: str
    sender: str
    place: ReportedPlace


class Ring:
    """The last `size` rows, in a table that never grows."""

    def __init__(self, size: int, row: np.dtype[np.void]) -> None:
        self._rows: NDArray[np.void] = np.zeros(size, row)
        self._next = 0
        self._count = 0

    def add(self, rows: NDArray[np.void]) -> None:
        """Put rows in the place of the oldest."""
        size = len(self._rows)
        rows = rows[-size:]
        self._rows[(self._next + np.arange(len(rows))) % size] = rows
        self._next = (self._next + len(rows)) % size
        self._count = min(size, self._count + len(rows))

    def newest(self, **wanted: int) -> NDArray[np.void]:
        """Rows with these values, the newest first."""
        rows = self._rows[: self._count]
        (first, value), *others = wanted.items()
        places = np.flatnonzero(rows[first] == rows[first].dtype.type(value))
        for name, value in others:
            places = places[rows[name][places] == value]
        order = (places - self._next) % len(self._rows)
        found: NDArray[np.void] = rows[places[np.argsort(order)[::-1]]]
        return found


class RecentMessages:
    """The last `size` messages of the input topic, and as many verdicts."""

    def __init__(self, topic: str, size: int) -> None:
        self.topic = topic
        self._messages, self._verdicts = Ring(size, _MESSAGE), Ring(size, _VERDICT)

    def add(self, messages: Sequence[RecentMessage]) -> None:
        """Remember messages."""
        rows = [(_word(each.text), _word(each.sender), each.place.offset, each.place.partition) for each in messages]
        if rows:
            self._messages.add(np.array(rows, _MESSAGE))

    def judge(self, verdicts: Sequence[tuple[str, Verdict]]) -> None:
        """Remember verdicts, each with the hash of its id."""
        rows = [
            (
                _word(name),
                each.source.offset,
                each.source.partition,
                np.nan if each.score is None else each.score,
                0 if each.label is None else 1 + (each.label != HAM),
                _ACTIONS.index(each.action),
            )
            for name, each in verdicts
            if each.source.topic == self.topic
        ]
        if rows:
            self._verdicts.add(np.array(rows, _VERDICT))

    def of_text(self, text: str) -> list[tuple[ReportedPlace, str]]:
        """The newest messages of a text, each with its sender's short hash."""
        found = self._messages.newest(text=_word(text))[:NEWEST]
        return [(self._place(row), f"{int(row['sender']):016x}" if row["sender"] else "") for row in found]

    def of_id(self, name: str) -> ReportedPlace | None:
        """The newest message of an id, by its hash."""
        found = self._verdicts.newest(id=_word(name))
        return self._place(found[0]) if len(found) else None

    def said_of(self, place: ReportedPlace) -> SaidVerdict | None:
        """The verdict on a message; None where it is too long ago."""
        found = self._verdicts.newest(offset=place.offset, partition=place.partition)
        if not len(found):
            return None
        score = float(found[0]["score"])
        return SaidVerdict(
            _LABELS[found[0]["label"]],
            None if np.isnan(score) else round(score, 6),
            _ACTIONS[found[0]["action"]],
        )

    def _place(self, row: np.void) -> ReportedPlace:
        return ReportedPlace(self.topic, int(row["partition"]), int(row["offset"]))


def short(hashed: str) -> str:
    """The part of a hash that is remembered of a sender."""
    return f"{_word(hashed):016x}"


def _word(hashed: str) -> int:
    return int(hashed[:16], 16) if hashed else 0
