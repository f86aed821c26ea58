"""Delimited text, read strictly: a row that is not as wide as the first, or badly quoted, is refused by line."""

from __future__ import annotations

import csv
import io
import itertools
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from training.data.columns import DataError, FoundRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from training.data.columns import Columns, Layout

_SEPARATORS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_EXCELS_OWN: Final = re.compile(r"sep=[,;\t|]", re.IGNORECASE)
"""A first line that tells Excel the separator, which is found without it."""
_FIELD_CHARACTERS: Final = 1 << 20


class _Located(NamedTuple):
    """A row's fields, and the lines that it stands on: the first, and the one after the last, counted from 1."""

    first: int
    after: int
    fields: list[str]


class _Shape(NamedTuple):
    """How a file is to be read: what stands between its columns, and where label and text are."""

    separator: str
    layout: Layout


def read(content: bytes, path: Path, columns: Columns, known: AbstractSet[str]) -> tuple[list[FoundRow], list[str]]:
    """Rows of CSV, and warnings. `known` are the labels that a row can have, in lower case.

    Separator and header are guessed from the first two rows. The copy of the collection known as spam.csv is accepted,
    and said to be damaged. Raises DataError.
    """
    warnings = []
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")
        warnings.append("not UTF-8, read as Windows-1252: some characters may be wrong")
    lines = io.StringIO(text, newline="").readlines()
    if lines and _EXCELS_OWN.fullmatch(lines[0].strip("\r\n")):
        lines[0] = "\n"
    if not any(map(str.strip, lines)):
        return [], warnings
    separator, layout = _shape(lines, path, columns, known)
    warnings += layout.warnings
    rows = _rows(lines, path, separator)
    first = next(rows)
    width, label = len(first.fields), layout.label
    if not layout.has_header:
        rows = itertools.chain([first], rows)
    # spam.csv has nameless columns after its text: what followed a quote and a comma inside a message.
    header = first.fields if layout.has_header else []
    spilt = [at for at, name in enumerate(header) if at > layout.text and _is_nameless(name)]
    found, joined = [], 0
    for row in rows:
        if not any(row.fields):
            continue
        if len(row.fields) != width:
            between = _SEPARATORS[separator]
            message = (
                f"{path}:{row.first}: {len(row.fields)} columns between {between}, {width} are named; a text with "
                f"{between} in it stands in quotes"
            )
            raise DataError(message)
        _require_one_row(row, lines, _Shape(separator, layout), known, path)
        parts = [row.fields[layout.text], *(row.fields[at] for at in spilt if row.fields[at])]
        joined += len(parts) > 1
        found.append(FoundRow(row.first, row.fields[label], ",".join(parts)))
    if spilt:
        warnings.append(
            f"a damaged copy: {joined} texts lay in several columns and were joined; train on it if you must, "
            "quote no figure from it"
        )
    return found, warnings


def has_header(content: bytes, path: Path, columns: Columns) -> bool:
    """Whether the first line names columns of label and text."""
    line = content.partition(b"\n")[0].decode("utf-8-sig", "replace").rstrip("\r")
    try:
        return _shape([line], path, columns, frozenset()).layout.has_header
    except DataError:
        return False


def _shape(lines: Sequence[str], path: Path, columns: Columns, known: AbstractSet[str]) -> _Shape:
    """The separator under which the columns are found, the first line's commonest tried first. Raises DataError."""
    refused = []
    top = next(filter(str.strip, lines), "")
    for separator in sorted(_SEPARATORS, key=lambda each: -top.count(each)):
        try:
            rows = [row.fields for row in itertools.islice(_rows(lines, path, separator), 2)]
            return _Shape(separator, columns.layout(rows, known, f"{path}: between {_SEPARATORS[separator]}"))
        except DataError as error:
            refused.append(error)
    raise refused[0]


def _rows(lines: Sequence[str], path: Path, separator: str) -> Iterator[_Located]:
    csv.field_size_limit(_FIELD_CHARACTERS)
    reader = csv.reader(lines, delimiter=separator, strict=True)
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
        if fields:
            yield _Located(first, reader.line_num + 1, fields)


def _require_one_row(row: _Located, lines: Sequence[str], shape: _Shape, known: AbstractSet[str], path: Path) -> None:
    """Raise DataError where a line inside a row is itself a row under a known label: a quote was not closed."""
    for number in range(row.first + 1, row.after):
        fields = next(csv.reader([lines[number - 1]], delimiter=shape.separator), [])
        if len(fields) == len(row.fields) and fields[shape.layout.label].strip().lower() in known:
            message = (
                f"{path}:{number}: it looks like a row, and stands in a text that was begun in line {row.first}; close "
                "that text's quote"
            )
            raise DataError(message)


def _is_nameless(name: str) -> bool:
    name = name.strip().lower()
    return not name or name.startswith("unnamed")
