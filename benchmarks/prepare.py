"""A million messages made ready for training: read, repaired, de-duplicated, clustered; seconds and memory.

The messages are made of the shipped collection's: pieces of two of them together; a third is a near-duplicate of one
before it (other digits, a word changed) and a tenth a repeat. Beside it: MinHash's clusters of the collection itself
against the exact ones.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from training.data import clusters
from training.data import split as data
from training.fit.screen import steps
from training.results import Entry, record

if TYPE_CHECKING:
    from collections.abc import Iterator


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    equal = agreement()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.tsv"
        with path.open("w", encoding="utf-8") as opened:
            opened.writelines(f"{label}\t{text}\n" for label, text in made(rows, random.Random(1)))
        marks: dict[str, float] = {}

        def timed(phase: str, done: int, total: int) -> None:
            marks.setdefault(phase, time.monotonic())
            show(phase, done, total)

        start = time.monotonic()
        with steps() as show:
            prepared = data.prepare(path, progress=timed)
        end = time.monotonic()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    sizes = Counter(Counter(row.cluster for row in prepared.rows).values())
    seen = {"rows": rows, "kept": len(prepared.rows), "clusters": prepared.clusters, "largest": max(sizes)}
    clustering = end - marks.get("hashing", end)
    entries = [
        Entry("data/prepare/seconds", "s", round(end - start, 1), extra=seen),
        Entry("data/cluster/seconds", "s", round(clustering, 1), extra=seen),
        Entry("data/prepare/peak-gib", "GiB", round(peak, 2), extra=seen),
        Entry("data/minhash-equal-to-exact", "share", round(equal, 5), extra={"rows": "the shipped collection's"}),
    ]
    for entry in entries:
        print(f"{entry.name:<30} {entry.value:>9} {entry.unit}")
    print(record("prepare", entries))


def agreement() -> float:
    """The share of the collection's rows whose cluster is the same by MinHash as by counting."""
    keys = [data.key(row.text) for row in data.prepare().rows]
    pairs = zip(clusters.exact(keys), clusters.by_minhash(keys), strict=True)
    return sum(one == other for one, other in pairs) / len(keys)


def made(count: int, dice: random.Random) -> Iterator[tuple[str, str]]:
    """Label and text of `count` messages."""
    collection = [(row.label, row.text.split()) for row in data.prepare().rows]
    recent: list[tuple[str, list[str]]] = []
    for _ in range(count):
        throw = dice.random()
        if recent and throw < 0.1:  # noqa: PLR2004 a tenth, a third: as the docstring says
            label, words = dice.choice(recent)
        elif recent and throw < 0.43:  # noqa: PLR2004
            label, words = dice.choice(recent)
            words = [_other_digits(word, dice) for word in words]
            words[dice.randrange(len(words))] = dice.choice(dice.choice(collection)[1])
        else:
            (label, first), (_, second) = dice.choice(collection), dice.choice(collection)
            words = first[: dice.randint(2, 30)] + second[-dice.randint(2, 30) :]
            recent.append((label, words))
            recent = recent[-5000:]
        yield label, " ".join(words)


def _other_digits(word: str, dice: random.Random) -> str:
    return "".join(str(dice.randint(0, 9)) if letter.isdigit() else letter for letter in word)


if __name__ == "__main__":
    main()
