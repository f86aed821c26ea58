"""Files whose cells have types: JSON, Parquet, a workbook, a hub data set."""

from __future__ import annotations

import codecs
import hashlib
import io
import warnings
from typing import TYPE_CHECKING, Any

import msgspec

from training.data.columns import DataError, FoundRow, value
from worker.messages.repair import repaired

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from training.data.columns import Columns

Found = tuple[list[FoundRow], list[str]]


def json(content: bytes, path: Path, columns: Columns, _: AbstractSet[str]) -> Found:
    """JSON lines, or one array of objects. Raises DataError."""
    content = content.removeprefix(codecs.BOM_UTF8)
    if content.lstrip().startswith(b"["):
        try:
            rows: Iterable[tuple[int, dict[str, Any]]] = enumerate(
                msgspec.json.decode(repaired(content)[0], type=list[dict[str, Any]]), 1
            )
        except msgspec.DecodeError:
            message = f"{path}: not JSON, or no array of objects"
            raise DataError(message) from None
    else:
        rows = _lines(content, path)
    return [FoundRow(number, *_fields(row, columns, f"{path}:{number}:")) for number, row in rows], []


def _lines(content: bytes, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(io.BytesIO(content), 1):
        if not line.strip():
            continue
        try:
            yield number, msgspec.json.decode(repaired(line)[0], type=dict[str, Any])
        except msgspec.DecodeError:
            message = f"{path}:{number}: not a JSON object"
            raise DataError(message) from None


def _fields(row: Mapping[str, Any], columns: Columns, where: str) -> tuple[str | None, str | None]:
    label, text = (list(row.values())[at] for at in columns.of(list(row), where))
    if not isinstance(text, str | None) or not isinstance(label, str | int | float | None):
        message = f"{where} needs a label, which is a word or a number, and a text"
        raise DataError(message)
    return value(label), text


def parquet(content: bytes, path: Path, columns: Columns, _: AbstractSet[str]) -> Found:
    """Parquet. Raises DataError."""
    import pyarrow.parquet as pq  # noqa: PLC0415 -- datasets brings it; a second to load
    from pyarrow import ArrowException, BufferReader, Table  # noqa: PLC0415

    try:
        with pq.ParquetFile(BufferReader(content)) as opened:
            header = opened.schema_arrow.names
            names = [header[at] for at in columns.of(header, f"{path}:")]
            tables = (Table.from_batches([batch]) for batch in opened.iter_batches(columns=names))
            pairs = (
                pair
                for table in tables
                for pair in zip(*(table.column(each).to_pylist() for each in names), strict=True)
            )
            return [FoundRow(number, value(label), value(text)) for number, (label, text) in enumerate(pairs, 1)], []
    except ArrowException as error:
        message = f"{path}: not Parquet ({type(error).__name__})"
        raise DataError(message) from None


def workbook(content: bytes, path: Path, columns: Columns, known: AbstractSet[str]) -> Found:
    """The first sheet of an Excel workbook. Raises DataError."""
    try:
        from openpyxl import load_workbook  # noqa: PLC0415 -- the extra `xlsx` brings it
    except ImportError:
        message = f"{path}: a workbook is read by openpyxl: pip install openpyxl, or save it as CSV (UTF-8)"
        raise DataError(message) from None
    try:
        with warnings.catch_warnings(action="ignore"):  # of styles that it does not know
            book = load_workbook(io.BytesIO(content), read_only=True, data_only=True)
            sheet = book.worksheets[0]
            sheet.reset_dimensions()  # what a file says of its size may be wrong, and rows beyond it are not read
            rows = [[value(cell) for cell in row] for row in sheet.iter_rows(values_only=True)]
    except Exception as error:  # noqa: BLE001 -- a damaged one raises whatever its parts do
        message = f"{path}: not an Excel workbook that can be read ({type(error).__name__})"
        raise DataError(message) from None
    width = max(map(len, rows), default=0)
    filled = [(number, row + [None] * (width - len(row))) for number, row in enumerate(rows, 1) if any(row)]
    if not filled:
        return [], []
    layout = columns.layout([[cell or "" for cell in row] for _, row in filled[:2]], known, f"{path}:")
    said = [f"{len(book.worksheets)} sheets, of which the first was read"] if len(book.worksheets) > 1 else []
    found = [FoundRow(number, row[layout.label], row[layout.text]) for number, row in filled[layout.has_header :]]
    return found, said + layout.warnings


def hub(name: str, shown: str, columns: Columns) -> tuple[list[FoundRow], str]:
    """Rows of every split of a hub data set, or of a folder, by the hub's own library, and a digest of them.

    A class label is read by its name. Raises DataError.
    """
    import datasets  # noqa: PLC0415 -- seconds to load

    try:
        splits = datasets.load_dataset(name)
    except Exception as error:  # noqa: BLE001 -- the hub's library raises anything; the person needs its name and kind
        message = f"{shown}: cannot be loaded ({type(error).__name__}: {str(error).splitlines()[0]})"
        raise DataError(message) from None
    found: list[FoundRow] = []
    digest = hashlib.sha256()
    for table in splits.values():
        names = [table.column_names[at] for at in columns.of(table.column_names, f"{shown}:")]
        classes = getattr(table.features[names[0]], "names", None)
        for row in table.select_columns(names):
            label, text = (row[each] for each in names)
            if classes and label is not None:  # -1 is no class
                label = classes[label] if label >= 0 else None
            digest.update(f"{label}\t{text}\0".encode())
            text = value(text)
            found.append(FoundRow(len(found) + 1, value(label), text and text.rstrip("\n")))
    return found, digest.hexdigest()
