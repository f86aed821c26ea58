"""Labelled messages from wherever they lie: tab-separated lines, CSV, Parquet, JSON lines, a hub data set.

What is read is (label, text), as it stands there, under labels of ours. Errors name file and line, never a text.
"""

from __future__ import annotations

import codecs
import hashlib
import re
import sys
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from training.data import delimited
from training.data.delimited import LABELS, TEXTS, DataError, FoundRow, column

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

__all__ = ["DataError"]

HUB: Final = "hub:"
"""Before the id of a hub data set, `hub:ucirvine/sms_spam`, or before a folder that the hub's library reads."""

_COARSE: Final = {"smishing": "spam", "phishing": "spam"}
"""The coarse label of each finer one, where only `ham` and `spam` are distinguished."""


_MISSING: Final = frozenset({"", "nan", "none", "null", "na", "n/a", "<na>", "-1"})
"""What stands for no label, unless a label map names it. -1 is the one of class labels on the hub."""


class RowSource(NamedTuple):
    """A source of rows: its name, its SHA-256, warnings about how it was read, and rows left out, by reason."""

    name: str
    digest: str
    warnings: tuple[str, ...]
    left_out: Mapping[str, int] = MappingProxyType({})


class Labelled(NamedTuple):
    """A message as it was found, under a label of ours. Those of one group are not to be parted by a split."""

    label: str
    text: str
    group: str = ""


def read(
    place: Path | str, labels: Sequence[str], renamed: Mapping[str, str] | None = None
) -> tuple[list[Labelled], RowSource]:
    """Read a file or hub data set. `renamed` maps its labels to ours: {"0": "ham", "1": "spam"}. Raises DataError."""
    name, known = str(place), _known(labels, renamed or {})
    if name.startswith(HUB):
        found, digest, warnings = _hub(name.removeprefix(HUB))
    else:
        path = Path(place)
        reader = _READERS.get(path.suffix.lower(), _lines)
        try:
            found, warnings = reader(path, known.keys())
            with path.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            message = f"{path}: cannot be read ({error.strerror or error})"
            raise DataError(message) from None
    name = name if name.startswith(HUB) else Path(place).name
    rows, left_out = _under_our_labels(found, name, known)
    if left_out:
        counts = (f"{count:,} {'rows ' * (not at)}{reason}" for at, (reason, count) in enumerate(left_out.items()))
        warnings = [*warnings, ", ".join(counts) + ": left out"]
    return rows, RowSource(name, digest, tuple(warnings), left_out)


def mapping(text: str) -> dict[str, str]:
    """`0=ham,1=spam` as a mapping. Raises DataError."""
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    if bad := [pair for pair in pairs if not pair[1] or not pair[0].strip() or not pair[2].strip()]:
        message = f"{''.join(bad[0])!r}: a label map is written theirs=ours,theirs=ours"
        raise DataError(message)
    return {theirs.strip().casefold(): ours.strip() for theirs, _, ours in pairs}


_Found = list[FoundRow]


def _known(labels: Sequence[str], renamed: Mapping[str, str]) -> dict[str, str]:
    """Ours for each label that a row can have, in lower case. Raises DataError."""
    known = {each: each for each in labels} | {fine: coarse for fine, coarse in _COARSE.items() if fine not in labels}
    if wrong := sorted(set(renamed.values()) - set(labels) - set(_COARSE)):
        message = f"label map: {wrong[0]!r} is none of {', '.join(labels)}"
        raise DataError(message)
    return known | {theirs.casefold(): ours for theirs, ours in renamed.items()}


def _under_our_labels(found: _Found, name: str, known: Mapping[str, str]) -> tuple[list[Labelled], dict[str, int]]:
    """The rows that have a label and a text, and how many have not, by what they lack."""
    rows = []
    without = {"without a label": 0, "without a text": 0}
    for number, label, text, group in found:
        theirs = (label or "").strip().casefold()
        ours = known.get(theirs)
        ours = known.get(ours, ours) if ours else None
        if ours is None and theirs in _MISSING:
            without["without a label"] += 1
            continue
        if text is None or not text.strip():
            without["without a text"] += 1
            continue
        if ours is None:
            message = f"{name}:{number}: its label is none of {', '.join(known)}; --map theirs=ours names others"
            raise DataError(message)
        rows.append(Labelled(sys.intern(ours), text, sys.intern(group)))
    if not rows:
        message = f"{name}: no rows with a label and a text in it"
        raise DataError(message)
    return rows, {reason: count for reason, count in without.items() if count}


def _lines(path: Path, _: AbstractSet[str]) -> tuple[_Found, list[str]]:
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
            found.append(FoundRow(number, label, text))
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
    return [
        FoundRow(number, row["label"], row["text"], row.get("group", "")) for number, row in enumerate(table(path), 2)
    ]


def _json_lines(path: Path, _: AbstractSet[str]) -> tuple[_Found, list[str]]:
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
            found.append(FoundRow(number, *_fields(row, f"{path}:{number}")))
    return found, []


def _fields(row: Mapping[str, Any], where: str) -> tuple[str | None, str | None]:
    label, text = (list(row.values())[column(list(row), names, where)] for names in (LABELS, TEXTS))
    if not isinstance(text, str | None) or not isinstance(label, str | int | None):
        message = f"{where}: needs a label ({', '.join(LABELS)}) and a text ({', '.join(TEXTS)})"
        raise DataError(message)
    return _plain(label), text


def _parquet(path: Path, _: AbstractSet[str]) -> tuple[_Found, list[str]]:
    import pyarrow.parquet as pq  # noqa: PLC0415 -- datasets brings it; a second to load
    from pyarrow import ArrowException, Table  # noqa: PLC0415

    try:
        with pq.ParquetFile(path) as opened:
            header = opened.schema_arrow.names
            columns = [header[column(header, names, path)] for names in (LABELS, TEXTS)]
            tables = (Table.from_batches([batch]) for batch in opened.iter_batches(columns=columns))
            return _numbered((table.column(name).to_pylist() for name in columns) for table in tables), []
    except ArrowException as error:
        message = f"{path}: not Parquet ({type(error).__name__})"
        raise DataError(message) from None


def _numbered(blocks: Iterable[Iterator[list[Any]]]) -> _Found:
    found: _Found = []
    for block in blocks:
        for label, text in zip(*block, strict=True):
            found.append(FoundRow(len(found) + 1, _plain(label), _plain(text)))
    return found


def _plain(value: Any) -> str | None:  # noqa: ANN401 whatever a column holds
    """A value as text; None where it is null or no number."""
    return None if value is None or value != value else str(value)  # noqa: PLR0124 -- NaN differs from itself


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
        columns = [table.column_names[column(table.column_names, names, f"{HUB}{name}")] for names in (LABELS, TEXTS)]
        classes = getattr(table.features[columns[0]], "names", None)
        for row in table.select_columns(columns):
            label, text = (row[each] for each in columns)
            if classes and label is not None:  # -1 is no class
                label = classes[label] if label >= 0 else None
            digest.update(f"{label}\t{text}\0".encode())
            text = _plain(text)
            found.append(FoundRow(len(found) + 1, _plain(label), text and text.rstrip("\n")))
    return found, digest.hexdigest(), []


_READERS: Final = {
    ".csv": delimited.read, ".jsonl": _json_lines, ".ndjson": _json_lines, ".json": _json_lines, ".parquet": _parquet,
}  # fmt: skip
