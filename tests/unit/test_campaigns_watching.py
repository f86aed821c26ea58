"""Messages get their campaigns; what is read again counts once; workers come to one id; an action on it holds."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from deploy import formats
from tests.schemas import problems
from worker.broker import BrokerError
from worker.campaigns.index import LARGE, Index
from worker.campaigns.sharing import CampaignSharing
from worker.campaigns.summaries import CampaignSummary, decode_summary, encode_summary
from worker.campaigns.watching import CampaignWatch, Heard
from worker.messages import Action, Decider, Outgoing, Record
from worker.metrics import Metrics
from worker.policy.facts import Facts
from worker.policy.order import Context, Decided, Ruling, Scored

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SCORED = Scored("ham", 0.25, Action.DELIVER, None)
TEXT = "Your parcel is held at our depot. Pay the fee of £{} at https://{}.example/x7 to avoid return"
OTHER = "Are we still meeting at seven by the station? Bring the blue folder if you have it"


def variant(number: int) -> str:
    return TEXT.format(number, f"host{number}")


def facts(text: str, offset: int, partition: int = 0, at: float = 1_700_000_000.0) -> Facts:
    return Facts(text, "+447700900123", f"+4477009{offset:05}", at + offset, ("sms.events", partition), offset)


def watch(worker: str = "one", **more: Any) -> CampaignWatch:
    return CampaignWatch(Metrics(), worker, Index(more.pop("held", 64), 64))


def feed(context: Context, texts: Sequence[str], start: int = 0) -> list[Facts]:
    seen = []
    for at, text in enumerate(texts, start):
        each = facts(text, at)
        context.decide(each, SCORED)
        seen.append(each)
    return seen


def tell(teller: CampaignWatch, *hearers: CampaignWatch, is_own: bool = False) -> None:
    """Hand all that has changed to other workers, as the topic does."""
    while teller.changed:
        campaign, _ = teller.changed.popitem()
        if summary := teller.summary(campaign):
            for hearer in hearers:
                if campaign.key and campaign.key != summary.key:
                    hearer.heard.append(Heard(campaign.key, None))
                hearer.heard.append(Heard(summary.key, decode_summary(encode_summary(summary)), is_own))
            campaign.key = summary.key
    for hearer in hearers:
        while hearer.heard:
            hearer.begin(2e9)


def test_a_message_has_its_campaign_and_the_size_so_far_from_the_second_on() -> None:
    seen = feed(Context(observers=[watch()]), [variant(1), OTHER, variant(2), variant(3), "ok"])

    assert [each.campaign_size for each in seen] == [0, 0, 2, 3, 0]
    assert [each.campaign is not None for each in seen] == [False, False, True, True, False]
    assert seen[2].campaign == seen[3].campaign


WORDINGS = [
    TEXT,
    TEXT.replace("depot", "warehouse"),
    TEXT.replace("Pay the fee", "Settle the small charge"),
    TEXT.replace(" at https://{}.example/x7", " to {}"),
    OTHER,
    OTHER.replace("blue folder", "red one"),
    "ok {} {}",
    "x" * 400 + " a text that nobody sends to many people at all {} {}",
]


@given(st.lists(st.tuples(st.sampled_from(WORDINGS), st.integers(1, 9)), max_size=40), st.integers(2, 20))
def test_a_batch_that_is_foreseen_has_the_campaigns_of_its_messages_one_by_one(
    sent: list[tuple[str, int]], most: int
) -> None:
    texts = [wording.replace("{}", str(number)) for wording, number in sent]
    alone = feed(Context(observers=[watch()]), texts)
    context, together = Context(observers=[watch()]), [facts(text, at) for at, text in enumerate(texts)]

    for first in range(0, len(together), most):
        context.begin(2e9)
        context.foresee(together[first : first + most])
        for each in together[first : first + most]:
            context.decide(each, SCORED)

    assert [(each.campaign, each.campaign_size) for each in together] == [
        (each.campaign, each.campaign_size) for each in alone
    ]


def test_what_is_read_again_counts_once_and_has_its_campaign_all_the_same() -> None:
    watching = watch()
    context = Context(observers=[watching])
    feed(context, [variant(1), variant(2), variant(3)])

    again = feed(context, [variant(1), variant(2), variant(3)])

    assert [each.campaign_size for each in again] == [3, 3, 3]
    [campaign] = watching.index
    assert (campaign.size, campaign.delivered) == (3, 2)
    assert watching._metrics.campaign_messages._value.get() == 2


def test_one_message_read_twice_is_no_campaign() -> None:
    watching = watch()
    context = Context(observers=[watching])

    for _ in range(3):
        [seen] = feed(context, [variant(1)])

    assert seen.campaign is None
    assert len(watching.index) == 0


@dataclass
class Blocking:
    """Rules that block campaigns by their ids."""

    blocked: set[str] = field(default_factory=set)
    decider: Decider = Decider.LIST

    def begin(self) -> None:
        pass

    def foresee(self, some: Sequence[Facts]) -> None: ...

    def rulings(self, facts: Facts) -> Sequence[Ruling]:
        return [Ruling("list:campaign:1", Action.BLOCK)] if facts.campaign in self.blocked else []


def test_one_action_on_a_campaign_holds_for_the_next_variant() -> None:
    rules = Blocking()
    context = Context([rules], [watch()])
    seen = feed(context, [variant(1), variant(2)])
    assert seen[1].campaign
    rules.blocked.add(seen[1].campaign)

    decided = context.decide(facts(variant(99).replace("parcel", "package"), 2), SCORED)
    unlike = context.decide(facts(OTHER, 3), SCORED)

    assert (decided.scored.action, decided.by) == (Action.BLOCK, Decider.LIST)
    assert (unlike.scored.action, unlike.by) == (Action.DELIVER, None)


def test_a_summary_says_what_became_of_its_messages_and_holds_no_text_and_no_number() -> None:
    watching = watch()
    feed(Context(observers=[watching]), [variant(number) for number in range(30)])

    [campaign] = watching.changed
    told = watching.summary(campaign)

    assert told
    assert (told.size, told.delivered, told.blocked, told.score) == (30, 29, 0, 0.25)
    assert (told.senders, told.worker) == (1, "one")
    assert told.recipients == pytest.approx(29, rel=0.4)
    assert told.hosts == pytest.approx(29, rel=0.4)
    assert (told.last - told.first).total_seconds() == 29
    raw = encode_summary(told).decode()
    assert problems(json.loads(raw), formats.schemas()["campaign-summary.schema.json"]) == []
    assert not any(word in raw for word in ("parcel", "depot", "+44", "7009", "example", "host1", "return"))


def test_a_small_campaign_is_not_told() -> None:
    watching = watch()
    feed(Context(observers=[watching]), [variant(number) for number in range(LARGE - 1)])

    assert not watching.changed


def test_workers_that_meet_the_same_wording_have_the_same_id_without_a_word() -> None:
    one, two = watch("one"), watch("two")

    [*_, first] = feed(Context(observers=[one]), [variant(1), variant(2)])
    [*_, second] = feed(Context(observers=[two]), [variant(7), variant(8)])

    assert first.campaign == second.campaign


LONG = "Your parcel from the online shop could not be delivered today as the address was incomplete, please confirm it"


def unlike(dice: random.Random) -> str:
    words = LONG.split()
    for _ in range(2):
        words[dice.randrange(len(words))] = dice.choice(["warehouse", "tomorrow", "quickly", "invoice", "member"])
    return " ".join(words)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.permutations(["one", "two", "three"]))
def test_workers_that_have_heard_of_each_other_come_to_the_smallest_id_and_the_same_sum(
    seed: int, order: list[str]
) -> None:
    dice = random.Random(seed)
    watches = {name: watch(name) for name in order}
    contexts = {name: Context(observers=[each]) for name, each in watches.items()}
    for name in order:
        feed(contexts[name], [unlike(dice)] * 12)
    ids_before = {campaign.id for each in watches.values() for campaign in each.index}

    for _ in range(2):
        for name in order:
            feed(contexts[name], [LONG], start=100)
            others = [each for other, each in watches.items() if other != name]
            tell(watches[name], *others)
            watches[name].changed.clear()
        for context in contexts.values():
            context._seen.clear()

    known = [campaign for each in watches.values() for campaign in each.index]
    assume(len(known) == len(order))  # each has one: they are near enough
    assert {campaign.id for campaign in known} == {min(ids_before)}
    assert {campaign.total for campaign in known} == {len(order) * (12 + 2)}


def test_the_size_includes_what_other_workers_have_counted() -> None:
    one, two = watch("one"), watch("two")
    feed(Context(observers=[one]), [variant(number) for number in range(20)])
    tell(one, two)

    [seen] = feed(Context(observers=[two]), [variant(50)])

    assert seen.campaign_size == 21
    assert seen.campaign == next(iter(one.index)).id


def test_a_block_on_an_id_that_gave_way_to_a_smaller_one_can_still_be_found() -> None:
    one = watch("one")
    feed(Context(observers=[one]), [variant(number) for number in range(20)])
    [mine] = one.index
    summary = one.summary(mine)
    assert summary
    smaller = msgspec.structs.replace(summary, campaign="0" * 16, worker="two")
    one.heard.append(Heard(smaller.key, smaller))
    before = mine.id

    one.begin(2e9)

    [seen] = feed(Context(observers=[one]), [variant(99)], start=20)
    assert seen.campaign == mine.id == "0" * 16
    assert seen.campaign_ids == ("0" * 16, before)


def test_a_tombstone_takes_away_what_its_worker_has_counted() -> None:
    one, two = watch("one"), watch("two")
    feed(Context(observers=[one]), [variant(number) for number in range(20)])
    tell(one, two)
    [campaign] = two.index
    assert campaign.total == 20

    two.heard.append(Heard(f"{campaign.id}:one", None))
    two.heard.append(Heard("nobody", None))
    two.begin(2e9)

    assert campaign.total == 0


def test_a_worker_that_is_started_anew_goes_on_from_its_own_records() -> None:
    before, after = watch("one"), watch("one")
    feed(Context(observers=[before]), [variant(number) for number in range(20)])
    tell(before, after, is_own=True)

    [seen] = feed(Context(observers=[after]), [variant(50)])

    assert seen.campaign_size == 21
    [campaign] = after.index
    told = after.summary(campaign)
    assert told
    assert (told.size, told.delivered, told.score) == (21, 20, 0.25)
    assert told.recipients == pytest.approx(19, rel=0.4)


def test_signatures_of_another_scheme_are_not_taken_up() -> None:
    one, two = watch("one"), watch("two")
    feed(Context(observers=[one]), [variant(number) for number in range(20)])
    summary = one.summary(next(iter(one.index)))
    assert summary
    two.heard.append(Heard(summary.key, msgspec.structs.replace(summary, scheme="0.0.0")))

    two.begin(2e9)

    assert len(two.index) == 0


def test_a_transaction_takes_up_a_bounded_number_of_summaries() -> None:
    two = watch("two")
    two.heard.extend(Heard(f"{number:016x}:one", None) for number in range(1000))

    two.begin(2e9)

    assert 900 <= len(two.heard) < 1000


# --- the companion ------------------------------------------------------------------------------------------------


@dataclass
class Topic:
    """A compacted topic in memory; while it is `away`, nobody can read or write."""

    records: list[tuple[bytes | None, bytes | None]] = field(default_factory=list)
    is_away: bool = False
    connected: int = 0

    def reader(self) -> Reading:
        self.require()
        self.connected += 1
        return Reading(self)

    def publisher(self) -> Publishing:
        self.require()
        return Publishing(self)

    def require(self) -> None:
        if self.is_away:
            message = "no broker answers"
            raise BrokerError(message)

    def last(self) -> dict[str, CampaignSummary]:
        """What is left once it is compacted."""
        kept = {(key or b"").decode(): value for key, value in self.records}
        return {key: decode_summary(value) for key, value in kept.items() if value is not None}


@dataclass
class Reading:
    topic: Topic
    at: int = 0

    def to_end(self, within: float = 60.0) -> Iterator[Record]:
        del within
        self.topic.require()
        while self.at < len(self.topic.records):
            key, value = self.topic.records[self.at]
            self.at += 1
            yield Record("sms.campaigns", 0, self.at, 0.0, key, value)

    def close(self) -> None:
        pass


@dataclass
class Publishing:
    topic: Topic

    def publish(self, topic: str, records: Sequence[Outgoing]) -> None:
        assert topic == "sms.campaigns"
        self.topic.require()
        self.topic.records += [(each.key, each.value) for each in records]

    def close(self) -> None:
        pass


def sharing(watching: CampaignWatch, topic: Topic) -> CampaignSharing:
    failed = watching._metrics.campaign_topic_failures.inc
    return CampaignSharing(
        watching, "sms.campaigns", topic.reader, topic.publisher, (BrokerError,), failed, every=0.0, wait=0.0
    )


def failures(watching: CampaignWatch) -> float:
    return float(watching._metrics.campaign_topic_failures._value.get())


def test_two_workers_share_by_the_topic() -> None:
    topic, one, two = Topic(), watch("one"), watch("two")
    companions = [sharing(each, topic) for each in (one, two)]
    for each in (one, two):
        feed(Context(observers=[each]), [variant(number) for number in range(15)])

    for _ in range(3):
        assert all(companion.step() for companion in companions)
        for each in (one, two):
            each.begin(2e9)

    assert [next(iter(each.index)).total for each in (one, two)] == [30, 30]
    assert sorted(topic.last()) == sorted(f"{next(iter(one.index)).id}:{name}" for name in ("one", "two"))


def test_what_a_worker_counted_is_told_though_others_have_news_and_no_message_comes() -> None:
    topic, two = Topic(), watch("two")
    other = sharing(two, topic)
    context = Context(observers=[two])
    feed(context, [variant(number) for number in range(15)])
    assert other.step()
    one = watch("one")
    companion = sharing(one, topic)

    assert companion.step()  # reads what was there
    one.begin(2e9)  # a batch takes it up
    feed(Context(observers=[one]), [variant(number) for number in range(20, 35)])
    feed(context, [variant(number) for number in range(40, 55)], 15)
    assert other.step()  # news, which no message of one's takes up
    assert companion.step()

    assert one.heard
    assert {name.partition(":")[2] for name in topic.last()} == {"one", "two"}


def test_an_outage_loses_nothing_and_is_counted() -> None:
    topic, one = Topic(is_away=True), watch("one")
    companion = sharing(one, topic)
    context = Context(observers=[one])
    feed(context, [variant(number) for number in range(15)])
    for _ in range(3):
        assert companion.step()
    feed(context, [variant(number) for number in range(15)], start=15)
    assert failures(one) == 3

    topic.is_away = False
    companion.step()

    assert [each.size for each in topic.last().values()] == [30]
    assert not one.changed


def test_what_fails_to_be_published_is_published_later() -> None:
    topic, one = Topic(), watch("one")
    companion = sharing(one, topic)
    companion.step()
    feed(Context(observers=[one]), [variant(number) for number in range(15)])
    companion.publish = lambda: (_ for _ in ()).throw(BrokerError("refused"))  # type: ignore[assignment]
    companion.step()
    assert len(one.changed) == 1

    companion.publish = topic.publisher
    companion.step()

    assert len(topic.last()) == 1


def test_a_forgotten_campaign_is_taken_out_of_the_topic() -> None:
    topic, one = Topic(), watch("one", held=1)
    companion = sharing(one, topic)
    context = Context(observers=[one])
    feed(context, [variant(number) for number in range(15)])
    companion.step()
    assert len(topic.last()) == 1

    feed(context, [OTHER, OTHER], start=15)
    companion.step()

    assert topic.last() == {}
    assert one._metrics.campaigns_forgotten._value.get() == 1


def test_a_campaign_that_takes_a_smaller_id_leaves_no_record_under_the_larger() -> None:
    topic, one = Topic(), watch("one")
    companion = sharing(one, topic)
    context = Context(observers=[one])
    feed(context, [variant(number) for number in range(15)])
    companion.step()
    [(key, mine)] = topic.last().items()
    theirs = msgspec.structs.replace(mine, campaign="0" * 16, worker="two")
    topic.records.append((theirs.key.encode(), encode_summary(theirs)))

    companion.step()
    one.begin(2e9)
    feed(context, [variant(99)], start=15)
    companion.step()

    assert sorted(topic.last()) == [f"{'0' * 16}:one", f"{'0' * 16}:two"]
    assert key not in topic.last()
    assert topic.last()[f"{'0' * 16}:one"].aliases == (mine.campaign,)


def test_a_restart_goes_on_from_the_topic_and_counts_its_own_records_once() -> None:
    topic, before = Topic(), watch("one")
    companion = sharing(before, topic)
    feed(Context(observers=[before]), [variant(number) for number in range(15)])
    companion.step()

    after = watch("one")
    companion = sharing(after, topic)
    context = Context(observers=[after])
    feed(context, [variant(number) for number in range(12)])
    for _ in range(4):
        companion.step()
        after.begin(2e9)
        companion._disconnect()  # everything is read once more
    feed(context, [variant(99)], start=12)
    companion.step()

    assert [each.size for each in topic.last().values()] == [28]


def test_two_records_of_one_worker_that_are_one_campaign_become_one_record() -> None:
    topic, before = Topic(), watch("one")
    companion = sharing(before, topic)
    feed(Context(observers=[before]), [variant(number) for number in range(15)])
    companion.step()
    [mine] = topic.last().values()
    twin = msgspec.structs.replace(mine, campaign="f" * 16, size=20)
    topic.records.append((twin.key.encode(), encode_summary(twin)))

    after = watch("one")
    companion = sharing(after, topic)
    for _ in range(3):
        companion.step()
        after.begin(2e9)

    assert {key: each.size for key, each in topic.last().items()} == {mine.key: 35}


def told(**changed: Any) -> bytes:
    """A summary as another worker writes it, but for what is changed."""
    teller = watch("two")
    feed(Context(observers=[teller]), [variant(number) for number in range(15)])
    [campaign] = teller.changed
    summary = teller.summary(campaign)
    assert summary
    return json.dumps(json.loads(encode_summary(summary)) | changed).encode()


IMPOSSIBLE: list[dict[str, Any]] = [
    {"size": 2**63},
    {"size": 2**64},
    {"senders": 2**63},
    {"first": "0001-01-01T00:00:00+14:00"},
    {"last": "9999-12-31T23:59:59-14:00"},
    {"first": "2025-01-01T00:00:00Z", "last": "2024-01-01T00:00:00Z"},
    {"aliases": ["0123456789abcdef"] * 9},
    {"worker": "w" * 300},
    {"unknown": "deep"},
    {"worker": "wrong"},
]


@pytest.mark.parametrize("changed", IMPOSSIBLE, ids=" ".join)
def test_a_summary_that_cannot_be_one_is_counted_and_changes_nothing(changed: dict[str, Any]) -> None:
    value = told(**changed).replace(b'"deep"', b"[" * 100_000).replace(b'"wrong"', b'"\xff"')
    key = json.loads(told())["campaign"] + ":" + str(changed.get("worker", "two"))
    topic, one = Topic([(key.encode(), value)]), watch("one")
    companion = sharing(one, topic)

    assert companion.step()
    one.begin(2e9)

    assert failures(one) == 1
    assert not len(one.index)


GARBAGE = [
    (None, b"{}"),
    (b"\xff", b"\xff"),
    (b"a:b", b"not json"),
    (b"a:b", b'{"campaign":"../../etc"}'),
    (b"0123456789abcdef:two", None),
    (b"", b""),
]


@pytest.mark.parametrize(("key", "value"), GARBAGE)
def test_records_that_are_no_summaries_are_counted_and_passed_over(key: bytes | None, value: bytes | None) -> None:
    topic, one = Topic([(key, value)]), watch("one")
    companion = sharing(one, topic)
    feed(Context(observers=[one]), [variant(number) for number in range(15)])

    for _ in range(2):
        assert companion.step()
        one.begin(2e9)

    assert failures(one) == (0 if value is None else 1)
    assert [each.worker for each in list(Topic(topic.records[1:]).last().values())] == ["one"]


def test_a_companion_that_is_told_to_stop_stops() -> None:
    companion = sharing(watch(), Topic())
    companion.stop()

    assert not companion.step()


@given(st.text())
def test_a_summary_is_read_as_it_was_written(worker: str) -> None:
    watching = watch("x")
    feed(Context(observers=[watching]), [variant(number) for number in range(12)])
    told = watching.summary(next(iter(watching.index)))
    assert told
    told = msgspec.structs.replace(told, worker=worker)

    assert decode_summary(encode_summary(told)) == told


def test_messages_are_decided_alike_with_and_without_an_observer() -> None:
    texts = [variant(number) for number in range(5)]
    with_it, without = Context(observers=[watch()]), Context()

    for at, text in enumerate(texts):
        assert with_it.decide(facts(text, at), SCORED) == without.decide(facts(text, at), SCORED) == Decided(SCORED)


def test_no_campaign_was_seen_last_at_a_time_that_is_yet_to_come() -> None:
    now, watching = 1_700_000_100.0, watch()
    context = Context(observers=[watching])
    context.begin(now)
    for offset, at in enumerate((1_700_000_000.0, 4_070_908_800.0)):
        context.decide(Facts(variant(offset), None, None, at, ("sms.events", 0), offset), SCORED)

    [campaign] = watching.index
    assert (campaign.first, campaign.last) == (1_700_000_000.0, now)
