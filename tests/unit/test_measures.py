"""How hard the project is to enter: what has been reached stays reached."""

from __future__ import annotations

import pytest

from tests.measures import PACKAGES, ROOT, class_names_twice, first_file, imports, knots, levels, rooms

LEVELS = 8
LINES = 220


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert knots(imports(ROOT)) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_between_rooms_point_one_way_over_few_levels(package: str) -> None:
    graph = rooms(ROOT, package)

    assert knots(graph) == []
    assert levels(graph) <= LEVELS


def test_the_pipelines_first_file_is_short_and_sums_nothing_up() -> None:
    text = first_file(ROOT).read_text()

    assert first_file(ROOT) == ROOT / "worker" / "pipeline" / "stages.py"
    assert len(text.splitlines()) <= LINES
    assert "worker.metrics" not in text
    assert "metrics." not in text


def test_each_class_name_is_defined_once() -> None:
    assert class_names_twice(ROOT) == {}


def test_a_cycle_is_found_and_counts_as_one_level() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set[str]()}

    assert knots(graph) == [["b", "c"]]
    assert levels(graph) == 3


def goals_of_documents() -> dict[str, int]:
    """The goals that documents are to reach, by their names in `measures`; no test asserts them yet."""
    return {
        "longest line of documents": 120,
        "longest paragraph of documents": 700,
        "words a sentence, p90": 30,
        "a decision's page": 2000,
    }
