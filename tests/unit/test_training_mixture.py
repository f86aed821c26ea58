"""Three collections in one split: nothing of a test row's cluster is learnt from, and UCI's test stays its own."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import pytest

from training.data import mixture, modern
from training.data import split as data

if TYPE_CHECKING:
    from training.data.mixture import MixtureParts, Sourced


@pytest.fixture(scope="module")
def rows() -> tuple[Sourced, ...]:
    return mixture.read()


@pytest.fixture(scope="module")
def parts(rows: tuple[Sourced, ...]) -> MixtureParts:
    return mixture.cut(rows, 0)


def test_every_collection_is_read_and_no_text_twice(rows: tuple[Sourced, ...]) -> None:
    counts = Counter(row.source for row in rows)
    names = [name for row in rows if (name := data.key(row.text))]

    assert counts["uci"] == len(data.prepare().rows)
    assert counts["mendeley"] > 500
    assert len(modern.read()) - 100 <= counts["modern"] <= len(modern.read())
    assert len(names) == len(set(names))
    assert {row.label for row in rows} == set(data.LABELS)
    assert all((row.label == "ham") == (row.truth == "ham") for row in rows)


def test_a_modern_row_says_what_it_is_and_another_does_not(rows: tuple[Sourced, ...]) -> None:
    assert all(row.kind and row.sender and row.language and row.voice for row in mixture.of(rows, "modern"))
    assert not any(row.kind or row.sender for row in rows if row.source != "modern")


def test_no_cluster_or_group_is_in_two_parts(parts: MixtureParts) -> None:
    for name in ("cluster", "group"):
        seen: defaultdict[object, set[str]] = defaultdict(set)
        for part, members in parts._asdict().items():
            for row in members:
                if mark := getattr(row, name):
                    seen[mark].add(part)
        assert all(len(where) == 1 for where in seen.values())


def test_the_uci_rows_of_test_are_those_of_its_honest_split(parts: MixtureParts) -> None:
    alone = data.split(data.prepare().rows, 0).test

    assert [row.text for row in mixture.of(parts.test, "uci")] == [row.text for row in alone]


def test_each_collection_gives_a_fifth_of_each_label_to_test_and_a_tenth_of_the_rest_to_calibration(
    rows: tuple[Sourced, ...], parts: MixtureParts
) -> None:
    def count(some: tuple[Sourced, ...], source: str, label: str) -> int:
        return sum(row.source == source and row.label == label for row in some)

    for source in mixture.SOURCES:
        for label in data.LABELS:
            whole, test = count(rows, source, label), count(parts.test, source, label)
            assert test / whole == pytest.approx(0.2, abs=0.04)
            assert count(parts.calibration, source, label) / (whole - test) == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("number", range(1, len(modern.ROUNDS)))
def test_a_later_round_changes_no_other_rows_side(rows: tuple[Sourced, ...], parts: MixtureParts, number: int) -> None:
    alone = mixture.cut([row for row in rows if mixture.round_of(row) < number], 0)

    for name, members in parts._asdict().items():
        assert tuple(row for row in members if mixture.round_of(row) < number) == getattr(alone, name)
        assert any(mixture.round_of(row) == number for row in members)


def test_a_later_row_near_an_earlier_one_is_of_its_cluster_and_tests_nothing(
    rows: tuple[Sourced, ...], parts: MixtureParts
) -> None:
    near = {row for row in rows if row.near}
    held = {row.cluster for row in (*parts.calibration, *parts.test)}

    assert near
    assert all(row.borrowed and row.cluster in row.near for row in near)
    for row in near:
        assert set(row.near) <= {other.cluster for other in rows if mixture.round_of(other) < mixture.round_of(row)}
    assert near.isdisjoint((*parts.calibration, *parts.test))
    assert all(held.isdisjoint((row.cluster, *row.near)) for row in parts.fit)


def test_a_kind_is_left_out_by_label_and_kind(rows: tuple[Sourced, ...]) -> None:
    left = mixture.without(rows, {"smishing/toll", "ham/otp-login"})

    gone = {(row.truth, row.kind) for row in set(rows) - set(left)}
    assert gone == {("smishing", "toll"), ("ham", "otp-login")}
    assert len(mixture.of(left, "uci")) == len(mixture.of(rows, "uci"))


def test_the_digest_names_rows_in_their_order(rows: tuple[Sourced, ...]) -> None:
    assert mixture.digest(rows[:5]) == mixture.digest(list(rows[:5])) != mixture.digest(rows[4::-1])
