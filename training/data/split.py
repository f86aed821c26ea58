"""The honest split: read, repair, drop repeats, keep near-duplicates together; and report what was dropped and why.

A random split of the SMS Spam Collection leaks: half its test spam has a near-duplicate in train. Here the unit that is
split is the cluster, not the message. Where several sources are given, the first one is split, as if it were alone;
rows of the others are only learnt from, and only those that are no near-duplicates of what is tested.
"""

from __future__ import annotations

import hashlib
import html
import random
import re
import string
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from training.data import sources
from training.data.clusters import cluster, joined, silent
from training.data.columns import Columns, DataError
from worker.model.normalise import normalise

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from training.data.clusters import PhaseCallback
    from training.data.sources import Labelled, RowSource

__all__ = ["DataError", "cluster"]

_TRAINING: Final = Path(__file__).resolve().parents[1]
_INSTALLED: Final = _TRAINING / "shipped" / "data"
DATA: Final = _INSTALLED if _INSTALLED.is_dir() else _TRAINING.parent / "data"
"""The shipped collections: in an installed package, else in the checkout."""
UCI: Final = DATA / "uci" / "SMSSpamCollection"
MENDELEY: Final = DATA / "mendeley" / "Dataset_5971.csv"
LABELS: Final = ("ham", "spam")
THREE: Final = ("ham", "spam", "smishing")
TEST_SHARE: Final = 0.2
_NOISE: Final = 0.02
"""The share of messages under contradicting labels above which labels are not to be learnt from: UCI has none."""

# Bytes of Windows-1252 that were read as Latin-1: quotes, dashes, the euro sign. Five of the 32 mean nothing there.
_C1: Final = {code: bytes([code]).decode("cp1252", errors="ignore") or chr(code) for code in range(0x80, 0xA0)}
_LAST_MARK: Final = 0x1FFFF
"""What is beyond it of Unicode's marks are variation selectors."""
_PUNCTUATION: Final = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class Row:
    """A message and its label; `cluster` tells near-duplicates within the first source.

    A row of another source is `borrowed`; `near` are the clusters of the first source that it is a near-duplicate of.
    In a mixture, so is a row of a later voice that is near an earlier one.
    Rows of one `group`, which a source may name, are in one cluster whether they are alike or not. `source` and `kind`
    say where it is from and what it is, where that is known.
    `spam` is a teacher's probability of spam, in [0, 1]: a row that has one is learnt by it, not by its label.
    `state` is what the teacher made of the text, a byte a value (`batches.STATE_UNIT`); none where it has not seen it.
    """

    text: str
    label: str
    cluster: int = -1
    borrowed: bool = False
    near: tuple[int, ...] = ()
    group: str = ""
    spam: float | None = None
    state: bytes = field(default=b"", repr=False)
    source: str = field(default="", compare=False)
    kind: str = field(default="", compare=False)

    def is_of(self, clusters: Collection[int]) -> bool:
        """Whether the row is in one of these clusters, or near one."""
        return self.cluster in clusters or any(each in clusters for each in self.near)


@dataclass(frozen=True, slots=True)
class PreparedRows:
    """Rows without repeats, clustered; `dropped` counts what was left out, by reason; `digest` names the sources."""

    rows: tuple[Row, ...]
    read: Counter[str]
    dropped: Counter[str]
    mixed: int
    digest: str
    sources: tuple[RowSource, ...] = ()
    refined: int = 0

    @property
    def clusters(self) -> int:
        """Number of groups of near-duplicates, most of them of one message."""
        return len({row.cluster for row in self.rows})


@dataclass(frozen=True, slots=True)
class Split:
    """Train and test of one seed. No cluster is in both."""

    train: tuple[Row, ...]
    test: tuple[Row, ...]
    seed: int


def repair(text: str) -> str:
    """Undo what the collection suffered: entities escaped up to twice, cp1252 read as Latin-1."""
    return html.unescape(html.unescape(text)).translate(_C1)


def key(text: str) -> str:
    """Return the text in which equal messages are equal: NFKC, lower case, word tokens joined by one space.

    A mark, such as a vowel sign, is a part of its word. A text without words is its emoji and signs, without spaces,
    punctuation of ASCII and what is not seen: smileys of punctuation alone are all one.
    """
    plain = unicodedata.normalize("NFKC", text).lower()
    words = _word().findall(plain)
    if words:
        return " ".join(words)
    signs = "".join(plain.translate(_PUNCTUATION).split())
    return "".join(sign for sign in signs if unicodedata.category(sign) not in {"Mn", "Cf"})


@cache
def _word() -> re.Pattern[str]:
    r"""A letter, digit or underscore, and what follows of these and of marks, which are not in \w."""
    codes = (code for code in range(_LAST_MARK + 1) if not 0xFE00 <= code <= 0xFE0F)  # noqa: PLR2004 -- selectors
    marks = "".join(each for each in map(chr, codes) if unicodedata.category(each) in {"Mn", "Mc", "Me"})
    return re.compile(rf"\w[\w{re.escape(marks)}]*")


def prepare(
    *places: Path | str,
    labels: Sequence[str] = LABELS,
    renamed: Mapping[str, str] | None = None,
    refine: Path | str | None = None,
    columns: Columns = Columns(),  # noqa: B008 -- a value
    progress: PhaseCallback = silent,
) -> PreparedRows:
    """Read, repair, drop repeats, cluster near-duplicates. Without a place: the shipped UCI set. Raises DataError.

    `refine` is a source that only tells a finer label (smishing) for spam that is read from the others. `columns` are
    those of the first source; where another has not these, the usual ones are taken.
    """
    found = [
        sources.read(place, labels, renamed, columns._replace(falls_back=number > 0))
        for number, place in enumerate(places or (UCI,))
    ]
    kept: dict[str, Row] = {}
    dropped: Counter[str] = Counter()
    for number, (labelled, origin) in enumerate(found):
        progress("repairing", number + 1, len(found))
        _merge(labelled, kept, dropped, borrowed=number > 0, source=origin.name)
    if not kept:
        message = f"no rows left: nothing to read is in any of the {dropped.total():,} texts"
        raise DataError(message)
    read = Counter(row.label for labelled, _ in found for row in labelled)
    origins = [source for _, source in found]
    for source in origins:
        read += Counter(source.left_out)
        dropped += Counter(source.left_out)
    refined = 0
    if refine:
        finer, source = sources.read(refine, labels, renamed, columns._replace(falls_back=True))
        refined = _refine(kept, finer, labels)
        origins.append(source)
    rows = _clustered(kept, progress)
    labels_of: defaultdict[int, set[str]] = defaultdict(set)
    for row in rows:
        labels_of[row.cluster].add("ham" if row.label == LABELS[0] else "spam")
    mixed = sum(len(sides) > 1 for sides in labels_of.values())
    noise = dropped["repeat under another label"] + mixed
    if noise > max(LEAST_NOISE, _NOISE * len(rows)):
        message = (
            f"label noise: {noise} of {len(rows)} messages stand, as repeats or near-duplicates, under ham and under "
            "another label; correct the labels before judging by them"
        )
        raise DataError(message)
    return PreparedRows(rows, read, dropped, mixed, _digest_of(origins), tuple(origins), refined)


LEAST_NOISE: Final = 10
"""So many contradictions are no noise, however few the rows."""


def new_rows(
    place: Path | str,
    than: Iterable[Row],
    labels: Sequence[str],
    renamed: Mapping[str, str] | None = None,
    columns: Columns = Columns(),  # noqa: B008 -- a value
) -> tuple[tuple[Row, ...], RowSource]:
    """The rows of a source whose key none of `than` has, without repeats: a test set from outside. Raises DataError."""
    known = {key(row.text) for row in than}
    kept: dict[str, Row] = {}
    found, origin = sources.read(place, labels, renamed, columns._replace(falls_back=True))
    _merge(found, kept, Counter(), borrowed=False)
    return tuple(row for name, row in kept.items() if name not in known), origin


def _merge(
    rows: Iterable[Labelled], kept: dict[str, Row], dropped: Counter[str], *, borrowed: bool, source: str = ""
) -> None:
    for row in rows:
        text = repair(row.text)
        if not normalise(text):  # signs that are not seen, and nothing else
            dropped["nothing to read"] += 1
            continue
        name = key(text)
        if name not in kept:
            kept[name] = Row(text, row.label, borrowed=borrowed, group=row.group, source=source)
        else:
            is_same = (kept[name].label == LABELS[0]) == (row.label == LABELS[0])
            dropped[f"repeat, {row.label}" if is_same else "repeat under another label"] += 1


def _refine(kept: dict[str, Row], finer: Iterable[Labelled], labels: Sequence[str]) -> int:
    """Give spam its finer label, where the other source has one, and only one, that is not ham. Returns how many."""
    said: defaultdict[str, set[str]] = defaultdict(set)
    for other in finer:
        said[key(repair(other.text))].add(other.label)
    refined = 0
    for name, row in kept.items():
        if row.label == LABELS[0] or len(said[name]) != 1:
            continue
        (label,) = said[name]
        if label not in {LABELS[0], row.label} and label in labels:
            kept[name] = replace(row, label=label)
            refined += 1
    return refined


def _clustered(kept: Mapping[str, Row], progress: PhaseCallback) -> tuple[Row, ...]:
    """Rows with their clusters. Those of the first source are clustered as if they were alone."""
    own = sum(not row.borrowed for row in kept.values())  # the first source's rows stand first
    names = list(kept)
    groups = [row.group for row in kept.values()]
    clusters = joined(cluster(names[:own], progress), groups[:own])
    rows = [replace(row, cluster=each) for row, each in zip(kept.values(), clusters, strict=False)]
    if own < len(names):
        families = joined(cluster(names, progress), groups)
        near: defaultdict[int, set[int]] = defaultdict(set)
        for family, each in zip(families, clusters, strict=False):
            near[family].add(each)
        rows += [
            replace(row, cluster=own + family, near=tuple(sorted(near[family])))
            for row, family in zip(list(kept.values())[own:], families[own:], strict=True)
        ]
    return tuple(rows)


def _digest_of(origins: Sequence[RowSource]) -> str:
    if len(origins) == 1:
        return origins[0].digest
    return hashlib.sha256("\n".join(source.digest for source in origins).encode()).hexdigest()


def split(rows: Sequence[Row], seed: int, share: float = TEST_SHARE) -> Split:
    """Give whole clusters to test, ham and then spam, in an order shuffled by the seed, until it holds `share` of each.

    What is finer than ham and spam does not count here: three classes are split as two are. A borrowed row is never in
    test, and in neither part when it is near what is tested.
    """
    chosen: set[int] = set()
    generator = random.Random(seed)
    own = [row for row in rows if not row.borrowed]
    for is_ham in (True, False):
        of_label = [row for row in own if (row.label == LABELS[0]) == is_ham]
        members = Counter(row.cluster for row in of_label)
        order = sorted(members)
        generator.shuffle(order)
        held = 0
        for each in order:
            if held >= share * len(of_label):
                break
            held += members[each]
            chosen.add(each)
    train = tuple(row for row in rows if not row.is_of(chosen))
    test = tuple(row for row in own if row.cluster in chosen)
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
    """Name these rows, in this order, with what a teacher says of them."""
    named = (
        f"{row.label}\t{row.text}"
        + ("" if row.spam is None else f"\t{row.spam:.6f}")
        + (f"\t{row.state.hex()}" if row.state else "")
        for row in rows
    )
    return hashlib.sha256("\0".join(named).encode()).hexdigest()


def report(prepared: PreparedRows) -> Iterator[str]:
    """Yield lines on the rows read, dropped (by reason) and kept."""
    for source in prepared.sources:
        yield f"source   {source.name}, SHA-256 {source.digest[:12]}"
        yield from (f"  WARNING: {warning}" for warning in source.warnings)
    yield f"read     {prepared.read.total():>6,}  " + _counts(prepared.read)
    for reason, count in sorted(prepared.dropped.items()):
        yield f"dropped  {count:>6,}  {reason}"
    yield f"kept     {len(prepared.rows):>6,}  " + _counts(Counter(row.label for row in prepared.rows))
    sizes = Counter(row.cluster for row in prepared.rows)
    if prepared.refined:
        yield f"refined  {prepared.refined:>6,}  labels of spam"
    spam = [row for row in prepared.rows if row.label != LABELS[0]]
    repeated = sum(sizes[row.cluster] > 1 for row in spam)
    yield f"clusters {len(sizes):>6,}  largest {max(sizes.values())}, of mixed labels {prepared.mixed}"
    yield f"near-duplicates: {repeated / max(1, len(spam)):.0%} of the spam that is kept has one"


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{label} {count:,}" for label, count in sorted(counts.items()))
