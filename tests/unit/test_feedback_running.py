"""`hamgate feedback` as a process: through outages and restarts, each report is counted once, and none is lost."""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.exposition import generate_latest
from structlog.testing import capture_logs

from tests.audited import NOON, TOPICS, FakeTail, Log, World, verdict
from worker.audit.brokers import AwayError
from worker.feedback import running
from worker.feedback.accepting import DAILY, HALF_LASTS
from worker.feedback.joining import Hashes
from worker.feedback.recent import RecentMessages
from worker.feedback.records import HELD, FeedbackDecision, RefusedReport, ReporterRecord, decode_record
from worker.feedback.reports import ReportOutcome
from worker.feedback.running import Feedback
from worker.messages import Outgoing, Record
from worker.metrics import FeedbackMetrics
from worker.policy.hashing import Hashing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from worker.messages import Positions

REPORTS = "reports"
MESSAGES = 40
SENT = time.time() - 60


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_PAUSE", "_RETRY"):
        monkeypatch.setattr(running, name, 0.0)


@dataclass
class Reported(World):
    """A world with a topic of reports, and what was decided of them."""

    decided: list[tuple[bytes | None, bytes | None]] = field(default_factory=list)
    read_to: dict[tuple[str, int], int] = field(default_factory=dict)
    lost_answers: random.Random | None = None
    """Where it is set, some answers to commits are lost."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.logs |= {(REPORTS, partition): Log() for partition in range(2)}
        for offset in range(MESSAGES):
            self.feed(0, json.dumps({"text": f"text {offset % 10}", "id": f"m-{offset}", "sender": "SHOP"}).encode())
            said = json.loads(verdict(0, offset).value or b"") | {"id": f"m-{offset}"}
            self.append(TOPICS.verdicts, 0, Outgoing(b"k", json.dumps(said).encode()))

    def report(self, partition: int = 0, at: float = SENT, **value: Any) -> None:
        self.append(REPORTS, partition, Outgoing(None, json.dumps(value).encode()), at=at)

    def records(self) -> list[Any]:
        """The newest of each key."""
        return [decode_record(value) for value in dict(self.decided).values() if value]


@dataclass
class FeedbackSession:
    """One connection to it."""

    world: Reported
    reports: FakeTail = field(init=False)
    recent: FakeTail = field(init=False)

    def __post_init__(self) -> None:
        self.world.answer()
        self.reports = FakeTail(self.world, (REPORTS,))
        self.recent = FakeTail(self.world, (TOPICS.events, TOPICS.verdicts), at_once=50)
        self.input = self

    def at(self, partition: int, offset: int) -> Record | None:
        self.world.answer()
        entries = self.world.logs[TOPICS.events, partition].entries
        return entries[offset] if offset < len(entries) else None

    def decisions(self) -> Iterable[tuple[bytes | None, bytes | None]]:
        self.world.answer()
        return list(self.world.decided)

    def begin(self) -> Positions:
        begins = {(REPORTS, partition): 0 for partition in range(2)} | self.world.read_to
        for place, offset in begins.items():
            self.reports.seek(place, offset)
        self.reports.only(begins)
        return begins

    def write(self, records: Sequence[Outgoing], positions: Positions) -> None:
        self.world.answer()
        self.world.decided += [(each.key, each.value) for each in records]
        self.world.read_to |= positions
        if self.world.lost_answers and self.world.lost_answers.random() < 0.1:
            message = "the answer was lost, and nobody knows"
            raise AwayError(message)

    def close(self) -> None:
        pass


class Brief(Feedback):
    """One that ends by itself."""

    rounds = 0

    def _turn(self, *given: Any) -> bool:
        self.rounds -= 1
        if self.rounds < 0:
            self.stop()
            return False
        return super()._turn(*given)


def made(world: Reported, rounds: int = 60) -> Brief:
    """A process that ends after so many rounds."""
    feedback = Brief(
        lambda: FeedbackSession(world),
        RecentMessages(TOPICS.events, 1000),
        Hashes(Hashing((b"a key of this test",))),
        FeedbackMetrics(ReportOutcome, HELD),
        1000,
        65_536,
    )
    feedback.rounds = rounds
    return feedback


def shown(feedback: Feedback, name: str, **labels: str) -> float:
    return feedback.metrics.registry.get_sample_value(f"hamgate_feedback_{name}", labels) or 0.0


def fill(world: Reported, count: int = 60) -> None:
    """Reports of six reporters in two partitions, some repeated and some of nothing."""
    for number in range(count):
        name = number % (MESSAGES + 5)
        world.report(number % 2, reporter=f"r{number % 6}", id=f"m-{name}")


def summary(world: Reported) -> tuple[object, ...]:
    records = world.records()
    decisions = {
        (each.subject, frozenset((vote.reporter, vote.label) for vote in each.votes))
        for each in records
        if isinstance(each, FeedbackDecision)
    }
    reporters = {(each.reporter, each.today, each.agreed) for each in records if isinstance(each, ReporterRecord)}
    refused = {(each.report, each.reason) for each in records if isinstance(each, RefusedReport)}
    return decisions, reporters, refused


def test_reports_are_joined_decided_and_counted() -> None:
    world = Reported()
    world.report(reporter="a", id="m-1")
    world.report(reporter="a", id="m-11")
    world.report(reporter="b", text="text 1")
    world.report(reporter="b", sender="shop")
    world.report(1, author="anna", label="spam", id="m-2")
    world.report(1, reporter="c", id="unheard-of")
    feedback = made(world)

    feedback.run()

    outcomes = {outcome: shown(feedback, "reports_total", outcome=outcome) for outcome in ReportOutcome}
    assert {outcome: count for outcome, count in outcomes.items() if count} == {
        "counted": 2, "duplicate": 1, "first-half": 1, "decided": 1, "not-found": 1,
    }  # fmt: skip
    assert shown(feedback, "decisions", state="accepted") == 1
    assert shown(feedback, "decisions", state="disputed") == 1
    assert world.read_to == {(REPORTS, 0): 4, (REPORTS, 1): 2}


def test_a_text_waits_for_its_sender_while_older_reports_are_still_read() -> None:
    world = Reported()
    before = time.time() - 2 * HALF_LASTS
    for name in ("m-1", "m-2"):
        world.report(at=before, reporter="a", id=name)
    world.report(at=before, reporter="b", text="text 1")  # the last that the first round reads
    world.report(at=before + 1, reporter="b", sender="shop")
    feedback = made(world)

    feedback.run()

    assert shown(feedback, "reports_total", outcome="counted") == 3
    assert shown(feedback, "reports_total", outcome="no-text") == 0


@pytest.mark.parametrize("seed", range(12))
def test_through_outages_lost_answers_and_restarts_all_is_as_without(seed: int) -> None:
    quiet, troubled = Reported(), Reported()
    for world in (quiet, troubled):
        fill(world)
    made(quiet).run()
    troubled.failures, troubled.lost_answers = random.Random(seed), random.Random(seed + 1)

    while sum(troubled.read_to.values()) < 60:
        made(troubled, rounds=5).run()

    assert summary(troubled) == summary(quiet)


def test_a_limited_reporter_is_shown() -> None:
    world = Reported()
    for number in range(DAILY + 3):
        world.report(reporter="a", id=f"m-{number}")
    feedback = made(world)

    feedback.run()

    assert shown(feedback, "limited_reporters") == 1
    assert shown(feedback, "reports_total", outcome="limited") == 3


def test_reports_that_were_deleted_before_they_were_read_are_counted_and_told() -> None:
    world = Reported()
    for number in range(9):
        world.report(reporter="a", id=f"m-{number}")
    world.delete(REPORTS, 0, 4)
    feedback = made(world)

    with capture_logs() as logs:
        feedback.run()

    assert shown(feedback, "reports_total", outcome="deleted") == 4
    assert [each["reports"] for each in logs if each["event"] == "reports deleted before they were read"] == [4]
    assert shown(feedback, "reports_total", outcome="counted") == 5


def test_no_line_and_no_series_has_a_text_or_a_number_in_it() -> None:
    world = Reported()
    world.report(reporter="+447700900001", text="text 1")
    world.report(reporter="+447700900001", sender="+447700900002")
    world.report(reporter="+447700900001", text="never sent: call +447700900003")
    world.append(REPORTS, 0, Outgoing(None, b'{"reporter": "+447700900001", "text": '))
    feedback = made(world)

    with capture_logs() as logs:
        feedback.run()

    said = json.dumps(logs, default=str) + generate_latest(feedback.metrics.registry).decode()
    assert "refused" in said
    assert "4477009" not in said
    assert "text 1" not in said
    assert "never sent" not in said


def test_a_message_is_dated_by_its_record_so_that_a_backlog_is_not_limited_at_once() -> None:
    world = Reported()
    for number in range(2 * DAILY):
        value = json.dumps({"reporter": "a", "id": f"m-{number}"}).encode()
        world.append(REPORTS, 0, Outgoing(None, value), at=NOON - 86_400 * (900 - number // DAILY))
    feedback = made(world)

    feedback.run()

    assert shown(feedback, "reports_total", outcome="limited") == 0
