"""The parts of a worker that a test wants otherwise, and for which there is no setting."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Parts:
    """Called in a worker's process before it starts: small batches, quick looks at bundles, only chosen subprocesses.

    A process for the engine takes seconds to start: a worker here has one only where it matters. Batches are small so
    that whatever happens happens in the middle of one of many transactions.
    """

    batch_messages: int = 64
    bundle_watch: float | None = None
    tokenizer_processes: int | None = None
    has_sink_process: bool = False
    has_engine_process: bool = False

    def __call__(self) -> None:
        _replace("MAX_MESSAGES", self.batch_messages)
        if self.bundle_watch is not None:
            _replace("BUNDLE_WATCH", self.bundle_watch)
        _replace("has_engine_process", lambda: self.has_engine_process)
        if self.tokenizer_processes is not None:
            _replace("tokenizer_processes", lambda _: self.tokenizer_processes)
        if self.has_sink_process:
            _replace("has_sink_process", lambda _: True)


def _replace(name: str, value: object) -> None:
    from worker import app  # noqa: PLC0415 in the worker's process

    assert hasattr(app, name), f"worker.app has no {name} any more"
    setattr(app, name, value)
