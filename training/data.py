"""The honest split: read, mend, drop repeats, keep near-twins together; and a report of what was dropped and why.

A random split of the SMS Spam Collection leaks: half of its test spam has a near-twin in train. Here the unit that is
split is the cluster, not the message.
"""

from __future__ import annotations

import hashlib
import html
import random
import re
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

UCI: Final = Path(__file__).resolve().parent.parent / "data" / "uci" / "SMSSpamCollection"
LABELS: Final = ("ham", "spam")
TEST_SHARE: Final = 0.2
SIMILAR: Final = 0.7
_GRAM: Final = 5

# Bytes of Windows-1252 that were read as Latin-1: quotes, dashes, the euro sign. Five of the 32 mean nothing there.
_C1: Final = {code: bytes([code]).decode("cp1252", errors="ignore") or chr(code) for code in range(0x80, 0xA0)}
_WORD: Final = re.compile(r"\w+")
_DIGIT: Final = re.compile(r"\d")


class DataError(ValueError):
    """Rows that cannot be trained or judged on; the text names the file and line, never what it says."""


@dataclass(frozen=True, slots=True)
class Row:
    """A message and its label; `cluster` tells near-twins."""

    text: str
    label: str
    cluster: int = -1


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows without repeats, clustered; `dropped` counts what was left out, by reason; `digest` names the source."""

    rows: tuple[Row, ...]
    read: Counter[str]
    dropped: Counter[str]
    mixed: int
    digest: str

    @property
    def clusters(self) -> int:
        """How many groups of near-twins, most of them of one."""
        return len({row.cluster for row in self.rows})


@dataclass(frozen=True, slots=True)
class Split:
    """Train and test of one seed. No cluster is in both."""

    train: tuple[Row, ...]
    test: tuple[Row, ...]
    seed: int


def read(path: Path = UCI) -> list[Row]:
    """Read label, tab, text: one row a line, no quoting. Raises DataError naming the line."""
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        message = f"{path}: not UTF-8 at byte {error.start}; is this the damaged spam.csv? Use the collection itself"
        raise DataError(message) from None
    rows = []
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        label, tab, text = line.rstrip("\r").partition("\t")  # texts hold tabs and quotes: the first tab only
        if not tab or label not in LABELS:
            message = f"{path}:{number}: not `ham` or `spam`, a tab and a text"
            raise DataError(message)
        rows.append(Row(text, label))
    return rows


def mend(text: str) -> str:
    """Undo what the collection suffered: entities escaped up to twice, cp1252 read as Latin-1."""
    return html.unescape(html.unescape(text)).translate(_C1)


def key(text: str) -> str:
    """What makes two messages the same: NFKC, lower case, word tokens joined by one space."""
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).lower()))


def prepare(path: Path = UCI) -> Prepared:
    """Mend, drop repeats of a key, cluster near-twins. Raises DataError."""
    raw = read(path)
    kept: dict[str, Row] = {}
    dropped: Counter[str] = Counter()
    for row in raw:
        text = mend(row.text)
        name = key(text)
        if name not in kept:
            kept[name] = Row(text, row.label)
        else:
            is_same = kept[name].label == row.label
            dropped[f"repeat, {row.label}" if is_same else "repeat under another label"] += 1
    clusters = cluster(list(kept))
    rows = tuple(Row(row.text, row.label, each) for row, each in zip(kept.values(), clusters, strict=True))
    labels_of: defaultdict[int, set[str]] = defaultdict(set)
    for row in rows:
        labels_of[row.cluster].add(row.label)
    mixed = sum(len(labels) > 1 for labels in labels_of.values())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Prepared(rows, Counter(row.label for row in raw), dropped, mixed, digest)


def cluster(keys: Sequence[str]) -> list[int]:
    """Single linkage by Jaccard >= 0.7 over character 5-grams, digits as 0. Returns a cluster's number for each key.

    Exact: every pair that shares a gram is counted, by an inverted index.
    """
    parent = list(range(len(keys)))

    def root(at: int) -> int:
        while parent[at] != at:
            parent[at] = at = parent[parent[at]]
        return at

    holders: defaultdict[str, list[int]] = defaultdict(list)
    sizes: list[int] = []
    for at, name in enumerate(keys):
        grams = _grams(name)
        shared = Counter(other for gram in grams for other in holders[gram])
        for other, count in shared.items():
            if count >= SIMILAR * (len(grams) + sizes[other] - count):
                # The least index names a cluster, so that its name, and with it every split, is the same in every
                # process: sets of strings are walked in another order in each.
                one, two = root(at), root(other)
                parent[max(one, two)] = min(one, two)
        sizes.append(len(grams))
        for gram in grams:
            holders[gram].append(at)
    return [root(at) for at in range(len(keys))]


def _grams(name: str) -> set[str]:
    name = _DIGIT.sub("0", name)
    return {name[at : at + _GRAM] for at in range(len(name) - _GRAM + 1)} or {name}


def split(rows: Sequence[Row], seed: int, share: float = TEST_SHARE) -> Split:
    """Give whole clusters to test, class by class, in an order shuffled by the seed, until it holds `share` of each."""
    chosen: set[int] = set()
    generator = random.Random(seed)
    for label in sorted({row.label for row in rows}):
        of_label = [row for row in rows if row.label == label]
        members = Counter(row.cluster for row in of_label)
        order = sorted(members)
        generator.shuffle(order)
        held = 0
        for each in order:
            if held >= share * len(of_label):
                break
            held += members[each]
            chosen.add(each)
    train = tuple(row for row in rows if row.cluster not in chosen)
    test = tuple(row for row in rows if row.cluster in chosen)
    return Split(train, test, seed)


def hold_out(rows: Sequence[Row], seed: int, share: float) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Cut train once more, by clusters too: what to fit on, and a slice for calibration and choices."""
    again = split(rows, seed + 1_000_003, share)
    return again.train, again.test


def check(rows: Iterable[Row], *, least: int) -> None:
    """Raise DataError unless every class has `least` messages: a model of one class learns nothing."""
    counts = Counter(row.label for row in rows)
    poor = [label for label in (*LABELS, *sorted(set(counts) - set(LABELS))) if counts[label] < least]
    if poor:
        message = f"{poor[0]}: {counts[poor[0]]} messages, at least {least} are needed to learn it"
        raise DataError(message)


def digest(rows: Iterable[Row]) -> str:
    """Name these rows, in this order."""
    return hashlib.sha256("\0".join(f"{row.label}\t{row.text}" for row in rows).encode()).hexdigest()


def report(prepared: Prepared) -> Iterator[str]:
    """What was read, what was dropped and why, what is left; line by line."""
    yield f"read     {prepared.read.total():>6,}  " + _counts(prepared.read)
    for reason, count in sorted(prepared.dropped.items()):
        yield f"dropped  {count:>6,}  {reason}"
    yield f"kept     {len(prepared.rows):>6,}  " + _counts(Counter(row.label for row in prepared.rows))
    sizes = Counter(row.cluster for row in prepared.rows)
    spam = [row for row in prepared.rows if row.label != LABELS[0]]
    twins = sum(sizes[row.cluster] > 1 for row in spam)
    yield f"clusters {len(sizes):>6,}  largest {max(sizes.values())}, of mixed labels {prepared.mixed}"
    yield f"near-twins: {twins / len(spam):.0%} of the spam that is kept has one"


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{label} {count:,}" for label, count in sorted(counts.items()))
