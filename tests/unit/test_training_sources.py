"""Any of the usual files is read; a bad one is refused by line, without quoting it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import datasets
import pytest

from training.data import sources
from training.data import split as data
from training.data.sources import Labelled
from training.data.split import DataError

if TYPE_CHECKING:
    from pathlib import Path

ROWS = [Labelled("ham", 'see you, "later"\tmum'), Labelled("spam", "WIN £900 now, call 09061701461")]


def written(folder: Path, kind: str) -> str:
    table = datasets.Dataset.from_dict({"label": [row.label for row in ROWS], "text": [row.text for row in ROWS]})
    path = folder / f"rows.{kind}"
    if kind == "tsv":
        path.write_text("".join(f"{row.label}\t{row.text}\n" for row in ROWS), encoding="utf-8")
    elif kind == "csv":
        table.to_csv(path)
    elif kind == "jsonl":
        table.to_json(path)
    elif kind == "parquet":
        table.to_parquet(path)
    else:
        classes = datasets.Features(
            {"sms": datasets.Value("string"), "label": datasets.ClassLabel(names=["ham", "spam"])}
        )
        path = folder / "hub"
        path.mkdir()
        table.rename_column("text", "sms").select_columns(["sms", "label"]).cast(classes).to_parquet(
            path / "train.parquet"
        )
        return f"hub:{path}"
    return str(path)


@pytest.mark.parametrize("kind", ["tsv", "csv", "jsonl", "parquet", "hub"])
def test_the_same_rows_are_read_from_every_kind_of_file(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()

    rows, source = sources.read(written(tmp_path, kind), data.LABELS)

    assert rows == ROWS
    assert not source.warnings


def test_the_damaged_copy_is_read_with_a_warning_and_its_spilt_texts_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "spam.csv"
    path.write_bytes(b'v1,v2,,,\r\nham,"caf\xe9 later",,,\r\nspam,"win \xa3900","call now",,\r\n')

    rows, source = sources.read(path, data.LABELS)

    assert rows == [Labelled("ham", "café later"), Labelled("spam", "win £900,call now")]
    assert "not UTF-8" in source.warnings[0]
    assert "1 texts lay in several columns" in source.warnings[1]


def test_other_labels_are_mapped_and_finer_ones_count_as_spam_where_two_are_distinguished(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text("0\thello\n1\twin\nSmishing\tyour bank\n")

    two, _ = sources.read(path, data.LABELS, sources.mapping("0=ham, 1=spam"))
    three, _ = sources.read(path, data.THREE, sources.mapping("0=ham,1=spam"))

    assert [row.label for row in two] == ["ham", "spam", "spam"]
    assert [row.label for row in three] == ["ham", "spam", "smishing"]


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        pytest.param("rows", b"ham\tok\nspam secret\n", ":2: not a label, a tab", id="no-tab"),
        pytest.param("rows", b"v1,v2\n", "no rows", id="a-header"),
        pytest.param("rows", b"ham\tcaf\xe9\n", ":1: not UTF-8", id="damaged"),
        pytest.param("rows", b"ham\tok\n1\tsecret\n", ":2: its label 1 is none of ham, spam", id="label"),
        pytest.param("rows", b"", "no rows", id="empty"),
        pytest.param("rows.csv", b"label,body\nham,ok\nspam\n", ":3: 1 columns between commas, 2", id="short-row"),
        pytest.param(
            "rows.csv",
            b"label,text\nham,Ok, secret at 7\n",
            ":2: 3 columns between commas, 2",
            id="bare-comma",
        ),
        pytest.param(
            "rows.csv",
            b"label,text,url\nham,Ok\n",
            ":2: 2 columns between commas, 3",
            id="too-few",
        ),
        pytest.param("rows.csv", b'label,text\nham,"Ok" secret\n', ":2: a quote", id="more-after-a-quote"),
        pytest.param("rows.csv", b'label,text\nham,ok\nham,"secret\nspam,win\n', ":3: a quote", id="an-open-quote"),
        pytest.param(
            "rows.csv",
            b'label,text\nham,"secret\nspam,win\nham,bye "\n',
            ":3: it looks like a row",
            id="swallowed-rows",
        ),
        pytest.param("rows.csv", b"label,text,Text\nham,ok,secret\n", "two columns are named text", id="twice-named"),
        pytest.param("rows.jsonl", b'{"label": "ham", "text": "ok", "Text": "secret"}\n', ":1: two", id="json-twice"),
        pytest.param("rows.csv", b"a,b\nham,secret\n", "columns are a, b; none is named label", id="no-column"),
        pytest.param("rows.jsonl", b'{"label": "ham", "text": "ok"}\n{"label": "secret\n', ":2: not a JSON", id="json"),
        pytest.param("rows.jsonl", b'{"label": "ham", "text": 7}\n', ":1: needs a label", id="json-type"),
        pytest.param("rows.parquet", b"secret", "not Parquet", id="parquet"),
        pytest.param("absent.tsv", None, "cannot be read", id="absent"),
    ],
)
def test_what_cannot_be_read_is_refused_by_line_without_quoting_it(
    tmp_path: Path, name: str, content: bytes | None, named: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(DataError, match=named) as refused:
        sources.read(tmp_path / name, data.LABELS)

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("bad", ["0", "=ham", "0=", "0=nosuch"])
def test_a_label_map_that_makes_no_sense_is_refused(tmp_path: Path, bad: str) -> None:
    (tmp_path / "rows").write_text("ham\tok\n")

    with pytest.raises(DataError):
        sources.read(tmp_path / "rows", data.LABELS, sources.mapping(bad))


@pytest.mark.parametrize(("name", "line"), [("a.tsv", "ham\thello"), ("a.jsonl", '{"label": "ham", "text": "hello"}')])
def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path, name: str, line: str) -> None:
    (tmp_path / name).write_text(line + "\n", encoding="utf-8-sig")

    assert sources.read(tmp_path / name, ("ham", "spam"))[0] == [Labelled("ham", "hello")]


def test_a_quoted_text_may_hold_commas_quotes_and_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('label,text\nham,"Ok, see ""you""\nat 7"\nspam,say "win" now\n')

    rows, _ = sources.read(path, data.LABELS)

    assert rows == [Labelled("ham", 'Ok, see "you"\nat 7'), Labelled("spam", 'say "win" now')]


LEFT_OUT = {"without a label": 2, "without a text": 1}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "hub-classes", "hub-values", "tsv"])
def test_a_row_without_a_label_or_without_a_text_is_left_out_and_counted(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    texts = ["see you", "win now", None, "unlabelled", "masked"]
    numbers = datasets.Dataset.from_dict({"text": texts, "label": [0, 1, 0, None, -1]})
    path = tmp_path / f"rows.{kind}"
    if kind == "csv":
        path.write_text("label,text\n0,see you\n1,win now\n0,\n,unlabelled\nnan,masked\n")
    elif kind == "tsv":
        path.write_text("0\tsee you\n1\twin now\n0\t\n\tunlabelled\nNaN\tmasked\n")
    elif kind == "jsonl":
        numbers.to_json(path)
    elif kind == "parquet":
        numbers.to_parquet(path)
    else:
        (tmp_path / "hub").mkdir()
        if kind == "hub-classes":
            classes = {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["ham", "spam"])}
            numbers = numbers.cast(datasets.Features(classes))
        numbers.to_parquet(tmp_path / "hub" / "train.parquet")
    place = str(path) if path.exists() else f"hub:{tmp_path / 'hub'}"

    rows, source = sources.read(place, data.LABELS, {"0": "ham", "1": "spam"})

    assert rows == [Labelled("ham", "see you"), Labelled("spam", "win now")]
    assert source.left_out == LEFT_OUT
    assert "2 rows without a label, 1 without a text: left out" in source.warnings


def test_what_is_left_out_is_in_the_report(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text("ham\tsee you at seven\nspam\twin a prize now\n\tnobody knows\n")

    prepared = data.prepare(path)

    assert prepared.read == {"ham": 1, "spam": 1, "without a label": 1}
    assert prepared.dropped == {"without a label": 1}
    assert "dropped       1  without a label" in list(data.report(prepared))


def test_a_text_of_which_nothing_is_left_to_read_is_dropped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text("ham\tsee you at seven\nspam\twin a prize now\nspam\t\u200b\u2060\n", encoding="utf-8")

    prepared = data.prepare(path)

    assert [row.text for row in prepared.rows] == ["see you at seven", "win a prize now"]
    assert prepared.dropped == {"nothing to read": 1}


def test_a_label_that_says_nothing_elsewhere_is_one_where_the_map_names_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text("-1\tsee you\n1\twin\n")

    rows, source = sources.read(path, data.LABELS, sources.mapping("-1=ham,1=spam"))

    assert [row.label for row in rows] == ["ham", "spam"]
    assert not source.left_out


@pytest.mark.parametrize("name", ["rows.tsv", "rows.jsonl"])
def test_a_file_of_which_nothing_is_left_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("\thello\n" if name.endswith("tsv") else '{"label": null, "text": "hello"}\n')

    with pytest.raises(DataError, match="no rows with a label and a text in it"):
        sources.read(tmp_path / name, data.LABELS)
