"""The corpus of our own, `data/modern`: the lines of its voices in, one table of messages out, the same everywhere.

A voice is a file of lines, `label | kind | sender | language | text`; a line `+ | text` is another wording of the
family above it. A text with slots is a template: `fillers` fills them, `balance` says how often.
What is in the table follows from the voices alone, and a line that is edited changes its own rows only.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter, defaultdict
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

from training.data import balance, clusters, fillers, sources
from training.data import split as data
from training.data.sources import DataError
from training.data.split import DATA

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

FOLDER: Final = DATA / "modern"
MESSAGES: Final = FOLDER / "messages.tsv"
ROUNDS: Final = (
    (
        "africa", "arab", "europe", "india", "latin", "pacific", "people", "services", "uk", "us",
        "northam", "systems", "tropics", "gulf", "atlantic",
    ),
    (
        "notices", "isles", "bharat", "savanna", "straits", "romance", "anatolia", "threads",
        "retail", "desk", "campus", "ledger", "depot", "rhine", "crescent", "yamuna",
    ),
    (
        "reports", "inbox", "lagos", "chatter", "welfare", "wallet", "delhi", "iberia",
        "promos", "thumbs", "doorstep", "hexagone", "kinfolk", "bosporus", "souk",
    ),
)  # fmt: skip
"""Voices by when they were written: `mixture` splits each round by itself, so that a new one moves no row of another.

Lines of later rounds are without slots, and those whose shape leans to its label are not in them any more.
"""
VOICES: Final = tuple(voice for names in ROUNDS for voice in names)
ROUND: Final = {voice: number for number, names in enumerate(ROUNDS) for voice in names}
"""Each voice's round."""
SENDERS: Final = ("short", "alpha", "number", "unknown")
LANGUAGES: Final = (
    "en", "es", "fr", "de", "pt", "tr", "hi", "id", "ar", "sw", "hi-Latn", "ar-Latn", "pcm", "tl", "es-en", "mix",
)  # fmt: skip
_SEPARATOR: Final = " | "
_VARIANT: Final = "+ | "
_NOT_PERSONAL: Final = re.compile(r"\{(?:path|phone|last4|alnum|code)|https?:|\w\.\w{2,}/")


class Template(NamedTuple):
    """A line of a voice, as it was written."""

    text: str
    label: str
    kind: str
    family: str
    sender: str
    language: str
    voice: str


class Message(NamedTuple):
    """A row of the table. Families of one group are near-duplicates of each other: no split parts them."""

    text: str
    label: str
    kind: str
    family: str
    group: str
    sender: str
    language: str
    voice: str


COLUMNS: Final = Message._fields


class Made(NamedTuple):
    """The rows that the voices give, and what was left out, by reason."""

    messages: tuple[Message, ...]
    dropped: Counter[str]
    one_off: int


@cache
def kinds() -> dict[str, frozenset[str]]:
    """The closed set of kinds by label; `personal` are the lawful ones that people send."""
    read = tomllib.loads((FOLDER / "kinds.toml").read_text(encoding="utf-8"))
    return {label: frozenset(str(names).split()) for label, names in read.items()}


def templates(folder: Path = FOLDER / "voices") -> Iterator[Template]:
    """Every line of every voice. Raises DataError, which names file and line."""
    for voice in VOICES:
        path = folder / f"{voice}.txt"
        above: Template | None = None
        families = 0
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            if not line or line.startswith("#"):
                continue
            if line.startswith(_VARIANT) and above:
                above = above._replace(text=sources.unescaped(line.removeprefix(_VARIANT).strip()))
            else:
                families += 1
                above = _template(line, f"{path.name}:{number}", voice, families)
            if unknown := [slot for slot in fillers.slots(above.text) if slot not in fillers.SLOTS]:
                message = f"{path.name}:{number}: no slot is called {unknown[0]}"
                raise DataError(message)
            if "{" in above.text and ROUND[voice]:
                message = f"{path.name}:{number}: a later voice has no slots"
                raise DataError(message)
            if wrong := fillers.unmatched(above.text):
                message = f"{path.name}:{number}: {{{wrong[0]}}} needs as many choices as the pick before it"
                raise DataError(message)
            yield above


def _template(line: str, where: str, voice: str, family: int) -> Template:
    fields = [each.strip() for each in line.split(_SEPARATOR, 4)]
    if len(fields) != 5:  # noqa: PLR2004 -- label, kind, sender, language, text
        message = f"{where}: not label, kind, sender, language and text between bars"
        raise DataError(message)
    label, kind, sender, language, text = fields
    for what, value, known in (
        ("label", label, data.THREE), ("kind", kind, kinds().get(label, ())), ("sender", sender, SENDERS),
        ("language", language, LANGUAGES),
    ):  # fmt: skip
        if value not in known:
            message = f"{where}: no {what} is called {value}"
            raise DataError(message)
    return Template(sources.unescaped(text), label, kind, f"{voice}-{family:04}", sender, language, voice)


def make(lines: Iterable[Template] | None = None) -> Made:
    """The table's rows, without repeats, in the order of the voices."""
    dropped: Counter[str] = Counter()
    kept: dict[str, tuple[str, Template]] = {}
    one_off = 0
    for line in templates() if lines is None else lines:
        rows = list(_rows(line))
        one_off += "{" not in line.text and bool(rows)
        if not rows:
            dropped["one-off whose shape leans to its label"] += 1
        for text in rows:
            name = data.key(text) or text
            if name not in kept:
                kept[name] = (text, line)
            elif (kept[name][1].label == "ham") == (line.label == "ham"):
                dropped["repeat"] += 1
            else:
                dropped["scam whose text is lawful elsewhere"] += 1
                if line.label == "ham":
                    del kept[name]
                    kept[name] = (text, line)
    groups = _groups(kept, [line for _, line in kept.values()])
    messages = tuple(
        Message(text, line.label, line.kind, line.family, group, line.sender, line.language, line.voice)
        for (text, line), group in zip(kept.values(), groups, strict=True)
        if group
    )
    if between := groups.count(""):
        dropped["near two groups of earlier rounds"] = between
    return Made(messages, dropped, one_off)


def _rows(line: Template) -> Iterator[str]:
    first = _row(line, 0)
    if "{" in line.text or ROUND[line.voice] or balance.is_kept(line.label, first, line.language):
        yield first
    if "{" in line.text:
        yield from (_row(line, number) for number in range(1, balance.rows(line.label, first, line.language)))


def _row(line: Template, number: int) -> str:
    if "{" not in line.text:
        return line.text
    is_personal = line.sender in {"number", "unknown"} and not _NOT_PERSONAL.search(line.text)
    return fillers.fill(line.text, voice=line.voice, language=line.language, is_personal=is_personal, number=number)


def balanced() -> str:
    """The table of rows by shape, fitted anew to the first round."""
    return balance.written(
        balance.fitted(
            (line.label, _row(line, 0), line.language, "{" in line.text)
            for line in templates()
            if not ROUND[line.voice]
        )
    )


def _groups(names: Iterable[str], lines: Sequence[Template]) -> list[str]:
    """The least family of each row's group: families are joined that have near-duplicates in each other.

    A row never joins two groups of earlier rounds, or their split would change: it has no group.
    """
    names, found = list(names), [""] * len(lines)
    for number in range(len(ROUNDS)):
        places = [at for at, line in enumerate(lines) if ROUND[line.voice] <= number]
        roots = _joined([names[at] for at in places], [lines[at].family for at in places])
        earlier: defaultdict[int, set[str]] = defaultdict(set)
        for at, root in zip(places, roots, strict=True):
            if found[at]:
                earlier[root].add(found[at])
        for at, root in zip(places, roots, strict=True):
            if ROUND[lines[at].voice] == number and len(earlier[root]) <= 1:
                found[at] = min(earlier[root], default=lines[places[root]].family)
    return found


def _joined(names: Sequence[str], families: Sequence[str]) -> list[int]:
    return clusters.joined(clusters.by_minhash(names, clusters.silent), families)


def written(messages: Iterable[Message]) -> str:
    """The table: names of the columns, then a row a line."""
    lines = ["\t".join(COLUMNS), *("\t".join(map(sources.escaped, message)) for message in messages)]
    return "\n".join(lines) + "\n"


def read(path: Path = MESSAGES) -> tuple[Message, ...]:
    """The shipped rows, with family, group and kind. Raises DataError."""
    return tuple(Message(**row) for row in sources.table(path))


def rows(messages: Sequence[Message]) -> tuple[data.Row, ...]:
    """As the rest of training takes them, in the same order; a group is a cluster."""
    numbers: dict[str, int] = {}
    return tuple(
        data.Row(each.text, each.label, numbers.setdefault(each.group, len(numbers)), group=each.group)
        for each in messages
    )
