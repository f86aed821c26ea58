"""The pipeline's three threads: start, shutdown, and the answers to the probes."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from worker.model.models_in_service import Role
from worker.process.ending import clean_up
from worker.process.states import State, state

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.pipeline.stages import Pipeline

_TICK: Final = 0.1
# What may be cleaned up after a stage has failed: the supervisor waits to start it again.
_AFTER_A_FAILURE: Final = 5.0
# Seconds without a commit, of what is judged, after which the worker is not ready; and how long a refusal counts that
# nobody has tried to write after.
_UNCOMMITTED: Final = 5.0
_LATELY: Final = 15.0

log = structlog.get_logger()


class Companion(Protocol):
    """Something that works beside the pipeline on a thread of its own."""

    @property
    def name(self) -> str:
        """Its thread's name."""

    def step(self) -> bool:
        """Work a little; False when it is over."""

    def stop(self) -> None:
        """Take no more steps."""


class Stage(threading.Thread):
    """One thread that takes steps until a step says that there are no more."""

    def __init__(self, name: str, step: Callable[[], bool], over: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._step, self._over = step, over
        self.began = time.monotonic()
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Step by step; what goes wrong is kept for whoever started this, who will end the process."""
        try:
            while self._step():
                self.began = time.monotonic()
        except BaseException as failure:  # noqa: BLE001 not handled here, but raised again by Service.run
            self.failure = failure
        finally:
            self._over()

    def held_up_for(self) -> float:
        """Seconds that the current step has lasted."""
        return time.monotonic() - self.began


class Service:
    """Runs a pipeline until it is stopped or breaks.

    `stall` is how long one step may take before the process counts as dead; `grace` how long what is in flight may
    take to finish once it is told to stop. What works `beside` it is started and stopped with it, and its failure is
    the service's too; but nobody waits for it to finish.
    """

    def __init__(self, pipeline: Pipeline, *, grace: float, stall: float, beside: Sequence[Companion] = ()) -> None:
        self._pipeline, self._grace, self._stall = pipeline, grace, stall
        self._stopping = threading.Event()
        self._changed = threading.Event()
        self._read = Stage("read", self._step_reader, self._changed.set)
        self._judge = Stage("judge", self._step_judge, self._changed.set)
        self._write = Stage("write", pipeline.write, self._changed.set)
        self._stages = (self._read, self._judge, self._write)
        self._companions = beside
        self._leave_by: float | None = None
        self._beside = [Stage(each.name, each.step, self._changed.set) for each in beside]

    def run(self) -> bool:
        """Work until `stop`, then finish what is in flight, or leave it uncommitted after the grace: False.

        Raises what broke a stage: the process must then end, non-zero, and close nothing that could still commit.
        """
        for stage in (*self._beside, *reversed(self._stages)):  # the reader last: told to stop, it waits for the writer
            stage.start()
        try:
            while not self._stopping.is_set():
                self._changed.wait()
                self._changed.clear()
                self._raise_failure()
            return self._drain(self.leave_by)
        except BaseException:
            self._stopping.set()  # what is left of the pipe takes on nothing more while the process ends
            self._pipeline.inbox.close()
            self._leave_by = self._leave_by or time.monotonic() + min(self._grace, _AFTER_A_FAILURE)
            raise
        finally:
            for each in self._companions:
                each.stop()

    @property
    def leave_by(self) -> float:
        """When all must be over (monotonic), what is cleaned up after the drain too. Counts from the first question."""
        if self._leave_by is None:
            self._leave_by = time.monotonic() + self._grace
        return self._leave_by

    def stop(self) -> None:
        """Poll no more. May be called from a signal handler, and more than once."""
        self._stopping.set()
        self._changed.set()

    def steps(self) -> dict[str, float]:
        """For how many seconds each stage has been at what it is at; 0 when it waits for work."""
        busy = self._pipeline.progress.busy()
        reading = self._read.held_up_for() if self._read.is_alive() else 0.0
        return {"read": reading, "judge": busy.get("judge", 0.0), "write": busy.get("write", 0.0)}

    def state(self) -> State:
        """The worker's state."""
        pipeline = self._pipeline
        return state(
            has_ended=any(stage.failure for stage in self._stages) or not self._is_open(),
            is_stopping=self._stopping.is_set(),
            is_rebuilding=pipeline.sink.is_rebuilding,
            is_assigned=bool(pipeline.assignment),
            is_rewinding=pipeline.inbox.is_rewinding,
        )

    def _is_open(self) -> bool:
        """Whether any stage is yet to start, or at work."""
        return any(stage.ident is None or stage.is_alive() for stage in self._stages)

    def liveness_problems(self) -> list[str]:
        """Why the process should be restarted."""
        # The judge and the writer wait inside a step for work, so only the reader's steps are bounded by themselves.
        troubles = [
            f"{stage.name}: ended by {type(stage.failure).__name__}"
            for stage in (*self._stages, *self._beside)
            if stage.failure
        ]
        busy = self._pipeline.progress.busy()
        troubles += [f"{name}: no progress for {s:.0f} s" for name, s in busy.items() if s > self._stall]
        if self._read.is_alive() and self._read.held_up_for() > self._stall:
            troubles.append(f"read: no progress for {self._read.held_up_for():.0f} s")
        return troubles if self._stopping.is_set() else troubles + self._losses()

    def _losses(self) -> list[str]:
        """The subprocesses that have ended, by stage: the stage will fail as soon as there is work."""
        pipeline = self._pipeline
        losses = []
        for model in pipeline.models.all:
            whose = "the canary's" if model.role is Role.CANARY else "the"
            if not model.classifier.has_tokenizer:
                losses.append(f"read: {whose} tokenizer process has ended")
            if not model.classifier.has_engine:
                losses.append(f"judge: {whose} engine process has ended")
        return [*losses, "write: the sink process has ended"] if pipeline.sink.has_ended else losses

    def readiness_problems(self) -> list[str]:
        """Why it takes no messages now."""
        if troubles := self.liveness_problems():
            return troubles
        if self._stopping.is_set():
            return ["stopping"]
        if self._pipeline.source.is_cut_off():
            return ["the brokers do not answer"]
        seconds, refusal = self._pipeline.progress.uncommitted(lately=_LATELY)
        if seconds > _UNCOMMITTED:
            return [f"nothing is committed for {seconds:.0f} s" + (f": {refusal}" if refusal else "")]
        return [] if self._pipeline.assignment else ["no partitions assigned"]

    def _step_reader(self) -> bool:
        if self._stopping.is_set():
            self._pipeline.inbox.close()
            return self._stay_in_the_group()
        self._pipeline.read()
        return True

    def _stay_in_the_group(self) -> bool:
        """Answer the group until the writer is done: only a member can commit what is in flight."""
        self._pipeline.source.keep_alive()
        self._write.join(_TICK)
        return self._write.is_alive() and not any(stage.failure for stage in self._stages)

    def _step_judge(self) -> bool:
        if self._pipeline.judge():
            return True
        self._pipeline.judged.put(None)
        return False

    def _drain(self, until: float) -> bool:
        while any(stage.is_alive() for stage in self._stages):
            self._raise_failure()
            if time.monotonic() > until:
                held_up = [stage.name for stage in self._stages if stage.is_alive()]
                log.warning("grace is over: what is in flight is left uncommitted", stages=held_up)
                return False
            self._changed.wait(_TICK)
            self._changed.clear()
        self._raise_failure()
        clean_up("sink", self._pipeline.sink.close, until=until)
        clean_up("source", self._pipeline.source.close, until=until)
        return True

    def _raise_failure(self) -> None:
        for stage in (*self._stages, *self._beside):
            if stage.failure:
                raise stage.failure
