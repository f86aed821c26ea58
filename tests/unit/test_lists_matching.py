"""Which entry decides: one fixed order, the same as a slow reading of the entries one by one."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.listed import HASHING, NOW, listed, message, snapshot
from worker.messages import Action, Decider
from worker.policy.addresses import normal
from worker.policy.links import hosts
from worker.policy.lists.entries import ACTIONS, ListEntry, Match, What
from worker.policy.lists.finding import Found, numbers
from worker.policy.lists.matching import ListRules, Snapshot, rank
from worker.policy.order import Context, Scored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.policy.facts import Facts

SENDERS = ["MyBank", "mybank-2", "72655", "+447700900123", "+447700900999", "who@evil.example"]
HOSTS = ["evil.example", "a.evil.example", "b.a.evil.example", "good.example"]
NUMBERS = ["+449061701461", "+449061709999", "+12025550123"]

typed = st.one_of(
    st.tuples(st.just("sender"), st.sampled_from(SENDERS), st.just("exact")),
    st.tuples(st.just("sender"), st.sampled_from(["myb", "mybank", "+4477", "+447700900"]), st.just("prefix")),
    st.tuples(st.just("sender"), st.sampled_from(["ank", "@evil.example"]), st.just("suffix")),
    st.tuples(st.just("recipient"), st.sampled_from(["+447700900123", "+447700900555"]), st.just("exact")),
    st.tuples(st.just("recipient"), st.sampled_from(["+44770", "+447700900"]), st.just("prefix")),
    st.tuples(st.just("campaign"), st.sampled_from(["00000000000000c1", "00000000000000c2"]), st.just("exact")),
    st.tuples(st.just("link-host"), st.sampled_from(HOSTS), st.sampled_from(["exact", "suffix"])),
    st.tuples(st.just("number"), st.sampled_from(NUMBERS), st.just("exact")),
    st.tuples(st.just("number"), st.sampled_from(["+44906", "+4490617014"]), st.just("prefix")),
)
entries = st.builds(
    lambda what, action, until, dry_run: listed(action, *what, until=until, dry_run=dry_run),
    typed, st.sampled_from([*ACTIONS]), st.sampled_from([None, NOW - 1, NOW, NOW + 1]), st.booleans(),
)  # fmt: skip
some = st.lists(entries, max_size=12, unique_by=lambda entry: entry.name)
words = st.sampled_from([*HOSTS, "https://evil.example@good.example/", "hello", "09061701461", "+44 9061 709999", "."])
messages = st.builds(
    lambda text, sender, recipient, campaign: message(
        " ; ".join(text), sender=sender, recipient=recipient, campaign=campaign
    ),
    st.lists(words, max_size=3), st.sampled_from([None, *SENDERS, "+44 7700 900123"]),
    st.sampled_from([None, "+447700900123", "00447700900777"]), st.sampled_from([None, "00000000000000c1", "c-0009"]),
)  # fmt: skip


class SlowSnapshot:
    """The reference: every entry is asked by itself."""

    def __init__(self, entries: list[ListEntry]) -> None:
        self.entries = [entry for entry in entries if not entry.has_expired(NOW)]

    def matching(self, facts: Facts) -> set[str]:
        return {entry.name for entry in self.entries if self.matches(entry, facts)}

    def matches(self, entry: ListEntry, facts: Facts) -> bool:
        if entry.what is What.CAMPAIGN:
            return facts.campaign == entry.value
        if entry.what in (What.SENDER, What.RECIPIENT):
            address = facts.sender if entry.what is What.SENDER else facts.recipient
            return bool(address) and self.is_like(entry, normal(address or ""))
        by_host = [Found((host,), is_certain=True) for host in hosts(facts.text)]
        there = by_host if entry.what is What.LINK_HOST else numbers(facts.text)
        if entry.action == "allow":
            return self.allows(entry, there)
        return any(self.is_like(entry, each) for one in there for each in one.spellings)

    def allows(self, entry: ListEntry, there: Sequence[Found]) -> bool:
        allowing = [each for each in self.entries if each.what is entry.what and each.action == "allow"]
        counting = [each for each in allowing if entry.dry_run or not each.dry_run]
        must = [
            one.spellings[0] for one in there
            if one.is_certain or any(self.is_like(each, one.spellings[0]) for each in allowing)
        ]  # fmt: skip
        return any(self.is_like(entry, each) for each in must) and all(
            any(self.is_like(other, each) for other in counting) for each in must
        )

    def is_like(self, entry: ListEntry, text: str) -> bool:
        if not entry.is_hashed:
            if entry.what is What.LINK_HOST and entry.match is Match.SUFFIX:
                return text == entry.value or text.endswith(f".{entry.value}")
            return {
                Match.EXACT: text == entry.value,
                Match.PREFIX: text.startswith(entry.value) and not self.is_personal(text),
                Match.SUFFIX: text.endswith(entry.value) and not self.is_personal(text),
            }[entry.match]
        for value, length in ((entry.value, entry.length), (entry.national, entry.national_length)):
            if value is None or length > len(text):
                continue
            part = text[-length:] if entry.match is Match.SUFFIX else text[:length] if length else text
            if f"#{HASHING.of(f'list:{entry.what}:{entry.match}', part)}" == value:
                return True
        return False

    def is_personal(self, text: str) -> bool:
        return "@" in text or (text.isdigit() and len(text) >= 7)


@settings(max_examples=400)
@given(some, messages)
def test_the_snapshot_finds_what_a_slow_reading_finds(entries: list[ListEntry], facts: Facts) -> None:
    found = snapshot(*entries).matching(facts, NOW)

    assert {entry.name for entry in found} == SlowSnapshot(entries).matching(facts)


@given(some, some, messages)
def test_a_snapshot_that_was_changed_is_the_one_made_anew(
    before: list[ListEntry], after: list[ListEntry], facts: Facts
) -> None:
    changed = snapshot(*before).changed(before, after)

    assert changed.tables == snapshot(*after).tables
    assert changed.rulings(facts, NOW) == snapshot(*after).rulings(facts, NOW)


@given(some)
def test_precedence_is_a_total_order(entries: list[ListEntry]) -> None:
    assert len({rank(entry) for entry in entries}) == len(entries)
    for one, other in itertools.combinations(sorted(entries, key=rank), 2):
        assert rank(one) < rank(other)


@given(some, messages, st.sampled_from([Action.DELIVER, Action.FLAG, Action.BLOCK, Action.UNSCORED]))
def test_a_list_never_loses_to_a_score(entries: list[ListEntry], facts: Facts, action: Action) -> None:
    lists = ListRules(lambda: snapshot(*entries), clock=lambda: NOW)
    context = Context([lists])
    context.begin(NOW)

    decided = context.decide(facts, Scored("spam", 0.9, action, None))

    real = [entry for entry in snapshot(*entries).matching(facts, NOW) if not entry.dry_run]
    best = min(real, key=rank) if real else None
    assert decided.scored.action == (ACTIONS[best.action] if best else action)
    assert (decided.by, decided.rule) == ((Decider.LIST, best.rule) if best else (None, None))


@pytest.mark.parametrize(
    ("winner", "loser"),
    [
        (("flag", "number", "+449061701461"), ("block", "sender", "+4477", "prefix")),
        (("flag", "sender", "+44770", "prefix"), ("block", "sender", "+4477", "prefix")),
        (("allow", "number", "+449061701461"), ("block", "sender", "+447700900123")),
        (("block", "number", "+449061701461"), ("flag", "sender", "+447700900123")),
        (("block", "sender", "+447700900123"), ("block", "recipient", "+447700900555")),
        (("block", "recipient", "+447700900555"), ("block", "campaign", "00000000000000c1")),
        (("block", "campaign", "00000000000000c1"), ("block", "link-host", "evil.example")),
        (("block", "link-host", "evil.example"), ("block", "number", "+449061701461")),
        (("flag", "link-host", "evil.example"), ("allow", "link-host", "evil.example", "suffix")),
    ],
)
def test_exact_before_longer_before_shorter_then_allow_block_flag_then_what_it_is(
    winner: tuple[str, ...], loser: tuple[str, ...]
) -> None:
    facts = message(
        "evil.example 09061701461", sender="+447700900123", recipient="+447700900555", campaign="00000000000000c1"
    )
    first, second = listed(*winner), listed(*loser)  # type: ignore[arg-type]

    for both in ((first, second), (second, first)):
        assert [each.rule for each in snapshot(*both).rulings(facts, NOW)] == [first.rule]


@pytest.mark.parametrize(
    "text",
    [
        "https://bank.com@evil.example",
        "EVIL.Example:8443/pay",
        "e\u200bvil.exa\u00admple",
        "evil\uff0eexample",
        "https://%65vil%2eexample",
        "https://www.b\u00fccher.example/",
        "XN--BCHER-KVA.example",
        "https://\u2764.example",
        "http://3221225985/",
    ],
)
def test_a_listed_host_is_matched_whatever_hides_it(text: str) -> None:
    hosts_in_two_spellings = ("evil.example", "B\u00fccher.example", "\u2764.example")
    lists = snapshot(
        *(listed("block", "link-host", each, "suffix") for each in hosts_in_two_spellings),
        listed("block", "link-host", "192.0.2.1"),
    )

    assert lists.rulings(message(text), NOW)


def test_an_allowed_host_delivers_nothing_that_has_another_host_too() -> None:
    lists = snapshot(listed("allow", "link-host", "bank.com", "suffix"))

    assert lists.rulings(message("pay at https://www.bank.com/a tomorrow.then rest"), NOW)
    assert not lists.rulings(message("https://bank.com or https://evil.example"), NOW)
    assert not lists.rulings(message("https://bank.com@evil.example"), NOW)
    assert not lists.rulings(message("https://\u00e9bank.com"), NOW)
    assert not lists.rulings(message("https://bank.com@3221225985 https://bank.com@[2001:db8::1]/"), NOW)


def test_an_allowed_number_delivers_nothing_that_has_another_number_beside_it() -> None:
    lists = snapshot(listed("allow", "number", "+442079460000"))

    assert lists.rulings(message("call 020 7946 0000 for parcel 12345678"), NOW)
    assert not lists.rulings(message("call 020 7946 0000 or +44 9061 701461"), NOW)
    assert not lists.rulings(message("call 02079460000 09061701461"), NOW)


def test_what_is_allowed_delivers_nothing_that_has_more_beside_it_than_is_looked_at() -> None:
    numbers = snapshot(listed("allow", "number", "+442079460000"))
    hosts = snapshot(listed("allow", "link-host", "bank.com", "suffix"))

    assert numbers.rulings(message("+442079460000, " * 512), NOW)
    assert not numbers.rulings(message("+442079460000, " * 512 + "+449061701461"), NOW)
    assert hosts.rulings(message("https://bank.com " * 1024), NOW)
    assert not hosts.rulings(message("https://bank.com " * 1024 + "https://evil.example"), NOW)


def test_an_entry_expires_while_a_worker_runs() -> None:
    now = NOW
    lists = ListRules(lambda: snapshot(listed("block", "sender", "MyBank", until=NOW + 5)), clock=lambda: now)
    facts = message(sender="MYBANK")

    lists.begin()
    assert lists.rulings(facts)
    now += 5
    assert lists.rulings(facts)  # within a transaction nothing changes
    lists.begin()
    assert not lists.rulings(facts)


def test_what_is_in_dry_run_is_told_where_it_would_have_decided_and_changes_nothing() -> None:
    facts = message("evil.example", sender="+447700900123")
    trial, real = (
        listed("block", "link-host", "evil.example", dry_run=True),
        listed("flag", "sender", "+4477", "prefix"),
    )

    rulings = snapshot(trial, real).rulings(facts, NOW)
    assert [(each.rule, each.action, each.is_dry_run) for each in rulings] == [
        (trial.rule, Action.BLOCK, True), (real.rule, Action.FLAG, False),
    ]  # fmt: skip
    outranked = listed("block", "link-host", "example.evil.example", "suffix", dry_run=True)
    assert len(snapshot(outranked, listed("flag", "sender", "+447700900123")).rulings(facts, NOW)) == 1


def test_lists_without_entries_say_nothing() -> None:
    assert Snapshot(HASHING).rulings(message("evil.example", sender="x"), NOW) == ()


def test_the_same_number_is_matched_as_it_is_dialled_abroad_and_at_home() -> None:
    lists = snapshot(listed("block", "number", "+44 9061 701461"), listed("flag", "number", "+1 202555", "prefix"))

    for text in ("09061 701461", "+449061701461", "00 44 9061701461", "449061701461", "tel:+44(0)9061701461"):
        assert lists.rulings(message(text), NOW), text
    assert lists.rulings(message("(202) 555-0177"), NOW)
    assert not lists.rulings(message("(203) 555-0177"), NOW)


def test_what_a_former_key_has_hashed_is_matched_while_the_key_stays() -> None:
    from worker.policy.hashing import Hashing  # noqa: PLC0415

    both = Hashing((b"a new key, of 16 or more", *HASHING.keys))
    entry = listed("block", "sender", "+447700900123")

    assert Snapshot(both).changed((), [entry]).rulings(message(sender="+447700900123"), NOW)
    assert not Snapshot(Hashing(both.keys[:1])).changed((), [entry]).rulings(message(sender="+447700900123"), NOW)


@pytest.mark.parametrize("listed_id", ["0000000000000001", "00000000000000ff"])
def test_an_entry_for_any_id_of_a_campaign_matches_it(listed_id: str) -> None:
    facts = message("a text")
    facts.campaign, facts.campaign_ids = "0000000000000001", ("0000000000000001", "00000000000000ff")

    found = snapshot(listed("block", "campaign", listed_id)).rulings(facts, NOW)

    assert [each.action for each in found] == [Action.BLOCK]
