"""The figures of a run, as a file: a list of {name, unit, value, range, extra}, which github-action-benchmark reads.

Nothing in `benchmarks/results` is typed by hand; tables and plots are made from these files.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from training import whole
from training.hardware import processor

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT: Final = Path(__file__).resolve().parent.parent
"""The checkout, where there is one."""
IS_CHECKOUT: Final = (ROOT / "pyproject.toml").is_file()
RESULTS: Final = ROOT / "benchmarks" / "results" if IS_CHECKOUT else Path("results")
"""In a checkout its own folder, of an installed wheel one where the command runs."""
COMMIT_VARIABLE: Final = "SOURCE_COMMIT"
"""Says which commit is measured where the history did not come along."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One figure. `range` is an interval or a spread in words or numbers; `extra` what else a reader needs."""

    name: str
    unit: str
    value: float
    range: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


def record(what: str, entries: Sequence[Entry], *, device: str | None = None, folder: Path = RESULTS) -> Path:
    """Write `<what>-<device>.json`, each entry stamped with device, commit, command and date; returns its path.

    `device` is the accelerator's name, or another machine's that the figures came from; none: this machine's processor.
    """
    device = device or processor()
    stamp = {"device": device, "commit": commit(), "command": command(), "date": _now()}
    rows = [
        {"name": e.name, "unit": e.unit, "value": e.value, "range": e.range, "extra": stamp | e.extra} for e in entries
    ]
    path = folder / f"{what}-{slug(device)}.json"
    whole.write(path, json.dumps(rows, indent=1) + "\n")
    return path


def load(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """Every entry of every file, in the files' order."""
    return [row for path in sorted(folder.glob("*.json")) for row in json.loads(path.read_text())]


def slug(device: str) -> str:
    """A device's name as part of a file's: lower-case letters, digits and dashes."""
    plain = "".join(letter if letter.isalnum() else "-" for letter in device.lower())
    return "-".join(part for part in plain.split("-") if part)


def commit() -> str:
    """The commit measured, `+` when the tree has changes beside it; `unknown` outside a checkout."""
    if given := os.environ.get(COMMIT_VARIABLE):
        return given
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if changed else "")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603, S607
    return done.stdout.strip()


def named(path: Path) -> str:
    """A results file as a page names it: by its place in the checkout if it lies there, else by its name alone."""
    return path.resolve().relative_to(ROOT).as_posix() if path.resolve().is_relative_to(ROOT) else path.name


def command() -> str:
    """The command line of this process, as one would type it in the project's folder."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    arguments = [argument.replace(f"{ROOT}/", "") for argument in sys.argv[1:]]
    if spec is None:
        return shlex.join(["python", Path(sys.argv[0]).name, *arguments])
    return shlex.join(["python", "-m", spec.name.removesuffix(".__main__"), *arguments])


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
