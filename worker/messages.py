"""Records and messages: Record and Sms in, Verdict and DeadLetter out; bytes to values and back.

Nothing here knows Kafka, a model or a clock. Times are Unix seconds; the wire's milliseconds are made at the edges.
"""

from __future__ import annotations

import datetime as dt
import enum
import re
from typing import Final, TypeAlias

import msgspec

Headers: TypeAlias = tuple[tuple[str, bytes | None], ...]
TopicPartition: TypeAlias = tuple[str, int]
Positions: TypeAlias = dict[TopicPartition, int]
"""For each partition the next offset to read, which is what Kafka wants committed: not the last one read."""

# Beyond these a timestamp is a unit error (seconds sent as milliseconds, or the reverse), not a message's time.
EARLIEST: Final = dt.datetime(2000, 1, 1, tzinfo=dt.UTC).timestamp()
LATEST: Final = dt.datetime(2100, 1, 1, tzinfo=dt.UTC).timestamp()
# How far clocks may differ: what Kafka 4 lets a timestamp lie ahead, unless it is set otherwise.
_AHEAD: Final = 3600.0

MAX_ID: Final = 512
"""Characters of a message's id, which goes into its verdict whole. A topic's name alone may have 249."""
VERDICT_BYTES: Final = 8192
"""Most bytes of a verdict beside its key: an id of control characters is escaped to six times its length."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record as the broker holds it; `timestamp` in Unix seconds; a `value` of None is a tombstone.

    `stamped` is there for a record that was `dated` when it was polled: what the broker has in its timestamp's place.
    """

    topic: str
    partition: int
    offset: int
    timestamp: float
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    stamped: float | None = None

    @property
    def name(self) -> str:
        """`topic:partition:offset`, unique for ever; the message's id when its sender gave none."""
        return f"{self.topic}:{self.partition}:{self.offset}"

    @property
    def broker_ms(self) -> int:
        """The timestamp as the broker has it, in epoch milliseconds, whether or not it can be one."""
        return round((self.timestamp if self.stamped is None else self.stamped) * _MS)


def dated(record: Record, now: float) -> Record:
    """The record, if its timestamp can be a time; else as of now. Producers write timestamps as they like, or none: -1.

    Taken at its word, one such record would be decades late, or early: to every histogram, deadline and objective.
    """
    if EARLIEST <= record.timestamp <= now + _AHEAD:
        return record
    return msgspec.structs.replace(record, timestamp=now, stamped=record.timestamp)


class Sms(msgspec.Struct, frozen=True, gc=False):
    """A readable message: what is judged, and what its verdict must carry. `received_at` in Unix seconds."""

    id: str
    text: str
    received_at: float


class Unreadable(enum.StrEnum):
    """Why an event could not be read: the closed set of dead-letter reasons."""

    TOO_LARGE = "too-large"
    INVALID_UTF8 = "invalid-utf8"
    INVALID_JSON = "invalid-json"
    TOO_DEEP = "too-deep"
    NOT_AN_OBJECT = "not-an-object"
    MISSING_TEXT = "missing-text"
    WRONG_TYPE = "wrong-type"
    BAD_TIMESTAMP = "bad-timestamp"
    TOO_MANY_HEADERS = "too-many-headers"


class UnreadableError(ValueError):
    """An event that cannot be read. Its text names the reason only: never what the event held."""

    def __init__(self, reason: Unreadable) -> None:
        super().__init__(reason.value)
        self.reason = reason


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """A record that could not be read, with its reason; `failed_at` in Unix seconds."""

    record: Record
    reason: Unreadable
    failed_at: float


class Action(enum.StrEnum):
    """What the carrier is told to do with a message."""

    __hash__ = str.__hash__  # an Enum's own is Python; this one is counted with every verdict

    DELIVER = "deliver"
    FLAG = "flag"
    BLOCK = "block"
    UNSCORED = "unscored"


class Unscored(enum.StrEnum):
    """Why a message has no score: a closed set."""

    EMPTY_TEXT = "empty-text"
    NON_FINITE_SCORE = "non-finite-score"
    DEADLINE = "deadline"


class Flag(enum.StrEnum):
    """What was done to a text, and what it is: more may come."""

    __hash__ = str.__hash__

    NORMALISED = "normalised"
    TRUNCATED = "truncated"
    OUTSIDE = "outside"
    ONE_TIME_CODE = "one-time-code"
    NOTICE = "notice"


class RecordSource(msgspec.Struct, frozen=True, gc=False):
    """Where the judged record lies; `timestamp` in epoch milliseconds, as the broker has it."""

    topic: str
    partition: int
    offset: int
    timestamp: int


class Latency(msgspec.Struct, frozen=True, gc=False):
    """Milliseconds: age when polled, wait for its batch, the model's own time, and record timestamp to publishing."""

    broker: float
    queue: float
    inference: float
    total: float


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """Verdict v1, field for field as published. Never the text, never a phone number."""

    id: str
    label: str | None
    score: float | None
    threshold: float
    action: Action
    reason: Unscored | None
    flags: tuple[str, ...]
    model: str
    source: RecordSource
    scored_at: str
    latency_ms: Latency
    language: str | None = None


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """One record to publish, without its topic."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Event(msgspec.Struct, gc=False):
    """Event v1 on the wire. Unknown fields are ignored; a null is as good as absent, except for `text`.

    The fields that nothing here reads are declared so that a wrong type in them is a dead letter, not a surprise later.
    """

    text: str
    id: str | int | None = None
    sender: str | int | None = None
    recipient: str | int | None = None
    received_at: str | int | float | None = None
    direction: str | None = None
    lang: str | None = None
    network: str | int | None = None


_event = msgspec.json.Decoder(Event)
_encoder = msgspec.json.Encoder()
_timestamp = msgspec.json.Decoder(dt.datetime)
_MISSING_TEXT = "missing required field `text`"
_NOT_AN_OBJECT = re.compile(r"Expected `object`, got `[a-z]+`$")  # without a path: the event itself
_BRACKETS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[{\]}]', re.DOTALL)  # a text's own do not count
_MS: Final = 1000.0
MAX_DEPTH: Final = 32
MAX_HEADERS: Final = 64
"""Limits of an event: nested braces and brackets, headers."""


def decode(record: Record, *, max_bytes: int) -> Sms:
    """Read one event. Raises UnreadableError with its reason; the record must not be a tombstone.

    `max_bytes` bounds value and key together: both it and its verdict, which has the same key, must find room.
    """
    value = record.value or b""
    if len(value) + len(record.key or b"") > max_bytes:
        raise UnreadableError(Unreadable.TOO_LARGE)
    if len(record.headers) > MAX_HEADERS:
        raise UnreadableError(Unreadable.TOO_MANY_HEADERS)
    try:
        event = _event.decode(value)
    except RecursionError:
        raise UnreadableError(Unreadable.TOO_DEEP) from None
    except UnicodeDecodeError:
        raise UnreadableError(Unreadable.INVALID_UTF8) from None
    except msgspec.ValidationError as error:
        raise UnreadableError(_reason(str(error))) from None
    except msgspec.DecodeError:
        raise UnreadableError(_undecodable(value)) from None
    if value.count(b"[") + value.count(b"{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise UnreadableError(Unreadable.TOO_DEEP)
    received_at = record.timestamp if event.received_at is None else _seconds(event.received_at)
    name = record.name if event.id is None or event.id == "" else str(event.id)
    if len(name) > MAX_ID:
        raise UnreadableError(Unreadable.TOO_LARGE)
    return Sms(id=name, text=event.text, received_at=received_at)


def _depth(value: bytes) -> int:
    """Nesting depth of valid JSON; the event itself is one."""
    deepest = depth = 0
    for mark in _BRACKETS.findall(value):
        depth += (mark in (b"[", b"{")) - (mark in (b"]", b"}"))
        deepest = max(deepest, depth)
    return deepest


def _reason(message: str) -> Unreadable:
    # msgspec distinguishes its validation errors by their text only; a test holds each of these to a real event.
    if _MISSING_TEXT in message:
        return Unreadable.MISSING_TEXT
    if _NOT_AN_OBJECT.search(message):
        return Unreadable.NOT_AN_OBJECT
    return Unreadable.WRONG_TYPE


def _undecodable(value: bytes) -> Unreadable:
    try:
        value.decode()
    except UnicodeDecodeError:
        return Unreadable.INVALID_UTF8
    return Unreadable.INVALID_JSON


def _seconds(received_at: str | float) -> float:
    """RFC 3339 or epoch milliseconds, to Unix seconds."""
    if isinstance(received_at, str):
        try:
            moment = msgspec.convert(received_at, dt.datetime)
        except msgspec.ValidationError:
            raise UnreadableError(Unreadable.BAD_TIMESTAMP) from None
        if moment.tzinfo is None:  # RFC 3339 demands an offset; a guess could be hours wrong
            raise UnreadableError(Unreadable.BAD_TIMESTAMP)
        seconds = moment.timestamp()
    else:
        try:
            seconds = received_at / _MS
        except OverflowError:
            raise UnreadableError(Unreadable.BAD_TIMESTAMP) from None
    if not EARLIEST <= seconds <= LATEST:
        raise UnreadableError(Unreadable.BAD_TIMESTAMP)
    return seconds


def encode_verdict(verdict: Verdict) -> bytes:
    """Verdict v1 as JSON."""
    return _encoder.encode(verdict)


def decode_verdict(value: bytes) -> Verdict:
    """Verdict v1 from JSON, for those who read the output topic. Raises msgspec.DecodeError."""
    return _verdict.decode(value)


_verdict = msgspec.json.Decoder(Verdict)

REASON: Final = "reason"
TRUNCATED: Final = "truncated"
"""The header of a dead letter that was cut: the length of its event's value, in bytes."""
TRUNCATED_BYTES: Final = 1 << 16
"""What is left of the value of such a one."""
_ADDED: Final = (REASON, "source-topic", "source-partition", "source-offset", "failed-at")


def encode_dead_letter(letter: DeadLetter) -> Outgoing:
    """A dead letter on the wire: bytes, key and headers untouched, and five headers after them."""
    record = letter.record
    values = (letter.reason, record.topic, str(record.partition), str(record.offset), rfc3339(letter.failed_at))
    added = tuple((name, value.encode()) for name, value in zip(_ADDED, values, strict=True))
    return Outgoing(key=record.key, value=record.value, headers=record.headers + added)


def truncate_dead_letter(letter: Outgoing) -> Outgoing:
    """Return a dead letter with the beginning of its event alone, and one header more, before the five.

    For one that its topic does not take: the whole event lies where `source-topic`, `source-partition` and
    `source-offset` say, while the input keeps it. Headers of the sender go if they alone are too large.
    """
    key, value = letter.key or b"", letter.value or b""
    own, added = letter.headers[: -len(_ADDED)], letter.headers[-len(_ADDED) :]
    if sum(len(name) + len(content or b"") for name, content in own) > TRUNCATED_BYTES:
        own = ()
    return Outgoing(
        key=None if letter.key is None else key[:TRUNCATED_BYTES],
        value=value[:TRUNCATED_BYTES],
        headers=(*own, (TRUNCATED, str(len(value)).encode()), *added),
    )


def is_truncated(letter: Record) -> bool:
    """Whether a dead letter holds only the beginning of its event."""
    name, size = letter.headers[-len(_ADDED) - 1] if len(letter.headers) > len(_ADDED) else ("", None)
    return name == TRUNCATED and (size or b"").isdigit() and len(letter.value or b"") <= TRUNCATED_BYTES


def decode_dead_letter(letter: Record) -> Outgoing:
    """The record that a dead letter was made of, byte for byte, unless it `is_truncated`.

    Raises ValueError when it is not one of ours.
    """
    added = tuple(name for name, _ in letter.headers[-len(_ADDED) :])
    if added != _ADDED:
        message = f"{letter.name} is not a dead letter: its last headers are not {', '.join(_ADDED)}"
        raise ValueError(message)
    return Outgoing(key=letter.key, value=letter.value, headers=letter.headers[: -len(_ADDED)])


def rfc3339(seconds: float) -> str:
    """Unix seconds as RFC 3339 in UTC, to the millisecond."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
