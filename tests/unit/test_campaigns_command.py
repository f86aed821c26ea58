"""`hamgate campaigns` adds up over workers and ids, and never shows what no summary holds."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.__main__ import main
from worker.campaigns.signature import LENGTH
from worker.campaigns.summaries import CampaignSummary, encode_summary
from worker.campaigns.totals import added_up, summaries
from worker.messages import Record

NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
IDS = [f"{number:x}" * 16 for number in range(6)]


def summary(campaign: str = IDS[1], worker: str = "one", size: int = 10, **more: Any) -> CampaignSummary:
    times = {"first": NOON, "last": NOON} | more
    return CampaignSummary(campaign, worker, size, scheme="1.1.2", signature=bytes(LENGTH), **times)


def test_a_campaign_is_the_sum_over_workers() -> None:
    later = NOON + dt.timedelta(hours=1)
    one = summary(size=10, delivered=6, blocked=3, senders=2, score=0.2)
    two = summary(worker="two", size=30, delivered=1, blocked=8, flagged=18, senders=3, last=later, score=0.4)

    [found] = added_up([one, two])

    told = found.as_json()
    assert (told["campaign"], told["size"], told["senders"], told["workers"]) == (IDS[1], 40, 5, ["one", "two"])
    assert (told["first"], told["last"]) == ("2026-01-31T12:00:00.000Z", "2026-01-31T13:00:00.000Z")
    assert told["score"] == 0.35
    assert found.blocked_share == pytest.approx(11 / 36)
    assert "30.6%" in found.line()


def test_the_largest_comes_first() -> None:
    found = added_up([summary(IDS[1], size=10), summary(IDS[2], size=30), summary(IDS[3], size=20)])

    assert [each.id for each in found] == [IDS[2], IDS[3], IDS[1]]


@given(st.lists(st.tuples(st.sampled_from(IDS), st.lists(st.sampled_from(IDS), max_size=2)), max_size=8))
def test_no_message_is_counted_twice_or_not_at_all_whatever_ids_have_in_common(some: list[Any]) -> None:
    told = [summary(name, f"w{at}", at + 1, aliases=tuple(aliases)) for at, (name, aliases) in enumerate(some)]

    found = added_up(told)

    assert sum(each.sum("size") for each in found) == sum(each.size for each in told)
    names = [{name, *aliases} for name, aliases in some]
    for each in found:
        its = {each.id}.union(*({part.campaign, *part.aliases} for part in each.parts))
        assert each.id == min(its)
        assert all(its.isdisjoint(ids) or ids <= its for ids in names)


def test_the_last_record_under_a_key_counts_a_tombstone_ends_it_and_garbage_is_counted() -> None:
    def record(key: bytes, value: bytes | None) -> Record:
        return Record("sms.campaigns", 0, 0, 0.0, key, value)

    found, unreadable = summaries([
        record(b"a", encode_summary(summary(size=10))),
        record(b"a", encode_summary(summary(size=20))),
        record(b"b", encode_summary(summary(size=5))),
        record(b"b", None),
        record(b"c", None),
        record(b"d", b"{}"),
    ])  # fmt: skip

    assert ([each.size for each in found], unreadable) == ([20], 1)


def test_without_a_topic_it_says_what_to_set(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HAMGATE_CAMPAIGNS_TOPIC", raising=False)

    assert main(["campaigns"]) == 2
    assert "HAMGATE_CAMPAIGNS_TOPIC" in capsys.readouterr().err


def test_a_time_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["campaigns", "--campaigns-topic", "sms.campaigns", "--since", "yesterday"]) == 2
    assert "--since yesterday" in capsys.readouterr().err
