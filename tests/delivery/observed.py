"""The worker as tests run it: counted, slowed, broken or killed at a chosen place. Nothing of this ships."""

from __future__ import annotations

import json
import mmap
import os
import signal
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OUTCOMES: Final = ("committed", "rolled-back", "fenced", "failed")
HOLD: Final = 10.0
"""Seconds that a thread is held at a place: longer than another worker takes to join."""
TRIPWIRES: Final = "SINK_TRIPWIRES"
"""Environment variable by which a sink's process learns of its tripwires."""
_TRAP: Final = 128  # bytes of the file that says what is to be done where
_COUNTS: Final = struct.Struct("4Q")
_RAISES_NOTHING: Final = "prepare"
_CALLS: Final = ("__init__", _RAISES_NOTHING, "send", "commit", "abort", "close")


@dataclass(frozen=True)
class Counted:
    """Counts what the sink answers, in a file that outlives a SIGKILL."""

    path: Path

    def __call__(self) -> None:
        from worker.broker import ExactlyOnceSink, SinkProcess  # noqa: PLC0415 in the worker's process
        from worker.pipeline.ports import FencedError, RolledBackError  # noqa: PLC0415

        counts = _mapped(self.path, _COUNTS.size)

        def counted(write: Callable[..., None]) -> Callable[..., None]:
            def write_and_count(*arguments: Any) -> None:
                outcome = 3
                try:
                    write(*arguments)
                    outcome = 0
                except RolledBackError:
                    outcome = 1
                    raise
                except FencedError:
                    outcome = 2
                    raise
                finally:
                    at = outcome * 8
                    counts[at : at + 8] = struct.pack("Q", struct.unpack("Q", counts[at : at + 8])[0] + 1)

            return write_and_count

        for kind in (ExactlyOnceSink, SinkProcess):
            kind.write = counted(kind.write)  # type: ignore[method-assign]

    def read(self) -> dict[str, int]:
        if not self.path.exists():
            return dict.fromkeys(OUTCOMES, 0)
        return dict(zip(OUTCOMES, _COUNTS.unpack(self.path.read_bytes()), strict=True))


@dataclass(frozen=True)
class SlowJudge:
    """Every so many batches the model takes so long."""

    every: int
    seconds: float

    def __call__(self) -> None:
        from worker.model.classifier import Judging  # noqa: PLC0415

        scores, batches = Judging.scores, [0]

        def slow(judging: Any) -> Any:
            batches[0] += judging.count > 0
            if judging.count and batches[0] % self.every == 0:
                time.sleep(self.seconds)
            return scores(judging)

        Judging.scores = slow  # type: ignore[method-assign]


@dataclass(frozen=True)
class Tripwires:
    """Notes every place where the worker's threads call or wait for the broker; does harm at the one that is armed.

    The places are found by running: every call of a transaction when it is entered and left, and every request of any
    client when it is sent and when its answer comes. `places` holds those that were seen, a line each; `armed` what
    to do and where, as "action place"; it is emptied when that has been done.
    """

    places: Path
    armed: Path

    def arm(self, trap: str) -> None:
        """Have it done at the next time that a worker comes by."""
        with self.armed.open("r+b") as file:  # a worker has it mapped: it must not shrink even for a moment
            file.write(trap.encode().ljust(_TRAP, b"\0"))

    def disarm(self) -> None:
        self.arm("")

    def has_sprung(self) -> bool:
        return self.armed.read_bytes()[0] == 0

    def __call__(self) -> None:
        from kafka.net.connection import KafkaConnection  # noqa: PLC0415

        from worker.broker import sink_process  # noqa: PLC0415
        from worker.broker.transactions import Transactions  # noqa: PLC0415

        # A sink process has tripwires of its own, on the same files.
        os.environ[TRIPWIRES] = json.dumps([str(self.places), str(self.armed)])
        sink_process._SERVER = "tests.delivery.tripwired_sink"  # type: ignore[misc]

        known = set(self.places.read_text().splitlines()) if self.places.exists() else set()
        trap = _mapped(self.armed, _TRAP)

        def at(place: str) -> str | None:
            """Note the place. Where it is armed: kill, hold, or return the harm to do; once."""
            if place not in known:
                known.add(place)
                with self.places.open("a") as file:
                    file.write(place + "\n")
            if trap[0] == 0:
                return None
            action, _, where = trap[:].rstrip(b"\0").decode().partition(" ")
            if where != place:
                return None
            trap[:] = b"\0" * _TRAP
            if action == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if action == "hold":
                time.sleep(HOLD)
            return action

        for name in _CALLS:
            setattr(Transactions, name, _tripped(name, getattr(Transactions, name), at))
        KafkaConnection.send_request = _watched(KafkaConnection.send_request, at)


def _tripped(name: str, call: Any, at: Callable[[str], str | None]) -> Any:
    from kafka.errors import KafkaTimeoutError  # noqa: PLC0415

    def tripped(*arguments: Any, **more: Any) -> Any:
        if at(f"{name} entered") == "fail" and name != _RAISES_NOTHING:
            message = f"planted at {name}"
            raise KafkaTimeoutError(message)
        answer = call(*arguments, **more)
        if at(f"{name} left") == "fail" and name != _RAISES_NOTHING:
            message = f"planted after {name}"
            raise KafkaTimeoutError(message)
        return answer

    return tripped


def _watched(send: Any, at: Callable[[str], str | None]) -> Any:
    from kafka.errors import KafkaConnectionError  # noqa: PLC0415
    from kafka.future import Future  # noqa: PLC0415

    def watched(self: Any, request: Any, request_timeout_ms: Any = None) -> Any:
        name = type(request).__name__
        if at(f"{name} sent") == "fail":
            return Future().failure(KafkaConnectionError(f"planted before {name}"))
        future, answer = Future(), send(self, request, request_timeout_ms=request_timeout_ms)

        def arrived(value: Any) -> None:
            if at(f"{name} answered") == "fail":
                future.failure(KafkaConnectionError(f"planted: the answer to {name} is lost"))
            else:
                future.success(value)

        answer.add_callback(arrived)
        answer.add_errback(future.failure)
        return future

    return watched


def _mapped(path: Path, size: int) -> mmap.mmap:
    if not path.exists():
        path.write_bytes(b"\0" * size)
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), size)
