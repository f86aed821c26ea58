"""A link is turned in one step, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import bundles
from worker.__main__ import main
from worker.rollout import link as releases

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    made = [tmp_path / name for name in ("one", "two", "three")]
    for folder in made:
        folder.mkdir()
    return made


def test_back_and_forth(tmp_path: Path, folders: list[Path]) -> None:
    link = tmp_path / "current"

    assert releases.use(link, folders[0]) is None
    assert releases.use(link, folders[1]) == folders[0]
    assert link.resolve() == folders[1]

    assert releases.back(link) == folders[0] == link.resolve()
    assert releases.back(link) == folders[1] == link.resolve()


def test_the_same_again_does_not_forget_the_one_before(tmp_path: Path, folders: list[Path]) -> None:
    link = tmp_path / "current"
    releases.use(link, folders[0])
    releases.use(link, folders[1])
    releases.use(link, folders[1])

    assert releases.back(link) == folders[0]


def test_without_one_before_there_is_no_way_back(tmp_path: Path, folders: list[Path]) -> None:
    with pytest.raises(releases.LinkError, match="there is no bundle to go back to"):
        releases.back(tmp_path / "current")
    releases.use(tmp_path / "current", folders[0])
    with pytest.raises(releases.LinkError, match="there is no bundle to go back to"):
        releases.back(tmp_path / "current")


def test_a_way_back_that_is_gone_is_told_and_nothing_is_turned(tmp_path: Path, folders: list[Path]) -> None:
    link = tmp_path / "current"
    releases.use(link, folders[0])
    releases.use(link, folders[1])
    folders[0].rmdir()

    with pytest.raises(releases.LinkError, match="no longer there"):
        releases.back(link)
    assert link.resolve() == folders[1]


def test_a_folder_is_not_turned(folders: list[Path]) -> None:
    with pytest.raises(releases.LinkError, match="a folder, not a link"):
        releases.use(folders[0], folders[1])


def test_a_bundle_is_proven_before_the_link_is_turned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link = tmp_path / "current"
    flags = ["--bundle", str(link), "--threads", "1"]
    assert main(["use", str(bundles.NANO), *flags]) == 0
    worse = bundles.flipped(tmp_path / "worse", canaries=[])

    assert main(["use", str(worse), *flags]) == 1
    assert "which is in force" in capsys.readouterr().err
    assert link.resolve() == bundles.NANO

    assert main(["use", str(bundles.reissued(tmp_path / "reissued")), *flags]) == 0
    assert link.resolve() == tmp_path / "reissued"
    assert main(["back", *flags]) == 0
    assert link.resolve() == bundles.NANO
