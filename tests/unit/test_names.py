"""One name, one meaning: no class name stands twice in the two packages."""

from __future__ import annotations

from tests.measures import ROOT, class_names_twice


def test_no_class_name_is_defined_twice() -> None:
    assert class_names_twice(ROOT) == {}
