"""Several sources without a leak; three labels without another split."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from training.data import split as data
from training.data.split import DataError

if TYPE_CHECKING:
    from pathlib import Path

FILLER = [
    f"message number {word} of no interest to anyone here {word}"
    for word in map(str.__mul__, "abcdefghij", range(3, 13))
]
PRIZE = "you have won a prize of 900 pounds, call 09061701461 now to claim it before friday"


@pytest.fixture(scope="module")
def alone() -> data.PreparedRows:
    return data.prepare()


def test_mendeley_adds_881_new_texts_and_none_of_them_is_a_repeat(alone: data.PreparedRows) -> None:
    new, _ = data.new_rows(data.MENDELEY, alone.rows, data.THREE)

    assert Counter(row.label for row in new) == {"ham": 462, "smishing": 276, "spam": 143}


def test_a_second_source_changes_no_test_row_and_puts_no_near_duplicate_of_one_into_train(
    alone: data.PreparedRows,
) -> None:
    merged = data.prepare(data.UCI, data.MENDELEY)

    for seed in range(3):
        split, before = data.split(merged.rows, seed), data.split(alone.rows, seed)
        assert [row.text for row in split.test] == [row.text for row in before.test]
        tested = {row.cluster for row in split.test}
        borrowed = [row for row in split.train if row.borrowed]
        assert len(borrowed) > 700
        assert all(tested.isdisjoint(row.near) for row in borrowed)
        families = data.cluster([data.key(row.text) for row in (*split.test, *borrowed)])
        assert set(families[: len(split.test)]).isdisjoint(families[len(split.test) :])


def test_a_borrowed_near_duplicate_of_a_held_out_row_is_in_no_part(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("".join(f"ham\t{text}\n" for text in FILLER) + f"spam\t{PRIZE}\n")
    second.write_text(f"spam\t{PRIZE} or never\nspam\tsomething else entirely, loans without a credit check\n")

    split = data.split(data.prepare(first, second).rows, 0)

    assert [row.text for row in split.test if row.label == "spam"] == [PRIZE]
    assert [row.text for row in split.train if row.label == "spam"] == [
        "something else entirely, loans without a credit check"
    ]


def test_three_labels_are_split_as_two_are_and_refined_by_key(alone: data.PreparedRows) -> None:
    three = data.prepare(labels=data.THREE, refine=data.MENDELEY)

    assert Counter(row.label for row in three.rows) == {"ham": 4501, "spam": 378, "smishing": 251}
    assert three.refined == 251
    for seed in range(3):
        test = data.split(three.rows, seed).test
        assert [row.text for row in test] == [row.text for row in data.split(alone.rows, seed).test]


def test_labels_that_contradict_each_other_are_refused_as_noise(tmp_path: Path) -> None:
    lines = [f"{'ham' if at % 2 else 'spam'}\t{text}\n" for at in range(2) for text in FILLER * 2]
    (tmp_path / "rows").write_text("".join(lines))

    with pytest.raises(DataError, match="label noise: 20 of 10"):
        data.prepare(tmp_path / "rows")
