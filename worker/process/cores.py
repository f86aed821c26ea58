"""How many processors this process may keep busy: those it may run on, and no more than a container's quota gives."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_GROUPS: Final = Path("/sys/fs/cgroup")
_OWN: Final = Path("/proc/self/cgroup")
# Of version 1 the hierarchy that has quotas; beside others it may be one with another's.
_CONTROLLER: Final = "cpu"


def available(own: Path = _OWN, groups: Path = _GROUPS) -> int:
    """Whole processors, at least one. `own` names this process's control groups, which lie below `groups`."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min([allowed, *_quotas(own, groups)])))


def _quotas(own: Path, groups: Path) -> Iterator[float]:
    """Processors by the quota of each group that it is in; infinite where one sets no bound (cgroups(7))."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if not controllers:  # the one hierarchy of version 2
            yield from map(_quota, _upwards(groups, name))
        elif _CONTROLLER in controllers.split(","):
            for hierarchy in {_CONTROLLER, controllers}:  # by either name, or by both
                yield from map(_quota_of_version_1, _upwards(groups / hierarchy, name))


def _upwards(hierarchy: Path, name: str) -> Iterator[Path]:
    """The group and all that it is in."""
    # Out of its namespace a group is named by `..`, and within a container the name may be the host's: the container's
    # own is then at the top.
    parts = [part for part in Path(name.strip("/")).parts if part != ".."]
    return (hierarchy.joinpath(*parts[:depth]) for depth in range(len(parts) + 1))


def _quota(group: Path) -> float:
    return _processors(_words(group / "cpu.max"))


def _quota_of_version_1(group: Path) -> float:
    return _processors(_words(group / "cpu.cfs_quota_us") + _words(group / "cpu.cfs_period_us"))


def _words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").split()
    except OSError:
        return []


def _processors(words: list[str]) -> float:
    """By quota and period, in microseconds; `max`, and in version 1 -1, is no bound."""
    try:
        quota, period = map(int, words)
        return quota / period if quota > 0 else math.inf
    except (ValueError, ZeroDivisionError):  # not there, `max`, or not as it is documented
        return math.inf
