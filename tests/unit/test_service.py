"""Three threads: they deliver, they drain, and when one dies all end."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes import VERDICTS, FakeBroker, FakeClassifier, FakeSink
from tests.unit.test_pipeline import event, make
from worker.pipeline.ports import RolledBackError
from worker.pipeline.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.pipeline.stages import Pipeline


class Run:
    """A service on a thread of its own, and what it raised."""

    def __init__(self, pipeline: Pipeline, *, grace: float = 5.0, stall: float = 60.0) -> None:
        self.service = Service(pipeline, grace=grace, stall=stall)
        self.raised: BaseException | None = None
        self.is_all_committed: bool | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.is_all_committed = self.service.run()
        except BaseException as raised:  # noqa: BLE001 it is what the test asks about
            self.raised = raised

    def ended(self) -> bool:
        self.thread.join(5)
        return not self.thread.is_alive()


def until(condition: Callable[[], bool], *, within: float = 5) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "did not come true"
        time.sleep(0.005)


def ids(broker: FakeBroker) -> list[str]:
    return [json.loads(record.value or b"")["id"] for record in broker.records(VERDICTS)]


def test_messages_become_verdicts_while_it_runs_and_all_is_let_go_when_it_stops() -> None:
    broker = FakeBroker()
    sink = FakeSink(broker)
    pipeline = make(broker, sink)
    running = Run(pipeline)

    broker.feed(*[event("x", id=str(n)) for n in range(500)])
    until(lambda: len(ids(broker)) == 500)
    assert running.service.readiness_problems() == []
    running.service.stop()

    assert running.ended()
    assert running.raised is None
    assert ids(broker) == [str(n) for n in range(500)]
    assert sink.is_closed
    assert broker.members == []
    assert running.service.readiness_problems() == ["stopping"]


def test_it_is_not_ready_without_partitions() -> None:
    running = Run(make(FakeBroker(partitions=0)))

    assert running.service.readiness_problems() == ["no partitions assigned"]
    assert running.service.liveness_problems() == []

    running.service.stop()
    assert running.ended()


def test_it_is_not_ready_while_the_brokers_do_not_answer() -> None:
    broker = FakeBroker()
    running = Run(make(broker))
    until(lambda: running.service.readiness_problems() == [])

    broker.members[0].has_lost_the_brokers = True
    assert running.service.readiness_problems() == ["the brokers do not answer"]
    assert running.service.liveness_problems() == []  # to start it again would bring no broker back
    broker.members[0].has_lost_the_brokers = False
    assert running.service.readiness_problems() == []

    running.service.stop()
    assert running.ended()


def test_it_is_not_ready_while_nothing_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.pipeline.service._UNCOMMITTED", 0.05)

    class Refusing(FakeSink):
        is_refused = True

        def write(self, *arguments: Any) -> None:
            time.sleep(0.01)
            if self.is_refused:
                message = "NotEnoughReplicasError: sms.verdicts"
                raise RolledBackError(message)
            super().write(*arguments)

    broker = FakeBroker()
    sink = Refusing(broker)
    running = Run(make(broker, sink))
    until(lambda: running.service.readiness_problems() == [])
    broker.feed(event("x"))

    until(lambda: running.service.readiness_problems() != [])
    [problem] = running.service.readiness_problems()
    assert problem.startswith("nothing is committed for ")
    assert "NotEnoughReplicasError: sms.verdicts" in problem
    assert running.service.liveness_problems() == []
    sink.is_refused = False
    until(lambda: running.service.readiness_problems() == [])

    running.service.stop()
    assert running.ended()


def test_it_is_not_ready_while_a_write_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.pipeline.service._UNCOMMITTED", 0.05)
    may_end = threading.Event()

    class Slow(FakeSink):
        def write(self, *arguments: Any) -> None:
            may_end.wait(5)
            super().write(*arguments)

    broker = FakeBroker()
    running = Run(make(broker, Slow(broker)))
    broker.feed(event("x"))

    until(lambda: [each[:24] for each in running.service.readiness_problems()] == ["nothing is committed for"])
    may_end.set()
    until(lambda: running.service.readiness_problems() == [])

    running.service.stop()
    assert running.ended()


@pytest.mark.parametrize("stage", ["read", "judge", "write"])
def test_a_stage_that_dies_ends_the_work_uncommitted(stage: str) -> None:
    class Judge(FakeClassifier):
        def judge(self, prepared: Any) -> Any:
            if stage == "judge":
                raise ZeroDivisionError
            return super().judge(prepared)

    broker = FakeBroker()
    sink = FakeSink(broker, ZeroDivisionError() if stage == "write" else None)
    pipeline = make(broker, sink, classifier=Judge())
    if stage == "read":
        pipeline.source.failure = ZeroDivisionError()  # type: ignore[attr-defined]
    broker.feed(event("x"))
    running = Run(pipeline)

    assert running.ended()
    assert isinstance(running.raised, ZeroDivisionError)
    assert broker.committed == {}
    assert running.service.liveness_problems() == [f"{stage}: ended by ZeroDivisionError"]
    assert not sink.is_closed, "a close could still commit"
    until(lambda: not any(each.name == "read" for each in threading.enumerate()))


class Slow(FakeClassifier):
    """A judge that waits to be released."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.may_end = threading.Event(), threading.Event()

    def judge(self, prepared: Any) -> Any:
        self.began.set()
        self.may_end.wait(5)
        return super().judge(prepared)


def test_a_stop_finishes_what_is_in_flight() -> None:
    broker, slow = FakeBroker(), Slow()
    broker.feed(event("x", id="a"))
    running = Run(make(broker, classifier=slow))
    slow.began.wait(5)

    running.service.stop()
    time.sleep(0.05)
    slow.may_end.set()

    assert running.ended()
    assert running.is_all_committed is True
    assert ids(broker) == ["a"]


def test_a_stop_does_not_wait_beyond_its_grace() -> None:
    broker, slow = FakeBroker(), Slow()
    broker.feed(event("x", id="a"))
    running = Run(make(broker, classifier=slow), grace=0.2)
    slow.began.wait(5)

    running.service.stop()

    assert running.ended()
    assert running.is_all_committed is False
    assert broker.committed == {}
    slow.may_end.set()


@pytest.mark.parametrize("part", ["sink", "source"])
def test_a_part_that_does_not_close_is_left_behind_when_the_grace_is_over(
    part: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broker, may_end = FakeBroker(), threading.Event()
    pipeline = make(broker)
    monkeypatch.setattr(getattr(pipeline, part), "close", lambda: may_end.wait(60))
    broker.feed(event("x", id="a"))
    running = Run(pipeline, grace=0.5)
    until(lambda: ids(broker) == ["a"])

    running.service.stop()

    assert running.ended()
    assert running.is_all_committed is True
    assert "left behind" in capsys.readouterr().out
    may_end.set()


@pytest.mark.parametrize("part", ["sink", "source"])
def test_a_part_that_fails_to_close_changes_nothing_of_what_is_committed(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def close() -> None:
        raise ConnectionError

    broker = FakeBroker()
    pipeline = make(broker)
    monkeypatch.setattr(getattr(pipeline, part), "close", close)
    running = Run(pipeline)
    until(lambda: running.service.readiness_problems() == [])

    running.service.stop()

    assert running.ended()
    assert (running.raised, running.is_all_committed) == (None, True)


def test_a_judge_that_hangs_is_seen() -> None:
    broker, slow = FakeBroker(), Slow()
    broker.feed(event("x"))
    running = Run(make(broker, classifier=slow), stall=0.1)
    slow.began.wait(5)

    until(lambda: running.service.liveness_problems() == ["judge: no progress for 0 s"])

    slow.may_end.set()
    until(lambda: running.service.liveness_problems() == [])
    running.service.stop()
    assert running.ended()
