"""Bytes to values and back: what is read, what is refused and why, what is published."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.messages import (
    MAX_DEPTH,
    MAX_HEADERS,
    MAX_ID,
    VERDICT_BYTES,
    Action,
    DeadLetter,
    Flag,
    Latency,
    Record,
    RecordSource,
    Unreadable,
    UnreadableError,
    Unscored,
    Verdict,
    dated,
    decode,
    decode_dead_letter,
    decode_verdict,
    encode_dead_letter,
    encode_verdict,
    rfc3339,
)

LIMIT = 4096
NOW = 1_764_000_000.0


def record(value: bytes | None, **changes: Any) -> Record:
    given = {"topic": "sms.events", "partition": 3, "offset": 7, "timestamp": NOW, "key": b"k", "value": value}
    return Record(**(given | changes))


def reason(value: bytes) -> Unreadable:
    with pytest.raises(UnreadableError) as caught:
        decode(record(value), max_bytes=LIMIT)
    return caught.value.reason


def test_the_text_is_all_an_event_needs() -> None:
    sms = decode(record(b'{"text": "hello"}'), max_bytes=LIMIT)

    assert (sms.id, sms.text, sms.received_at) == ("sms.events:3:7", "hello", NOW)


def test_every_optional_field_is_taken_and_an_unknown_one_ignored() -> None:
    event = {
        "id": "m-1", "text": "hi", "sender": "+100", "recipient": 12345, "received_at": 1_764_000_000_500,
        "direction": "mo", "lang": "en", "network": "310-260", "campaign": {"nested": [1, 2, {"deep": None}]},
    }  # fmt: skip

    sms = decode(record(json.dumps(event).encode()), max_bytes=LIMIT)

    assert (sms.id, sms.received_at) == ("m-1", NOW + 0.5)


@pytest.mark.parametrize(
    ("received_at", "seconds"),
    [
        ('"2025-11-24T16:00:00Z"', 1_764_000_000.0),
        ('"2025-11-24T17:00:00.250+01:00"', 1_764_000_000.25),
        ("1764000000000", 1_764_000_000.0),
        ("1764000000000.5", 1_764_000_000.0005),
        ("null", NOW),
    ],
)
def test_a_time_is_rfc_3339_or_epoch_milliseconds(received_at: str, seconds: float) -> None:
    sms = decode(record(f'{{"text": "x", "received_at": {received_at}}}'.encode()), max_bytes=LIMIT)

    assert sms.received_at == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize("name", ["null", '""'])
def test_an_empty_id_is_as_good_as_none(name: str) -> None:
    assert decode(record(f'{{"text": "x", "id": {name}}}'.encode()), max_bytes=LIMIT).id == "sms.events:3:7"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", Unreadable.INVALID_JSON),
        (b"not json", Unreadable.INVALID_JSON),
        (b'{"text": "cut', Unreadable.INVALID_JSON),
        (b'{"text": "two"} {"text": "events"}', Unreadable.INVALID_JSON),
        (b'{"text": "lone \\ud83d surrogate", }', Unreadable.INVALID_JSON),
        (b'{"text": "\xff\xfe", "id": [1]}', Unreadable.WRONG_TYPE),
        (b'{"text": "x"\xff}', Unreadable.INVALID_UTF8),
        ('{"text": "x"}'.encode("utf-16"), Unreadable.INVALID_UTF8),
        (b'\xef\xbb\xbf{"text": 5}', Unreadable.WRONG_TYPE),
        (b'\xef\xbb\xbf\xef\xbb\xbf{"text": "x"}', Unreadable.INVALID_JSON),
        (b"\xff\xfe\x00\x01", Unreadable.INVALID_UTF8),
        (b"[]", Unreadable.NOT_AN_OBJECT),
        (b'"text"', Unreadable.NOT_AN_OBJECT),
        (b"null", Unreadable.NOT_AN_OBJECT),
        (b"17", Unreadable.NOT_AN_OBJECT),
        (b"{}", Unreadable.MISSING_TEXT),
        (b'{"Text": "x"}', Unreadable.MISSING_TEXT),
        (b'{"text": null}', Unreadable.WRONG_TYPE),
        (b'{"text": 5}', Unreadable.WRONG_TYPE),
        (b'{"text": ["x"]}', Unreadable.WRONG_TYPE),
        (b'{"text": "x", "id": {}}', Unreadable.WRONG_TYPE),
        (b'{"text": "x", "lang": 3}', Unreadable.WRONG_TYPE),
        (b'{"text": "x", "received_at": "yesterday"}', Unreadable.BAD_TIMESTAMP),
        (b'{"text": "x", "received_at": "2025-11-24T16:00:00"}', Unreadable.BAD_TIMESTAMP),
        (b'{"text": "x", "received_at": 1764000000}', Unreadable.BAD_TIMESTAMP),
        (b'{"text": "x", "received_at": 1e300}', Unreadable.BAD_TIMESTAMP),
        (b'{"text": "x", "received_at": -1}', Unreadable.BAD_TIMESTAMP),
        (b'{"text": "x", "deep": ' + b"[" * 2000, Unreadable.TOO_DEEP),
        (b'{"text": "' + b"x" * LIMIT + b'"}', Unreadable.TOO_LARGE),
        (b'{"text": "hi", "id": "' + b"i" * (MAX_ID + 1) + b'"}', Unreadable.TOO_LARGE),
    ],
)
def test_what_cannot_be_read_has_its_reason(value: bytes, expected: Unreadable) -> None:
    assert reason(value) is expected


@pytest.mark.parametrize(
    ("written", "text", "is_repaired"),
    [
        (b"win \\ud83d", "win \ufffd", True),
        (b"\\uD83D win", "\ufffd win", True),
        (b"\\ude00 win", "\ufffd win", True),
        (b"\\ude00\\ud83d", "\ufffd\ufffd", True),
        (b"\\ud83d\\ud83d\\ude00", "\ufffd\U0001f600", True),
        (b"\\ud83d\\ude00 \\ud83d", "\U0001f600 \ufffd", True),
        (b"\\\\ud83d \\\\\\ud83d", "\\ud83d \\\ufffd", True),
        (b"\xed\xa0\xbd\xed\xb8\x80", "\U0001f600", False),
        (b"\xed\xa0\xbd win \xed\xb8\x80", "\ufffd win \ufffd", True),
        (b"caf\xe9 \xf0\x9f\x98", "caf\ufffd \ufffd", True),
        (b"\xff\xfe", "\ufffd\ufffd", True),
    ],
)
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_what_is_broken_in_a_text_is_repaired_and_read(
    written: bytes, text: str, *, is_repaired: bool, bom: bytes
) -> None:
    sms = decode(record(bom + b'{"text": "' + written + b'", "id": "m"}'), max_bytes=LIMIT)

    assert (sms.text, sms.id, sms.is_repaired) == (text, "m", is_repaired)


@pytest.mark.parametrize("field", ["id", "sender", "lang", "unknown", "\\ud83d"])
def test_no_other_string_of_an_event_keeps_it_from_being_read(field: str) -> None:
    sms = decode(record(f'{{"text": "x", "{field}": "\\ud83d"}}'.encode()), max_bytes=LIMIT)

    assert (sms.text, sms.is_repaired) == ("x", True)


@given(text=st.text(st.characters(exclude_categories=())), is_escaped=st.booleans())
def test_whatever_a_sender_writes_is_read(text: str, *, is_escaped: bool) -> None:
    value = json.dumps({"text": text}, ensure_ascii=is_escaped).encode("utf-8", "surrogatepass")

    read = decode(record(value), max_bytes=1 << 20).text

    assert read == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@pytest.mark.parametrize(
    ("value", "field", "at"),
    [
        (b'{"text": 5}', "text", 9),
        (b'{"id": "\\"text\\": 1", "more": {"text": "x"}, "text" :\n null}', "text", 55),
        (b'\xef\xbb\xbf{"text": 5}', "text", 12),
        (b'{"\\u0074ext": 5}', "text", None),
        (b'{"text": "x", "id": {}}', "id", 20),
        (b'{"text": "x", "received_at": "yesterday"}', "received_at", 29),
        (b'{"text": "x", "received_at": -1}', "received_at", 29),
        (b'{"text": "hi", "id": "' + b"i" * (MAX_ID + 1) + b'"}', "id", 21),
        (b"{}", "text", None),
        (b"[]", None, None),
        (b"not json", None, 4),
        (b'{"text": "cut', None, 13),
        (b'\xef\xbb\xbf{"text": "cut', None, 16),
        (b'{"text": "\\ud83d", }', None, None),
        (b'{"text": "x", }', None, 14),
        (b'{"text": "x"\xff}', None, 12),
        (b'{"text": "x", "deep": ' + b"[" * 2000, None, 22 + MAX_DEPTH - 1),
        (b'{"text": "x", "deep": ' + b"[" * 40 + b"]" * 40 + b"}", None, 22 + MAX_DEPTH - 1),
        (b'{"text": "' + b"x" * LIMIT + b'"}', None, None),
    ],
)
def test_what_cannot_be_read_names_the_field_and_the_byte_as_far_as_they_are_known(
    value: bytes, field: str | None, at: int | None
) -> None:
    with pytest.raises(UnreadableError) as caught:
        decode(record(value), max_bytes=LIMIT)

    assert (caught.value.fault.field, caught.value.fault.at) == (field, at)


def test_an_error_holds_nothing_of_the_event() -> None:
    with pytest.raises(UnreadableError) as caught:
        decode(record(b'{"text": 5, "sender": "+4479460000"}'), max_bytes=LIMIT)

    assert str(caught.value) == "wrong-type"
    assert caught.value.__cause__ is None


@given(st.binary(max_size=300))
@example(b"\xef\xbb\xbf{}")
def test_any_bytes_are_read_or_refused(value: bytes) -> None:
    try:
        sms = decode(record(value), max_bytes=LIMIT)
    except UnreadableError as error:
        assert error.reason in Unreadable
    else:
        assert sms.id


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(["id", "text", "sender", "recipient", "received_at", "direction", "lang", "network", "more"])


@given(st.dictionaries(fields, json_values, max_size=9))
def test_any_json_object_is_read_or_refused(event: dict[str, Any]) -> None:
    try:
        sms = decode(record(json.dumps(event).encode()), max_bytes=LIMIT)
    except UnreadableError as error:
        assert error.reason in Unreadable
    else:
        assert sms.text == event["text"]


@given(st.text())
def test_a_text_arrives_as_it_was_sent(text: str) -> None:
    value = msgspec.json.encode({"text": text})

    assert decode(record(value), max_bytes=1 << 20).text == text


VERDICT = Verdict(
    id="m-1",
    label="spam",
    score=0.987,
    threshold=0.5,
    action=Action.BLOCK,
    reason=None,
    flags=("normalised", "truncated"),
    model="nano@0123456789ab",
    source=RecordSource("sms.events", 3, 7, 1_764_000_000_000),
    scored_at="2025-11-24T16:00:00.000Z",
    latency_ms=Latency(1.5, 2.5, 3.5, 9.0),
)


def test_a_verdict_has_version_ones_fields_and_no_other() -> None:
    shown = json.loads(encode_verdict(VERDICT))

    assert list(shown) == [
        "id", "label", "score", "threshold", "action", "reason", "flags", "model", "source", "scored_at", "latency_ms",
        "language",
    ]  # fmt: skip
    assert list(shown["source"]) == ["topic", "partition", "offset", "timestamp"]
    assert list(shown["latency_ms"]) == ["broker", "queue", "inference", "total"]


def test_a_verdict_survives_the_wire() -> None:
    assert decode_verdict(encode_verdict(VERDICT)) == VERDICT


def test_a_verdict_written_before_there_were_languages_is_read() -> None:
    shown = json.loads(encode_verdict(msgspec.structs.replace(VERDICT, language="en")))
    del shown["language"]

    assert decode_verdict(json.dumps(shown).encode()) == VERDICT


def test_a_verdict_without_a_score_says_why() -> None:
    verdict = msgspec.structs.replace(VERDICT, label=None, score=None, action=Action.UNSCORED, reason=Unscored.DEADLINE)

    shown = json.loads(encode_verdict(verdict))

    assert (shown["label"], shown["score"], shown["action"], shown["reason"]) == (None, None, "unscored", "deadline")


headers = st.lists(st.tuples(st.text(max_size=9), st.none() | st.binary(max_size=9)), max_size=4).map(tuple)


@given(st.none() | st.binary(max_size=40), st.binary(max_size=40), headers, st.sampled_from(Unreadable))
def test_a_dead_letter_can_be_turned_back_into_its_record(
    key: bytes | None, value: bytes, given_headers: Any, why: Unreadable
) -> None:
    encoded = encode_dead_letter(DeadLetter(record(value, key=key, headers=given_headers), why, failed_at=NOW))
    letter = record(encoded.value, key=encoded.key, headers=encoded.headers)

    again = decode_dead_letter(letter)

    assert (encoded.key, encoded.value) == (again.key, again.value) == (key, value)
    assert again.headers == given_headers


def test_a_dead_letter_says_where_it_came_from_and_why() -> None:
    encoded = encode_dead_letter(
        DeadLetter(record(b"?", headers=(("trace", b"t"),)), Unreadable.INVALID_JSON, failed_at=NOW, at=0)
    )

    assert encoded.headers == (
        ("trace", b"t"),
        ("field", None),
        ("byte-offset", b"0"),
        ("reason", b"invalid-json"),
        ("source-topic", b"sms.events"),
        ("source-partition", b"3"),
        ("source-offset", b"7"),
        ("failed-at", b"2025-11-24T16:00:00.000Z"),
    )


def test_a_dead_letter_of_an_older_version_is_turned_back_too() -> None:
    encoded = encode_dead_letter(DeadLetter(record(b"?", headers=(("field", b"mine"),)), Unreadable.TOO_DEEP, NOW))
    older = (encoded.headers[0], *encoded.headers[3:])

    assert decode_dead_letter(record(b"?", headers=older)).headers == (("field", b"mine"),)


def test_what_is_no_dead_letter_is_not_turned_back() -> None:
    with pytest.raises(ValueError, match=r"sms\.events:3:7 is not a dead letter"):
        decode_dead_letter(record(b"{}", headers=(("reason", b"mine"),)))


def test_times_are_shown_in_utc_to_the_millisecond() -> None:
    assert rfc3339(1_764_000_000.1239) == "2025-11-24T16:00:00.123Z"
    assert dt.datetime.fromisoformat(rfc3339(0.0)) == dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def test_a_key_counts_as_part_of_its_event() -> None:
    with pytest.raises(UnreadableError, match="too-large"):
        decode(record(b'{"text": "hi"}', key=bytes(LIMIT)), max_bytes=LIMIT)


def test_no_verdict_is_larger_than_it_may_be() -> None:
    topic = "t" * 249
    largest = Verdict(
        id="\x01" * MAX_ID, label="l" * 64, score=0.123456, threshold=0.1234567890123456, action=Action.UNSCORED,
        reason=Unscored.NON_FINITE_SCORE, flags=tuple(Flag), language="sw", model="m" * 64 + "@" + "d" * 12,
        source=RecordSource(topic, 2**31, 2**63, 2**53), scored_at=rfc3339(NOW), latency_ms=Latency(*[1e10 + 0.01] * 4),
    )  # fmt: skip

    assert len(encode_verdict(largest)) < VERDICT_BYTES


def nested(depth: int) -> bytes:
    return b'{"text": "[[[[{{{{ \\" [[[[", "more": ' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def test_an_event_may_be_nested_so_deep_and_brackets_in_a_text_do_not_count() -> None:
    assert decode(record(nested(MAX_DEPTH)), max_bytes=LIMIT).text.startswith("[[[[")

    with pytest.raises(UnreadableError, match="too-deep"):
        decode(record(nested(MAX_DEPTH + 1)), max_bytes=LIMIT)


def test_an_event_may_have_so_many_headers() -> None:
    def with_headers(count: int) -> Record:
        return Record("t", 0, 0, 0.0, None, b'{"text": "x"}', (("h", b""),) * count)

    assert decode(with_headers(MAX_HEADERS), max_bytes=LIMIT).text == "x"
    with pytest.raises(UnreadableError, match="too-many-headers"):
        decode(with_headers(MAX_HEADERS + 1), max_bytes=LIMIT)


@pytest.mark.parametrize("stamp", [-0.001, 0.0, 1_700_000.0, NOW + 3601, 1e14])
def test_a_timestamp_that_cannot_be_a_time_is_replaced_and_kept_aside(stamp: float) -> None:
    record = dated(Record("in", 0, 7, stamp, None, b"{}"), NOW)

    assert (record.timestamp, record.stamped, record.broker_ms) == (NOW, stamp, round(stamp * 1000))


@pytest.mark.parametrize("stamp", [NOW - 86_400 * 365, NOW - 1, NOW, NOW + 60])
def test_an_old_record_is_old_and_clocks_may_differ(stamp: float) -> None:
    record = Record("in", 0, 7, stamp, None, b"{}")

    assert dated(record, NOW) is record
    assert record.broker_ms == round(stamp * 1000)


def test_a_record_of_a_batch_that_could_not_be_read_is_unreadable_and_no_tombstone() -> None:
    record = Record("t", 0, 7, 1_700_000_000.0, None, None, unreadable="batch t:0:7: its gzip ends too early")

    with pytest.raises(UnreadableError, match="unreadable-batch"):
        decode(record, max_bytes=1000)
    assert not record.is_tombstone
    assert Record("t", 0, 7, 1_700_000_000.0, None, None).is_tombstone
