"""The long form of the fuzz: a million cases, or as many as asked. `make fuzz`.

python -m tests.fuzz.run [--cases 1000000] [--first 0]
"""

from __future__ import annotations

import argparse
import sys
import time

from rich.console import Console
from rich.progress import track

from tests.fuzz.cases import case
from tests.fuzz.path import FindingError, Path
from training import results

_TOGETHER = 250


def main() -> int:
    """Fuzz, print, record."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__)
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--first", type=int, default=0, help="the first one's number")
    options = parser.parse_args()
    path, findings, began = Path(), [], time.perf_counter()
    ends = range(options.first, options.first + options.cases, _TOGETHER)
    for at in track(ends, "cases", console=Console(stderr=True)):
        try:
            path.pass_through([case(number) for number in range(at, at + _TOGETHER)])
        except FindingError as finding:
            findings.append(str(finding))
    extra = {
        "cases": options.cases, "first": options.first, "seconds": round(time.perf_counter() - began, 1),
        "outcomes": dict(sorted(path.counted.items())), "found": findings[:20],
        "slowest_share_of_bound": round(path.slowest, 3), "dearest_ms": round(1000 * path.dearest, 2),
    }  # fmt: skip
    made = results.record("fuzz", [results.Entry("fuzz/findings", "cases", len(findings), extra=extra)])
    print(made.read_text())  # noqa: T201 the answer
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
