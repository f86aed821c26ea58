"""How often the machine itself stands still, or runs at a crawl: what no worker on it can help.

    python -m benchmarks.hiccups [SECONDS]

Every two milliseconds a process that does nothing else does one small piece of work, always the same. A stretch in
which that takes several times as long as it can, or in which the process is not woken, is a hiccup: of the hypervisor,
the power supply or the neighbours, as long as there are processors to spare. After Gil Tene's jHiccup. Beside it stands
what the hypervisor itself says that it gave to others (proc(5), steal).
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

_LOOK: Final = "benchmarks.hiccups"
_TICK: Final = 0.002
_STEPS: Final = 1500
_SLOW: Final = 4.0
"""Times its shortest."""
_LATE: Final = 0.005
_LONG: Final = 0.01
_TRIALS: Final = 500


@dataclass(frozen=True, slots=True)
class Hiccups:
    """Of so many seconds, how many were in hiccups, how many of those there were, and the longest.

    `stolen_seconds` are of all processors together; None where the system does not say.
    """

    seconds: float
    hiccup_seconds: float
    hiccups: int
    longest_ms: float
    stolen_seconds: float | None


class Probe:
    """Looks on while it is open; `found` is what it saw, `stretches` when each longer hiccup began and ended.

    In Unix seconds, those of ten milliseconds and more.
    """

    found: Hiccups
    stretches: list[tuple[float, float]]

    def __enter__(self) -> Self:
        """Start to look."""
        command = [sys.executable, "-m", _LOOK]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 # ourselves
        return self

    def __exit__(self, *_: object) -> None:
        """Look no more."""
        said, _ = self._process.communicate()
        found, self.stretches = json.loads(said)
        self.found = Hiccups(**found)


def _work() -> float:
    began = time.perf_counter()
    for _ in range(_STEPS):
        pass
    return time.perf_counter() - began


def _stolen() -> float | None:
    try:
        steal = Path("/proc/stat").read_text(encoding="ascii").split(maxsplit=9)[8]
    except (OSError, IndexError):
        return None
    return int(steal) / os.sysconf("SC_CLK_TCK")


def look() -> tuple[Hiccups, list[tuple[float, float]]]:
    """Look until standard input ends; what was seen, and when the longer ones were."""
    shortest = min(_work() for _ in range(_TRIALS))
    stolen = _stolen()
    began = before = time.perf_counter()
    epoch = time.time() - began
    seen: list[tuple[float, float]] = []
    since = None
    while not select.select([sys.stdin], [], [], _TICK)[0]:
        is_slow = _work() > _SLOW * shortest
        now = time.perf_counter()
        if is_slow or now - before > _TICK + _LATE:
            since = before if since is None else since
        elif since is not None:
            seen.append((since, before))
            since = None
        before = now
    stolen = None if stolen is None else round((_stolen() or stolen) - stolen, 2)
    lasted = [ended - since for since, ended in seen]
    found = Hiccups(
        round(before - began, 3), round(sum(lasted), 3), len(seen), round(1000 * max(lasted, default=0.0), 1), stolen
    )
    return found, [(epoch + a, epoch + b) for a, b in seen if b - a >= _LONG]


if __name__ == "__main__":
    if sys.argv[1:]:
        with Probe() as probe_:
            time.sleep(float(sys.argv[1]))
        found_, long_ = probe_.found, probe_.stretches
    else:
        found_, long_ = look()
    print(json.dumps([asdict(found_), long_]))
