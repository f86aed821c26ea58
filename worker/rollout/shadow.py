"""A second model judges committed messages again. Its verdicts are not published; its disagreements are counted.

It runs on a thread of its own, with a short queue. When it is too slow it skips messages and counts them; nobody waits
for it. A sample of the disagreements goes to a topic, by id, never by text. A summary follows now and then, so that
`hamgate compare` knows how many messages the sample stands for.
"""

from __future__ import annotations

import queue
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import structlog

from worker.messages import Outgoing, RecordSource, rfc3339
from worker.metrics import NO_LABEL
from worker.model.classifier import UNSCORED, published
from worker.model.models_in_service import Role, in_share
from worker.rollout.drift import Drift

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.metrics import Metrics
    from worker.model.models_in_service import Model
    from worker.pipeline.batch import Batch, Waiting

# Batches that may wait for it.
_ROOM: Final = 8
# Disagreements sent between two summaries, at most: enough to look at, whatever the shadow does.
_SAMPLES: Final = 200
_SUMMARY_EVERY: Final = 10.0
_TICK: Final = 0.2

log = structlog.get_logger()


class Opinion(msgspec.Struct, frozen=True):
    """What a model says of a message; without a score it has no label."""

    model: str
    label: str | None
    score: float | None


class Disagreement(msgspec.Struct, frozen=True, tag="disagreement", tag_field="kind"):
    """One message that the two label differently, by id and place; its text and its numbers stay where they are."""

    id: str
    source: RecordSource
    at: str
    primary: Opinion
    shadow: Opinion


class Summary(msgspec.Struct, frozen=True, tag="summary", tag_field="kind"):
    """What came of all messages of some seconds: `labels` counts by the primary's label, then by the shadow's."""

    since: str
    until: str
    primary: str
    shadow: str
    judged: int
    skipped: int
    labels: dict[str, dict[str, int]]


@dataclass(slots=True)
class _Tally:
    since: float
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    samples: int = 0


@dataclass(slots=True)
class Shadow:
    """Judges what is committed once more. `offer` belongs to the writer, `step` to a thread of its own."""

    publish: Callable[[Sequence[Outgoing]], None]
    metrics: Metrics
    clock: Callable[[], float] = time.time
    name: str = "shadow"
    _model: Model | None = None
    _share: float = 1.0
    _waiting: queue.Queue[tuple[list[Waiting], list[tuple[int, float]]] | None] = field(
        default_factory=lambda: queue.Queue(_ROOM)
    )
    _tally: _Tally | None = None
    _pair: tuple[str, str] = ("", "")
    _skipped: int = 0
    _is_over: bool = False
    _drift: Drift = field(init=False)

    def __post_init__(self) -> None:
        """Watch whether texts fit it, as they are watched for the primary."""
        self._drift = Drift(self.metrics.drift)

    def use(self, model: Model | None, share: float) -> None:
        """Judge a share of the keys with this model from now on; with none, nothing."""
        self._model, self._share = model, share

    def offer(self, batch: Batch) -> None:
        """Take a batch that is committed, if there is room: only what the bundle in force has scored."""
        model, share = self._model, self._share
        if model is None or not batch.rows:
            return
        pairs = zip(batch.scores.label.tolist(), published(batch.scores.score).tolist(), strict=True)
        chosen = [
            (batch.items[row], pair)
            for row, pair in zip(batch.rows, pairs, strict=True)
            if pair[0] != UNSCORED and _is_primarys(batch.items[row], share)
        ]
        if not chosen:
            return
        try:
            self._waiting.put_nowait(([item for item, _ in chosen], [pair for _, pair in chosen]))
        except queue.Full:
            self.metrics.shadow_skipped.inc(len(chosen))
            self._skipped += len(chosen)

    def stop(self) -> None:
        """Judge no more."""
        self._is_over = True

    def step(self) -> bool:
        """Judge one batch, or wait a moment for one; report when it is time. False when it is over."""
        try:
            offered = self._waiting.get(timeout=_TICK)
        except queue.Empty:
            offered = None
        model = self._model
        if offered and model:
            self._judge(model, *offered)
        if self._tally and (self._is_over or self.clock() - self._tally.since >= _SUMMARY_EVERY):
            self._summarise()
        return not self._is_over

    def _judge(self, model: Model, items: list[Waiting], answers: list[tuple[int, float]]) -> None:
        classifier, first = model.classifier, items[0].model
        pair = (first.name if first else "", model.name)
        if self._tally and pair != self._pair:
            self._summarise()  # of the pair before
        self._pair = pair
        tally = self._tally = self._tally or _Tally(self.clock())
        texts = [item.sms.text if item.sms else "" for item in items]
        prepared = classifier.prepare(texts)
        scores = classifier.judge(prepared)
        theirs = zip(scores.label.tolist(), published(scores.score).tolist(), strict=True)
        differing: list[Disagreement] = []
        for item, (label, score), (other, other_score) in zip(items, answers, theirs, strict=True):
            said = classifier.labels[label]
            shadowed = None if other == UNSCORED else classifier.labels[other]
            tally.counts[said, shadowed or NO_LABEL] += 1
            self.metrics.judged.labels(Role.SHADOW, shadowed or NO_LABEL).inc()
            if said != shadowed:
                self.metrics.shadow_disagreements.labels(said, shadowed or NO_LABEL).inc()
                if tally.samples + len(differing) < _SAMPLES:
                    shadow = Opinion(model.name, shadowed, other_score if shadowed else None)
                    differing.append(self._disagreement(item, Opinion(pair[0], said, score), shadow))
        gaps = np.abs(scores.score - np.array([score for _, score in answers]))
        self.metrics.shadow_difference.observe(gaps[scores.scored])
        self._drift.observe(model, texts, prepared, scores.score)
        tally.samples += len(differing)
        self._send(differing)

    def _disagreement(self, item: Waiting, primary: Opinion, shadow: Opinion) -> Disagreement:
        record = item.record
        source = RecordSource(record.topic, record.partition, record.offset, record.broker_ms)
        name = item.sms.id if item.sms else record.name
        return Disagreement(name, source, rfc3339(self.clock()), primary, shadow)

    def _summarise(self) -> None:
        tally, self._tally = self._tally, None
        if tally is None:
            return
        skipped, self._skipped = self._skipped, 0
        labels: dict[str, dict[str, int]] = {}
        for (said, other), count in sorted(tally.counts.items()):
            labels.setdefault(said, {})[other] = count
        since, until = rfc3339(tally.since), rfc3339(self.clock())
        self._send([Summary(since, until, *self._pair, tally.counts.total(), skipped, labels)])

    def _send(self, reports: Sequence[Disagreement | Summary]) -> None:
        if reports:
            self.publish([Outgoing(None, msgspec.json.encode(report)) for report in reports])


def _is_primarys(item: Waiting, share: float) -> bool:
    return item.model is not None and item.model.role is Role.PRIMARY and in_share(item.record, share)


_report: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(Disagreement | Summary)


def decode_report(value: bytes) -> Disagreement | Summary:
    """Read a report. Raises msgspec.DecodeError."""
    report: Disagreement | Summary = _report.decode(value)
    return report
