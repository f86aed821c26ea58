"""Labelled messages from wherever they lie: tab-separated lines, CSV, Parquet, JSON lines, a hub data set.

What is read is (label, text), as it stands there, under labels of ours. Errors name file and line, never a text.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

HUB: Final = "hub:"
"""Before the id of a hub data set, `hub:ucirvine/sms_spam`, or before a folder that the hub's library reads."""

_LABELS: Final = ("label", "v1", "class", "category", "target", "type")
_TEXTS: Final = ("text", "v2", "message", "sms", "content", "body")
_COARSE: Final = {"smishing": "spam", "phishing": "spam"}
"""The coarse label of each finer one, where only `ham` and `spam` are distinguished."""
_CSV_FIELD_BYTES: Final = 1 << 20


class DataError(ValueError):
    """Rows that cannot be trained or judged on; the text names the file and line, never what it says."""


class RowSource(NamedTuple):
    """A source of rows: its name, its SHA-256, and warnings about how it was read."""

    name: str
    digest: str
    warnings: tuple[str, ...]


class Labelled(NamedTuple):
    """A message as it was found, under a label of ours. Those of one group are not to be parted by a split."""

    label: str
    text: str
    group: str = ""


def read(
    place: Path | str, labels: Sequence[str], renamed: Mapping[str, str] | None = None
) -> tuple[list[Labelled], RowSource]:
    """Read a file or hub data set. `renamed` maps its labels to ours: {"0": "ham", "1": "spam"}. Raises DataError."""
    name = str(place)
    if name.startswith(HUB):
        found, digest, warnings = _hub(name.removeprefix(HUB))
    else:
        path = Path(place)
        reader = _READERS.get(path.suffix.lower(), _lines)
        try:
            found, warnings = reader(path)
            with path.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            message = f"{path}: cannot be read ({error.strerror or error})"
            raise DataError(message) from None
    name = name if name.startswith(HUB) else Path(place).name
    return _under_our_labels(found, name, labels, renamed or {}), RowSource(name, digest, tuple(warnings))


def mapping(text: str) -> dict[str, str]:
    """`0=ham,1=spam` as a mapping. Raises DataError."""
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    if bad := [pair for pair in pairs if not pair[1] or not pair[0].strip() or not pair[2].strip()]:
        message = f"{''.join(bad[0])!r}: a label map is written theirs=ours,theirs=ours"
        raise DataError(message)
    return {theirs.strip().casefold(): ours.strip() for theirs, _, ours in pairs}


class _Row(NamedTuple):
    """A row as it was read, under its own label, and where it stands."""

    number: int
    label: str
    text: str
    group: str = ""


_Found = list[_Row]


def _under_our_labels(found: _Found, name: str, labels: Sequence[str], renamed: Mapping[str, str]) -> list[Labelled]:
    known = {each: each for each in labels} | {fine: coarse for fine, coarse in _COARSE.items() if fine not in labels}
    known |= {theirs.casefold(): ours for theirs, ours in renamed.items()}
    if wrong := sorted(set(renamed.values()) - set(labels) - set(_COARSE)):
        message = f"label map: {wrong[0]!r} is none of {', '.join(labels)}"
        raise DataError(message)
    rows = []
    for number, label, text, group in found:
        ours = known.get(label.strip().casefold())
        ours = known.get(ours, ours) if ours else None
        if ours is None:
            message = f"{name}:{number}: its label is none of {', '.join(known)}; --map theirs=ours names others"
            raise DataError(message)
        rows.append(Labelled(sys.intern(ours), text, sys.intern(group)))
    if not rows:
        message = f"{name}: no rows in it"
        raise DataError(message)
    return rows


def _lines(path: Path) -> tuple[_Found, list[str]]:
    """Label, tab, text: one row a line, no quoting, the first tab only: texts hold tabs and quotes.

    A file whose first line names its columns, `text` and `label` among them, is a table as data/modern/messages.tsv is.
    """
    found = []
    with path.open("rb") as opened:
        for number, line in enumerate(opened, 1):
            if number == 1 and {b"text", b"label"} <= set(line.rstrip(b"\r\n").split(b"\t")):
                return _table(path), []
            try:
                label, tab, text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n").partition("\t")
            except UnicodeDecodeError:
                message = f"{path}:{number}: not UTF-8; a damaged spam.csv is read under a name that ends in .csv"
                raise DataError(message) from None
            if not label and not tab:
                continue
            if not tab:
                message = f"{path}:{number}: not a label, a tab and a text"
                raise DataError(message)
            found.append(_Row(number, label, text))
    return found, []


def table(path: Path) -> Iterator[dict[str, str]]:
    r"""Rows of a file whose first line names its columns; \t, \n and \\ in a text are meant. Raises DataError."""
    try:
        lines = path.read_bytes().decode("utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        message = f"{path}: not UTF-8 at byte {error.start}"
        raise DataError(message) from None
    header = lines[0].split("\t")
    for number, line in enumerate(lines[1:], 2):
        fields = line.split("\t")
        if len(fields) != len(header):
            message = f"{path}:{number}: {len(fields)} columns, {len(header)} are named"
            raise DataError(message)
        yield {name: unescaped(field) for name, field in zip(header, fields, strict=True)}


_ESCAPED: Final = re.compile(r"\\([nt\\])")
_MEANT: Final = {"n": "\n", "t": "\t", "\\": "\\"}


def unescaped(text: str) -> str:
    r"""The text that \t, \n and \\ stand in."""
    return _ESCAPED.sub(lambda found: _MEANT[found[1]], text)


def escaped(text: str) -> str:
    """The text on one line without a tab."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")


def _table(path: Path) -> _Found:
    return [_Row(number, row["label"], row["text"], row.get("group", "")) for number, row in enumerate(table(path), 2)]


def _csv(path: Path) -> tuple[_Found, list[str]]:
    """CSV with a header. The copy of the collection known as spam.csv is accepted, and said to be damaged."""
    warnings = []
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")
        warnings.append("not UTF-8, read as Windows-1252: some characters may be wrong")
    csv.field_size_limit(_CSV_FIELD_BYTES)
    rows = csv.reader(io.StringIO(text, newline=""))
    try:
        header = [each.strip().lower() for each in next(rows, [])]
        label, body = _column(header, _LABELS, path), _column(header, _TEXTS, path)
        # spam.csv has nameless columns after its text: what followed a quote and a comma inside a message.
        spilt = [at for at, each in enumerate(header) if at > body and (not each or each.startswith("unnamed"))]
        found, joined = [], 0
        for row in rows:
            if not any(row):
                continue
            if len(row) <= max(label, body):
                message = f"{path}:{rows.line_num}: {len(row)} columns, {max(label, body) + 1} are needed"
                raise DataError(message)
            parts = [row[body], *(row[at] for at in spilt if at < len(row) and row[at])]
            joined += len(parts) > 1
            found.append(_Row(rows.line_num, row[label], ",".join(parts)))
    except csv.Error as error:
        message = f"{path}:{rows.line_num}: {error}"
        raise DataError(message) from None
    if spilt:
        warnings.append(
            f"a damaged copy: {joined} texts lay in several columns and were joined; train on it if you must, "
            "quote no figure from it"
        )
    return found, warnings


def _column(header: Sequence[str], names: Sequence[str], path: Path) -> int:
    for name in names:
        if name in header:
            return list(header).index(name)
    message = f"{path}: no column is named {', '.join(names)}"
    raise DataError(message)


def _json_lines(path: Path) -> tuple[_Found, list[str]]:
    found: _Found = []
    with path.open("rb") as opened:
        for number, line in enumerate(opened, 1):
            if not line.strip():
                continue
            try:
                row = msgspec.json.decode(line.removeprefix(codecs.BOM_UTF8), type=dict[str, Any])
            except msgspec.DecodeError:
                message = f"{path}:{number}: not a JSON object"
                raise DataError(message) from None
            found.append(_Row(number, *_fields(row, f"{path}:{number}")))
    return found, []


def _fields(row: Mapping[str, Any], where: str) -> tuple[str, str]:
    lower = {name.lower(): value for name, value in row.items()}
    values = [next((lower[name] for name in names if name in lower), None) for names in (_LABELS, _TEXTS)]
    if not isinstance(values[1], str) or not isinstance(values[0], str | int):
        message = f"{where}: needs a label ({', '.join(_LABELS)}) and a text ({', '.join(_TEXTS)})"
        raise DataError(message)
    return str(values[0]), values[1]


def _parquet(path: Path) -> tuple[_Found, list[str]]:
    import pyarrow.parquet as pq  # noqa: PLC0415 -- datasets brings it; a second to load
    from pyarrow import ArrowException, Table  # noqa: PLC0415

    try:
        with pq.ParquetFile(path) as opened:
            header = [name.lower() for name in opened.schema_arrow.names]
            columns = [opened.schema_arrow.names[_column(header, names, path)] for names in (_LABELS, _TEXTS)]
            tables = (Table.from_batches([batch]) for batch in opened.iter_batches(columns=columns))
            return _numbered((table.column(name).to_pylist() for name in columns) for table in tables), []
    except ArrowException as error:
        message = f"{path}: not Parquet ({type(error).__name__})"
        raise DataError(message) from None


def _numbered(blocks: Iterable[Iterator[list[Any]]]) -> _Found:
    found: _Found = []
    for block in blocks:
        for label, text in zip(*block, strict=True):
            found.append(_Row(len(found) + 1, "" if label is None else str(label), "" if text is None else str(text)))
    return found


def _hub(name: str) -> tuple[_Found, str, list[str]]:
    """Every split of a hub data set, or of a folder, by the hub's own library; a class label by its name."""
    import datasets  # noqa: PLC0415 -- seconds to load

    try:
        splits = datasets.load_dataset(name)
    except Exception as error:  # noqa: BLE001 -- the hub's library raises anything; the person needs its name and kind
        message = f"{HUB}{name}: cannot be loaded ({type(error).__name__}: {str(error).splitlines()[0]})"
        raise DataError(message) from None
    found: _Found = []
    digest = hashlib.sha256()
    for table in splits.values():
        header = [each.lower() for each in table.column_names]
        at_label, at_text = (table.column_names[_column(header, names, Path(name))] for names in (_LABELS, _TEXTS))
        kind = table.features[at_label]
        names = kind.names if hasattr(kind, "names") else None
        for row in table.select_columns([at_label, at_text]):
            label = names[row[at_label]] if names else str(row[at_label])
            digest.update(f"{label}\t{row[at_text]}\0".encode())
            found.append(_Row(len(found) + 1, label, str(row[at_text]).rstrip("\n")))
    return found, digest.hexdigest(), []


_READERS: Final = {
    ".csv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines, ".json": _json_lines, ".parquet": _parquet,
}  # fmt: skip
