"""What a teacher says of messages: written and read back, mixed with labels, drawn anew for every epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from training.data import mixture, taught
from training.data import split as data
from training.data.split import Row
from training.data.taught import Told
from training.fit import epochs, recipe

if TYPE_CHECKING:
    from pathlib import Path

ROWS = (Row("Your code is 4471", "ham"), Row("Pay the fee at once", "spam"), Row("see you at six", "ham"))


MESSAGES = (("call me back", Told(3.0)), ("lunch?", Told(-1.5)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    taught.write([(ROWS[0], Told(-3.0)), (ROWS[1], Told(1.5))], MESSAGES, tmp_path)
    return tmp_path


def test_a_row_that_the_teacher_knows_is_learnt_by_both_and_another_by_its_label(folder: Path) -> None:
    ham, spam, unknown = taught.soften(ROWS, folder)
    assert ham.spam == pytest.approx(0.7 / (1 + 2.718281828**2))
    assert spam.spam == pytest.approx(0.7 / (1 + 2.718281828**-1) + 0.3)
    assert unknown.spam is None


def test_unlabelled_messages_have_the_teachers_probability(folder: Path) -> None:
    first, second = taught.unlabelled(folder)
    assert (first.text, second.text) == ("call me back", "lunch?")
    assert first.spam == pytest.approx(1 / (1 + 2.718281828**-2))
    assert second.spam == pytest.approx(1 / (1 + 2.718281828))


def test_the_same_is_written_as_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    taught.write([(ROWS[1], Told(1.5)), (ROWS[0], Told(-3.0))], MESSAGES, again)
    for name in ("rows.tsv.gz", "messages.tsv.gz"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_a_damaged_file_is_named(folder: Path) -> None:
    (folder / "messages.tsv.gz").write_bytes(b"nonsense")
    with pytest.raises(data.DataError, match=r"messages\.tsv\.gz: cannot be read"):
        taught.unlabelled(folder)


def test_each_text_has_its_own_state(tmp_path: Path) -> None:
    rows = [(ROWS[0], Told(-3.0, b"\x01\xff")), (ROWS[1], Told(1.5, b"\x02\xfe"))]
    taught.write(
        rows[::-1], [(text, Told(told.odds, bytes([at, 9]))) for at, (text, told) in enumerate(MESSAGES)], tmp_path
    )
    assert [row.state for row in taught.soften(ROWS, tmp_path)] == [b"\x01\xff", b"\x02\xfe", b""]
    assert [row.state for row in taught.unlabelled(tmp_path)] == [b"\x00\x09", b"\x01\x09"]


@pytest.mark.parametrize("damaged", [b"", b"nonsense"])
def test_states_that_cannot_be_read_are_named(folder: Path, damaged: bytes) -> None:
    (folder / "states.npy").write_bytes(damaged)
    with pytest.raises(data.DataError, match=r"states\.npy: cannot be read"):
        taught.soften(ROWS, folder)


def test_states_of_more_texts_or_fewer_are_refused(tmp_path: Path) -> None:
    told = [(text, Told(odds, b"\x02")) for text, (odds, _) in MESSAGES]
    taught.write([(ROWS[0], Told(-3.0, b"\x01"))], told[:1], tmp_path / "one")
    taught.write([(ROWS[0], Told(-3.0, b"\x01"))], told, tmp_path / "other")
    (tmp_path / "one" / "states.npy").write_bytes((tmp_path / "other" / "states.npy").read_bytes())
    with pytest.raises(data.DataError, match=r"states\.npy: not a row of bytes for each of the 2 texts"):
        taught.soften(ROWS, tmp_path / "one")


def test_texts_with_and_without_a_state_are_not_written_together(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unpack"):
        taught.write([(ROWS[0], Told(-3.0, b"\x01"))], MESSAGES, tmp_path)


@pytest.mark.long
def test_what_is_shipped_tells_nothing_of_test_rows_nor_of_uci() -> None:
    parts = mixture.cut(mixture.read(), 0)
    told = taught.soften((*parts.fit, *parts.calibration, *parts.test))
    known = {(row.source, part) for part, rows in parts._asdict().items()
             for row in told[_start(parts, part) :][: len(rows)] if row.spam is not None}  # fmt: skip
    assert known == {("mendeley", "fit"), ("modern", "fit")}
    keys = {data.key(row.text) for row in (*parts.calibration, *parts.test)}
    assert not [row for row in taught.unlabelled() if data.key(row.text) in keys]


def _start(parts: mixture.MixtureParts, part: str) -> int:
    sizes = [len(rows) for rows in parts]
    return sum(sizes[: parts._fields.index(part)])


def test_each_epoch_draws_its_own_messages_the_same_for_a_seed() -> None:
    fit = msgspec.structs.replace(recipe.load(recipe.RECIPES / "nano.toml").fit, taught=3)
    more = [Row(f"message {number}", "ham", spam=number / 40) for number in range(40)]
    drawn = [[row.spam for row in rows] for rows, _ in epochs.in_turn(ROWS, more, fit, 0, range(3))]
    again = [[row.spam for row in rows] for rows, _ in epochs.in_turn(ROWS, more, fit, 0, range(3))]
    assert drawn == again
    assert all(len(each) == epochs.size(ROWS, more, fit) == 6 for each in drawn)
    assert len({tuple(each[3:]) for each in drawn}) == 3
