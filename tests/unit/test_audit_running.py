"""The audit as a process: what it says, what it commits, and how it ends."""

from __future__ import annotations

import itertools
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from tests.audited import POISON, TOPICS, Session, World, verdict
from worker.audit import running
from worker.audit.answers import Where
from worker.audit.brokers import AwayError
from worker.audit.ledger import Ledger, MismatchKind
from worker.audit.news import News
from worker.audit.report import AuditReport
from worker.audit.running import Audit, AuditTerms
from worker.audit.starting import Start, StartError
from worker.metrics import AuditMetrics
from worker.process import outage

if TYPE_CHECKING:
    from collections.abc import Callable

EVENT = b"event"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_PAUSE", "_GLANCE", "_RETRY"):
        monkeypatch.setattr(running, name, 0.001)


def made(
    world: World,
    *,
    start: Start | None = None,
    window: int = 1000,
    commits: bool = True,
    connect: Callable[[], Session] | None = None,
) -> Audit:
    ledger = Ledger(TOPICS.events, window)
    terms = AuditTerms(TOPICS, start or Start(), lambda record: record.value != POISON, window, 8, commits=commits)
    return Audit(terms, connect or world.session, ledger, News(ledger, AuditMetrics(MismatchKind)))


def shown(audit: Audit, name: str, **labels: str) -> float | None:
    return audit.news.metrics.registry.get_sample_value(f"hamgate_audit_{name}", labels)


def answered(count: int = 5) -> World:
    world = World()
    world.feed(0, *[EVENT] * count)
    for offset in range(count):
        world.answered(0, offset)
    world.commit_group(0, count)
    return world


def test_once_proves_what_is_committed_and_says_so() -> None:
    audit = made(answered(), start=Start({0: 0}), commits=False)

    audit.once()

    report = AuditReport(TOPICS.events, audit.began, audit.ledger.progress(), audit.ledger)
    assert report.is_proven
    assert list(report.lines())[1].split() == ["0", "0", "5"]
    assert json.loads(report.as_json()) == {
        "topic": "events",
        "offsets": {"0": [0, 5], "1": [0, 0]},
        "proven": 5,
        "skipped": 0,
        "mismatches": dict.fromkeys(MismatchKind, 0),
        "is_proven": True,
    }


def test_once_where_nothing_was_ever_committed_ends() -> None:
    audit = made(World())

    audit.once()

    assert audit.ledger.proven == 0


@pytest.mark.parametrize("commits", [True, False])
def test_only_an_audit_that_is_to_commits_its_progress(*, commits: bool) -> None:
    world = answered()

    made(world, start=Start({0: 0}), commits=commits).once()

    assert world.audit_group.get((TOPICS.events, 0)) == ((5, "") if commits else None)


def test_once_gives_up_where_nothing_more_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_NO_FURTHER", 0.05)
    world = answered()
    world.logs[TOPICS.verdicts, 0].open["hangs"] = 3

    with pytest.raises(TimeoutError, match="see Hanging transactions"):
        made(world, start=Start({0: 0})).once()


def test_a_window_that_a_transaction_could_fill_is_refused_by_its_setting() -> None:
    with pytest.raises(StartError, match=r"HAMGATE_AUDIT_WINDOW: 15 is too few for 2 partitions; .* 16 and more"):
        made(World(), window=15).once()


def in_background(audit: Audit) -> threading.Thread:
    thread = threading.Thread(target=audit.run, daemon=True)
    thread.start()
    return thread


def until(what: Callable[[], bool]) -> None:
    for _ in itertools.count():
        if what():
            return
        threading.Event().wait(0.001)


def test_an_outage_is_said_once_and_its_end_and_readiness_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    world, tries = answered(), itertools.count()
    come_back = threading.Event()

    def connect() -> Session:
        if next(tries) and come_back.is_set():
            return world.session()
        message = "refused"
        raise AwayError(message)

    audit = made(world, start=Start({0: 0}), connect=connect)
    assert audit.readiness_problems() == ["connecting to the brokers"]
    with capture_logs() as said:
        thread = in_background(audit)
        until(lambda: next(tries) > 5)
        assert audit.readiness_problems() == ["the brokers do not answer"]
        assert audit.liveness_problems() == []
        monkeypatch.setattr(outage, "SAY_EVERY", 0.0)
        until(lambda: any(line["event"] == "brokers still away" for line in said))
        monkeypatch.setattr(outage, "SAY_EVERY", 60.0)
        come_back.set()
        until(lambda: audit.ledger.proven == 5)
        assert audit.readiness_problems() == []
        audit.stop()
        assert audit.readiness_problems() == ["stopping"]
        thread.join()

    events = [line["event"] for line in said if line["event"].startswith("brokers")]
    assert (events[0], events[-1]) == ("brokers away", "brokers back")
    assert set(events[1:-1]) == {"brokers still away"}
    assert world.audit_group[TOPICS.events, 0] == (5, "")


def test_an_audit_that_has_not_gone_round_for_long_asks_to_be_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    audit = made(World())
    monkeypatch.setattr(running, "_STALL", -1.0)

    assert audit.liveness_problems() == ["audit: no progress for 0 s"]


def logged(audit: Audit) -> list[Any]:
    with capture_logs() as said:
        audit.news.tell()
    return said


def test_a_mismatch_is_logged_and_counted_by_its_place_and_its_kind_alone() -> None:
    world = answered(3)
    world.append(TOPICS.verdicts, 1, verdict(0, 1))
    world.append(TOPICS.verdicts, 1, verdict(0, 1, "another"))
    world.feed(0, EVENT, EVENT)
    world.commit_group(0, 5)
    audit = made(world, start=Start({0: 0}))

    with capture_logs() as said:
        audit.once()

    lines = [line for line in said if line["event"] == "mismatch"]
    where = {"event": "mismatch", "log_level": "error"}
    answer = {"answer_topic": "verdicts", "answer_partition": 1}
    assert lines == [
        where | {"kind": "duplicated", "topic": "events", "partition": 0, "offset": 1} | answer | {"answer_offset": 0},
        where | {"kind": "wrong-source"} | answer | {"answer_offset": 1},
        where | {"kind": "lost", "topic": "events", "partition": 0, "offset": 3, "count": 2},
    ]
    assert shown(audit, "mismatches_total", kind="lost") == 2
    assert shown(audit, "mismatches_total", kind="duplicated") == 1
    assert shown(audit, "proven_messages_total") == 3


def test_of_many_mismatches_a_hundred_have_a_line_and_all_are_counted() -> None:
    audit = made(World())
    for _ in range(250):
        audit.ledger.answer(Where(TOPICS.verdicts, 0, 0), None)

    said = logged(audit)

    assert [line["event"] for line in said].count("mismatch") == 100
    assert said[-1] == {"event": "more mismatches", "count": 150, "log_level": "error"}
    assert shown(audit, "mismatches_total", kind="wrong-source") == 250


def test_a_pause_and_its_end_and_what_is_not_audited_are_said_once() -> None:
    audit = made(World(), window=4)
    ledger = audit.ledger
    ledger.begin(0, 0)
    ledger.visible({0: 9})
    for offset in range(5):
        ledger.read(0, offset, 0.0, is_readable=True)

    assert [line["event"] for line in logged(audit)] == ["paused"]
    assert logged(audit) == []
    assert (shown(audit, "paused"), shown(audit, "window_messages")) == (1, 4)
    ledger.give_up({0: 4})

    assert [line["event"] for line in logged(audit)] == ["not audited", "resumed"]
    assert (shown(audit, "paused"), shown(audit, "skipped_total")) == (0, 4)
    assert logged(audit) == []
