"""START HERE. Three stages, each one thread: read, judge, write.

    Kafka --poll--> Record --decode--> Sms --normalise, tokenise--> inbox --engine--> scores
      ^                 |                                                               |
      |                 +--- cannot be read: a dead letter, with its reason             v
      +--- verdicts, dead letters and offsets, in one transaction <--encode---------- Verdict

While batches up to k are written, k+1 is judged and k+2 is read; what is judged meanwhile goes into one transaction.
Backpressure is the inbox, and the queue before the writer, being full. When the group takes back what it gave
(partitions in a rebalance, all in a refused transaction), their epoch ends: what is in the pipe of them is let go and
read again. A stage that dies ends the process, uncommitted.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections import Counter, deque
from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import structlog

from worker.messages import MAX_DEPTH, MAX_HEADERS, Sms, UnreadableError, decode
from worker.metrics import NO_LABEL
from worker.model.models_in_service import Lineup, Model, Role, begin, of_each
from worker.pipeline.inbox import Batch, Inbox, Waiting
from worker.pipeline.ports import FencedError, RolledBackError
from worker.pipeline.verdicts import Judged, Outcome
from worker.rollout.drift import Drift

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from worker.messages import Record, TopicPartition, Unreadable
    from worker.metrics import Metrics
    from worker.model.classifier import Classifier, Prepared
    from worker.model.models_in_service import Judgement
    from worker.pipeline.batching import MicroBatcher
    from worker.pipeline.ports import Sink, Source
    from worker.pipeline.tracing import Tracing
    from worker.pipeline.verdicts import Verdicts
    from worker.rollout.shadow import Shadow

# How long a poll waits for the first record; also how soon a stop is noticed.
POLL_WAIT: Final = 0.1
# Messages of a poll that are made ready before they are handed over: of a backlog a poll brings thousands, and a judge
# that works off a batch in 15 ms must not wait for the last of them.
_SLICE: Final = 256
# Batches that may wait for the writer. It takes all of them into one transaction: most of what a transaction takes, it
# takes however little is in it, so a writer that falls behind catches up.
_JUDGED: Final = 4
# How often the lag is shown.
_LAG_EVERY: Final = 1.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a message; bytes, seconds since it was received (None: however old), nesting, headers."""

    max_event_bytes: int
    deadline: float | None
    max_depth: int = MAX_DEPTH
    max_headers: int = MAX_HEADERS


@dataclass(frozen=True, slots=True)
class _Opened:
    """A slice of a poll that is decoded; its messages are being tokenised. `seconds` is what that has taken here.

    `found` has what each record is: a message, the reason that it is none, or nothing for a tombstone.
    """

    records: Sequence[Record]
    found: list[Sms | Unreadable | None]
    prepared: Callable[[], list[tuple[Prepared, Model]]]
    polled_at: float
    lot: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Begun:
    """A batch on its way through the model; `rows` are the items that are judged."""

    batch: Batch
    rows: list[int]
    began: float
    judging: Judgement


@dataclass(slots=True)
class Pipeline:
    """Source to sink by way of a classifier: three stages, each called over and over by one thread of its own."""

    source: Source
    sink: Sink
    classifier: InitVar[Classifier]
    verdicts: InitVar[Verdicts]
    batcher: InitVar[MicroBatcher[Waiting]]
    metrics: Metrics
    limits: Limits
    clock: Callable[[], float] = time.time
    shadow: Shadow | None = None
    tracing: Tracing | None = None
    lineup: Lineup = field(init=False)
    inbox: Inbox = field(init=False)
    judged: queue.Queue[Judged | None] = field(init=False, default_factory=lambda: queue.Queue(maxsize=_JUDGED))
    assignment: frozenset[TopicPartition] = field(init=False, default=frozenset())
    _busy_since: dict[str, float] = field(init=False, default_factory=dict)
    _lag_shown: float = field(init=False, default=0.0)
    _newest: dict[TopicPartition, float] = field(init=False, default_factory=dict)
    _begun: deque[_Begun] = field(init=False, default_factory=deque)
    _model_free_since: float = field(init=False, default=0.0)
    _in_flight: dict[int, Batch] = field(init=False, default_factory=dict)
    _lot: int = field(init=False, default=0)
    _is_last_judged: bool = field(init=False, default=False)
    _drift: Drift = field(init=False)

    def __post_init__(self, classifier: Classifier, verdicts: Verdicts, batcher: MicroBatcher[Waiting]) -> None:
        """Put the model in force, and the batcher where reader and judge share it."""
        self.lineup = Lineup(Model(classifier, verdicts))
        self.inbox = Inbox(batcher, self.clock)
        self._drift = Drift(self.metrics.score_drift)

    def adopt(self, lineup: Lineup) -> None:
        """Have this lineup judge what is polled from now on. May be called by any thread."""
        self.lineup = lineup

    def busy(self) -> dict[str, float]:
        """For each stage that holds a batch: for how many seconds it has."""
        now = time.monotonic()
        return {stage: now - since for stage, since in self._busy_since.copy().items()}

    def losses(self) -> list[str]:
        """Which of its processes is gone, by stage: the stage will break by it as soon as there is work."""
        mute = [model.role for model in self.lineup.models if not model.classifier.has_tokenizer]
        whose = ["the canary's" if role is Role.CANARY else "the" for role in mute]
        losses = [f"read: {each} tokenizer process has ended" for each in whose]
        return [*losses, "write: the sink process has ended"] if self.sink.has_ended else losses

    def oldest(self) -> float:
        """Age in seconds of the oldest message that was polled and is not committed; 0 when there is none."""
        waiting = self.inbox.waiting()[2]
        taken = [batch.oldest for batch in self._in_flight.copy().values()]
        return max([0.0, *(self.clock() - at for at in (waiting, *taken) if at is not None)])

    @contextlib.contextmanager
    def _at_work(self, stage: str) -> Iterator[None]:
        began = self._busy_since[stage] = time.monotonic()
        try:
            yield
        finally:
            del self._busy_since[stage]
            self.metrics.stage_busy.labels(stage).inc(time.monotonic() - began)

    # --- read ---------------------------------------------------------------------------------------------------

    def read(self) -> None:
        """One poll: decoded, normalised, tokenised, and put in the inbox."""
        epoch, kept = self.inbox.begin()
        if kept is not None:
            self.source.rewind(kept)
        if not self.inbox.has_room(wait=POLL_WAIT):
            self.source.keep_alive()
            self._follow_assignment()
            self._show_lag()
            return
        # Where there is more at hand, the judge may be waiting to hear of it: it must not wait for what is yet to come.
        records = self.source.poll(0.0 if self.source.has_more() else POLL_WAIT)
        if self._follow_assignment():
            return
        claim, left = self.source.claim(), len(records)
        for items in self._prepared(records):
            left -= len(items)
            more = left > 0 or self.source.has_more()
            if not self.inbox.offer(items, epoch=epoch, claim=claim, more=more):
                self.metrics.messages_let_go.inc(len(items))
                break
        self._show_lag()

    def _follow_assignment(self) -> bool:
        """Whether the group has changed, and so all that was polled must be let go."""
        if not self.source.rebalanced():
            return False
        before, self.assignment = self.assignment, self.source.assignment()
        gained, lost = len(self.assignment - before), len(before - self.assignment)
        kind = ("same", "gained", "lost", "moved")[(gained > 0) + 2 * (lost > 0)]
        self.metrics.rebalances.labels(kind).inc()
        self.metrics.assigned_partitions.set(len(self.assignment))
        for topic, partition in before - self.assignment:
            self.metrics.lag.remove(topic, str(partition))
            self.metrics.lag_seconds.remove(topic, str(partition))
        self._newest.clear()
        kept = self.source.kept()
        log.info("rebalanced", kind=kind, gained=gained, lost=lost, held=len(self.assignment), kept=len(kept))
        self.metrics.messages_let_go.inc(self.inbox.move(kept, self.source.claim()))
        return True

    def _prepared(self, records: Sequence[Record]) -> Iterator[list[Waiting]]:
        """Slice by slice, in order; of no records one slice of none.

        Each is decoded, and on its way to the tokenizer, before the one before it is waited for.
        """
        ahead: _Opened | None = None
        for first in range(0, len(records), _SLICE):
            opened, ahead = ahead, self._open_all(records[first : first + _SLICE])
            if opened:
                yield self._ready_all(opened)
        yield self._ready_all(ahead) if ahead else []

    def _open_all(self, records: Sequence[Record]) -> _Opened:
        started, polled_at, lineup = time.monotonic(), self.clock(), self.lineup
        found = [self._open(record) for record in records]
        prepared = lineup.begin_preparing(
            [(record, sms) for record, sms in zip(records, found, strict=True) if isinstance(sms, Sms)]
        )
        return _Opened(records, found, prepared, polled_at, lineup.number, time.monotonic() - started)

    def _ready_all(self, opened: _Opened) -> list[Waiting]:
        started, polled_at, lot, records = time.monotonic(), opened.polled_at, opened.lot, opened.records
        made, items = iter(opened.prepared()), []
        for record, sms in zip(records, opened.found, strict=True):
            if isinstance(sms, Sms):
                prepared, model = next(made)
                items.append(Waiting(record, polled_at, sms, prepared, None, model, lot, len(prepared)))
            else:
                items.append(Waiting(record, polled_at, unreadable=sms, lot=lot))
        self.metrics.messages_consumed.inc(len(records))
        self.metrics.broker_age.observe([max(0.0, polled_at - record.timestamp) for record in records])
        self._newest |= {(record.topic, record.partition): record.timestamp for record in records}
        seconds = opened.seconds + time.monotonic() - started
        self.metrics.tokenize.observe(seconds)
        self.metrics.stage_busy.labels("read").inc(seconds)
        return items

    def _open(self, record: Record) -> Sms | Unreadable | None:
        if record.value is None:
            return None
        bounds = self.limits
        try:
            return decode(
                record,
                max_bytes=bounds.max_event_bytes,
                max_depth=bounds.max_depth,
                max_headers=bounds.max_headers,
            )
        except UnreadableError as error:
            return error.reason

    def _show_lag(self) -> None:
        now = time.monotonic()
        if now - self._lag_shown >= _LAG_EVERY:
            self._lag_shown = now
            for (topic, partition), messages in self.source.lag().items():
                self.metrics.lag.labels(topic, str(partition)).set(messages)
                newest = self._newest.get((topic, partition)) if messages else None
                behind = 0.0 if newest is None else max(0.0, self.clock() - newest)
                self.metrics.lag_seconds.labels(topic, str(partition)).set(behind)

    # --- judge --------------------------------------------------------------------------------------------------

    def judge(self) -> bool:
        """Begin a batch, where there is one, and end the one before it. False when there will be no more.

        While one is on its way, only a whole one is begun behind it: a smaller one had better go on filling.
        """
        batch = self.inbox.take(only_full=bool(self._begun))
        if batch is None and not self._begun:
            return False
        if batch is not None:
            ours = self.inbox.still_ours(batch)
            self.metrics.messages_let_go.inc(len(batch.items) - (len(ours.items) if ours else 0))
            if ours:
                self._in_flight[id(ours)] = ours
                with self._at_work("judge"):
                    self._begun.append(self._begin(ours))
        if self._begun and (batch is None or len(self._begun) > 1 or self._begun[0].judging.is_done):
            self._end(self._begun.popleft())
        return True

    def _begin(self, batch: Batch) -> _Begun:
        """Give the model what is readable and in time."""
        oldest = None if self.limits.deadline is None else self.clock() - self.limits.deadline
        rows = [
            row
            for row, item in enumerate(batch.items)
            if item.sms and (oldest is None or item.sms.received_at >= oldest)
        ]
        began = time.monotonic()
        prepared = [(batch.items[row].prepared, batch.items[row].model) for row in rows]
        return _Begun(batch, rows, began, begin(prepared))  # type: ignore[arg-type] # what has an sms has both

    def _end(self, begun: _Begun) -> None:
        with self._at_work("judge"):
            scores = begun.judging.scores()
        now = time.monotonic()
        seconds = now - max(begun.began, self._model_free_since)  # what it waited for the one before is not its own
        self._model_free_since = now
        self.inbox.judged(begun.batch, seconds)
        self.judged.put(Judged(begun.batch, begun.rows, scores, self.clock() - seconds, seconds))

    # --- write --------------------------------------------------------------------------------------------------

    def write(self) -> bool:
        """All that is judged to the broker, with its offsets. False when there will be no more."""
        if not (waiting := self._waiting_for_the_writer()):
            return False
        began, messages = time.monotonic(), sum(len(judged.batch.items) for judged in waiting)
        self.inbox.begin_writing(messages)
        left = deque(waiting)
        while left:
            with self._at_work("write"):
                self._commit_together(left)
        self.inbox.end_writing(messages, time.monotonic() - began)
        for judged in waiting:
            del self._in_flight[id(judged.batch)]
        return not self._is_last_judged

    def _waiting_for_the_writer(self) -> list[Judged]:
        """The next judged batch, and whatever else is judged by now."""
        waiting: list[Judged] = []
        while not self._is_last_judged and not (waiting and self.judged.empty()):
            if judged := self.judged.get():
                waiting.append(judged)
            else:
                self._is_last_judged = True
        return waiting

    def _commit_together(self, left: deque[Judged]) -> None:
        """One transaction of those at the front that are ours still under one claim, as they mostly all are.

        A change of the model falls between two transactions.
        """
        together: list[Judged] = []
        while left:
            judged = left[0]
            ours = self.inbox.still_ours(judged.batch)
            if ours and together and (ours.claim, ours.lot) != (together[0].batch.claim, together[0].batch.lot):
                break
            left.popleft()
            self.metrics.messages_let_go.inc(len(judged.batch.items) - (len(ours.items) if ours else 0))
            if ours:
                together.append(judged.only(ours))
        if together:
            self._commit(together)

    def _commit(self, together: list[Judged]) -> None:
        taken_up_at, began = self.clock(), time.monotonic()
        self.sink.prepare(together[0].batch.claim)
        traces = [self.tracing.begin(judged) if self.tracing else None for judged in together]
        outcomes = [
            self.lineup.primary.verdicts.of(judged, now=taken_up_at, contexts=traced.headers if traced else None)
            for judged, traced in zip(together, traces, strict=True)
        ]
        encoded = time.monotonic()
        try:
            self.sink.write(
                [verdict for outcome in outcomes for verdict in outcome.verdicts],
                [letter for outcome in outcomes for letter in outcome.dead_letters],
                {partition: at for judged in together for partition, at in judged.batch.positions.items()},
                together[0].batch.claim,
            )
        except RolledBackError as error:
            for traced in traces:
                if traced:
                    traced.failed(error, self.clock())
            messages = sum(len(judged.batch.items) for judged in together)
            self.metrics.transactions.labels("rolled-back").inc()
            log.warning("rolled back", messages=messages, cause=str(error))
            self.metrics.messages_let_go.inc(messages + self.inbox.restart())
        except FencedError:
            self.metrics.transactions.labels("fenced").inc()
            raise
        else:
            now, seconds = self.clock(), time.monotonic() - encoded
            self.metrics.transactions.labels("committed").inc()
            self.metrics.last_commit.set(now)
            self.metrics.commit.observe(seconds)
            self.metrics.encode.observe(encoded - began)
            for judged, outcome, traced in zip(together, outcomes, traces, strict=True):
                self.metrics.handover.observe(max(0.0, taken_up_at - judged.ended_at))
                self._account(judged, outcome, now, seconds)
                if traced:
                    traced.committed(outcome, taken_up_at=taken_up_at, now=now)

    def _account_model(self, judged: Judged) -> None:
        """What the scores say of the models that gave them; and the same to the shadow."""
        batch, scores, lineup = judged.batch, judged.scores, self.lineup
        self.metrics.score.observe(scores.score[scores.scored])
        if batch.lot != self._lot and batch.lot == lineup.number:
            self._lot = batch.lot
            self.metrics.model_swap.observe(time.monotonic() - lineup.since)
        for model, rows in of_each([batch.items[row].model for row in judged.rows]):
            score = scores.score[rows]
            self._drift.observe(model, score[np.isfinite(score)])
        if self.shadow:
            self.shadow.offer(judged)

    def _account(self, judged: Judged, outcome: Outcome, now: float, commit_seconds: float) -> None:
        batch, metrics = judged.batch, self.metrics
        items, tokens, taken_at = batch.items, batch.tokens, batch.taken_at
        others = [item for item in items if item.sms is None]  # dead letters and tombstones
        tombstones = sum([item.unreadable is None for item in others])
        self.inbox.learn(tokens, max(0.0, now - taken_at))
        metrics.inference.observe(judged.seconds)
        metrics.batch_messages.observe(len(items))
        metrics.batch_tokens.observe(tokens)
        metrics.batch_fill.observe(self.inbox.fill(batch))
        metrics.tokens.inc(sum([items[row].tokens for row in judged.rows]))
        metrics.queue_wait.observe([taken_at - item.polled_at for item in items])
        answered = (
            [row for row, item in enumerate(items) if item.record.value is not None]
            if tombstones
            else range(len(items))
        )
        metrics.end_to_end_latency.observe(
            np.maximum(0.0, now - np.array([items[row].record.timestamp for row in answered])),
            {at: outcome.traces[row] for at, row in enumerate(answered) if row in outcome.traces}
            if outcome.traces
            else None,
        )
        self._account_model(judged)
        metrics.tombstones.inc(tombstones)
        for (label, action), count in outcome.decisions.items():
            metrics.verdicts.labels(label or NO_LABEL, action).inc(count)
        for (role, label), count in outcome.judged.items():
            metrics.judged.labels(role, label).inc(count)
        for reason, count in outcome.unscored.items():
            metrics.unscored.labels(reason).inc(count)
        for why, count in Counter(item.unreadable for item in others if item.unreadable).items():
            metrics.dead_letters.labels(why).inc(count)
        log.debug(
            "batch",
            messages=len(items),
            tokens=tokens,
            dead_letters=len(outcome.dead_letters),
            inference_ms=round(judged.seconds * 1000, 1),
            commit_ms=round(commit_seconds * 1000, 1),
            oldest_ms=round((now - batch.oldest) * 1000, 1),
        )
