"""The traffic generator: reproducible, open loop, and as odd as it says it is."""

from __future__ import annotations

import argparse
import json
import random
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from worker.messages import Outgoing, Record, Unreadable, UnreadableError, decode
from worker.pipeline.tracecontext import carried
from worker.simulate import Mix, Stream, plan
from worker.simulate.poison import ODD, UNREADABLE
from worker.simulate.shape import Swells, of_day

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MAX_BYTES = 65_536


def options(**more: Any) -> argparse.Namespace:
    given = {"rate": 200.0, "day": 0.0, "burst_every": 0.0, "campaign_every": 0.0, "spam": 0.1, "poison": 0.01}
    return argparse.Namespace(**(given | {"traced": 0.1, "subscribers": 50, "texts": None} | more))


@dataclass
class Listener:
    """Takes what is published, `takes` seconds each time, by a clock of its own."""

    takes: float = 0.0
    now: float = 1_700_000_000.0
    records: list[Outgoing] = field(default_factory=list)
    stamps: list[float] = field(default_factory=list)

    def publish(self, _: str, records: Iterable[Outgoing], *, timestamp: float | None = None) -> None:
        self.now += self.takes
        self.records += records
        self.stamps.append(timestamp or 0.0)

    def clock(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


def sent(listener: Listener, seconds: float = 10.0, seed: int = 5, **more: Any) -> Listener:
    sending = plan(options(**more), seed)
    sending.clock, sending.pause = listener.clock, listener.pause
    sending.run(listener, "t", seconds)
    return listener


def test_a_seed_gives_the_same_stream_again() -> None:
    assert sent(Listener()).records == sent(Listener()).records
    assert sent(Listener()).records != sent(Listener(), seed=6).records


def test_the_plan_is_kept_however_slow_the_brokers_are() -> None:
    quick, slow = sent(Listener()), sent(Listener(takes=0.5))

    assert slow.records == quick.records
    assert slow.stamps == quick.stamps
    assert slow.now - quick.now > 100


def test_the_rate_is_the_one_asked_for() -> None:
    assert len(sent(Listener(), seconds=60).records) == pytest.approx(200 * 60, rel=0.05)


def test_it_ends_at_the_number_asked_for() -> None:
    sending, listener = plan(options(), 1), Listener()
    sending.clock, sending.pause = listener.clock, listener.pause
    sending.run(listener, "t", messages=777)

    assert len(listener.records) == 777


def test_a_day_has_its_mean_and_its_evening() -> None:
    hours = [of_day(hour * 3600) for hour in range(24)]

    assert sum(hours) / 24 == pytest.approx(1)
    assert (hours.index(min(hours)), hours.index(max(hours))) == (4, 19)
    assert of_day(30, day=60) == pytest.approx(of_day(12 * 3600))
    assert of_day(12345, day=0) == 1


def test_swells_come_and_go() -> None:
    swells = Swells(10, 5, (2, 3), random.Random(1))

    seen = [swells.at(tenth / 10) for tenth in range(6000)]

    under_way = [swell for swell in seen if swell]
    assert 0.2 < len(under_way) / len(seen) < 0.5
    assert all(2 <= swell.size <= 3 for swell in under_way)
    assert len({swell.number for swell in under_way}) > 20


def test_a_campaign_is_one_text_with_small_changes() -> None:
    listener = sent(Listener(), seconds=120, campaign_every=20.0, poison=0.0)
    sending = plan(options(campaign_every=20.0), 5)
    assert sending.shape.campaigns.every == 20

    texts = [json.loads(record.value or b"{}").get("text", "") for record in listener.records]
    starts = [text[:12] for text in texts]
    assert max(starts.count(start) for start in set(starts)) > len(starts) / 20


@pytest.mark.parametrize(
    "reason", sorted(set(Unreadable) - {Unreadable.TOO_MANY_HEADERS, Unreadable.UNREADABLE_BATCH})
)  # that is no matter of the value
def test_every_reason_for_a_dead_letter_is_among_the_poison(reason: Unreadable) -> None:
    for seed in range(20):
        value = UNREADABLE[reason](random.Random(seed))
        with pytest.raises(UnreadableError) as refused:
            decode(Record("t", 0, 0, 1_700_000_000.0, None, value), max_bytes=MAX_BYTES)
        assert refused.value.reason == reason


def test_what_is_odd_can_be_read() -> None:
    for make in ODD:
        for seed in range(20):
            value = json.dumps({"text": make(random.Random(seed))}).encode()
            decode(Record("t", 0, 0, 1_700_000_000.0, None, value), max_bytes=MAX_BYTES)


def test_ids_are_unique_numbers_are_fictional_and_contexts_valid() -> None:
    stream = Stream(Mix(poison=0, tombstones=0, traced=0.5), "run", random.Random(3))
    events = [stream.event(1_700_000_000.0) for _ in range(2000)]

    shown = [json.loads(event.value or b"") for event in events]
    ids = [event["id"] for event in shown if "id" in event]
    assert len(set(ids)) == len(ids) > 1900
    for event in shown:
        for number in (event["sender"], event["recipient"]):
            assert re.fullmatch(r"\+447700900\d{6}", number)
    traced = [event.headers for event in events if event.headers]
    assert len(traced) > 800
    assert all(carried(headers)[1] for headers in traced)
    assert stream.made.keys() == {"chat", "notice", "odd", "spam"}


def test_messages_of_ones_own_are_sent_in_place_of_the_templates(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.write_text("ham\tsee you\nspam\tWIN\nplain line\n\n")

    listener = sent(Listener(), texts=str(texts), poison=0.0)

    said = Counter(json.loads(record.value or b'{"text": ""}')["text"] for record in listener.records)
    assert said["WIN"] / said.total() == pytest.approx(0.1, abs=0.03)
    assert set(said) - {""} == {"see you", "WIN", "plain line"}


def test_a_file_without_messages_is_refused(tmp_path: Path) -> None:
    (tmp_path / "texts").write_text("\n")

    with pytest.raises(ValueError, match="no message in it"):
        plan(options(texts=str(tmp_path / "texts")), 1)
