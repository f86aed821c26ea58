"""What each stage is doing, and for how long; for the probes. Any thread may ask."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from worker.pipeline.batch import Batch


@dataclass(slots=True)
class Progress:
    """The batches in flight, and since when each stage has been at work; `worked` is called with stage and seconds."""

    worked: Callable[[str, float], object] = lambda _stage, _seconds: None
    _refusal: str = ""
    _refused: tuple[float, float] | None = None
    _busy_since: dict[str, float] = field(default_factory=dict)
    _in_flight: dict[int, Batch] = field(default_factory=dict)

    def take(self, batch: Batch) -> None:
        """Begin to follow a batch, by its first item: it may lose some of the others on its way."""
        self._in_flight[batch.number] = batch

    def finish(self, batches: Sequence[Batch]) -> None:
        """They are committed, or discarded."""
        for batch in batches:
            self._in_flight.pop(batch.number, None)

    def refused(self, cause: str) -> None:
        """A write did not commit."""
        now = time.monotonic()
        self._refusal, self._refused = cause, (self._refused[0] if self._refused else now, now)

    def forget_refusal(self) -> None:
        """A write did commit, or the group has moved on, and with it whatever was refused."""
        self._refused = None

    def uncommitted(self, *, lately: float) -> tuple[float, str]:
        """Return for how many seconds nothing has been committed that should have been, and what was refused last.

        What was refused and not tried again for `lately` seconds is nobody's trouble any more.
        """
        now, writing = time.monotonic(), self.busy().get("write", 0.0)
        refused = self._refused
        if refused is None or (now - refused[1] > lately and not writing):
            return writing, ""
        return now - refused[0], self._refusal

    def timestamps(self) -> list[float]:
        """Return the earliest timestamp of each batch in flight, in Unix seconds."""
        return [batch.oldest for batch in self._in_flight.copy().values()]

    @contextlib.contextmanager
    def at_work(self, stage: str) -> Iterator[None]:
        """Note that a stage holds a batch."""
        began = self._busy_since[stage] = time.monotonic()
        try:
            yield
        finally:
            del self._busy_since[stage]
            self.worked(stage, time.monotonic() - began)

    def busy(self) -> dict[str, float]:
        """Return the seconds that each stage has held its present batch, for those that hold one."""
        now = time.monotonic()
        return {stage: now - since for stage, since in self._busy_since.copy().items()}
