"""The comparison of two bundles as a file beside the candidate: it is read as written, and what is none is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from worker.rollout import paired
from worker.rollout.paired import PairedBundles, PairedFigures

if TYPE_CHECKING:
    from pathlib import Path

FIGURES = PairedFigures("clean", "better", 0.02, 0.01, 0.03, 9, 1, 0.02)
FOUND = PairedBundles("next@0123456789ab", "nano@ba9876543210", "0" * 64, 500, "2026-01-31T08:00:00Z", (FIGURES,))


def test_what_is_written_is_read_beside_the_bundle(tmp_path: Path) -> None:
    place = paired.beside(tmp_path / "next")
    assert place == tmp_path / "next.comparison.json"
    assert paired.read(place) is None

    place.write_bytes(paired.written(FOUND))

    assert paired.read(place) == FOUND


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[" * 100_000, b"\xff", b"x" * (1 << 19), paired.written(FOUND).replace(b"0.02", b"1e999", 1),
     paired.written(FOUND).replace(b'"rows": 500', b'"rows": "many"')],
)  # fmt: skip
def test_what_is_no_comparison_is_refused_with_a_reason(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.comparison.json").write_bytes(content)

    with pytest.raises(ValueError, match=r"larger|writes it|no numbers"):
        paired.read(tmp_path / "x.comparison.json")
