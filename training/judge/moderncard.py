"""The modern corpus in figures: its data card, and the counts in its README, both made of its rows."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from statistics import mean, median
from typing import TYPE_CHECKING, Any, Final

import msgspec

from training.data import modern, surface
from training.data.sources import DataError
from training.judge import baselines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from training.data.modern import Made, Message
    from training.data.surface import Leak, Surface

CARD: Final = modern.FOLDER / "card.json"
README: Final = modern.FOLDER / "README.md"
LEAST_ROWS: Final = 300
"""Rows from which a language is judged by itself."""
_MARKED: Final = re.compile(r"(<!-- counts[^>]*-->\n).*(<!-- /counts -->)", re.DOTALL)
_NAMES: Final = {
    "en": "English", "es": "Spanish", "fr": "French", "de": "German", "pt": "Portuguese", "tr": "Turkish",
    "hi": "Hindi", "id": "Indonesian", "ar": "Arabic", "sw": "Swahili", "hi-Latn": "Hindi, romanised",
    "ar-Latn": "Arabic, romanised", "pcm": "Nigerian Pidgin", "tl": "Tagalog", "es-en": "Spanish and English",
    "mix": "other mixes",
}  # fmt: skip

BALANCED: Final[dict[str, Callable[[Surface], float]]] = {
    "has link": lambda seen: seen.has_link,
    "has https": lambda seen: seen.has_https,
    "has phone number": lambda seen: seen.has_phone,
    "has money": lambda seen: seen.has_money,
    "has run of three digits": lambda seen: seen.longest_run >= 3,  # noqa: PLR2004
    "has exclamation mark": lambda seen: seen.exclamation_marks > 0,
    "capitals": lambda seen: seen.capitals,
}
"""Shares that are to be alike among lawful messages of organisations and scams."""


def sides(messages: Sequence[Message]) -> dict[str, list[Surface]]:
    """The surfaces of scams, and of what organisations and people lawfully send."""
    personal = modern.kinds()["personal"]
    found: defaultdict[str, list[Surface]] = defaultdict(list)
    for each in messages:
        if each.label != "spam":
            by = "people" if each.kind in personal else "organisations"
            found["scams" if each.label == "smishing" else by].append(surface.measured(each.text))
    return dict(sorted(found.items()))


def leaks(messages: Sequence[Message]) -> dict[str, Leak]:
    """How well the surface alone separates scams from ham: over all rows, and by language with enough of them."""
    judged = [each for each in messages if each.label != "spam"]
    languages = Counter(each.language for each in judged)
    parts = {"all": judged} | {
        language: [each for each in judged if each.language == language]
        for language, count in languages.most_common()
        if count >= LEAST_ROWS
    }
    return {
        name: surface.leak(
            [each.text for each in rows], [each.label == "smishing" for each in rows], [each.group for each in rows]
        )
        for name, rows in parts.items()
    }


def card(made: Made, found: dict[str, Leak]) -> dict[str, Any]:
    """Counts, digests and figures as plain values, under the names of a run's data card where they are the same."""
    messages = made.messages
    labels_of: defaultdict[str, set[bool]] = defaultdict(set)
    families_of: defaultdict[str, set[str]] = defaultdict(set)
    for each in messages:
        labels_of[each.group].add(each.label == "ham")
        families_of[each.group].add(each.family)
    voices = sorted((modern.FOLDER / "voices").glob("*.txt"))
    families = Counter(each.family for each in messages)
    return {
        "name": "modern",
        "licence": "CC-BY-4.0",
        "synthetic": True,
        "sources": [{"name": path.name, "sha256": _digest(path), "warnings": []} for path in voices],
        "digest": hashlib.sha256(modern.written(messages).encode()).hexdigest(),
        "dropped": dict(sorted(made.dropped.items())),
        "kept": _counted(each.label for each in messages),
        "one-off": made.one_off,
        "families": len(families),
        "largest-family": max(families.values()),
        "clusters": len(families_of),
        "clusters-of-mixed-labels": sum(len(both) > 1 for both in labels_of.values()),
        "clustered": "families by MinHash of their rows, each proposed pair checked",
        "families-with-near-duplicates-in-others": sum(len(names) for names in families_of.values() if len(names) > 1),
        "languages": _counted(each.language for each in messages),
        "english": round(mean(each.language == "en" for each in messages), 4),
        "voices": _counted(each.voice for each in messages),
        "senders": {
            label: _counted(each.sender for each in messages if each.label == label)
            for label in ("ham", "spam", "smishing")
        },
        "kinds": {
            label: _counted(each.kind for each in messages if each.label == label)
            for label in ("ham", "spam", "smishing")
        },
        "balance": {
            side: {
                "rows": len(rows),
                **{name: round(mean(float(share(seen)) for seen in rows), 3) for name, share in BALANCED.items()},
                "characters": median(seen.characters for seen in rows),
            }
            for side, rows in sides(messages).items()
        },
        "surface": {
            name: {"rows": leak.rows, "linear": round(leak.linear, 3), "boosted": round(leak.boosted, 3)}
            for name, leak in found.items()
        },
    }


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def counts(made: Made) -> Iterator[str]:
    """The README's tables, line by line."""
    rows = made.messages
    families = {label: {each.family for each in rows if each.label == label} for label in ("ham", "spam", "smishing")}
    english = mean(each.language == "en" for each in rows)
    yield f"{len(rows):,} texts, {made.one_off:,} of them written one by one."
    yield f"{len(set().union(*families.values())):,} families. {100 * english:.1f} % of the texts are in English.\n"
    yield "| label | texts | families | kinds |"
    yield "|---|---|---|---|"
    for label, names in families.items():
        texts = [each for each in rows if each.label == label]
        yield f"| {label} | {len(texts):,} | {len(names):,} | {len({each.kind for each in texts})} |"
    yield ""
    yield "| language | texts | ham | spam | smishing |"
    yield "|---|---|---|---|---|"
    for language, count in Counter(each.language for each in rows).most_common():
        labels = Counter(each.label for each in rows if each.language == language)
        shown = " | ".join(f"{labels[label]:,}" for label in families)
        yield f"| {_NAMES[language]} (`{language}`) | {count:,} | {shown} |"
    yield ""
    yield "| label | kinds, with their texts |"
    yield "|---|---|"
    for label in families:
        kinds = Counter(each.kind for each in rows if each.label == label)
        yield f"| {label} | " + ", ".join(f"{kind} {count}" for kind, count in kinds.most_common()) + " |"


def readme(made: Made) -> str:
    """The README with its counts made anew."""
    text = README.read_text(encoding="utf-8")
    tables = "\n".join(counts(made))
    return _MARKED.sub(lambda found: f"{found[1]}{tables}\n{found[2]}", text)


def check(made: Made) -> None:
    """Raise DataError where a file in the repository is not what the voices give."""
    if modern.MESSAGES.read_text(encoding="utf-8") != modern.written(made.messages):
        message = f"{modern.MESSAGES.name} is not what the voices give; python -m training modern makes it anew"
        raise DataError(message)
    if README.read_text(encoding="utf-8") != readme(made):
        message = f"{README.name} has other counts than the voices; python -m training modern makes them anew"
        raise DataError(message)


def write(made: Made) -> bool:
    """Write table, counts and card; False where the card needs scikit-learn, which is not here, and was left alone."""
    modern.MESSAGES.write_text(modern.written(made.messages), encoding="utf-8")
    README.write_text(readme(made), encoding="utf-8")
    if not baselines.are_here():
        return False
    made_card = card(made, leaks(made.messages))
    CARD.write_bytes(msgspec.json.format(msgspec.json.encode(made_card), indent=1) + b"\n")
    return True
