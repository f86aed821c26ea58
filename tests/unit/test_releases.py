"""A link is turned in one step, and back."""

from __future__ import annotations

import json
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


def back(link: Path, *, again: bool = False) -> Path | None:
    """As `hamgate back` does, with nothing to prove."""
    if (folder := releases.way_back(link, again=again)) is not None:
        releases.back(link, folder)
        assert link.resolve() == folder
    return folder


def test_back_is_to_the_one_before_the_last_use_however_often_it_is_said(tmp_path: Path, folders: list[Path]) -> None:
    link = tmp_path / "current"

    assert releases.use(link, folders[0]) is None
    assert releases.use(link, folders[1]) == folders[0]
    assert link.resolve() == folders[1]

    assert back(link) == folders[0]
    assert back(link) is None
    assert link.resolve() == folders[0]


def test_again_goes_further_as_far_as_is_known(tmp_path: Path, folders: list[Path]) -> None:
    link = tmp_path / "current"
    for folder in folders:
        releases.use(link, folder)

    assert back(link) == folders[1]
    assert back(link, again=True) == folders[0]
    with pytest.raises(releases.LinkError, match="there is no bundle to go back to"):
        back(link, again=True)
    assert back(link) is None


def test_what_was_left_by_going_back_is_not_come_back_to(tmp_path: Path, folders: list[Path]) -> None:
    one, bad, three = folders
    link = tmp_path / "current"
    releases.use(link, one)
    releases.use(link, bad)
    back(link)
    releases.use(link, three)

    assert back(link) == one


def test_the_one_in_force_chosen_once_more_after_going_back_is_the_last_chosen(
    tmp_path: Path, folders: list[Path]
) -> None:
    link = tmp_path / "current"
    for folder in folders:
        releases.use(link, folder)
    back(link)
    releases.use(link, folders[1])

    assert back(link) == folders[0]


def test_a_link_that_was_turned_by_hand_is_followed(tmp_path: Path, folders: list[Path]) -> None:
    one, two, three = folders
    link = tmp_path / "current"

    def turn(folder: Path) -> None:
        link.unlink(missing_ok=True)
        link.symlink_to(folder)

    turn(one)
    releases.use(link, two)
    turn(three)
    assert back(link) == two

    turn(one)  # which is further back than two
    assert back(link) is None


def test_what_an_older_version_kept_is_the_way_back(tmp_path: Path, folders: list[Path]) -> None:
    link = tmp_path / "current"
    link.symlink_to(folders[1])
    (tmp_path / "current.previous").symlink_to(folders[0])

    assert back(link) == folders[0]
    assert back(link) is None
    assert not (tmp_path / "current.previous").exists()


def test_of_those_further_back_what_is_gone_is_passed_over(tmp_path: Path, folders: list[Path]) -> None:
    link = tmp_path / "current"
    for folder in folders:
        releases.use(link, folder)
    folders[1].rmdir()

    with pytest.raises(releases.LinkError, match="no longer there; --again goes further back"):
        back(link)
    assert back(link, again=True) == folders[0]


def test_the_history_is_bounded(tmp_path: Path) -> None:
    link = tmp_path / "current"
    for number in range(50):
        (tmp_path / str(number)).mkdir()
        releases.use(link, tmp_path / str(number))

    assert len(json.loads((tmp_path / "current.history").read_text())["bundles"]) == 20
    assert back(link) == tmp_path / "48"


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b"\xff", b'{"bundles": [], "at": 0}', b'{"bundles": ["a"], "at": 7}']
)
def test_a_damaged_history_is_named_and_nothing_is_turned(content: bytes, tmp_path: Path, folders: list[Path]) -> None:
    link = tmp_path / "current"
    releases.use(link, folders[0])
    (tmp_path / "current.history").write_bytes(content)

    for turn in (lambda: releases.use(link, folders[1]), lambda: back(link)):
        with pytest.raises(releases.LinkError, match=r"current\.history cannot be read \(it is damaged\); delete it"):
            turn()
    assert link.resolve() == folders[0]


def test_the_same_again_does_not_forget_the_one_before(tmp_path: Path, folders: list[Path]) -> None:
    link = tmp_path / "current"
    releases.use(link, folders[0])
    releases.use(link, folders[1])
    releases.use(link, folders[1])

    assert back(link) == folders[0]


def test_without_one_before_there_is_no_way_back(tmp_path: Path, folders: list[Path]) -> None:
    with pytest.raises(releases.LinkError, match="there is no bundle to go back to"):
        back(tmp_path / "current")
    releases.use(tmp_path / "current", folders[0])
    with pytest.raises(releases.LinkError, match="there is no bundle to go back to"):
        back(tmp_path / "current")


def test_a_way_back_that_is_gone_is_told_and_nothing_is_turned(tmp_path: Path, folders: list[Path]) -> None:
    link = tmp_path / "current"
    releases.use(link, folders[0])
    releases.use(link, folders[1])
    folders[0].rmdir()

    with pytest.raises(releases.LinkError, match="no longer there"):
        back(link)
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
    for _ in range(2):
        assert main(["back", *flags]) == 0
        assert link.resolve() == bundles.NANO
    assert "back since the last `hamgate use`; --again goes further" in capsys.readouterr().out


def test_a_bundle_that_no_longer_verifies_is_not_gone_back_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link, before = tmp_path / "current", bundles.copy(tmp_path / "before")
    releases.use(link, before)
    releases.use(link, bundles.NANO)
    (before / "tokenizer" / "tokenizer.json").write_text("{}")

    assert main(["back", "--bundle", str(link), "--threads", "1"]) == 1

    assert "tokenizer/tokenizer.json" in capsys.readouterr().err
    assert link.resolve() == bundles.NANO
