"""Labelled messages from wherever they lie: tab-separated lines, CSV, Excel, Parquet, JSON, a hub data set.

What is read is (label, text), as it stands there, under labels of ours. Errors name file and line, never a text.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import re
import sys
import zlib
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from training.data import delimited, typed
from training.data.columns import Columns, DataError, FoundRow, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

__all__ = ["DataError"]

HUB: Final = "hub:"
"""Before the id of a hub data set, `hub:ucirvine/sms_spam`, or before a folder that the hub's library reads."""

_LONGEST_NUMBER: Final = 3
"""Digits of a label that an error may name: more may be a part of a message."""
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
    place: Path | str,
    labels: Sequence[str],
    renamed: Mapping[str, str] | None = None,
    columns: Columns = Columns(),  # noqa: B008 -- a value
) -> tuple[list[Labelled], RowSource]:
    """Read a file or hub data set. `renamed` maps its labels to ours: {"0": "ham", "1": "spam"}. Raises DataError."""
    name, known = str(place), _known(labels, renamed or {})
    warnings: list[str] = []
    if name.startswith(HUB):
        found, digest = typed.hub(name.removeprefix(HUB), name, columns)
    else:
        path = Path(place)
        kind = path.with_suffix("").suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()
        if kind in _NOT_READ:
            message = f"{path}: {kind} is not read: {_NOT_READ[kind]}"
            raise DataError(message)
        try:
            found, warnings = _READERS.get(kind, _text)(_content(path), path, columns, known.keys())
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
    return {plain(theirs): ours.strip() for theirs, _, ours in pairs}


_Found = list[FoundRow]


def _known(labels: Sequence[str], renamed: Mapping[str, str]) -> dict[str, str]:
    """Ours for each label that a row can have, in lower case. Raises DataError."""
    known = {each: each for each in labels} | {fine: coarse for fine, coarse in _COARSE.items() if fine not in labels}
    if wrong := sorted(set(renamed.values()) - set(labels) - set(_COARSE)):
        message = f"label map: {wrong[0]!r} is none of {', '.join(labels)}"
        raise DataError(message)
    return known | {plain(theirs): ours for theirs, ours in renamed.items()}


def _under_our_labels(found: _Found, name: str, known: Mapping[str, str]) -> tuple[list[Labelled], dict[str, int]]:
    """The rows that have a label and a text, and how many have not, by what they lack."""
    rows = []
    without = {"without a label": 0, "without a text": 0}
    for number, label, text, group in found:
        theirs = plain(label or "")
        ours = known.get(theirs)
        ours = known.get(ours, ours) if ours else None
        if ours is None and theirs in _MISSING:
            without["without a label"] += 1
            continue
        if text is None or not text.strip():
            without["without a text"] += 1
            continue
        if ours is None:
            shown = f" {theirs}" * (theirs.lstrip("-").isdecimal() and len(theirs) <= _LONGEST_NUMBER)
            message = f"{name}:{number}: its label{shown} is none of {', '.join(known)}; --map theirs=ours names others"
            raise DataError(message)
        rows.append(Labelled(sys.intern(ours), text, sys.intern(group)))
    if not rows:
        message = f"{name}: no rows with a label and a text in it"
        raise DataError(message)
    return rows, {reason: count for reason, count in without.items() if count}


def _content(path: Path) -> bytes:
    """A file's content: unpacked if its name ends in .gz, in UTF-8 if it says that it is UTF-16. Raises OSError."""
    content = path.read_bytes()
    if path.suffix.lower() == ".gz":
        try:
            content = gzip.decompress(content)
        except (gzip.BadGzipFile, EOFError, zlib.error):
            message = f"{path}: not whole gzip"
            raise DataError(message) from None
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            content = content.decode("utf-16").encode()
        except UnicodeDecodeError as error:
            message = f"{path}: not whole UTF-16 at byte {error.start}"
            raise DataError(message) from None
    return content


def _text(content: bytes, path: Path, columns: Columns, known: AbstractSet[str]) -> tuple[_Found, list[str]]:
    """Lines of label, tab, text; a table as data/modern/messages.tsv is; or what else has a header, read as CSV."""
    if b"\n" not in content:  # Excel for Mac ends lines with a carriage return alone
        content = content.replace(b"\r", b"\n")
    first = content.removeprefix(codecs.BOM_UTF8).partition(b"\n")[0].rstrip(b"\r").split(b"\t")
    if len(first) > 1 and plain(first[0].decode("utf-8", "replace")) in known:
        return _lines(content, path)
    if {b"text", b"label", b"group"} <= set(first):
        rows = enumerate(table(path), 2)
        return [FoundRow(number, row["label"], row["text"], row["group"]) for number, row in rows], []
    if columns.label or columns.text or delimited.has_header(content, path, columns):
        return delimited.read(content, path, columns, known)
    return _lines(content, path)


def _lines(content: bytes, path: Path) -> tuple[_Found, list[str]]:
    """Label, tab, text: one row a line, no quoting, the first tab only: texts hold tabs and quotes."""
    found = []
    for number, line in enumerate(io.BytesIO(content), 1):
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


_READERS: Final = {
    ".csv": delimited.read, ".jsonl": typed.json, ".ndjson": typed.json, ".json": typed.json,
    ".parquet": typed.parquet, ".xlsx": typed.workbook, ".xlsm": typed.workbook,
}  # fmt: skip
_NOT_READ: Final = {
    **dict.fromkeys((".zip", ".7z", ".rar", ".bz2", ".xz", ".zst", ".tar", ".tgz"), "unpack it"),
    **dict.fromkeys((".xls", ".xlsb", ".ods", ".numbers"), "save it as .xlsx or CSV (UTF-8)"),
}
