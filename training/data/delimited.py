"""CSV, read strictly: a row that is not as wide as the header, or not quoted as it should be, is refused by line."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

LABELS: Final = ("label", "v1", "class", "category", "target", "type")
TEXTS: Final = ("text", "v2", "message", "sms", "content", "body")
"""The names of columns that hold labels and texts, the likeliest first, in lower case."""
_FIELD_CHARACTERS: Final = 1 << 20


class DataError(ValueError):
    """Rows that cannot be trained or judged on; the text names the file and line, never what it says."""


class Lines(NamedTuple):
    """A row's fields, and the lines that it stands on: the first, and the one after the last, counted from 1."""

    first: int
    after: int
    fields: list[str]


class FoundRow(NamedTuple):
    """A row as it was read, under its own label, and where it stands. None is what is not there."""

    number: int
    label: str | None
    text: str | None
    group: str = ""


def column(header: Sequence[str], names: Sequence[str], where: object) -> int:
    """Where the first of these names stands in a header; case does not count. Raises DataError."""
    lower = [each.strip().lower() for each in header]
    for name in names:
        if lower.count(name) > 1:
            message = f"{where}: two columns are named {name}; rename one"
            raise DataError(message)
        if name in lower:
            return lower.index(name)
    message = f"{where}: no column is named {', '.join(names)}"
    raise DataError(message)


def read(path: Path, known: AbstractSet[str]) -> tuple[list[FoundRow], list[str]]:
    """Rows of a CSV file with a header, and warnings. `known` are the labels that a row can have, in lower case.

    The copy of the collection known as spam.csv is accepted, and said to be damaged. Raises DataError.
    """
    warnings = []
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")
        warnings.append("not UTF-8, read as Windows-1252: some characters may be wrong")
    lines = io.StringIO(text, newline="").readlines()
    rows = _rows(lines, path)
    header = next(rows, Lines(1, 1, [])).fields
    label, body = column(header, LABELS, path), column(header, TEXTS, path)
    # spam.csv has nameless columns after its text: what followed a quote and a comma inside a message.
    spilt = [at for at, each in enumerate(header) if at > body and _is_nameless(each)]
    found, joined = [], 0
    for row in rows:
        if not any(row.fields):
            continue
        if len(row.fields) != len(header):
            message = (
                f"{path}:{row.first}: {len(row.fields)} columns, {len(header)} are named; a text with a comma in it "
                "stands in quotes"
            )
            raise DataError(message)
        _require_one_row(row, lines, label, known, path)
        parts = [row.fields[body], *(row.fields[at] for at in spilt if row.fields[at])]
        joined += len(parts) > 1
        found.append(FoundRow(row.first, row.fields[label], ",".join(parts)))
    if spilt:
        warnings.append(
            f"a damaged copy: {joined} texts lay in several columns and were joined; train on it if you must, "
            "quote no figure from it"
        )
    return found, warnings


def _rows(lines: Sequence[str], path: Path) -> Iterator[Lines]:
    csv.field_size_limit(_FIELD_CHARACTERS)
    reader = csv.reader(lines, strict=True)
    while True:
        first = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            message = (
                f"{path}:{first}: a quote in or after this row opens no text, or is never closed ({error}); a text in "
                'quotes has each of its own twice: ""'
            )
            raise DataError(message) from None
        yield Lines(first, reader.line_num + 1, fields)


def _require_one_row(row: Lines, lines: Sequence[str], label: int, known: AbstractSet[str], path: Path) -> None:
    """Raise DataError where a line inside a row is itself a row under a known label: a quote was not closed."""
    for number in range(row.first + 1, row.after):
        fields = next(csv.reader([lines[number - 1]]), [])
        if len(fields) == len(row.fields) and fields[label].strip().lower() in known:
            message = (
                f"{path}:{number}: it looks like a row, and stands in a text that was begun in line {row.first}; close "
                "that text's quote"
            )
            raise DataError(message)


def _is_nameless(name: str) -> bool:
    name = name.strip().lower()
    return not name or name.startswith("unnamed")
