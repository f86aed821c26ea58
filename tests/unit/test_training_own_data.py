"""Data sets as people publish them: separators, headers, columns, compression and workbooks, found or asked for."""

from __future__ import annotations

import gzip
import json
import re
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from training.__main__ import main
from training.data import sources
from training.data import split as data
from training.data.columns import Columns, DataError
from training.data.sources import Labelled

if TYPE_CHECKING:
    from pathlib import Path

ROWS = [Labelled("ham", "see you"), Labelled("spam", "win now")]
NUMBERS = {"0": "ham", "1": "spam"}


def read(path: Path, **how: Any) -> list[Labelled]:
    return sources.read(path, data.LABELS, NUMBERS, **how)[0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("turkish.csv", b"Message;Group\nsee you;ham\nwin now;spam\n", id="semicolon"),
        pytest.param("tabs.csv", b"label\ttext\nham\tsee you\nspam\twin now\n", id="tab-in-csv"),
        pytest.param("tabs.tsv", b"label\ttext\nham\tsee you\nspam\twin now\n", id="tsv-with-header"),
        pytest.param("pipes.txt", b"label|text\nham|see you\nspam|win now\n", id="pipe"),
        pytest.param("commas.txt", b"label,text\nham,see you\nspam,win now\n", id="csv-in-txt"),
        pytest.param("super.csv", b"SMSes,Labels\nsee you,0.0\nwin now,1.0\n", id="plural-and-floats"),
        pytest.param("mail.csv", b"text,spam\nsee you,0\nwin now,1\n", id="spam-column"),
        pytest.param("bare.csv", b"ham,see you\nspam,win now\n", id="no-header"),
        pytest.param("bare-last.csv", b"see you,0\nwin now,1\n", id="no-header-label-last"),
        pytest.param("excel.txt", "label\ttext\nham\tsee you\nspam\twin now\n".encode("utf-16"), id="utf-16"),
        pytest.param("rows.csv.gz", gzip.compress(b"label,text\nham,see you\nspam,win now\n"), id="csv-gz"),
        pytest.param("rows.gz", gzip.compress(b"ham\tsee you\nspam\twin now\n"), id="lines-gz"),
        pytest.param(
            "rows.jsonl.gz",
            gzip.compress(b'{"label": 0.0, "text": "see you"}\n{"label": 1, "text": "win now"}\n'),
            id="json-gz",
        ),
        pytest.param(
            "rows.json",
            b'[\n {"label": "ham", "text": "see you"},\n {"label": "spam", "text": "win now"}\n]\n',
            id="json-array",
        ),
    ],
)
def test_a_published_set_is_read_as_it_is(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)

    assert read(tmp_path / name) == ROWS


def test_a_missing_header_is_guessed_and_said(tmp_path: Path) -> None:
    (tmp_path / "bare.csv").write_text("see you,0\nwin now,1\n")

    _, source = sources.read(tmp_path / "bare.csv", data.LABELS, NUMBERS)

    assert source.warnings == ("no header: column 2 was read as the label, column 1 as the text",)


def test_columns_are_found_by_the_names_or_numbers_that_are_given(tmp_path: Path) -> None:
    (tmp_path / "named.csv").write_text("id,type,verdict,text,cleaned\n1,A,ham,see YOU,see you\n2,B,spam,Win,win now\n")
    (tmp_path / "bare.csv").write_text("1,ham,see you\n2,spam,win now\n")
    (tmp_path / "rows.jsonl").write_text(
        '{"verdict": 0, "text": "raw", "cleaned": "see you"}\n{"verdict": 1, "text": "raw", "cleaned": "win now"}\n'
    )

    named = Columns(label="Verdict", text="cleaned")

    assert read(tmp_path / "named.csv", columns=named) == ROWS
    assert read(tmp_path / "rows.jsonl", columns=named) == ROWS
    assert read(tmp_path / "bare.csv", columns=Columns(label="2", text="3")) == ROWS


@pytest.mark.parametrize(
    ("name", "content", "columns", "named"),
    [
        ("rows.csv", b"id;verdict;words\n1;ham;secret\n", Columns(),
         r"between semicolons its columns are id, verdict, words; none .* label.*--label-column names it"),
        ("rows.csv", b"label,words\nham,secret\n", Columns(),
         r"between commas its columns are label, words; none .* text.*--text-column names it"),
        ("rows.csv", b"label,text\nham,secret\n", Columns(text="body"),
         r"columns are label, text; none is named body"),
        ("rows.csv", b"7,secret plans for tonight\n", Columns(), r"between commas its first line has 2 columns"),
        ("rows.csv", b"ham,secret,secret plans\n", Columns(), r"no header.*--text-column 2"),
        ("rows.csv", b"label,text\n0,a\n2,secret\n", Columns(), r":3: its label 2 is none of ham, spam"),
        ("rows.csv.gz", b"secret", Columns(), r"rows\.csv\.gz: not whole gzip"),
        ("rows.zip", b"PK", Columns(), r"\.zip is not read: unpack it"),
        ("rows.xls", b"\xd0\xcf", Columns(), r"\.xls is not read: save it as .*CSV"),
        ("rows.json", b'{"text": {"0": "secret"}, "label": {"0": "ham"}}', Columns(), r":1: needs a label"),
        ("rows.json", b'[{"text": "secret", "label"', Columns(), r"rows\.json: not JSON"),
    ],
)  # fmt: skip
def test_what_is_not_found_is_named_with_the_columns_that_are_there(
    name: str, content: bytes, columns: Columns, named: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(DataError, match=named) as refused:
        sources.read(tmp_path / name, data.LABELS, NUMBERS, columns)

    assert "secret" not in str(refused.value)


def test_a_backslash_in_a_table_of_somebody_else_is_a_backslash(tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text("label\ttext\nham\tit is in C:\\temp\\new\n")

    assert read(tmp_path / "rows.tsv") == [Labelled("ham", "it is in C:\\temp\\new")]


def workbook(path: Path, *sheets: list[tuple[object, ...]]) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for at, rows in enumerate(sheets):
        sheet = book.active if at == 0 else book.create_sheet()
        for row in rows:
            sheet.append(row)
    book.save(path)


def test_a_workbook_is_read_by_its_first_sheet(tmp_path: Path) -> None:
    rows = [("Message", "Label"), ("see you", 0), ("win now", 1.0), (None, None), ("unlabelled", None)]
    workbook(tmp_path / "rows.xlsx", rows, [("notes",)])

    found, source = sources.read(tmp_path / "rows.xlsx", data.LABELS, NUMBERS)

    assert found == ROWS
    assert source.warnings == ("2 sheets, of which the first was read", "1 rows without a label: left out")


@pytest.mark.parametrize("size", [b"A1", b"A1:B2", b"A1:B1048576", None])
def test_a_workbook_is_read_whole_whatever_it_says_of_its_size(size: bytes | None, tmp_path: Path) -> None:
    rows = [("label", "text"), ("ham", "hello"), ("spam",), ("spam", "win")]
    workbook(tmp_path / "rows.xlsx", rows)
    whole = zipfile.ZipFile(tmp_path / "rows.xlsx")
    parts = {name: whole.read(name) for name in whole.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    said = b'<dimension ref="' + size + b'"/>' if size else b""
    parts[sheet], count = re.subn(rb"<dimension [^>]*>", said, parts[sheet])
    assert count == 1
    with zipfile.ZipFile(tmp_path / "said.xlsx", "w") as changed:
        for name, content in parts.items():
            changed.writestr(name, content)

    found, source = sources.read(tmp_path / "said.xlsx", data.LABELS)

    assert [row[:2] for row in found] == [("ham", "hello"), ("spam", "win")]
    assert source.left_out == {"without a text": 1}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("mac.txt", b"ham\thello\rspam\twin\r"),
        ("mac.tsv", b"label\ttext\rham\thello\rspam\twin"),
        ("mac.csv", b"label,text\rham,hello\rspam,win\r"),
        ("sep.csv", b"sep=,\r\nlabel,text\r\nham,hello\r\nspam,win\r\n"),
        ("sep-semicolon.csv", b"\xef\xbb\xbfsep=;\nlabel;text\nham;hello\nspam;win\n"),
        ("blank.csv", b"\n\nlabel,text\n\nham,hello\nspam,win\n\n"),
    ],
)
def test_a_table_is_read_as_excel_writes_it(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)

    assert [row[:2] for row in read(tmp_path / name)] == [("ham", "hello"), ("spam", "win")]


def test_a_fault_behind_excels_own_first_line_is_named_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"sep=,\nlabel,text\nham,hello\nspam,a,b\n")

    with pytest.raises(DataError, match=r"rows\.csv:4: 3 columns"):
        read(tmp_path / "rows.csv")


@pytest.mark.parametrize("as_lines", [True, False])
def test_half_a_character_in_json_is_repaired_as_in_an_event(*, as_lines: bool, tmp_path: Path) -> None:
    rows = ['{"label": "ham", "text": "hello \\ud83d"}', '{"label": "spam", "text": "win"}']
    (tmp_path / "rows.json").write_text("\n".join(rows) if as_lines else f"[{','.join(rows)}]")

    assert [row[:2] for row in read(tmp_path / "rows.json")] == [("ham", "hello \ufffd"), ("spam", "win")]


def test_what_is_no_workbook_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    (tmp_path / "rows.xlsx").write_bytes(b"secret")

    with pytest.raises(DataError, match=r"rows\.xlsx: not an Excel workbook"):
        read(tmp_path / "rows.xlsx")


def test_the_command_line_takes_the_columns_and_a_map_for_rows_from_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"{at % 2};{'ab'[at % 2] * 5} {at:x} {'xyz'[at % 3] * at}" for at in range(60)]
    (tmp_path / "rows.csv").write_text("\n".join(["verdict;words", *lines]) + "\n")
    arguments = ["prepare", "--data", str(tmp_path / "rows.csv"), "--map", "0=ham,1=spam"]

    assert main(arguments) == 2
    assert "--label-column" in capsys.readouterr().err
    given = [*arguments, "--label-column", "verdict", "--text-column", "words"]
    assert main([*given, "--outside", str(tmp_path / "rows.csv")]) == 0
    assert json.dumps("kept") not in capsys.readouterr().err
