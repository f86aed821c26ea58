"""What `python -m training compare --out` says of two bundles on the same rows: a file beside the candidate.

The console shows it. Figures of two bundles that were judged on different rows say little; these are of the same ones.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

SUFFIX: Final = ".comparison.json"
_MOST_BYTES: Final = 1 << 18
_MOST_SETS: Final = 100


class PairedFigures(msgspec.Struct, frozen=True):
    """One set of rows: F1 of the candidate less F1 of the other, with its interval of 95 %; and who alone is right."""

    rows: str
    verdict: str
    difference: float
    low: float
    high: float
    only_candidate: int
    only_other: int
    p: float


class PairedBundles(msgspec.Struct, frozen=True):
    """All sets. The two are named as in verdicts, name@digest; `held_out` is the digest of the rows."""

    candidate: str
    other: str
    held_out: str
    rows: int
    made_at: str
    sets: tuple[PairedFigures, ...]


def beside(bundle: Path) -> Path:
    """Where the comparison of a bundle's folder lies: beside it, since no digest of the bundle covers it."""
    return bundle.with_name(f"{bundle.name}{SUFFIX}")


def written(found: PairedBundles) -> bytes:
    """As JSON for people to read, too."""
    return msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n"


def read(path: Path) -> PairedBundles | None:
    """Read a comparison; None where there is none. Raises ValueError where it is none, saying why."""
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > _MOST_BYTES:
            message = f"larger than {_MOST_BYTES:,} bytes"
            raise ValueError(message)
        found = msgspec.json.decode(path.read_bytes(), type=PairedBundles)
    except OSError as error:
        raise ValueError(error.strerror) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        message = "not as `python -m training compare --out` writes it"
        raise ValueError(message) from None
    if len(found.sets) > _MOST_SETS or not all(math.isfinite(each.difference) for each in found.sets):
        message = "its figures are no numbers, or too many"
        raise ValueError(message)
    return found
