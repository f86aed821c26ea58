"""Metrics, traces, drift, shadow and log of what the stages report. Nothing here decides.

The stages call these at each step; only what is committed is counted as a verdict.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import structlog

from worker.metrics import LANGUAGES, NO_LABEL, OTHER_LANGUAGE
from worker.model.models_in_service import of_each
from worker.pipeline.throughput import Tally
from worker.rollout.drift import Drift

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.messages import TopicPartition
    from worker.metrics import Metrics
    from worker.model.models_in_service import ModelsInService
    from worker.pipeline.batch import Batch
    from worker.pipeline.inbox import Inbox
    from worker.pipeline.ports import Source
    from worker.pipeline.slices import Slice
    from worker.pipeline.tracing import BatchTrace, Tracing
    from worker.pipeline.verdicts import Outcome, Verdicts
    from worker.policy.order import Context
    from worker.rollout.shadow import Shadow

    Partitions = frozenset[TopicPartition]

# How often the lag is shown.
_LAG_EVERY: Final = 1.0

log = structlog.get_logger()


@dataclass(slots=True)
class Accounts:
    """Keeps the series of one pipeline. `lag`, `polled` and `rebalanced` belong to the reader, `open` to the writer."""

    metrics: Metrics
    inbox: Inbox
    models: ModelsInService
    shadow: Shadow | None = None
    tracing: Tracing | None = None
    tally: Tally = field(default_factory=Tally)
    _lag_shown: float = 0.0
    _newest: dict[TopicPartition, float] = field(default_factory=dict)
    _revision: int = 0
    _drift: Drift = field(init=False)

    def __post_init__(self) -> None:
        """Watch whether texts still fit their models."""
        self._drift = Drift(self.metrics.drift)

    # --- reading ------------------------------------------------------------------------------------------------

    def polled(self, ready: Slice) -> None:
        """Records were polled and are ready for the inbox."""
        if not ready.records:
            return
        metrics, records = self.metrics, ready.records
        metrics.messages_consumed.inc(len(records))
        metrics.broker_age.observe([max(0.0, ready.polled_at - record.timestamp) for record in records])
        self._newest |= {(record.topic, record.partition): record.timestamp for record in records}
        metrics.tokenize.observe(ready.seconds)
        metrics.stage_busy.labels("read").inc(ready.seconds)

    def discarded(self, messages: int) -> None:
        """Records were discarded; whoever owns their partition reads them again."""
        self.metrics.messages_let_go.inc(messages)

    def rebalanced(self, before: Partitions, after: Partitions, kept: Partitions) -> None:
        """The group has changed what this worker holds."""
        gained, lost = len(after - before), len(before - after)
        kind = ("same", "gained", "lost", "moved")[(gained > 0) + 2 * (lost > 0)]
        self.metrics.rebalances.labels(kind).inc()
        self.metrics.assigned_partitions.set(len(after))
        for topic, partition in before - after:
            self.metrics.lag.remove(topic, str(partition))
            self.metrics.lag_seconds.remove(topic, str(partition))
        self._newest.clear()
        log.info("rebalanced", kind=kind, gained=gained, lost=lost, held=len(after), kept=len(kept))

    def lag(self, source: Source, now: float) -> None:
        """Show the lag, now and then; `now` in Unix seconds."""
        moment = time.monotonic()
        if moment - self._lag_shown < _LAG_EVERY:
            return
        self._lag_shown = moment
        lag = source.lag()
        self.tally.lag = sum(lag.values())
        for (topic, partition), messages in lag.items():
            self.metrics.lag.labels(topic, str(partition)).set(messages)
            newest = self._newest.get((topic, partition)) if messages else None
            behind = 0.0 if newest is None else max(0.0, now - newest)
            self.metrics.lag_seconds.labels(topic, str(partition)).set(behind)

    def worked(self, stage: str, seconds: float) -> None:
        """A stage has held a batch for so long."""
        self.metrics.stage_busy.labels(stage).inc(seconds)

    # --- writing ------------------------------------------------------------------------------------------------

    def open(self, together: Sequence[Batch], taken_up_at: float) -> BatchAccount:
        """Begin the entry of one transaction; `taken_up_at` in Unix seconds."""
        traces = [self.tracing.begin(batch) if self.tracing else None for batch in together]
        return BatchAccount(self, together, taken_up_at, traces)

    def committed(self, batch: Batch, outcome: Outcome, now: float) -> None:
        """A batch is committed."""
        self._time(batch, outcome, now)
        self._content(batch, outcome)
        self._models(batch)

    def _time(self, batch: Batch, outcome: Outcome, now: float) -> None:
        metrics, items = self.metrics, batch.items
        metrics.inference.observe(batch.seconds)
        metrics.queue_wait.observe([batch.taken_at - item.polled_at for item in items])
        answered = [row for row, item in enumerate(items) if item.record.value is not None]
        exemplars = {at: outcome.traces[row] for at, row in enumerate(answered) if row in outcome.traces}
        metrics.end_to_end_latency.observe(
            np.maximum(0.0, now - np.array([items[row].record.timestamp for row in answered])), exemplars or None
        )

    def _content(self, batch: Batch, outcome: Outcome) -> None:
        metrics, items = self.metrics, batch.items
        metrics.batch_messages.observe(len(items))
        metrics.batch_tokens.observe(batch.tokens)
        metrics.batch_fill.observe(self.inbox.fill(batch))
        metrics.tokens.inc(sum([items[row].tokens for row in batch.rows]))
        others = [item.unreadable for item in items if item.sms is None]  # dead letters and tombstones
        metrics.tombstones.inc(others.count(None))
        for why, count in Counter(why.reason for why in others if why).items():
            metrics.dead_letters.labels(why).inc(count)
            self.tally.dead_letters += count
        for (label, action), count in outcome.decisions.items():
            metrics.verdicts.labels(label or NO_LABEL, action).inc(count)
            self.tally.verdicts[action] += count
        for (flag, action), count in outcome.flagged.items():
            metrics.flagged.labels(flag, action).inc(count)
        for (who, action, is_dry_run), count in outcome.ruled.items():
            metrics.ruled.labels(*who, action, "true" if is_dry_run else "false").inc(count)
        for (language, action), count in outcome.languages.items():
            name = language if language is None or language in LANGUAGES else OTHER_LANGUAGE
            metrics.languages.labels(name or NO_LABEL, action).inc(count)
        for (role, label), count in outcome.judged.items():
            metrics.judged.labels(role, label).inc(count)
        for reason, count in outcome.unscored.items():
            metrics.unscored.labels(reason).inc(count)

    def _models(self, batch: Batch) -> None:
        """Record the scores by model, for drift and metrics; and offer the batch to the shadow."""
        scores, models = batch.scores, self.models
        self.metrics.score.observe(scores.score[scores.scored])
        if batch.revision != self._revision and batch.revision == models.revision:
            self._revision = batch.revision
            self.metrics.model_swap.observe(time.monotonic() - models.since)
        for model, rows in of_each([batch.items[row].model for row in batch.rows]):
            items = [batch.items[batch.rows[row]] for row in rows]
            texts = [item.sms.text if item.sms else "" for item in items]
            prepared = [item.prepared for item in items if item.prepared]
            self._drift.observe(model, texts, prepared, scores.score[rows])
        if self.shadow:
            self.shadow.offer(batch)


@dataclass(slots=True)
class BatchAccount:
    """One transaction's entry, from the writer's taking it up until it is known what became of it."""

    accounts: Accounts
    together: Sequence[Batch]
    taken_up_at: float
    traces: Sequence[BatchTrace | None]
    outcomes: list[Outcome] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)
    _encoded: float = 0.0

    def encode(self, verdicts: Verdicts, beside: Context | None = None) -> list[Outcome]:
        """Return what each batch comes to, encoded; messages that are traced carry their span's context on."""
        if beside:
            beside.begin(self.taken_up_at)
        self.outcomes = [
            verdicts.of(batch, now=self.taken_up_at, contexts=traced.headers if traced else None, beside=beside)
            for batch, traced in zip(self.together, self.traces, strict=True)
        ]
        self._encoded = time.monotonic()
        return self.outcomes

    def rolled_back(self, error: Exception, now: float, *, waiting: int) -> None:
        """Nothing of it stands; `waiting` more records were discarded with it."""
        for traced in self.traces:
            if traced:
                traced.failed(error, now)
        messages = sum(len(batch.items) for batch in self.together)
        self.accounts.metrics.transactions.labels("rolled-back").inc()
        log.warning("rolled back", messages=messages, cause=str(error))
        self.accounts.discarded(messages + waiting)

    def fenced(self) -> None:
        """A newer instance has taken over."""
        self.accounts.metrics.transactions.labels("fenced").inc()

    def committed(self, now: float) -> Iterator[tuple[Batch, float]]:
        """All of it stands. Yields each batch and the seconds from its leaving the inbox to here."""
        metrics, seconds = self.accounts.metrics, time.monotonic() - self._encoded
        metrics.transactions.labels("committed").inc()
        metrics.last_commit.set(now)
        metrics.commit.observe(seconds)
        metrics.encode.observe(self._encoded - self._began)
        for batch, outcome, traced in zip(self.together, self.outcomes, self.traces, strict=True):
            metrics.handover.observe(max(0.0, self.taken_up_at - batch.ended_at))
            self.accounts.committed(batch, outcome, now)
            if traced:
                traced.committed(outcome, taken_up_at=self.taken_up_at, now=now)
            yield batch, max(0.0, now - batch.taken_at)
            log.debug(
                "batch",
                messages=len(batch.items),
                tokens=batch.tokens,
                dead_letters=len(outcome.dead_letters),
                inference_ms=round(batch.seconds * 1000, 1),
                commit_ms=round(seconds * 1000, 1),
                oldest_ms=round((now - batch.oldest) * 1000, 1),
            )
