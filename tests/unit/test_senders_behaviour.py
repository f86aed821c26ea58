"""What flags a message gets from how its sender behaves, and what the rule makes of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.unit.test_order import SCORED, raised
from worker.messages import Action, Decider
from worker.policy.facts import Facts
from worker.policy.hashing import Hashing
from worker.policy.order import Context, Decided, Scored
from worker.senders import Behaviour, BehaviourRules, SenderLimits
from worker.senders.contacts import Contacts
from worker.senders.rules import RULE
from worker.senders.snapshots import KIND, OLDEST, WINDOW, Held, SenderSnapshot
from worker.senders.table import SenderTable

if TYPE_CHECKING:
    from worker.messages import TopicPartition

NOON = 1_790_000_000.0
HERE: TopicPartition = ("sms.events", 0)
KEYS = Hashing((b"a key for these tests",))
ADA, BEN = "+447700900001", "+447700900002"


@dataclass
class Stream:
    """One worker's context, warm unless it is said to be new, and messages for it."""

    rule: str = "on"
    is_new: bool = False
    behaviour: Behaviour = field(init=False)
    context: Context = field(init=False)
    offset: int = 0

    def __post_init__(self) -> None:
        self.behaviour = Behaviour(
            SenderLimits(15, 20), KEYS, is_asked=self.rule != "off", table=SenderTable(1024), contacts=Contacts(10_000)
        )
        rules = [] if self.rule == "off" else [BehaviourRules(self.behaviour, self.rule == "dry-run")]
        self.context = Context(rules, [self.behaviour])
        self.behaviour.held = Held({HERE: NOON if self.is_new else NOON - WINDOW})

    def send(
        self,
        sender: str | None = ADA,
        recipient: str | None = BEN,
        at: float = NOON,
        scored: Scored = SCORED,
        offset: int | None = None,
        now: float | None = None,
        flags: tuple[str, ...] = (),
    ) -> tuple[set[str], Decided]:
        self.offset = self.offset + 1 if offset is None else offset
        facts = Facts("a text", sender, recipient, at, HERE, self.offset, flags)
        self.context.begin(at if now is None else now)
        decided = self.context.decide(facts, scored)
        return set(facts.flags), decided

    def many(self, count: int, sender: str = ADA, at: float = NOON, every: float = 60.0) -> tuple[set[str], Decided]:
        """To so many strangers; what the last one comes to."""
        return [self.send(sender, f"+44770091{each:04}", at + every * each) for each in range(count)][-1]


def test_a_stranger_is_one_once() -> None:
    stream = Stream()

    assert [stream.send()[0], stream.send()[0], stream.send(BEN, ADA)[0]] == [{"first-contact"}, set(), set()]


def test_who_answers_is_no_stranger() -> None:
    stream = Stream()
    stream.send(BEN, ADA)

    assert stream.send(ADA, BEN)[0] == set()


def test_spellings_of_one_number_are_one_sender() -> None:
    stream = Stream()
    stream.send("+44 7700 900001", BEN)

    assert stream.send("00447700900001", "447700900002")[0] == set()


def test_a_burst_is_flagged_and_ends() -> None:
    stream = Stream()
    flags = [stream.send(at=NOON + each)[0] for each in range(200)]

    assert "burst" not in flags[60]
    assert "burst" in flags[-1]
    assert stream.send(at=NOON + 1200)[0] == set()


def test_many_strangers_are_fan_out_and_raise_the_score() -> None:
    flags, decided = Stream().many(40)

    assert flags == {"first-contact", "fan-out"}
    assert (decided.by, decided.rule, decided.scored.action) == (Decider.SENDER, RULE, Action.BLOCK)


@pytest.mark.parametrize("rule", ["dry-run", "off"])
def test_nothing_changes_unless_the_rule_is_on(rule: str) -> None:
    flags, decided = Stream(rule).many(40)

    assert flags == {"first-contact", "fan-out"}
    assert decided.scored == SCORED
    assert decided.trials == (((RULE, Action.BLOCK),) if rule == "dry-run" else ())


@pytest.mark.parametrize("sender", ["BANK", "60777"])
def test_organisations_under_names_and_short_codes_are_the_registry_s(sender: str) -> None:
    flags, decided = Stream().many(40, sender)

    assert {"first-contact", "fan-out"} <= flags
    assert decided.by is None


@pytest.mark.parametrize("flag", ["notice", "one-time-code"])
def test_notices_and_codes_are_not_raised(flag: str) -> None:
    stream = Stream()
    stream.many(40)

    assert stream.send(recipient="+447700999999", at=NOON + 2400, flags=(flag,))[1].by is None


def test_who_writes_to_those_he_knows_is_not_hit_by_one_stranger() -> None:
    stream = Stream()
    for each in range(60):
        stream.send(f"+44770091{each:04}", ADA)
        flags, _ = stream.send(ADA, f"+44770091{each:04}", NOON + each)

    flags, decided = stream.send(ADA, "+447700999999", NOON + 61)

    assert {"first-contact", "fan-out"} <= flags
    assert decided.by is None


@pytest.mark.parametrize(("sender", "recipient"), [(None, BEN), (None, None)])
def test_without_a_sender_nothing_is_known(sender: str | None, recipient: str | None) -> None:
    stream = Stream()

    assert [stream.send(sender, recipient)[0] for _ in range(100)] == [set()] * 100
    assert stream.behaviour.table.taken == 0


def test_without_a_recipient_only_the_rate_is_known() -> None:
    stream = Stream()

    assert [stream.send(ADA, None)[0] for _ in range(120)][-1] == {"burst"}


def test_a_message_read_again_keeps_its_flags_and_is_not_counted_again() -> None:
    stream = Stream()
    flags, decided = stream.many(40)
    offset, before = stream.offset, stream.behaviour.table.lately(stream.behaviour.table.slot(hash(ADA[1:]), NOON))

    again = stream.send(recipient="+447700910039", at=NOON + 39 * 60, offset=offset)

    after = stream.behaviour.table.lately(stream.behaviour.table.slot(hash(ADA[1:]), NOON))
    assert (again[0], again[1].rule) == (flags, decided.rule)
    assert before == after


def test_a_clock_that_is_ahead_counts_as_now() -> None:
    stream = Stream()
    stream.send(at=NOON + 10**8, now=NOON)

    assert stream.behaviour.table.lately(stream.behaviour.table.slot(hash(ADA[1:]), NOON)).last == NOON
    assert "burst" in [stream.send(at=NOON + each, now=NOON + each)[0] for each in range(200)][-1]


def test_what_is_judged_counts_unless_a_rule_has_changed_it() -> None:
    stream = Stream()
    stream.send(scored=raised(9.0))
    stream.send()
    table = stream.behaviour.table
    slot = table.slot(hash(ADA[1:]), NOON)
    assert table.judged(slot) == (0.5, 2)

    stream.many(40)

    assert table.judged(slot)[1] < 40


def test_a_new_worker_calls_nobody_a_stranger_for_an_hour_and_says_so() -> None:
    stream = Stream(is_new=True)

    flags, decided = stream.many(40)

    assert flags == {"cold", "fan-out"}
    assert decided.by is None
    assert stream.send(recipient="+447700999999", at=NOON + WINDOW)[0] >= {"first-contact"}


def test_cold_is_said_only_where_the_rule_would_ask() -> None:
    stream = Stream(is_new=True)

    stream.send(ADA, BEN)
    assert stream.send(ADA, BEN)[0] == set(), "they have met"
    assert stream.send("BANK", BEN)[0] == set(), "no person"
    assert stream.send(ADA, None)[0] == set()
    assert stream.send(ADA, "+447700999999", flags=("notice",))[0] == {"notice"}
    assert Stream("off", is_new=True).send()[0] == set()


def test_a_partition_that_nobody_has_told_of_is_new() -> None:
    stream = Stream()
    stream.behaviour.held = Held()

    assert stream.send()[0] == {"cold"}


def snapshots(stream: Stream) -> dict[str, SenderSnapshot]:
    return {KEYS.of(KIND, sender): its for sender, its in stream.behaviour.due}


def test_who_takes_over_a_partition_knows_who_wrote_to_strangers() -> None:
    before, after = Stream(), Stream(is_new=True)
    before.many(40)
    after.behaviour.held = Held({HERE: NOON + 2400}, snapshots(before), 1)

    flags, decided = after.send(recipient="+447700999999", at=NOON + 2401)

    assert flags == {"first-contact", "fan-out"}
    assert decided.rule == RULE


def test_who_takes_over_a_partition_does_not_hit_who_wrote_to_those_he_knew() -> None:
    before, after = Stream(), Stream(is_new=True)
    for each in range(60):
        before.send(f"+44770091{each:04}", ADA)
        before.send(ADA, f"+44770091{each:04}", NOON + 10 * each)
    after.behaviour.held = Held({HERE: NOON + 600}, snapshots(before), 1)

    for day in range(2):
        flags, decided = after.many(60, at=NOON + 700 + day * WINDOW, every=10)
        assert "first-contact" not in flags
        assert decided.by is None


def test_what_a_worker_knows_itself_is_not_replaced_by_what_is_older() -> None:
    before, after = Stream(), Stream()
    before.many(40)
    after.many(30, at=NOON + OLDEST)
    after.behaviour.held = Held({HERE: NOON}, snapshots(before), 2)

    after.send(recipient=BEN, at=NOON + OLDEST + 1801)

    assert after.behaviour.table.lately(after.behaviour.table.slot(hash(ADA[1:]), NOON)).last > NOON + OLDEST
