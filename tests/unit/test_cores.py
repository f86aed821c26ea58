"""A worker counts the processors that it is given, not those that the machine has."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from worker.process import cores

if TYPE_CHECKING:
    from pathlib import Path

PODS = "kubepods.slice/pod-7.slice"


@pytest.fixture(autouse=True)
def _sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))


def available(folder: Path, group: str, bounds: dict[str, str]) -> int:
    """Of a process in this group, where these groups have these bounds."""
    own = folder / "cgroup"
    own.write_text(f"1:cpu:/elsewhere\n0::{group}\n")
    for name, bound in bounds.items():
        place = folder / "groups" / name
        place.mkdir(parents=True, exist_ok=True)
        (place / "cpu.max").write_text(bound)
    return cores.available(own, folder / "groups")


@pytest.mark.parametrize(
    ("group", "bounds", "expected"),
    [
        ("/", {}, 16),
        ("/", {"": "max 100000\n"}, 16),
        ("/", {"": "200000 100000\n"}, 2),
        ("/", {"": "250000 100000\n"}, 2),  # half a processor keeps nothing busy
        ("/", {"": "50000 100000\n"}, 1),
        ("/", {"": "6400000 100000\n"}, 16),
        (f"/{PODS}/c", {PODS: "400000 100000", f"{PODS}/c": "max 100000"}, 4),
        (f"/{PODS}/c", {PODS: "max 100000", f"{PODS}/c": "300000 100000"}, 3),
        (f"/{PODS}/c", {"": "200000 100000"}, 2),  # the name is the host's, the files are the container's
        ("/../../other", {"": "200000 100000", "other": "100000 100000"}, 1),
        ("/", {"": "what is this"}, 16),
        ("/", {"": "100000 0"}, 16),
        ("/", {"": ""}, 16),
    ],
)
def test_the_tightest_quota_of_all_the_groups_it_is_in_counts(
    tmp_path: Path, group: str, bounds: dict[str, str], expected: int
) -> None:
    assert available(tmp_path, group, bounds) == expected


def test_without_control_groups_it_is_what_it_may_run_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})

    assert cores.available(tmp_path / "none", tmp_path) == 2


@pytest.mark.parametrize("hierarchy", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({}, 16),
        ({"": ("-1", "100000")}, 16),
        ({"": ("250000", "100000")}, 2),
        ({"docker/c": ("-1", "100000"), "docker": ("300000", "100000")}, 3),
        ({"docker/c": ("50000", "50000")}, 1),
        ({"": ("200000", "100000")}, 2),  # the name is the host's, the files are the container's
        ({"": ("200000", "")}, 16),
        ({"": ("200000", "0")}, 16),
    ],
)
def test_the_first_version_of_control_groups_has_a_hierarchy_for_quotas(
    tmp_path: Path, hierarchy: str, bounds: dict[str, tuple[str, str]], expected: int
) -> None:
    own = tmp_path / "cgroup"
    own.write_text("9:name=systemd:/docker/c\n4:memory:/docker/c\n3:cpuset:/\n1:cpu,cpuacct:/docker/c\n0::/docker/c\n")
    for name, (quota, period) in bounds.items():
        place = tmp_path / "groups" / hierarchy / name
        place.mkdir(parents=True, exist_ok=True)
        (place / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        (place / "cpu.cfs_period_us").write_text(f"{period}\n")

    assert cores.available(own, tmp_path / "groups") == expected


def test_a_colon_in_a_groups_name_is_part_of_it(tmp_path: Path) -> None:
    assert available(tmp_path, "/a:b", {"a:b": "200000 100000"}) == 2
