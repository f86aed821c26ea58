"""Which columns of a table hold label and text: by the names that people give them, or as they were asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

LABELS: Final = (
    "label", "v1", "class", "category", "target", "type", "labels", "spam", "is_spam", "spam/ham", "classification",
    "group",
)  # fmt: skip
TEXTS: Final = (
    "text", "v2", "message", "sms", "content", "body", "msg", "messages", "smses", "texts", "sms_text", "message_text",
    "comment", "email",
)  # fmt: skip
"""The names of columns that hold labels and texts, the likeliest first, in lower case."""
_LONGEST_NAME: Final = 30
_MOST_WORDS: Final = 2


class DataError(ValueError):
    """Rows that cannot be trained or judged on; the text names the file and line, never what it says."""


class FoundRow(NamedTuple):
    """A row as it was read, under its own label, and where it stands. None is what is not there."""

    number: int
    label: str | None
    text: str | None
    group: str = ""


class Layout(NamedTuple):
    """Where label and text stand in a row, and whether the first row names the columns."""

    label: int
    text: int
    has_header: bool

    @property
    def warnings(self) -> list[str]:
        """What was guessed."""
        if self.has_header:
            return []
        return [f"no header: column {self.label + 1} was read as the label, column {self.text + 1} as the text"]


class Columns(NamedTuple):
    """The columns that were asked for, by name or, from 1, by number; None is found by the usual names.

    One that `falls_back` takes the usual names too, where the one that was asked for is not there.
    """

    label: str | None = None
    text: str | None = None
    falls_back: bool = False

    def of(self, header: Sequence[str], where: str) -> tuple[int, int]:
        """Where label and text stand under these names. Raises DataError."""
        return (
            self._find(header, self.label, LABELS, "label", where),
            self._find(header, self.text, TEXTS, "text", where),
        )

    def layout(self, rows: Sequence[Sequence[str]], known: AbstractSet[str], where: str) -> Layout:
        """The layout of a table that begins with these rows, two if it has them. Raises DataError.

        Without a header, the one column of two that holds a known label is the label's.
        """
        first = rows[0] if rows else []
        try:
            label, text = self.of(first, where)
        except DataError:
            guessed = self._without_header(rows, known, where)
            if guessed is None:
                raise
            return guessed
        is_named = first[text].strip().lower() in {*TEXTS, (self.text or "").strip().lower()}
        return Layout(label, text, has_header=is_named or plain(first[label]) not in known)

    def _without_header(self, rows: Sequence[Sequence[str]], known: AbstractSet[str], where: str) -> Layout | None:
        if self.label or self.text or not rows:
            return None
        places = [at for at, cell in enumerate(rows[0]) if plain(cell) in known]
        if len(places) != 1 or any(len(row) != len(rows[0]) for row in rows):
            return None
        (label,) = places
        if len({plain(row[label]).isdigit() for row in rows}) > 1:  # a column named spam, of 0 and 1
            return None
        others = [at for at in range(len(rows[0])) if at != label]
        if len(others) != 1:
            message = (
                f"{where} it has {len(rows[0])} columns and no header, and column {label + 1} looks like the label; "
                f"name both by number, such as --label-column {label + 1} --text-column {others[0] + 1}"
            )
            raise DataError(message)
        return Layout(label, others[0], has_header=False)

    def _find(self, header: Sequence[str], asked: str | None, usual: Sequence[str], what: str, where: str) -> int:
        lower = [each.strip().lower() for each in header]
        names = [*([asked.strip().lower()] if asked else []), *(usual if self.falls_back or not asked else [])]
        for name in names:
            if lower.count(name) > 1:
                message = f"{where} two columns are named {name}; rename one"
                raise DataError(message)
            if name in lower:
                return lower.index(name)
        if asked and asked.isdecimal() and 1 <= int(asked) <= len(header):
            return int(asked) - 1
        asks = f"; --{what}-column names it" * (not asked)
        message = f"{where} {_shown(header)}; none is named {', '.join(names)}{asks}"
        raise DataError(message)


def plain(label: str) -> str:
    """A label in lower case; 0.0, as tables of numbers write it, is 0."""
    label = label.strip().casefold()
    whole, point, zeros = label.partition(".")
    return whole if point and zeros and not zeros.strip("0") and whole.lstrip("-").isdecimal() else label


def value(cell: Any) -> str | None:  # noqa: ANN401 whatever a column holds
    """A cell as text; None where it is null or no number."""
    if isinstance(cell, float):
        return None if cell != cell else f"{cell:.0f}" if cell.is_integer() else str(cell)  # noqa: PLR0124 -- NaN
    return None if cell is None else str(cell)


def _shown(header: Sequence[str]) -> str:
    """The columns by name, unless the first row may hold a message."""
    if all(len(name) <= _LONGEST_NAME and len(name.split()) <= _MOST_WORDS for name in header):
        return f"its columns are {', '.join(name.strip() or 'nameless' for name in header)}"
    return f"its first line has {len(header)} columns, and does not look like a header"
