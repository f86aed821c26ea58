"""Threads as coroutines on a clock of their own: which goes on next is the schedule's choice, and nothing else decides.

The worker's own modules run on it unchanged: `installed` puts these clocks, conditions, queues and events where they
look for the standard library's. A switch is possible wherever a thread would take a lock, wait or speak to a broker.
"""

from __future__ import annotations

import contextlib
import queue
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

from greenlet import GreenletExit, getcurrent, greenlet

from worker.pipeline.service import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.simulation.process import Process


@dataclass(eq=False)
class Task:
    """One thread of one process; `label` is what it is about to do, or waits for."""

    process: Process
    label: str
    coroutine: greenlet = field(init=False)
    until: Callable[[], bool] | None = None
    wake_at: float | None = None
    is_over: bool = False


@dataclass
class Hub:
    """All tasks of a simulation. One at a time exists, as its modules are patched for it."""

    now: float = 1_000_000_000.0
    tasks: list[Task] = field(default_factory=list)
    running: Task | None = None
    switches: int = 0
    is_closing: bool = False
    schedule: greenlet = field(default_factory=getcurrent)

    def spawn(self, process: Process, label: str, work: Callable[[], None]) -> Task:
        """Make a task; it begins when it is first chosen."""
        task = Task(process, label)

        def run() -> None:
            try:
                work()
            except GreenletExit:
                pass
            finally:
                task.is_over = True

        task.coroutine = greenlet(run, parent=self.schedule)
        self.tasks.append(task)
        process.tasks.append(task)
        return task

    def pause(self, label: str, until: Callable[[], bool] | None = None, timeout: float | None = None) -> bool:
        """Let others go first; with `until`, until it holds (True) or `timeout` seconds are over (whether it holds)."""
        task = self.running
        if task is None or self.is_closing or task.coroutine is not getcurrent():
            return until is None or until()
        task.label, task.until = label, until
        task.wake_at = None if timeout is None else self.now + timeout
        self.schedule.switch()
        return until is None or until()

    def is_runnable(self, task: Task) -> bool:
        """Whether it could go on now."""
        if task.is_over or not task.process.is_alive or task.process.is_paused:
            return False
        return task.until is None or task.until() or (task.wake_at is not None and self.now >= task.wake_at)

    def run(self, task: Task) -> None:
        """Let it go on until it next pauses."""
        self.switches += 1
        self.running = task
        try:
            task.coroutine.switch()
        finally:
            self.running = None

    def runnable(self) -> list[Task]:
        """All that could go on, in the order they were made."""
        self.tasks = [task for task in self.tasks if task.process.is_alive and not task.is_over]
        return [task for task in self.tasks if self.is_runnable(task)]

    def process(self) -> Process:
        """The one that runs."""
        assert self.running
        return self.running.process

    def close(self, tasks: list[Task]) -> None:
        """Unwind what never ended."""
        self.is_closing = True
        for task in tasks:
            task.coroutine.throw(GreenletExit)


class CoCondition:
    """A `threading.Condition`. Its lock is never held over a switch, so taking it is only a place to switch at."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._notices = 0

    def __enter__(self) -> None:
        self._hub.pause("lock")

    def __exit__(self, *_: object) -> None: ...

    def notify_all(self) -> None:
        self._notices += 1

    def wait(self, timeout: float | None = None) -> bool:
        seen = self._notices
        return self._hub.pause("take", lambda: self._notices > seen, timeout)

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        return predicate() or self._hub.pause("room", predicate, timeout)


class CoQueue(queue.Queue[Any]):
    """A `queue.Queue`, put to and taken from by coroutines."""

    hub: Hub

    def put(self, item: Any, *_: Any) -> None:
        self.hub.pause("put", lambda: self._qsize() < self.maxsize)
        self._put(item)

    def get(self, *_: Any) -> Any:
        self.hub.pause("get", lambda: self._qsize() > 0)
        return self._get()


class CoEvent:
    """A `threading.Event`."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def clear(self) -> None:
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        return self._hub.pause("event", self.is_set, timeout)


class CoStage(Stage):
    """The service's own stage, on a coroutine."""

    hub: Hub
    _task: Task | None = None

    def start(self) -> None:
        self._task = self.hub.spawn(self.hub.process(), self.name, self.run)

    def is_alive(self) -> bool:
        return self._task is not None and not self._task.is_over

    def join(self, timeout: float | None = None) -> None:
        self.hub.pause("join", lambda: not self.is_alive(), timeout)


@contextlib.contextmanager
def installed(hub: Hub) -> Iterator[None]:
    """Have the worker's modules run on `hub`."""
    clock = SimpleNamespace(
        monotonic=lambda: hub.now,
        time=lambda: hub.now,
        sleep=lambda seconds: hub.pause("sleep", lambda: False, seconds),
    )
    threads = SimpleNamespace(Condition=lambda: CoCondition(hub), Event=lambda: CoEvent(hub))
    of_hub = {"hub": hub}
    with contextlib.ExitStack() as patches:
        for module in (
            "pipeline.stages",
            "pipeline.progress",
            "pipeline.accounts",
            "pipeline.service",
            "pipeline.slices",
            "broker.sink",
            "broker.source",
            "broker.transactions",
        ):
            patches.enter_context(mock.patch(f"worker.{module}.time", clock))
        for module in ("pipeline.inbox", "pipeline.service"):
            patches.enter_context(mock.patch(f"worker.{module}.threading", threads))
        patches.enter_context(
            mock.patch("worker.pipeline.stages.queue", SimpleNamespace(Queue=type("CoQueue", (CoQueue,), of_hub)))
        )
        patches.enter_context(mock.patch("worker.pipeline.service.Stage", type("CoStage", (CoStage,), of_hub)))
        yield
