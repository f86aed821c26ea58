"""The demo's events: held-out messages, each disguise of them, odd events scattered among them, and the burst."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import msgspec

from worker.messages import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

WARM_UP: Final = "warm-up"
CLEAN: Final = "clean"
TODAY: Final = "today"
BURST: Final = "burst"
VERDICT: Final = "verdict"
UNSCORED: Final = "unscored"
SKIPPED: Final = "skipped"

_WARMING: Final = 900
_SUBSCRIBERS: Final = 400
_SEED: Final = 7


Disguise: TypeAlias = "Callable[[str, random.Random], str]"


class Row(NamedTuple):
    """A message, whether it is spam (None: nobody can say), and its kind if known; `expected` as in Event."""

    text: str
    is_spam: bool | None
    expected: str = VERDICT
    kind: str = ""


class Broken(NamedTuple):
    """An event that is no message."""

    value: bytes | None
    expected: str


@dataclass(frozen=True, slots=True)
class Event:
    """One event; its `number` is its id and its place in the stream.

    `expected` is how it must be answered: `verdict`, `unscored`, a dead letter's reason, or not at all (`skipped`).
    """

    number: int
    part: str
    key: bytes
    value: bytes | None
    expected: str
    is_spam: bool | None = None
    text: str = ""
    kind: str = ""


ODD: Final[tuple[Row | Broken, ...]] = (
    Broken(b"FREE entry! reply WIN", Unreadable.INVALID_JSON),
    Broken(b'["an", "array"]', Unreadable.NOT_AN_OBJECT),
    Broken(b'{"sender": "+447700900000"}', Unreadable.MISSING_TEXT),
    Broken(b'{"text": 42}', Unreadable.WRONG_TYPE),
    Broken('{"text": "café"}'.encode("utf-16"), Unreadable.INVALID_UTF8),
    Broken(b'{"text": "hello", "received_at": "yesterday"}', Unreadable.BAD_TIMESTAMP),
    Broken(b'{"text": "hello", "extra": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", Unreadable.TOO_DEEP),
    Broken(b'{"text": "' + b"x" * 100_000 + b'"}', Unreadable.TOO_LARGE),
    Broken(None, SKIPPED),  # a tombstone
    Row(" \u200b ", None, UNSCORED),  # readable, and empty
)
"""One of each kind, scattered among the messages."""


class _Message(msgspec.Struct):
    """Event v1, as a gateway would send it."""

    id: str
    text: str
    sender: str
    recipient: str
    direction: str = "mobile-terminated"


_encode = msgspec.json.Encoder().encode


def programme(
    rows: Sequence[Row], disguises: Mapping[str, Disguise], burst: int, today: Sequence[Row] = ()
) -> list[Event]:
    """Everything sent, in order: a warm-up, clean, each disguise, today's, odd events among them; then the burst.

    The warm-up is for the programs, cold as they are: nothing is judged by it. The burst goes round and round `rows`:
    speed is judged by it, nothing else. Needs at least as many rows as there are odd events.
    """
    dice = random.Random(_SEED)
    sent: list[tuple[str, Row | Broken]] = [(CLEAN, row) for row in dice.sample(rows, len(rows))]
    for name, disguise in disguises.items():
        sent += [(name, row._replace(text=disguise(row.text, dice))) for row in dice.sample(rows, len(rows))]
    sent += [(TODAY, row) for row in dice.sample(today, len(today))]
    for place, odd in zip(dice.sample(range(len(sent)), len(ODD)), ODD, strict=True):
        sent.insert(place, (sent[place][0], odd))
    unjudged = [row._replace(is_spam=None) for row in rows]
    sent = [(WARM_UP, row) for row in itertools.islice(itertools.cycle(unjudged), _WARMING)] + sent
    sent += [(BURST, row) for row in itertools.islice(itertools.cycle(unjudged), burst)]
    return [_event(number, part, what, dice) for number, (part, what) in enumerate(sent)]


def _event(number: int, part: str, what: Row | Broken, dice: random.Random) -> Event:
    sender, recipient = _subscriber(dice), _subscriber(dice)
    if isinstance(what, Broken):
        return Event(number, part, sender.encode(), what.value, what.expected)
    value = _encode(_Message(str(number), what.text, sender, recipient))
    return Event(number, part, sender.encode(), value, what.expected, what.is_spam, what.text, what.kind)


def _subscriber(dice: random.Random) -> str:
    """A number of those that are kept for fiction and belong to nobody."""
    return f"+447700900{dice.randrange(_SUBSCRIBERS):03}"


def parts(events: Sequence[Event]) -> list[str]:
    """The parts of the stream, in order."""
    return list(dict.fromkeys(event.part for event in events))


def paced_and_burst(events: Sequence[Event]) -> tuple[list[Event], list[Event]]:
    """Split events into those that are sent at a pace and the burst."""
    return [event for event in events if event.part != BURST], [event for event in events if event.part == BURST]
