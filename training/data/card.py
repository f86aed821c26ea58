"""A run's data card: where its rows come from, how many were dropped and why, what each part of the split holds."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from training import whole
from training.data import clusters
from training.data import split as data

if TYPE_CHECKING:
    from pathlib import Path

    from training.data.split import PreparedRows
    from training.judge.evaluate import Parts

FILE: Final = "data.json"


def card(prepared: PreparedRows, parts: Parts, seed: int) -> dict[str, Any]:
    """Counts and digests as plain values; no text of any row."""
    own = sum(not row.borrowed for row in prepared.rows)
    return {
        "sources": [
            {"name": source.name, "sha256": source.digest, "warnings": list(source.warnings)}
            for source in prepared.sources
        ],
        "digest": prepared.digest,
        "read": dict(sorted(prepared.read.items())),
        "dropped": dict(sorted(prepared.dropped.items())),
        "refined": prepared.refined,
        "kept": dict(sorted(Counter(row.label for row in prepared.rows).items())),
        "borrowed": len(prepared.rows) - own,
        "clusters": prepared.clusters,
        "clusters-of-mixed-labels": prepared.mixed,
        "clustered": "exactly" if own <= clusters.EXACT_MOST else "by MinHash, each proposed pair checked",
        "split": seed,
        "parts": {
            name: {"rows": dict(sorted(Counter(row.label for row in rows).items())), "digest": data.digest(rows)}
            for name, rows in parts._asdict().items()
        },
        "left-out-near-test": len(prepared.rows) - sum(map(len, parts)),
    }


def write(prepared: PreparedRows, parts: Parts, seed: int, folder: Path) -> None:
    """Write it into the folder, whole or not at all."""
    text = msgspec.json.format(msgspec.json.encode(card(prepared, parts, seed)), indent=1).decode()
    whole.write(folder / FILE, text + "\n")
