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
    _busy_since: dict[str, float] = field(default_factory=dict)
    _in_flight: dict[int, Batch] = field(default_factory=dict)

    def take(self, batch: Batch) -> None:
        """Begin to follow a batch, by its first item: it may lose some of the others on its way."""
        self._in_flight[batch.number] = batch

    def finish(self, batches: Sequence[Batch]) -> None:
        """They are committed, or discarded."""
        for batch in batches:
            self._in_flight.pop(batch.number, None)

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
