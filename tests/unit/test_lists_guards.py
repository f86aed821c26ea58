"""Ways to lock out everybody, each refused by name and with what to do."""

from __future__ import annotations

import datetime as dt

import pytest

from tests.listed import HASHING, NOW, listed, message
from worker.broker import KafkaLink
from worker.commands.list_changes import Lists
from worker.policy.lists.entries import EntryError, Match, What
from worker.policy.lists.guards import (
    LEAST,
    Counted,
    checked,
    count,
    require_future,
    require_share,
)


def refusal(what: str, value: str, match: str = "exact") -> str:
    with pytest.raises(EntryError) as refused:
        checked(What(what), Match(match), value)
    return str(refused.value)


@pytest.mark.parametrize("what", What)
@pytest.mark.parametrize("value", ["", " ", "\t"])
def test_an_empty_value_is_refused(what: str, value: str) -> None:
    assert "would match everything" in refusal(what, value)


@pytest.mark.parametrize(("what", "value"), [("sender", "*"), ("sender", "My*"), ("recipient", "+44?"),
                                             ("link-host", "*"), ("link-host", "*.*"), ("link-host", "*."),
                                             ("number", "+44*"), ("campaign", "*")])  # fmt: skip
def test_a_wildcard_is_refused(what: str, value: str) -> None:
    assert refusal(what, value).startswith("wildcard")


@pytest.mark.parametrize(("value", "match"), [("m", "prefix"), ("my", "prefix"), ("k", "suffix"), ("@", "suffix"),
                                              ("+4477"[:4], "prefix"), ("0", "prefix")])  # fmt: skip
def test_a_short_prefix_or_suffix_is_refused(value: str, match: str) -> None:
    assert refusal("sender", value, match).startswith("short")


@pytest.mark.parametrize("match", ["exact", "suffix"])
@pytest.mark.parametrize(
    "value", ["com", "co.uk", "github.io", ".com", "*.co.uk", "\u0440\u0444", "xn--p1ai", "CO.UK."]
)
def test_a_public_suffix_is_refused(value: str, match: str) -> None:
    said = refusal("link-host", value, match)

    assert "public suffix" in said or (value.startswith("*") and match == "exact" and said.startswith("wildcard"))


def test_a_shortener_or_everybodys_host_is_refused_unless_forced() -> None:
    assert refusal("link-host", "bit.ly").startswith("shared host")
    assert refusal("link-host", "Google.com", "suffix").startswith("shared host")
    assert checked(What.LINK_HOST, Match.EXACT, "bit.ly", is_forced=True).text == "bit.ly"


@pytest.mark.parametrize("what", ["sender", "recipient", "number"])
@pytest.mark.parametrize("value", ["+44", "+4", "+1", "0044", "+8", "+852"])
def test_a_countrys_calling_code_is_refused(what: str, value: str) -> None:
    assert refusal(what, value, "prefix").startswith("calling code")


@pytest.mark.parametrize(("author", "reason"), [("", "why"), (" ", "why"), ("ana", ""), ("ana", "  ")])
def test_an_entry_without_author_or_reason_is_refused(author: str, reason: str) -> None:
    with pytest.raises(EntryError, match="--author"):
        checked(What.SENDER, Match.EXACT, "MyBank").entry(
            HASHING, action="block", author=author, reason=reason, now=NOW
        )


def test_an_expiry_in_the_past_is_refused() -> None:
    with pytest.raises(EntryError, match="expiry in the past"):
        require_future(dt.datetime.fromtimestamp(NOW, dt.UTC), NOW)
    require_future(None, NOW)
    require_future(dt.datetime.fromtimestamp(NOW + 1, dt.UTC), NOW)


def test_a_block_that_hits_more_than_the_share_is_refused_with_the_share() -> None:
    sample = [message(sender="MyBank" if each % 10 == 0 else f"+44770090{each:04}") for each in range(LEAST)]
    found = count([listed("block", "sender", "MyBank")], HASHING, sample, NOW)

    with pytest.raises(EntryError, match=r"share: it would block 10\.0% of the last hour's messages"):
        found.require_below(0.05)
    found.require_below(0.1)


def test_the_share_of_an_import_is_that_of_all_its_blocks_together() -> None:
    sample = [message(sender=f"bank{each % 25}") for each in range(LEAST)]
    entries = [listed("block", "sender", f"bank{each}") for each in range(2)]

    for each in entries:
        count([each], HASHING, sample, NOW).require_below(0.05)
    with pytest.raises(EntryError, match="share"):
        count(entries, HASHING, sample, NOW).require_below(0.05)


@pytest.mark.parametrize("share", [0.0, -1.0, 0.51, 1.0, 5.0, float("nan"), float("inf")])
def test_the_share_cannot_be_set_to_all(share: float) -> None:
    with pytest.raises(EntryError, match=r"up to 0\.5"):
        require_share(share)


def test_too_few_messages_say_nothing_and_it_is_said() -> None:
    few = Counted(LEAST - 1, LEAST - 1)

    few.require_below(0.05)
    assert "too few" in str(few)
    assert str(Counted(20_000, 70)) == "0.35% of the last hour's messages (70 of a sample of 20,000)"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("action,what,value\nblock,sender,ok\nblock,link-host,co.uk\n", "line 3: 'co.uk' is a public suffix"),
        ("action,what,value\nblock,sender\n", "line 2: not 3 fields"),
        ("action,what,value\nburn,sender,x\n", "line 2: Invalid enum value"),
        ("action,what,value,colour\nblock,sender,x,red\n", "line 2: no such column: colour"),
        ("action,what,value\nblock,sender,MyBank\nallow,sender,MYBANK\n", "line 3: matches the same as line 2"),
        ("action,what,value,until\nblock,sender,x,2020-01-01T00:00:00Z\n", "line 2: expiry in the past"),
        ('{"action": "block"}\n', "line 1: no what"),
        ('{"action": "block"\n', "line 1: not JSON"),
        ('{"action":"block","what":"sender","value":"#%s","key":"12345678"}' % ("0" * 32), "line 1: hashed by a key"),
        ('{"action":"block","what":"sender","value":5}', "line 1: Expected `str`"),
        ("", "no lines"),
    ],
)
def test_an_import_with_a_wrong_line_names_it_and_writes_nothing(text: str, wrong: str) -> None:
    nowhere = Lists(KafkaLink("127.0.0.1:1"), "sms.lists", "sms.events", 65_536, HASHING, NOW)

    with pytest.raises(EntryError) as refused:
        nowhere.imported(text, form=None, author="ana", reason="a test", share=0.05, is_forced=False)

    assert wrong in str(refused.value)
    assert "nothing" in str(refused.value)
