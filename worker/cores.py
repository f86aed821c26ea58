"""How many processors this process may keep busy: those it may run on, and no more than a container's quota gives."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Final

_GROUPS: Final = Path("/sys/fs/cgroup")
_OWN: Final = Path("/proc/self/cgroup")
# How the line of the one hierarchy of version 2 begins.
_UNIFIED: Final = "0::"


def available(own: Path = _OWN, groups: Path = _GROUPS) -> int:
    """Whole processors, at least one. `own` names this process's control group, which lies below `groups`."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min(allowed, _quota(own, groups))))


def _quota(own: Path, groups: Path) -> float:
    """Processors by `cpu.max` of the group and of all that it is in; infinite where none sets a bound."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return math.inf
    names = [line.removeprefix(_UNIFIED).strip("/") for line in lines if line.startswith(_UNIFIED)]
    # Out of its namespace a group is named by `..`, and within a container the name may be the host's: the container's
    # own is then at the top.
    parts = [part for name in names for part in Path(name).parts if part != ".."]
    return min(_bound(groups.joinpath(*parts[:depth]) / "cpu.max") for depth in range(len(parts) + 1))


def _bound(file: Path) -> float:
    try:
        quota, period = file.read_text(encoding="utf-8").split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # not there, or not as it is documented
        return math.inf
