"""An entry has one id and one spelling, holds nothing personal in clear, and what is no entry is skipped by name."""

from __future__ import annotations

import json
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.listed import HASHING, NOW, listed, message
from worker.messages import Record
from worker.metrics import LIST_ACTIONS, LISTED
from worker.policy.hashing import Hashing
from worker.policy.lists.entries import (
    ACTIONS,
    EntryError,
    Match,
    UnreadableEntryError,
    What,
    decode,
    encode,
    key_names,
    target,
)
from worker.policy.lists.following import Listed
from worker.policy.lists.matching import Snapshot

GOOD = listed("block", "sender", "MyBank")


def record(offset: int, key: bytes | None, value: bytes | None) -> Record:
    return Record("sms.lists", 0, offset, NOW, key, value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("sender", "+44 7700 900123"), ("sender", "00447700900123")),
        (("sender", "MyBank"), ("sender", "MYBANK ")),
        (("recipient", "+44 7700 900123"), ("recipient", "447700900123")),
        (("link-host", "b\u00fccher.example"), ("link-host", "XN--BCHER-KVA.example.")),
        (("link-host", "*.evil.example", "suffix"), ("link-host", "Evil.example", "suffix")),
        (("number", "+44 (0)9061 701461"), ("number", "0044 9061701461")),
        (("number", "+44 9061", "prefix"), ("number", "00449061", "prefix")),
    ],
)
def test_what_is_typed_in_two_spellings_is_one_entry(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert listed("block", *one).name == listed("flag", *other).name  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("what", "value", "match"),
    [
        ("sender", "+447700900123", "exact"),
        ("sender", "+4477009", "prefix"),
        ("sender", "who@mail.example", "exact"),
        ("sender", "@mail.example", "suffix"),
        ("recipient", "+447700900123", "exact"),
        ("recipient", "MyBank", "exact"),
        ("recipient", "who@mail.example", "exact"),
        ("number", "+449061701461", "exact"),
        ("number", "+449061701", "prefix"),
    ],
)
def test_what_is_personal_stands_nowhere_in_the_record(what: str, value: str, match: str) -> None:
    key, said = encode(listed("block", what, value, match))

    plain = value.removeprefix("+").casefold().encode()
    assert plain not in key.lower() + said.lower()
    assert b"9061" not in re.sub(rb"[0-9a-f]{32}", b"", key + said)
    assert json.loads(said)["key"] == key_names(HASHING)[0]


def test_the_operators_own_words_stand_in_clear() -> None:
    assert listed("block", "sender", "MyBank").name == "sender:exact:mybank"
    assert listed("block", "sender", "72655").name == "sender:exact:72655"
    assert listed("block", "link-host", "evil.example", "suffix").name == "link-host:suffix:evil.example"


def test_a_rule_names_twelve_digits_and_no_value() -> None:
    assert re.fullmatch(r"list:sender:[0-9a-f]{12}", GOOD.rule)
    assert listed("allow", "sender", "mybank").rule == GOOD.rule


@pytest.mark.parametrize("change", [{}, {"until": NOW + 1}, {"dry_run": True}])
def test_a_record_is_read_as_it_was_written(change: dict[str, float]) -> None:
    for what, value, match in (("sender", "+44770", "prefix"), ("number", "+449061701461", "exact")):
        entry = listed("flag", what, value, match, **change)  # type: ignore[arg-type]

        assert decode(*encode(entry)) == entry


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": ""},
        {"value": "*", "match": "suffix"},
        {"value": "m", "match": "prefix"},
        {"value": "MyBank"},
        {"value": "447700900123"},
        {"value": "who@mail.example"},
        {"what": "recipient"},
        {"what": "link-host", "value": "co.uk", "match": "suffix"},
        {"what": "link-host", "value": "com"},
        {"what": "link-host", "value": "https://evil.example"},
        {"what": "campaign", "match": "prefix"},
        {"what": "everything"},
        {"action": "explode"},
        {"author": " "},
        {"reason": ""},
        {"reason": "complaint of +44 7700 900123"},
        {"until": "tomorrow"},
        {"value": "#" + "0" * 31, "key": "00000000"},
        {"value": "#" + "0" * 32},
        {"value": "#" + "0" * 32, "key": "00000000", "match": "prefix", "length": 2},
        {"value": "#" + "0" * 32, "key": "00000000", "length": 4},
        {"value": "mybank", "length": 7},
        {"value": "mybank", "national_length": 7},
        {"value": "mybank", "national": "#" + "0" * 32},
        {"value": "mybank", "nested": [[]]},
    ],
)
def test_a_record_that_is_no_entry_is_skipped_and_the_others_stay(wrong: dict[str, object]) -> None:
    row = msgspec.to_builtins(GOOD) | {"match": "exact"} | wrong
    key = f"{row['what']}:{row['match']}:{row['value']}".encode()
    topic = Listed(Snapshot(HASHING))

    changed = topic.read(
        [record(0, *encode(GOOD)), record(1, key, json.dumps(row).replace("[[]]", "[" * 100_000).encode())], NOW
    )

    assert changed
    assert [*topic.entries.values()] == [GOOD]
    assert [*topic.unreadable] == [(0, 1)]
    assert "7700" not in topic.unreadable[0, 1]


@given(st.binary() | st.none(), st.binary())
def test_bytes_that_are_no_entry_raise_that_and_nothing_else(key: bytes | None, value: bytes) -> None:
    with pytest.raises(UnreadableEntryError):
        decode(key, value)


def test_a_key_that_is_not_the_entrys_is_refused_as_no_tombstone_would_remove_it() -> None:
    with pytest.raises(UnreadableEntryError, match="key"):
        decode(b"sender:exact:other", encode(GOOD)[1])


def test_a_tombstone_removes_and_an_entry_added_again_replaces() -> None:
    topic, again = Listed(Snapshot(HASHING)), listed("allow", "sender", "MYBANK")

    topic.read([record(0, *encode(GOOD)), record(1, *encode(again))], NOW)
    assert [*topic.entries.values()] == [again]
    assert +topic.counts == {("sender", "allow"): 1}
    topic.read([record(2, encode(GOOD)[0], None), record(3, b"never:there", None)], NOW)
    assert not topic.entries
    assert not +topic.counts
    assert not topic.snapshot.tables


def test_an_entry_is_forgotten_once_it_has_expired_and_not_the_one_that_replaced_it() -> None:
    topic = Listed(Snapshot(HASHING))
    topic.read([record(0, *encode(listed("block", "sender", "MyBank", until=NOW + 5)))], NOW)
    topic.read([record(1, *encode(listed("block", "sender", "other", until=NOW + 5)))], NOW)
    topic.read([record(2, *encode(listed("flag", "sender", "other")))], NOW)

    assert topic.snapshot.matching(message(sender="MyBank"), NOW)
    assert topic.read([], NOW + 5)
    assert not topic.read([], NOW + 6)
    assert [entry.value for entry in topic.entries.values()] == ["other"]
    assert +topic.counts == {("sender", "flag"): 1}


@given(st.sampled_from(What), st.sampled_from(Match), st.text())
def test_whatever_is_typed_is_an_entry_or_refused_in_words(what: What, match: Match, typed: str) -> None:
    try:
        entry = target(what, match, typed).entry(HASHING, action="block", author="ana", reason="a test", now=NOW)
    except EntryError as refusal:
        assert str(refusal)
    else:
        assert decode(*encode(entry)) == entry


def test_the_names_of_keys_do_not_tell_the_keys() -> None:
    assert key_names(HASHING) != key_names(Hashing((b"another key of 16 or more",)))


def test_the_series_know_every_kind_of_entry() -> None:
    assert (tuple(What), tuple(ACTIONS)) == (LISTED, LIST_ACTIONS)
