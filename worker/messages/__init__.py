"""Records and messages: Record and Sms in, Verdict and DeadLetter out; bytes to values and back.

Nothing here knows Kafka, a model or a clock. Times are Unix seconds; the wire's milliseconds are made at the edges.
"""

from __future__ import annotations

import codecs
import datetime as dt
import enum
import re
from typing import Final, TypeAlias

import msgspec

from worker.messages.repair import repaired

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
    `unreadable` says why a record's whole batch could not be read; then nothing but its offset is known.
    """

    topic: str
    partition: int
    offset: int
    timestamp: float
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    stamped: float | None = None
    unreadable: str | None = None

    @property
    def name(self) -> str:
        """`topic:partition:offset`, unique for ever; the message's id when its sender gave none."""
        return f"{self.topic}:{self.partition}:{self.offset}"

    @property
    def is_tombstone(self) -> bool:
        """Whether it has no value, as its sender meant it."""
        return self.value is None and self.unreadable is None

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


class SenderType(enum.StrEnum):
    """Kinds of address that a message can come from: a closed set."""

    __hash__ = str.__hash__

    NUMBER = "number"
    SHORT_CODE = "short-code"
    ALPHANUMERIC = "alphanumeric"
    EMAIL = "email"


class Sms(msgspec.Struct, frozen=True, gc=False):
    """A readable message: what is judged, and what its verdict must carry. `received_at` in Unix seconds.

    Of one that `is_repaired` a character was lost. `sender`, `recipient` and `sender_type` are as its event gives them:
    looked at, and never published or logged.
    """

    id: str
    text: str
    received_at: float
    is_repaired: bool = False
    sender: str | None = None
    recipient: str | None = None
    sender_type: SenderType | None = None


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
    UNREADABLE_BATCH = "unreadable-batch"


class Fault(msgspec.Struct, frozen=True, gc=False):
    """Why an event could not be read; as far as they are known, the field and the byte of its value. Never a value."""

    reason: Unreadable
    field: str | None = None
    at: int | None = None


class UnreadableError(ValueError):
    """An event that cannot be read. Its text names the reason only: never what the event held."""

    def __init__(self, reason: Unreadable, field: str | None = None, at: int | None = None) -> None:
        super().__init__(reason.value)
        self.fault = Fault(reason, field, at)

    @property
    def reason(self) -> Unreadable:
        """The reason."""
        return self.fault.reason


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """A record that could not be read, with its reason, field and byte; `failed_at` in Unix seconds."""

    record: Record
    reason: Unreadable
    failed_at: float
    field: str | None = None
    at: int | None = None


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


class Decider(enum.StrEnum):
    """Who decided, where it was not the score: a closed set. In the order in which they are asked."""

    LIST = "list"
    SENDER = "sender"
    CAMPAIGN = "campaign"


class RuleKind(enum.StrEnum):
    """What kind of rule decided: a closed set, as finer than who decided as metrics tell it."""

    __hash__ = str.__hash__

    LIST = "list"
    REGISTRY = "registry"
    BEHAVIOUR = "behaviour"
    CAMPAIGN = "campaign"


KINDS: Final = {
    Decider.LIST: (RuleKind.LIST,),
    Decider.SENDER: (RuleKind.REGISTRY, RuleKind.BEHAVIOUR),
    Decider.CAMPAIGN: (RuleKind.CAMPAIGN,),
}
"""Of each who decides, the kinds of its rules; the first is that of all rules without a name of their own."""
BEHAVIOUR_RULE: Final = "sender:behaviour"
"""The rule of sender behaviour, as a verdict names it; no brand of a registry may be called so."""


def kind_of(rule: str) -> tuple[Decider, RuleKind]:
    """Who decided, and the rule's kind, by its name in a verdict."""
    who = Decider(rule.partition(":")[0])
    return who, RuleKind.BEHAVIOUR if rule == BEHAVIOUR_RULE else KINDS[who][0]


class DryRun(msgspec.Struct, frozen=True, gc=False):
    """A rule in dry run, and the action that it would have led to."""

    rule: str
    action: Action


class Flag(enum.StrEnum):
    """What was done to a text, what it is, and how its sender behaves: more may come."""

    __hash__ = str.__hash__

    REPAIRED = "repaired"
    NORMALISED = "normalised"
    TRUNCATED = "truncated"
    OUTSIDE = "outside"
    ONE_TIME_CODE = "one-time-code"
    NOTICE = "notice"
    BURST = "burst"
    FAN_OUT = "fan-out"
    FIRST_CONTACT = "first-contact"
    COLD = "cold"


OF_SENDERS: Final = frozenset((Flag.BURST, Flag.FAN_OUT, Flag.FIRST_CONTACT, Flag.COLD))
"""Flags that no text has by itself."""


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
    """Verdict v1, field for field as published. Never the text, never a phone number.

    `reason` is an Unscored, a Decider, or None where the score decided. Fields from `rule` on are absent where there is
    nothing to say.
    """

    id: str
    label: str | None
    score: float | None
    threshold: float
    action: Action
    reason: str | None
    flags: tuple[str, ...]
    model: str
    source: RecordSource
    scored_at: str
    latency_ms: Latency
    language: str | None = None
    rule: str | msgspec.UnsetType = msgspec.UNSET
    dry_run: tuple[DryRun, ...] | msgspec.UnsetType = msgspec.UNSET
    campaign: str | msgspec.UnsetType = msgspec.UNSET
    campaign_size: int | msgspec.UnsetType = msgspec.UNSET


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
    sender_type: SenderType | None = None


_event = msgspec.json.Decoder(Event)
_encoder = msgspec.json.Encoder()
_MISSING_TEXT = "missing required field `text`"
_NOT_AN_OBJECT = re.compile(r"Expected `object`, got `[a-z]+`$")  # without a path: the event itself
_FIELD: Final = re.compile(r"at `\$\.([a-z_]+)`$")
_BYTE: Final = re.compile(r"\(byte (\d+)\)$")
_COLON: Final = re.compile(rb"\s*:\s*")
_BRACKETS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[{\]}]', re.DOTALL)  # a text's own do not count
_MS: Final = 1000.0
MAX_DEPTH: Final = 32
MAX_HEADERS: Final = 64
"""Limits of an event: nested braces and brackets, headers."""


def decode(record: Record, *, max_bytes: int) -> Sms:
    """Read one event. Raises UnreadableError with its reason; the record must not be a tombstone.

    Its strings are repaired where they are broken (repair.py): only its structure must be right.

    `max_bytes` bounds value and key together: both it and its verdict, which has the same key, must find room.
    """
    if record.unreadable:
        raise UnreadableError(Unreadable.UNREADABLE_BATCH)
    value = record.value or b""
    if len(value) + len(record.key or b"") > max_bytes:
        raise UnreadableError(Unreadable.TOO_LARGE)
    if len(record.headers) > MAX_HEADERS:
        raise UnreadableError(Unreadable.TOO_MANY_HEADERS)
    try:
        event, is_repaired = _event.decode(value), False
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        readable, is_repaired = repaired(value)
        event = _decode(readable, value)
    if value.count(b"[") + value.count(b"{") > MAX_DEPTH and (at := _too_deep(value)) is not None:
        raise UnreadableError(Unreadable.TOO_DEEP, at=at)
    received_at = record.timestamp if event.received_at is None else _seconds(event.received_at)
    if received_at is None:
        raise UnreadableError(Unreadable.BAD_TIMESTAMP, "received_at", _value_of("received_at", value))
    name = record.name if event.id is None or event.id == "" else str(event.id)
    if len(name) > MAX_ID:
        raise UnreadableError(Unreadable.TOO_LARGE, "id", _value_of("id", value))
    sender, recipient = _address(event.sender), _address(event.recipient)
    return Sms(name, event.text, received_at, is_repaired, sender, recipient, event.sender_type)


def _address(given: str | int | None) -> str | None:
    """A sender's or recipient's, as text; none where it is empty."""
    return None if given is None else str(given).strip() or None


def _decode(readable: bytes, sent: bytes) -> Event:
    """Read what is repaired of an event; say of what cannot be read even so why and where, by what was sent."""
    try:
        return _event.decode(readable)
    except RecursionError:
        raise UnreadableError(Unreadable.TOO_DEEP, at=_too_deep(sent)) from None
    except msgspec.ValidationError as error:
        raise _misshapen(str(error), sent) from None
    except msgspec.DecodeError as error:
        raise _undecodable(str(error), readable, sent) from None


def _too_deep(value: bytes) -> int | None:
    """Where JSON is nested deeper than it may be; the event itself is one level."""
    depth = 0
    for mark in _BRACKETS.finditer(value):
        depth += (mark[0] in (b"[", b"{")) - (mark[0] in (b"]", b"}"))
        if depth > MAX_DEPTH:
            return mark.start()
    return None


def _value_of(field: str, event: bytes) -> int | None:
    """Where a field's value begins, the last of that name; None where the name is written with escapes."""
    depth, at, name = 0, None, f'"{field}"'.encode()
    for mark in _BRACKETS.finditer(event):
        depth += (mark[0] in (b"[", b"{")) - (mark[0] in (b"]", b"}"))
        if depth == 1 and mark[0] == name and (colon := _COLON.match(event, mark.end())):
            at = colon.end()
    return at


def _misshapen(message: str, event: bytes) -> UnreadableError:
    # msgspec distinguishes its validation errors by their text only; a test holds each of these to a real event.
    if _MISSING_TEXT in message:
        return UnreadableError(Unreadable.MISSING_TEXT, "text")
    if _NOT_AN_OBJECT.search(message):
        return UnreadableError(Unreadable.NOT_AN_OBJECT)
    field = found[1] if (found := _FIELD.search(message)) else None
    return UnreadableError(Unreadable.WRONG_TYPE, field, _value_of(field, event) if field else None)


def _undecodable(message: str, readable: bytes, sent: bytes) -> UnreadableError:
    try:
        sent.decode()
    except UnicodeDecodeError as error:
        return UnreadableError(Unreadable.INVALID_UTF8, at=error.start)
    at = int(found[1]) if (found := _BYTE.search(message)) else len(readable)  # else it was truncated
    skipped = len(sent) - len(sent.removeprefix(codecs.BOM_UTF8))
    # Behind a repaired place the two count differently.
    is_certain = sent[skipped : skipped + at] == readable[:at]
    return UnreadableError(Unreadable.INVALID_JSON, at=skipped + at if is_certain else None)


def _seconds(received_at: str | float) -> float | None:
    """RFC 3339 or epoch milliseconds, to Unix seconds; None for what is no time of this century."""
    if isinstance(received_at, str):
        try:
            moment = msgspec.convert(received_at, dt.datetime)
        except msgspec.ValidationError:
            return None
        if moment.tzinfo is None:  # RFC 3339 demands an offset; a guess could be hours wrong
            return None
        seconds = moment.timestamp()
    else:
        try:
            seconds = received_at / _MS
        except OverflowError:
            return None
    return seconds if EARLIEST <= seconds <= LATEST else None


def encode_verdict(verdict: Verdict) -> bytes:
    """Verdict v1 as JSON."""
    return _encoder.encode(verdict)


def decode_verdict(value: bytes) -> Verdict:
    """Verdict v1 from JSON, for those who read the output topic. Raises msgspec.DecodeError."""
    return _verdict.decode(value)


_verdict = msgspec.json.Decoder(Verdict)

REASON: Final = "reason"
FIELD: Final = "field"
BYTE: Final = "byte-offset"
_WHERE: Final = (FIELD, BYTE)
TRUNCATED: Final = "truncated"
"""The header of a dead letter that was cut: the length of its event's value, in bytes."""
TRUNCATED_BYTES: Final = 1 << 16
"""What is left of the value of such a one."""
_ADDED: Final = (REASON, "source-topic", "source-partition", "source-offset", "failed-at")


def encode_dead_letter(letter: DeadLetter) -> Outgoing:
    """A dead letter on the wire: bytes, key and headers untouched, and seven headers after them.

    `field` and `byte-offset` are null where they are not known. They stand before the five that every version has
    written, so that older readers find those.
    """
    record = letter.record
    where = (letter.field, None if letter.at is None else str(letter.at))
    values = (letter.reason, record.topic, str(record.partition), str(record.offset), rfc3339(letter.failed_at))
    added = tuple(
        (name, None if value is None else value.encode())
        for name, value in zip(_WHERE + _ADDED, (*where, *values), strict=True)
    )
    return Outgoing(key=record.key, value=record.value, headers=record.headers + added)


def truncate_dead_letter(letter: Outgoing) -> Outgoing:
    """Return a dead letter with the beginning of its event alone, and one header more, before the seven.

    For one that its topic does not take: the whole event lies where `source-topic`, `source-partition` and
    `source-offset` say, while the input keeps it. Headers of the sender go if they alone are too large.
    """
    key, value = letter.key or b"", letter.value or b""
    last = len(_WHERE + _ADDED)
    own, added = letter.headers[:-last], letter.headers[-last:]
    if sum(len(name) + len(content or b"") for name, content in own) > TRUNCATED_BYTES:
        own = ()
    return Outgoing(
        key=None if letter.key is None else key[:TRUNCATED_BYTES],
        value=value[:TRUNCATED_BYTES],
        headers=(*own, (TRUNCATED, str(len(value)).encode()), *added),
    )


def is_truncated(letter: Record) -> bool:
    """Whether a dead letter holds only the beginning of its event."""
    last = len(_WHERE + _ADDED)
    name, size = letter.headers[-last - 1] if len(letter.headers) > last else ("", None)
    return name == TRUNCATED and (size or b"").isdigit() and len(letter.value or b"") <= TRUNCATED_BYTES


def decode_dead_letter(letter: Record) -> Outgoing:
    """The record that a dead letter was made of, byte for byte, unless it `is_truncated`.

    Raises ValueError when it is not one of ours.
    """
    added = tuple(name for name, _ in letter.headers[-len(_ADDED) :])
    if added != _ADDED:
        message = f"{letter.name} is not a dead letter: its last headers are not {', '.join(_ADDED)}"
        raise ValueError(message)
    before = letter.headers[: -len(_ADDED)]
    if tuple(name for name, _ in before[-len(_WHERE) :]) == _WHERE:  # older versions did not write these
        before = before[: -len(_WHERE)]
    return Outgoing(key=letter.key, value=letter.value, headers=before)


def dead_letter_notes(letter: Record) -> dict[str, str] | None:
    """What hamgate's own headers say of a dead letter; None when it is not one of ours."""
    found = dict(letter.headers)  # of two with one name, the last: a sender's own come first
    if not all(found.get(name) for name in _ADDED):
        return None
    return {name: (found[name] or b"").decode(errors="replace") for name in _ADDED}


def rfc3339(seconds: float) -> str:
    """Unix seconds as RFC 3339 in UTC, to the millisecond."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
