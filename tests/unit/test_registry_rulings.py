"""Registered senders are never blocked on text alone; who speaks in their name and leads elsewhere scores higher."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker import commands
from worker.messages import Action, Decider, Fault, Flag, Record, SenderType, Unreadable, UnreadableError, decode
from worker.model.normalise import is_uncovered, normalise
from worker.pipeline.batch import Batch, Waiting
from worker.pipeline.verdicts import Verdicts
from worker.policy.addresses import sender_type
from worker.policy.bands import Policy
from worker.policy.facts import Facts
from worker.policy.order import Context, Ruling, Scored
from worker.policy.registry.brands import Brand, Registry, is_near
from worker.policy.registry.reading import read
from worker.policy.registry.registered import RegisteredSenders
from worker.policy.registry.skeleton import skeleton
from worker.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

EXAMPLE = Path(__file__).parents[2] / "deploy" / "registry.toml"
REGISTRY = read(EXAMPLE)
PERSON, OTHER = "+44 7700 900123", "INFO"
MOST, MORE = "at most flag", "odds"
NORTHWIND, PAKKETTO, SEVERNY = "northwind-bank", "pakketto", "северный-банк"


def facts(text: str, sender: str | None, *flags: str, kind: SenderType | None = None) -> Facts:
    if is_uncovered(text, normalise(text)):
        flags = (*flags, Flag.NORMALISED)
    made = Facts(text, sender, None, 0.0, ("sms.events", 0), 0, flags)
    made.sender_type = kind or (sender_type(sender) if sender else None)
    return made


def said(of: Facts, registry: Registry = REGISTRY) -> list[tuple[str, str]]:
    return [
        (each.rule.removeprefix("sender:"), MORE if each.odds else MOST)
        for each in RegisteredSenders(registry, normalise).rulings(of)
    ]


# A text, its sender, and of whom what is said: each once for a lawful message, and once for each way to imitate it.
TABLE: list[tuple[str, str | None, tuple[str, str] | None]] = [
    # The brand's own, in several languages and spellings of its sender.
    ("Northwind Bank: your statement is at https://northwind.example/s", "NORTHWIND", (NORTHWIND, MOST)),
    ("Northwind: see https://www.pay.northwind.example", "northwind", (NORTHWIND, MOST)),
    ("Northwind: Ihre Karte ist da. HTTPS://NORTHWIND.EXAMPLE", "nw-bank", (NORTHWIND, MOST)),
    ("NORTHWIND: su tarjeta llegó, nwbank.example/t", "60123", (NORTHWIND, MOST)),
    ("Votre conseiller Northwind vous attend", "+441632960123", (NORTHWIND, MOST)),
    ("Votre conseiller Northwind vous attend", "0044 1632 960123", (NORTHWIND, MOST)),
    ("您的北风银行账户已更新，请访问https://northwind.example查看", "NORTHWIND", (NORTHWIND, MOST)),
    ("Pakketto: il pacco arriva oggi, pakketto.example/p", "PAKKETTO", (PAKKETTO, MOST)),
    ("Северный Банк: выписка на https://severny.example", "Severny", (SEVERNY, MOST)),
    ("बैंक उत्तर: आपका विवरण https://severny.example", "SEVERNY", (SEVERNY, MOST)),
    ("بنك الشمال: كشف الحساب https://severny.example", "SEVERNY", (SEVERNY, MOST)),
    # A registered sender with somebody else's link, or who names nobody: as scored.
    ("Northwind: log in at https://northwind-login.example", "NORTHWIND", None),
    ("Northwind: log in at https://northwind.example@evil.example", "NORTHWIND", None),
    ("Northwind: https://northwind.example/?u=https://evil.example", "NORTHWIND", None),
    ("You have won a prize", "NORTHWIND", None),
    ("Pakketto delivers your card today", "NORTHWIND", None),
    ("Pakketto delivers your card: nwbank.example/track", "NORTHWIND", None),
    ("Pakketto delivers your card: northwind.example/track", "NORTHWIND", (NORTHWIND, MOST)),
    # From a number that is nobody's, with a link that is nobody's.
    ("Northwind: your card is blocked, see https://nw-secure.example", PERSON, (NORTHWIND, MORE)),
    ("Northwind: votre carte est bloquée https://evil.example", PERSON, (NORTHWIND, MORE)),
    ("北风银行：您的账户被冻结 http://evil.example/x", PERSON, (NORTHWIND, MORE)),
    ("您的北风银行账户被冻结evil.example", PERSON, (NORTHWIND, MORE)),
    ("Pakketto: paga 1,99 su https://pakketto.example.evil.example", PERSON, (PAKKETTO, MORE)),
    ("Северный Банк: карта закрыта, evil.example", PERSON, (SEVERNY, MORE)),
    ("बैंक उत्तर: खाता बंद https://evil.example", PERSON, (SEVERNY, MORE)),
    ("بنك الشمال: تم حظر حسابك evil.example", "who@mail.example", (SEVERNY, MORE)),
    ("Northwind: pay at https://northwind.example and https://evil.example", PERSON, (NORTHWIND, MORE)),
    # In disguise.
    ("N0rthwind: your card is blocked, evil.example", PERSON, (NORTHWIND, MORE)),
    ("N\u043erthw\u0456nd: your card is blocked, evil.example", PERSON, (NORTHWIND, MORE)),
    ("No\u200brthw\u00adind: evil.example", PERSON, (NORTHWIND, MORE)),
    ("NorthwInd, N\u00f3rthw\u00ednd: evil.example", PERSON, (NORTHWIND, MORE)),
    ("N o r t h w i n d card blocked, pay: https://evil.example", PERSON, (NORTHWIND, MORE)),
    ("Card blocked: https://mynorthwindlogin.example", PERSON, (NORTHWIND, MORE)),
    ("Card blocked: https://n\u043erthwind.example", PERSON, (NORTHWIND, MORE)),
    # A number to call; the brand's own is none; nor is a date or an amount.
    ("Northwind: call 0900 123 4567 now", PERSON, (NORTHWIND, MORE)),
    ("Northwind: call 01632 960123", PERSON, None),
    ("Northwind paid 1200.50 on 2026-01-31 10:20", PERSON, None),
    ("Northwind: call 0900 123 4567 now", OTHER, None),
    # People talk about brands.
    ("I was at Northwind today, long queue", PERSON, None),
    ("Have a look: northwind.example/jobs", PERSON, None),
    ("Northwind sent it by Pakketto: pakketto.example/p", PERSON, None),
    ("northwindow and Northwinds: evil.example", PERSON, None),
    ("Your code is 123456", PERSON, None),
    ("Northwind: evil.example", None, None),
    # Sender ids that look like a registered one.
    ("Your code is 123456", "N0RTHWIND", (NORTHWIND, MORE)),
    ("Your code is 123456", "NORTHW\u0406ND", (NORTHWIND, MORE)),
    ("Your code is 123456", "NORTHWND", (NORTHWIND, MORE)),
    ("Your code is 123456", "N0RTHVVIND.", (NORTHWIND, MORE)),
    ("Your code is 123456", "Pakketo", (PAKKETTO, MORE)),
    ("Your code is 123456", "Northwind Bank", (NORTHWIND, MORE)),
    ("Your code is 123456", "NORTHWARD", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "sender", "expected"), TABLE)
def test_what_a_sender_may_say_in_whose_name(text: str, sender: str | None, expected: tuple[str, str] | None) -> None:
    assert said(facts(text, sender)) == ([expected] if expected else [])


@pytest.mark.parametrize("flag", [Flag.NOTICE, Flag.ONE_TIME_CODE])
def test_a_notice_or_a_code_speaks_as_its_registered_sender_without_a_name(flag: Flag) -> None:
    assert said(facts("Your code is 123456", "NORTHWIND", flag)) == [(NORTHWIND, MOST)]
    assert said(facts("Your code is 123456, evil.example", "NORTHWIND", flag)) == []
    assert said(facts("Your code is 123456", "+447700900123", flag)) == []


def test_the_type_of_a_sender_is_the_networks_word_before_its_spelling() -> None:
    text = "Northwind: call 0900 123 4567 now"

    assert said(facts(text, "4477", kind=SenderType.NUMBER)) == [(NORTHWIND, MORE)]
    assert said(facts(text, "4477")) == []
    assert said(facts("Your code is 1", "N0RTHWIND", kind=SenderType.EMAIL)) == []


def test_of_two_brands_the_one_with_more_odds_decides() -> None:
    found = RegisteredSenders(REGISTRY, normalise).rulings(facts("Pakketto and Northwind: evil.example", PERSON))

    assert [(each.rule, each.odds) for each in found] == [("sender:northwind-bank", 3.0), ("sender:pakketto", 2.5)]


def test_the_longer_of_two_names_is_meant() -> None:
    both = Registry([
        Brand("Northwind", senders=frozenset({"60123"})), Brand("Northwind Energy", hosts=frozenset({"nwe.example"})),
    ])  # fmt: skip

    assert [each.name for each in both.named("a bill of Northwind Energy, see")] == ["Northwind Energy"]
    assert [each.name for each in both.named("a bill of Northwind, see")] == ["Northwind"]
    assert [each.name for each in both.named("NORTHWIND, and northwind energy")] == ["Northwind", "Northwind Energy"]


@dataclass
class Fixed:
    """Rules that say one thing of every message."""

    decider: Decider
    said: Sequence[Ruling]

    def begin(self) -> None: ...

    def foresee(self, some: Sequence[Facts]) -> None: ...

    def rulings(self, facts: Facts) -> Sequence[Ruling]:
        del facts
        return self.said


def banded(score: float) -> Scored:
    def raised(odds: float) -> Scored:
        more = 1 / (1 + math.exp(-(math.log(score / (1 - score)) + odds)))
        return banded(min(more, 1 - 1e-9))

    action = Action.BLOCK if score >= 0.8 else Action.FLAG if score >= 0.5 else Action.DELIVER
    return Scored("spam" if score >= 0.5 else "ham", score, action, None, raised)


scores = st.floats(1e-6, 1 - 1e-6).map(banded)
texts = st.sampled_from([text for text, _, _ in TABLE]) | st.text(max_size=40)
senders = st.sampled_from([sender for _, sender, _ in TABLE]) | st.text(max_size=12) | st.none()
flags = st.sampled_from([(), (Flag.NOTICE,), (Flag.ONE_TIME_CODE,)])
ACTIONS = [Action.DELIVER, Action.FLAG, Action.BLOCK]


@given(st.lists(texts | st.sampled_from(["rn\0north", "wind\0", "\0Northwind Bank", "北风银行你好"]), max_size=8))
def test_texts_that_stand_together_name_what_each_names_alone(several: list[str]) -> None:
    assert REGISTRY.named_in(several) == [REGISTRY.named(text) for text in several]


@given(st.lists(st.tuples(texts, senders), max_size=6))
def test_what_is_foreseen_of_a_batch_changes_no_ruling(several: list[tuple[str, str | None]]) -> None:
    rules = RegisteredSenders(REGISTRY, normalise)
    foreseen = [facts(text, sender) for text, sender in several]
    rules.foresee(foreseen)

    assert [*map(rules.rulings, foreseen)] == [rules.rulings(facts(text, sender)) for text, sender in several]


@given(texts, senders, flags, scores, st.sampled_from(ACTIONS))
def test_a_list_never_loses_to_the_registry(
    text: str, sender: str | None, its: tuple[Flag, ...], scored: Scored, action: Action
) -> None:
    lists = Fixed(Decider.LIST, [Ruling("list:sender:1", action)])

    decided = Context([RegisteredSenders(REGISTRY, normalise), lists]).decide(facts(text, sender, *its), scored)

    assert (decided.scored.action, decided.by, decided.rule) == (action, Decider.LIST, "list:sender:1")


own = [(text, sender) for text, sender, expected in TABLE if expected and expected[1] == MOST]


@given(st.sampled_from(own), flags, scores)
def test_a_registered_sender_with_its_own_links_is_never_blocked_whatever_the_score(
    message: tuple[str, str], its: tuple[Flag, ...], scored: Scored
) -> None:
    decided = Context([RegisteredSenders(REGISTRY, normalise)]).decide(facts(*message, *its), scored)

    assert decided.scored.action in {Action.DELIVER, Action.FLAG}
    assert (decided.scored.label, decided.scored.score) == (scored.label, scored.score)
    assert decided.by == (Decider.SENDER if scored.action is Action.BLOCK else None)


@given(texts, senders, flags, scores)
def test_the_registry_never_lowers_a_score_nor_raises_an_action_but_by_it(
    text: str, sender: str | None, its: tuple[Flag, ...], scored: Scored
) -> None:
    after = Context([RegisteredSenders(REGISTRY, normalise)]).decide(facts(text, sender, *its), scored).scored

    assert after.score is not None
    assert scored.score is not None
    assert after.score >= scored.score
    assert after.score > scored.score or ACTIONS.index(after.action) <= ACTIONS.index(scored.action)


TRIED = Registry([
    Brand(each.name, each.aliases, each.senders, each.hosts, each.odds, is_dry_run=True) for each in REGISTRY.brands
])  # fmt: skip


@given(texts, senders, flags, scores)
def test_in_dry_run_it_changes_nothing_and_says_what_it_would_have_done(
    text: str, sender: str | None, its: tuple[Flag, ...], scored: Scored
) -> None:
    of = facts(text, sender, *its)
    real = Context([RegisteredSenders(REGISTRY, normalise)]).decide(msgspec.structs.replace(of, found={}), scored)

    tried = Context([RegisteredSenders(TRIED, normalise)]).decide(msgspec.structs.replace(of, found={}), scored)

    assert (tried.scored, tried.by, tried.rule) == (scored, None, None)
    if real.by:
        assert (real.rule, real.scored.action) in tried.trials


def test_a_change_is_in_force_from_the_next_transaction_on() -> None:
    rules = RegisteredSenders(REGISTRY, normalise)
    of = facts(TABLE[0][0], TABLE[0][1])

    rules.offer(Registry([Brand("Nobody", senders=frozenset({"nobody"}))]))
    before = rules.rulings(of)
    rules.begin()

    assert before
    assert rules.rulings(of) == []


@given(st.text())
def test_a_skeleton_is_the_same_in_capitals_and_with_invisible_characters(text: str) -> None:
    assert skeleton(text) == skeleton("\u200b".join(text) if text.isascii() else text)
    assert skeleton(text.upper()) == skeleton(text) or not text.isascii()


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [("abcde", "abcde", True), ("abcde", "abxde", True), ("abcde", "abde", True), ("abcde", "bacde", True),
     ("abcde", "abced", True), ("abcde", "xabcde", True), ("abcde", "abcdex", True), ("abcde", "abxdy", False),
     ("abcde", "cbade", False), ("abcde", "abcdexy", False), ("abcde", "bcdea", False)],
)  # fmt: skip
def test_near_is_one_letter_off(one: str, other: str, near: bool) -> None:  # noqa: FBT001 a column of the table
    assert is_near(one.encode(), other.encode()) is is_near(other.encode(), one.encode()) is near


letters = st.text("abcdefgh", min_size=6, max_size=10)


@given(letters, st.integers(0, 9), st.sampled_from("abcdefgh"))
def test_every_sender_id_that_is_one_letter_off_is_found(name: str, at: int, letter: str) -> None:
    registry = Registry([Brand("x y", senders=frozenset({name}))])
    at %= len(name)

    for other in (name[:at] + letter + name[at + 1 :], name[:at] + letter + name[at:], name[:at] + name[at + 1 :]):
        assert bool(registry.imitated(other)) is (other != name)


MANY = Registry([
    Brand(f"Brand {number}", hosts=frozenset({f"brand{number}.example"})) for number in range(1000)
])  # fmt: skip


def test_no_more_of_a_disguise_is_undone_than_says_who_speaks() -> None:
    of = facts(
        "&#78; a.com " + "\ufdfa" * 21_000, PERSON, Flag.NORMALISED
    )  # each becomes four words: 0.7 s, all in all

    began = time.process_time()
    RegisteredSenders(REGISTRY, normalise).rulings(of)

    assert time.process_time() - began < 0.35


def test_a_sender_that_no_network_carries_is_not_remembered() -> None:
    rules = RegisteredSenders(REGISTRY, normalise)
    for number in range(10):
        rules.rulings(facts("See you", f"A{number}" * 30_000))

    assert not any(len(each) > 32 for each in REGISTRY._imitated)


@pytest.mark.parametrize(
    "text",
    [
        "_" * 60_000, "a" + "!" * 60_000 + "bb", "a b c " * 10_000, "1 " * 30_000, "&" * 60_000, "Brand 1 " * 8_000,
        " ".join(f"Brand {number}" for number in range(1000)) + "".join(
            f" a{number}.brand999.example" for number in range(2_500)
        ),
        "Brand 1" + "".join(f" {number}.co" for number in range(8_000)),
    ],
)  # fmt: skip
def test_a_hostile_text_takes_the_writer_no_longer_than_its_length(text: str) -> None:
    of = facts("", PERSON, Flag.NORMALISED)
    of.text = text

    began = time.process_time()
    RegisteredSenders(MANY, normalise).rulings(of)

    assert time.process_time() - began < 2.0


class Noting:
    """Rules that note the type of each sender."""

    decider = Decider.SENDER

    def __init__(self) -> None:
        self.noted: list[SenderType | None] = []

    def begin(self) -> None: ...

    def foresee(self, some: Sequence[Facts]) -> None: ...

    def rulings(self, facts: Facts) -> Sequence[Ruling]:
        self.noted.append(facts.sender_type)
        return ()


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"sender": "NORTHWIND"}, SenderType.ALPHANUMERIC),
        ({"sender": 60123}, SenderType.SHORT_CODE),
        ({"sender": "60123", "sender_type": "number"}, SenderType.NUMBER),
        ({"sender": "+447700900123", "sender_type": None}, SenderType.NUMBER),
        ({"sender": "who@mail.example"}, SenderType.EMAIL),
        ({}, None),
    ],
)
def test_rules_know_the_type_of_a_sender_by_its_event_or_its_spelling(
    event: dict[str, object], kind: SenderType | None
) -> None:
    rules = Noting()
    record = Record("sms.events", 0, 0, 99.0, None, json.dumps({"text": "x", **event}).encode())
    item = Waiting(record, 100.0, decode(record, max_bytes=1000), None)
    policy = Policy.make(0.5, flag_from=None, block_from=None, on_unscored="unscored")

    batch = Batch(0, object(), [item], 100.5)
    Verdicts(("ham", "spam"), policy, "nano@0").of(batch, now=101.0, beside=Context([rules]))

    assert rules.noted == [kind]


def test_a_type_of_sender_that_there_is_not_makes_a_dead_letter_that_names_the_field() -> None:
    record = Record("sms.events", 0, 0, 99.0, None, b'{"text": "x", "sender_type": "pigeon"}')

    with pytest.raises(UnreadableError) as refused:
        decode(record, max_bytes=1000)

    assert refused.value.fault == Fault(Unreadable.WRONG_TYPE, "sender_type", 29)


def test_check_says_what_a_registry_holds_or_what_is_wrong_with_it(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("[[brand]]\n")

    held = list(commands._check_registry(Settings(registry=EXAMPLE)))
    refused = list(commands._check_registry(Settings(registry=bad)))

    assert held == [(f"registry {EXAMPLE} (4 brands, 8 senders, 6 hosts)", None)]
    assert refused == [(f"registry {bad}", f"{bad}: line 1: name: is missing: a text")]
    assert list(commands._check_registry(Settings())) == []
