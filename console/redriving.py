"""Dead letters back to the input, on a thread, by what `hamgate replay` does; one run at a time."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from worker.broker import BrokerError, Selection, replay
from worker.messages import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable

    from console.access import Visitor
    from console.changes import AuditLog
    from worker.broker import KafkaLink, Letter

log = structlog.get_logger()


class RunningError(Exception):
    """Another run is not over."""


@dataclass(frozen=True, slots=True)
class ChosenLetters(Selection):
    """Dead letters by their places, each a partition and an offset; none named: as the selection says."""

    places: frozenset[tuple[int, int]] = field(default_factory=frozenset)

    def takes(self, letter: Letter) -> bool:
        """Whether this letter is chosen."""
        place = letter.record.partition, letter.record.offset
        return (not self.places or place in self.places) and Selection.takes(self, letter)

    def as_json(self) -> dict[str, Any]:
        """What the audit log says of it."""
        return {
            "reasons": sorted(self.reasons),
            "since": None if self.since is None else rfc3339(self.since),
            "until": None if self.until is None else rfc3339(self.until),
            "places": sorted(f"{partition}:{offset}" for partition, offset in self.places),
        }


@dataclass(slots=True)
class _Run:
    number: int
    is_preview: bool
    began: float
    said: str = ""
    error: str | None = None
    counts: dict[str, dict[str, int]] | None = None
    ended: float | None = None


class Redrive:
    """Replays in the name of the worker's group, as `hamgate replay` does: each letter once, whoever sends it."""

    def __init__(
        self, link: KafkaLink, log_of_changes: AuditLog, *, name: str, dead_letters: str, input_topic: str
    ) -> None:
        self._link, self._changes = link, log_of_changes
        self._name, self._letters, self._input = name, dead_letters, input_topic
        self._lock = threading.Lock()
        self._run: _Run | None = None

    def begin(self, visitor: Visitor, selection: ChosenLetters, *, is_preview: bool, again: bool) -> int:
        """Begin, and return the run's number. Raises RunningError, OSError where the audit log cannot be written."""
        with self._lock:
            if self._run and self._run.ended is None:
                raise RunningError
            self._changes.write(
                visitor, "redrive preview" if is_preview else "redrive", again=again, selection=selection.as_json()
            )
            run = self._run = _Run(self._run.number + 1 if self._run else 1, is_preview, time.time())
        threading.Thread(
            target=self._replay, args=(run, visitor, selection, again), name="redrive", daemon=not is_preview
        ).start()
        return run.number

    def state(self) -> dict[str, Any] | None:
        """Return how far the last run is; None where there was none."""
        if (run := self._run) is None:
            return None
        return {
            "number": run.number,
            "is_preview": run.is_preview,
            "is_running": run.ended is None,
            "said": run.said,
            "error": run.error,
            "counts": run.counts,
        }

    def _replay(self, run: _Run, visitor: Visitor, selection: ChosenLetters, again: bool) -> None:  # noqa: FBT001
        def say(text: str) -> None:
            run.said = text

        try:
            done = replay(
                self._link,
                selection,
                dead_letter_topic=self._letters,
                input_topic=self._input,
                name=self._name,
                again=again,
                dry_run=run.is_preview,
                say=say,
            )
        except (BrokerError, TimeoutError) as error:
            run.error = str(error)
        except Exception as error:
            log.exception("redrive failed")
            run.error = type(error).__name__
        else:
            run.counts = {"sent": dict(done.sent), "left": dict(done.left), "truncated": dict(done.truncated)}
        self._note(lambda: self._changes.write(visitor, "redrive ended", counts=run.counts, error=run.error), run)
        run.ended = time.time()

    @staticmethod
    def _note(write: Callable[[], None], run: _Run) -> None:
        if not run.is_preview:
            try:
                write()
            except OSError as error:
                log.error("audit log not written", cause=error.strerror)  # noqa: TRY400
