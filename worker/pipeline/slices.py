"""A poll, a slice at a time: decoded, normalised and tokenised while the slice before it is waited for."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from worker.messages import Sms, UnreadableError, decode
from worker.pipeline.batch import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from worker.messages import Fault, Record
    from worker.model.classifier import Prepared
    from worker.model.models_in_service import Model, ModelsInService

# Messages that are prepared before they are handed over: of a backlog a poll brings thousands, and a judge that works
# off a batch in 15 ms must not wait for the last of them.
_SLICE: Final = 256


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a message: bytes, and seconds since it was received (None: however old)."""

    max_event_bytes: int
    deadline: float | None

    def decode(self, record: Record) -> Sms | Fault | None:
        """Return the message, why it is none, or None for a tombstone."""
        if record.is_tombstone:
            return None
        try:
            return decode(record, max_bytes=self.max_event_bytes)
        except UnreadableError as error:
            return error.fault


@dataclass(slots=True)
class Slice:
    """Some records of a poll, on their way to the inbox; `seconds` is the work that they have cost this thread."""

    records: Sequence[Record]
    polled_at: float
    items: list[Waiting] = field(default_factory=list)
    seconds: float = 0.0

    def begin(self, models: ModelsInService, limits: Limits) -> Callable[[], Slice]:
        """Decode, and begin to tokenise with the models in service now; called, what is returned waits for that."""
        started = time.monotonic()
        found = [limits.decode(record) for record in self.records]
        wait = models.begin_preparing(
            [(record, sms) for record, sms in zip(self.records, found, strict=True) if isinstance(sms, Sms)]
        )
        self.seconds = time.monotonic() - started
        return lambda: self._end(found, wait, models.revision)

    def _end(
        self,
        found: list[Sms | Fault | None],
        wait: Callable[[], list[tuple[Prepared, Model]]],
        revision: int,
    ) -> Slice:
        started, made = time.monotonic(), iter(wait())
        for record, sms in zip(self.records, found, strict=True):
            if isinstance(sms, Sms):
                prepared, model = next(made)
                self.items.append(
                    Waiting(record, self.polled_at, sms, prepared, None, model, revision, len(prepared))
                )  # fmt: skip
            else:
                self.items.append(Waiting(record, self.polled_at, unreadable=sms, revision=revision))
        self.seconds += time.monotonic() - started
        return self


def slices(
    records: Sequence[Record], models: Callable[[], ModelsInService], limits: Limits, clock: Callable[[], float]
) -> Iterator[Slice]:
    """Yield a poll slice by slice, in order; of no records one empty slice.

    Each is decoded, and on its way to the tokenizer, before the one before it is waited for.
    """
    ahead: Callable[[], Slice] | None = None
    for first in range(0, len(records), _SLICE):
        ready, ahead = ahead, Slice(records[first : first + _SLICE], clock()).begin(models(), limits)
        if ready:
            yield ready()
    yield ahead() if ahead else Slice((), clock())
