"""What is asked of the history, from the fields of its form."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from worker.messages import Action, Flag

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ACTIONS: Final = tuple(map(str, Action))
FLAGS: Final = tuple(map(str, Flag))
_LONGEST: Final = 256
"""The largest whole number that the database has."""


def _moment(text: str) -> float:
    found = dt.datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=dt.UTC)).timestamp()


def _share(text: str) -> float:
    number = float(text)
    if not (math.isfinite(number) and 0 <= number <= 1):
        raise ValueError(text)
    return number


def whole(text: str, digits: int = 18) -> int | None:
    """A whole number as an address gives it; None for what is none, or longer: any of 18 digits fits the database."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= digits else None


def _key(text: str) -> tuple[float, int]:
    """A row's time and number, as `after` writes them."""
    at, _, number = text.partition(":")
    seq = whole(number)
    if seq is None or not math.isfinite(float(at)):
        raise ValueError(text)
    return float(at), seq


def _one_of(allowed: tuple[str, ...]) -> Callable[[str], str]:
    def chosen(text: str) -> str:
        if text not in allowed:
            raise ValueError(text)
        return text

    return chosen


def _flag(text: str) -> str:
    """A pattern: no flag has one of its signs."""
    return f"% {_one_of(FLAGS)(text)} %"


def _words(text: str) -> str:
    if len(text) > _LONGEST:
        raise ValueError(text)
    return text


_FIELDS: Final[dict[str, tuple[Callable[[str], object], str, str]]] = {
    "since": (_moment, "at >= ?", "a time, as 2026-01-31T08:00 (UTC)"),
    "until": (_moment, "at < ?", "a time, as 2026-01-31T08:00 (UTC)"),
    "action": (_one_of(ACTIONS), "action = ?", ", ".join(ACTIONS)),
    "label": (_words, "label = ?", f"at most {_LONGEST} characters"),
    "min_score": (_share, "score >= ?", "a number from 0 to 1"),
    "max_score": (_share, "score <= ?", "a number from 0 to 1"),
    "reason": (_words, "reason = ?", f"at most {_LONGEST} characters"),
    "flag": (_flag, "flags <> '' AND flags LIKE ?", ", ".join(FLAGS)),
    "campaign": (_words, "campaign = ?", f"at most {_LONGEST} characters"),
    "id": (_words, "id = ?", f"at most {_LONGEST} characters"),
    "before": (_key, "(at, seq) < (?, ?)", "a key from the page before"),
}
"""Of each field: what it may be, how the database is asked, and what to say of another."""


@dataclass(frozen=True, slots=True)
class Search:
    """Conditions that all must hold; `faults` say what of the form was not understood, by field."""

    given: Mapping[str, str] = field(default_factory=dict)
    conditions: tuple[str, ...] = ()
    values: tuple[object, ...] = ()
    faults: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, form: Mapping[str, str]) -> Search:
        """Read the form; an empty field asks for nothing."""
        given = {name: form[name].strip() for name in _FIELDS if form.get(name, "").strip()}
        conditions: list[str] = []
        values: list[object] = []
        faults: dict[str, str] = {}
        for name, text in given.items():
            read, condition, allowed = _FIELDS[name]
            try:
                value = read(text)
            except (ValueError, OverflowError):
                faults[name] = f"{name.replace('_', ' ')}: {allowed}"
            else:
                conditions.append(condition)
                values += value if isinstance(value, tuple) else [value]
        return cls(given, tuple(conditions), tuple(values), faults)

    def after(self, row: tuple[float, int] | None) -> str:
        """The query of the page that begins below this row (its time and number); of the first one for none."""
        kept = {name: text for name, text in self.given.items() if name != "before"}
        return urlencode(kept | ({"before": f"{row[0]!r}:{row[1]}"} if row else {}))
