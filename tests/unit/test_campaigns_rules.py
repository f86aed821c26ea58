"""A campaign's next variant is stopped as nearly all before it were by the score alone; the rule never feeds itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.test_campaigns_watching import OTHER, facts, tell, variant, watch
from worker.campaigns.rules import LEAST, NEARLY_ALL, RULE, CampaignRules
from worker.campaigns.summaries import decode_summary, encode_summary
from worker.messages import Action, Decider, Flag, Unscored
from worker.policy.order import SEVERITY, Context, Decided, Ruling, Scored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.campaigns.watching import CampaignWatch
    from worker.policy.facts import Facts

DELIVER, FLAG, BLOCK = SEVERITY
ENOUGH = LEAST + 1  # the first message of a campaign is counted by its size alone
actions = st.sampled_from(SEVERITY)


def as_scored(action: Action) -> Scored:
    return Scored("ham" if action is DELIVER else "spam", 0.5, action, None)


def ruled(watching: CampaignWatch, *, is_dry_run: bool = False) -> Context:
    return Context([CampaignRules(is_dry_run)], [watching])


def fed(context: Context, scored: Sequence[Action], start: int = 0) -> list[Decided]:
    return [context.decide(facts(variant(at), at), as_scored(each)) for at, each in enumerate(scored, start)]


def next_one(context: Context, action: Action = DELIVER, **more: object) -> Decided:
    each = facts(variant(5_000), 5_000)
    for name, value in more.items():
        setattr(each, name, value)
    return context.decide(each, as_scored(action))


@pytest.mark.parametrize("would_be", [DELIVER, FLAG])
@pytest.mark.parametrize("before", [FLAG, BLOCK])
def test_the_next_variant_is_stopped_as_those_before_it(before: Action, would_be: Action) -> None:
    context = ruled(watch())
    fed(context, [before] * ENOUGH)

    decided = next_one(context, would_be)

    expected = max(before, would_be, key=SEVERITY.index)
    assert decided.scored.action is expected
    assert (decided.by, decided.rule) == ((Decider.CAMPAIGN, RULE) if expected is not would_be else (None, None))
    assert decided.scored.score == 0.5


def test_of_fewer_messages_than_ten_and_of_other_texts_it_says_nothing() -> None:
    context = ruled(watch())
    fed(context, [BLOCK] * (ENOUGH - 1))

    assert next_one(context).by is None
    assert context.decide(facts(OTHER, 6_000), as_scored(DELIVER)) == Decided(as_scored(DELIVER))


@settings(max_examples=20)
@given(scored=st.lists(actions, max_size=40), dry=st.booleans())
def test_it_never_lowers_an_action_and_goes_by_what_the_scores_alone_said(scored: list[Action], *, dry: bool) -> None:
    context = ruled(watch(), is_dry_run=dry)

    for at, each in enumerate(scored):
        decided = context.decide(facts(variant(at), at), as_scored(each))

        before = scored[1:at]
        stopped = sum(one is not DELIVER for one in before)
        blocked = sum(one is BLOCK for one in before)
        least = DELIVER
        if len(before) >= LEAST and stopped >= NEARLY_ALL * len(before):
            least = BLOCK if blocked >= NEARLY_ALL * len(before) else FLAG
        expected = max(each, least, key=SEVERITY.index)
        assert decided.scored.action is (each if dry else expected)
        assert decided.trials == (((RULE, expected),) if dry and least is not DELIVER else ())


def test_what_it_has_blocked_itself_does_not_count_so_that_it_ends_when_the_score_lets_more_through() -> None:
    context = ruled(watch())
    fed(context, [BLOCK] * 19)

    decided = fed(context, [DELIVER] * 40, start=100)

    assert [each.scored.action for each in decided[:2]] == [BLOCK, BLOCK]
    assert all(each.by is None for each in decided[4:])


def test_what_a_list_blocks_does_not_count_as_blocked_by_the_score() -> None:
    class Listed:
        decider = Decider.LIST

        def begin(self) -> None: ...

        def foresee(self, some: Sequence[Facts]) -> None: ...

        def rulings(self, facts: Facts) -> Sequence[Ruling]:
            return [Ruling("list:campaign:1", BLOCK)] if facts.offset < 1_000 else []

    context = Context([Listed(), CampaignRules(is_dry_run=False)], [watch()])
    assert all(each.scored.action is BLOCK for each in fed(context, [DELIVER] * 50))

    assert next_one(context) == Decided(as_scored(DELIVER))


@pytest.mark.parametrize(
    "more", [{"flags": (Flag.NOTICE,)}, {"flags": (Flag.ONE_TIME_CODE, Flag.BURST)}, {"is_registered": True}]
)
def test_a_notice_a_code_and_a_registered_senders_text_are_flagged_at_most(more: dict[str, object]) -> None:
    context = ruled(watch())
    fed(context, [BLOCK] * 20)

    assert next_one(context, **more).scored.action is FLAG


def test_a_list_decides_before_it() -> None:
    class Allowing:
        decider = Decider.LIST

        def begin(self) -> None: ...

        def foresee(self, some: Sequence[Facts]) -> None: ...

        def rulings(self, facts: Facts) -> Sequence[Ruling]:
            del facts
            return [Ruling("list:sender:1", DELIVER)]

    context = Context([CampaignRules(is_dry_run=False), Allowing()], [watch()])
    fed(context, [BLOCK] * 20)

    assert next_one(context, BLOCK).scored.action is DELIVER


def test_messages_without_a_score_neither_count_nor_are_they_ruled_on() -> None:
    context = ruled(watch())
    unscored = Scored(None, None, Action.UNSCORED, Unscored.DEADLINE)
    for at in range(30):
        assert context.decide(facts(variant(at), at), unscored) == Decided(unscored)

    assert next_one(context).by is None


def test_a_worker_goes_by_what_others_have_told_and_by_what_it_told_before_it_was_started_anew() -> None:
    one, two, anew = watch("one"), watch("two"), watch("one")
    fed(Context(observers=[one]), [BLOCK] * 30)
    [campaign] = one.changed
    summary = one.summary(campaign)
    assert summary is not None
    assert (summary.scored, summary.alone_flagged, summary.alone_blocked) == (29, 0, 29)
    tell(one, two)
    one.changed[campaign] = None
    tell(one, anew, is_own=True)

    assert next_one(ruled(two)).scored.action is BLOCK
    assert next_one(ruled(anew)).scored.action is BLOCK
    two.index.named(summary.campaign).hear(summary.key, None)  # type: ignore[union-attr]
    assert next_one(ruled(two)).by is None


def test_a_record_that_tells_no_scores_is_read_and_one_that_tells_too_many_is_refused() -> None:
    one = watch("one")
    fed(Context(observers=[one]), [BLOCK] * 30)
    [campaign] = one.changed
    summary = one.summary(campaign)
    assert summary is not None
    former = msgspec.structs.replace(summary, scored=0, alone_flagged=0, alone_blocked=0)

    assert decode_summary(encode_summary(former)) == former
    with pytest.raises(msgspec.DecodeError, match="more messages flagged and blocked"):
        decode_summary(encode_summary(msgspec.structs.replace(summary, scored=1)))
