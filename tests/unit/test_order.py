"""Who decides: the rules in the table's order, the first that has something to say, whatever the score."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.messages import Action, Decider, Unscored
from worker.policy.facts import Facts
from worker.policy.order import Context, Decided, Ruling, Scored

if TYPE_CHECKING:
    from collections.abc import Sequence

ACTIONS = [Action.DELIVER, Action.FLAG, Action.BLOCK]


@dataclass
class Always:
    """Rules that say the same of every message."""

    decider: Decider
    said: Sequence[Ruling]
    begun: int = 0

    def begin(self) -> None:
        self.begun += 1

    def foresee(self, some: Sequence[Facts]) -> None: ...

    def rulings(self, facts: Facts) -> Sequence[Ruling]:
        del facts
        return self.said


@dataclass
class Watching:
    """An observer that notes what it is shown."""

    looked: list[bool] = field(default_factory=list)
    learnt: list[Action] = field(default_factory=list)
    foreseen: int = 0

    def begin(self, now: float) -> None:
        del now

    def foresee(self, some: Sequence[Facts]) -> None:
        self.foreseen += len(some)

    def look(self, facts: Facts) -> None:
        self.looked.append(facts.is_repeated)
        facts.flags = (*facts.flags, "burst")

    def learn(self, facts: Facts, decided: Decided) -> None:
        del facts
        self.learnt.append(decided.scored.action)


def facts(offset: int = 0, partition: int = 0) -> Facts:
    return Facts("a text", "+15550100", "+15550101", 0.0, ("sms.events", partition), offset)


def raised(odds: float) -> Scored:
    score = 1 / (1 + math.exp(-(odds - 1)))
    return Scored("spam" if score >= 0.5 else "ham", score, Action.BLOCK if score >= 0.5 else Action.DELIVER, None)


SCORED = msgspec.structs.replace(raised(0.0), raised=raised)

one = st.builds(
    Ruling, st.just("list:sender:1"), st.sampled_from([None, *ACTIONS]), st.sampled_from([None, *ACTIONS]),
    st.sampled_from([0.0, 3.0]), st.booleans(),
)  # fmt: skip
some = st.lists(one, max_size=3)


@given(st.sampled_from(ACTIONS), some, some)
def test_a_list_never_loses_to_a_score_a_registry_or_a_campaign(action: Action, senders: list[Ruling],
                                                                campaigns: list[Ruling]) -> None:  # fmt: skip
    lists = Always(Decider.LIST, [Ruling("list:sender:1", action)])
    context = Context([Always(Decider.CAMPAIGN, campaigns), Always(Decider.SENDER, senders), lists])

    decided = context.decide(facts(), SCORED)

    assert (decided.by, decided.scored.action, decided.rule) == (Decider.LIST, action, "list:sender:1")
    assert (decided.scored.label, decided.scored.score) == (SCORED.label, SCORED.score)


@given(some, some, some)
def test_rules_in_dry_run_change_nothing(lists: list[Ruling], senders: list[Ruling], campaigns: list[Ruling]) -> None:
    rows = (Decider.LIST, lists), (Decider.SENDER, senders), (Decider.CAMPAIGN, campaigns)
    context = Context([Always(who, [replace(each, is_dry_run=True) for each in said]) for who, said in rows])

    decided = context.decide(facts(), SCORED)

    assert decided.scored == SCORED
    assert decided.by is decided.rule is decided.reason is None
    assert len(decided.trials) == len(lists) + len(senders) + len(campaigns)


@given(some, some, some)
def test_the_first_in_the_table_that_changes_something_decides(
    lists: list[Ruling], senders: list[Ruling], campaigns: list[Ruling]
) -> None:
    rows = (Decider.LIST, lists), (Decider.SENDER, senders), (Decider.CAMPAIGN, campaigns)
    context = Context([Always(who, said) for who, said in reversed(rows)])

    decided = context.decide(facts(), SCORED)

    deciding = [
        (who, each) for who, said in rows for each in said
        if not each.is_dry_run and (each.action is not None or each.applied(SCORED) != SCORED)
    ]  # fmt: skip
    assert decided.by == (deciding[0][0] if deciding else None)
    assert decided.scored == (deciding[0][1].applied(SCORED) if deciding else SCORED)


@pytest.mark.parametrize(
    ("ruling", "action"),
    [
        (Ruling("sender:a", at_most=Action.FLAG), Action.DELIVER),
        (Ruling("sender:a", odds=3.0), Action.BLOCK),
        (Ruling("sender:a", odds=3.0, at_most=Action.FLAG), Action.FLAG),
    ],
)
def test_a_registry_bounds_the_action_or_raises_the_score(ruling: Ruling, action: Action) -> None:
    decided = Context([Always(Decider.SENDER, [ruling])]).decide(facts(), SCORED)

    assert decided.scored.action == action
    assert decided.by == (Decider.SENDER if action is not Action.DELIVER else None)


def test_odds_change_nothing_of_a_message_without_a_score() -> None:
    unscored = Scored(None, None, Action.UNSCORED, Unscored.DEADLINE)

    decided = Context([Always(Decider.SENDER, [Ruling("sender:a", odds=3.0)])]).decide(facts(), unscored)

    assert (decided.scored, decided.reason) == (unscored, "deadline")


def test_what_is_read_again_is_repeated_in_its_partition_alone() -> None:
    watching = Watching()
    context = Context(observers=[watching])

    for partition, offset in ((0, 5), (1, 5), (0, 6), (0, 5), (0, 6), (0, 7)):
        context.decide(facts(offset, partition), SCORED)

    assert watching.looked == [False, False, False, True, True, False]
    assert watching.learnt == [Action.DELIVER] * 6


def test_rules_take_up_changes_when_a_transaction_begins() -> None:
    lists = Always(Decider.LIST, [])
    context = Context([lists])

    context.begin(1.0)
    context.decide(facts(), SCORED)

    assert lists.begun == 1


def test_a_partition_that_begins_anew_is_no_repetition() -> None:
    context = Context()

    def is_repeated(offset: int) -> bool:
        each = Facts("text", None, None, 0.0, ("sms.events", 0), offset)
        context.decide(each, Scored("ham", 0.25, Action.DELIVER, None))
        return each.is_repeated

    assert not is_repeated(5_000_000)
    assert is_repeated(4_990_000)
    assert not is_repeated(0)
    assert not is_repeated(1)
    assert is_repeated(0)
