"""START HERE. Three stages, each one thread: read, judge, write.

    Kafka --poll--> Record --decode--> Sms --normalise, tokenise--> inbox --engine--> scores
      ^                 |                                                               |
      |                 +--- cannot be read: a dead letter, with its reason             v
      +--- verdicts, dead letters and offsets, in one transaction <--encode---------- Verdict

While batches up to k are written, k+1 is judged and k+2 is read; what is judged meanwhile goes into one transaction.
Backpressure is the inbox, and the queue before the writer, being full. When the group takes partitions back (some in a
rebalance, all in a refused transaction), what is in the pipe of them is discarded and read again by their next owner.
A stage that raises ends the process, uncommitted. `policy.order` says who decides, `accounts` what a commit tells whom.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from worker.model.models_in_service import begin
from worker.pipeline.ports import FencedError, RolledBackError
from worker.pipeline.progress import Progress
from worker.pipeline.slices import slices

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.messages import TopicPartition
    from worker.model.models_in_service import ModelsInService
    from worker.pipeline.accounts import Accounts
    from worker.pipeline.batch import Batch
    from worker.pipeline.inbox import Inbox
    from worker.pipeline.ports import Sink, Source
    from worker.pipeline.slices import Limits
    from worker.policy.order import Context

# How long a poll waits for the first record; also how soon a stop is noticed.
POLL_WAIT: Final = 0.1
# Batches that may wait for the writer. It takes all into one transaction, whose cost hardly depends on its size.
_JUDGED: Final = 4


@dataclass(slots=True)
class Pipeline:
    """Source to sink by way of the models in service: three stages, each called over and over by its own thread."""

    source: Source
    sink: Sink
    models: ModelsInService
    inbox: Inbox
    accounts: Accounts
    limits: Limits
    clock: Callable[[], float] = time.time
    beside: Context | None = None
    judged: queue.Queue[Batch | None] = field(init=False, default_factory=lambda: queue.Queue(maxsize=_JUDGED))
    progress: Progress = field(init=False)
    assignment: frozenset[TopicPartition] = field(init=False, default=frozenset())
    _begun: deque[Batch] = field(init=False, default_factory=deque)
    _model_free_since: float = field(init=False, default=0.0)
    _is_last_judged: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        """Report to the accounts how long the stages work."""
        self.progress = Progress(self.accounts.worked)

    def adopt(self, models: ModelsInService) -> None:
        """Have these models judge what is polled from now on. May be called by any thread."""
        self.models = self.accounts.models = models

    # --- read ---------------------------------------------------------------------------------------------------

    def read(self) -> None:
        """One poll: decoded, normalised, tokenised, and put into the inbox."""
        ownership, kept = self.inbox.begin()
        if kept is not None:
            self.source.rewind(kept)
        if not self.inbox.has_room(wait=POLL_WAIT):
            self.source.keep_alive()
            self._follow_assignment()
            self.accounts.lag(self.source, self.clock())
            return
        # Where there is more at hand, the judge may be waiting to hear of it: it must not wait for what is yet to come.
        records = self.source.poll(0.0 if self.source.has_more() else POLL_WAIT)
        if self._follow_assignment():
            return
        metadata, left = self.source.group_metadata(), len(records)
        for ready in slices(records, lambda: self.models, self.limits, self.clock):
            self.accounts.polled(ready)
            left -= len(ready.items)
            more = left > 0 or self.source.has_more()
            if not self.inbox.offer(ready.items, ownership=ownership, metadata=metadata, more=more):
                self.accounts.discarded(len(ready.items))
                break
        self.accounts.lag(self.source, self.clock())

    def _follow_assignment(self) -> bool:
        """Whether the group has changed, so that all that was polled must be discarded."""
        if not self.source.rebalanced():
            return False
        before, self.assignment = self.assignment, self.source.assignment()
        kept = self.source.kept()
        self.progress.forget_refusal()
        self.accounts.rebalanced(before, self.assignment, kept)
        self.accounts.discarded(self.inbox.move(kept, self.source.group_metadata()))
        return True

    # --- judge --------------------------------------------------------------------------------------------------

    def judge(self) -> bool:
        """Begin a batch, where there is one, and end the one before it. False when there will be no more.

        While one is on its way, only a whole one is begun behind it: a smaller one had better go on filling.
        """
        batch = self.inbox.take(only_full=bool(self._begun))
        if batch is None and not self._begun:
            return False
        if batch is not None and (owned := self._owned(batch)):
            self.progress.take(owned)
            with self.progress.at_work("judge"):
                self._begun.append(self._begin(owned))
        if self._begun and (batch is None or len(self._begun) > 1 or self._begun[0].is_done):
            self._end(self._begun.popleft())
        return True

    def _owned(self, batch: Batch) -> Batch | None:
        """Return the part of a batch whose partitions are still owned, None if there is none; discard the rest."""
        owned = self.inbox.still_owned(batch)
        self._discard_rest(batch, owned)
        return owned

    def _discard_rest(self, batch: Batch, owned: Batch | None) -> None:
        self.accounts.discarded(len(batch.items) - (len(owned.items) if owned else 0))

    def _begin(self, batch: Batch) -> Batch:
        """Give the model what is readable and in time."""
        deadline = self.limits.deadline
        oldest = None if deadline is None else self.clock() - deadline
        waiting = enumerate(batch.items)
        rows = [row for row, item in waiting if item.sms and (oldest is None or item.sms.received_at >= oldest)]
        began = time.monotonic()
        prepared = [(batch.items[row].prepared, batch.items[row].model) for row in rows]
        return batch.begun(rows, began, begin(prepared))  # type: ignore[arg-type] # what has an sms has both

    def _end(self, batch: Batch) -> None:
        with self.progress.at_work("judge"):
            scores = batch.wait()
        now = time.monotonic()
        seconds = now - max(batch.began, self._model_free_since)  # what it waited for the one before is not its own
        self._model_free_since = now
        self.inbox.judged(batch, seconds)
        self.judged.put(batch.judged(scores, self.clock(), seconds))

    # --- write --------------------------------------------------------------------------------------------------

    def write(self) -> bool:
        """All that is judged to the broker, with its offsets. False when there will be no more."""
        if not (waiting := self._waiting_for_the_writer()):
            return False
        began, messages = time.monotonic(), sum(len(batch.items) for batch in waiting)
        self.inbox.begin_writing(messages)
        left = deque(waiting)
        while left:
            with self.progress.at_work("write"):
                self._commit_together(left)
        self.inbox.end_writing(messages, time.monotonic() - began)
        self.progress.finish(waiting)
        return not self._is_last_judged

    def _waiting_for_the_writer(self) -> list[Batch]:
        """The next judged batch, and whatever else is judged by now."""
        waiting: list[Batch] = []
        while not self._is_last_judged and not (waiting and self.judged.empty()):
            if batch := self.judged.get():
                waiting.append(batch)
            else:
                self._is_last_judged = True
        return waiting

    def _commit_together(self, left: deque[Batch]) -> None:
        """One transaction of those at the front that share their group metadata and models, as they mostly all do."""
        together: list[Batch] = []
        while left:
            owned = self.inbox.still_owned(left[0])
            if owned and together and (owned.metadata, owned.revision) != (together[0].metadata, together[0].revision):
                break
            self._discard_rest(left.popleft(), owned)
            if owned:
                together.append(owned)
        if together:
            self._commit(together)

    def _commit(self, together: list[Batch]) -> None:
        metadata = together[0].metadata
        self.sink.prepare(metadata)
        entry = self.accounts.open(together, self.clock())
        outcomes = entry.encode(self.models.primary.verdicts, self.beside)
        try:
            self.sink.write(
                [verdict for outcome in outcomes for verdict in outcome.verdicts],
                [letter for outcome in outcomes for letter in outcome.dead_letters],
                {partition: at for batch in together for partition, at in batch.positions.items()},
                metadata,
            )
        except RolledBackError as error:
            self.progress.refused(str(error))
            entry.rolled_back(error, self.clock(), waiting=self.inbox.restart())
        except FencedError:
            entry.fenced()
            raise
        else:
            self.progress.forget_refusal()
            for batch, seconds in entry.committed(self.clock()):
                self.inbox.learn(batch.tokens, seconds)

    def oldest(self) -> float:
        """Return the age in seconds of the oldest message polled and not committed; 0 when there is none."""
        first = [at for at in (self.inbox.waiting()[2], *self.progress.timestamps()) if at is not None]
        return max(0.0, self.clock() - min(first)) if first else 0.0
