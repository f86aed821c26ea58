"""The worker's own way from a record to what is published, without threads and brokers."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from tests.fakes import FakeBroker, FakeSink, FakeSource
from tests.fuzz.cases import MAX_BYTES
from tests.pipelines import pipeline_of
from tests.simulation.process import Silent
from worker.engine import Done, Kind
from worker.messages import Action, Unreadable, decode_verdict
from worker.model.bundle import Bundle
from worker.model.classifier import Classifier
from worker.model.models_in_service import begin
from worker.pipeline.batch import Batch
from worker.pipeline.batching import MicroBatcher
from worker.pipeline.slices import Limits, slices
from worker.pipeline.verdicts import Verdicts
from worker.policy.bands import Policy
from worker.settings import SHIPPED_BUNDLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.messages import Record
    from worker.pipeline.batch import Waiting

# What one event may cost in CPU seconds: so much, and so much for each of its bytes.
_FIXED, _A_BYTE = 0.02, 20e-6
_NOW: Final = 1_764_000_000.0


class _Engine:
    kind, labels, token_budget, shared_tokens, halvings, memory = Kind.CPU, 2, 65_536, 0, 0, None

    def begin(self, tokens: Sequence[Sequence[int]]) -> Done:
        """Some answer, now and then none that is finite."""
        logits = np.array([[0.0, float(len(ids) % 7 - 3)] for ids in tokens], dtype=np.float32).reshape(-1, 2)
        logits[logits[:, 1] == 3.0] = np.nan
        return Done(logits)


class FindingError(AssertionError):
    """A case that crashed, was lost, or cost more than its bound; says which."""


@dataclass
class Path:
    """The way, and what it has been asked so far."""

    counted: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0  # of its bound
    dearest: float = 0.0  # CPU seconds

    def __post_init__(self) -> None:
        classifier = Classifier(Bundle.load(SHIPPED_BUNDLE), _Engine())  # type: ignore[arg-type]
        policy = Policy.make(0.5, flag_from=0.4, block_from=0.9, on_unscored="unscored")
        self._verdicts = Verdicts(classifier.labels, policy, "fuzz@000000000000")
        self._most = classifier.bundle.max_tokens
        batcher: MicroBatcher[Waiting] = MicroBatcher(1 << 20, 1 << 16, 0.1)
        limits = Limits(MAX_BYTES, deadline=None)
        broker = FakeBroker()
        source, sink = FakeSource(broker), FakeSink(broker)
        metrics = Silent()
        self._pipeline = pipeline_of(source, sink, classifier, self._verdicts, batcher, metrics, limits)  # type: ignore[arg-type]

    def pass_through(self, records: Sequence[Record]) -> None:
        """Every record to its verdict, its dead letter, or nothing for a tombstone. Raises FindingError."""
        items = [self._read(record) for record in records]
        rows = [row for row, item in enumerate(items) if item.sms]
        scores = begin([(items[row].prepared, items[row].model) for row in rows]).scores()  # type: ignore[misc]
        batch = Batch(0, None, items, _NOW)  # type: ignore[arg-type]
        outcome = self._verdicts.of(batch.begun(rows, 0.0, None).judged(scores, _NOW, 0.0), now=_NOW)
        verdicts, letters = iter(outcome.verdicts), iter(outcome.dead_letters)
        for record, item in zip(records, items, strict=True):
            if record.value is None:
                self.counted["tombstone"] += 1
            elif item.unreadable:
                self._check_letter(record, next(letters))
            else:
                self._check_verdict(record, item, next(verdicts))
        if next(verdicts, None) or next(letters, None):
            message = "more was published than was read"
            raise FindingError(message)

    def _read(self, record: Record) -> Waiting:
        item, spent = self._timed(record)
        if spent > _FIXED:  # its own cost, or a collection of the whole suite's garbage?
            spent = min(spent, *(self._timed(record)[1] for _ in range(2)))
        share = spent / (_FIXED + _A_BYTE * len(record.value or b""))
        self.slowest, self.dearest = max(self.slowest, share), max(self.dearest, spent)
        if share > 1:
            message = f"case {record.offset} took {spent:.3f} s for {len(record.value or b'')} bytes"
            raise FindingError(message)
        return item

    def _timed(self, record: Record) -> tuple[Waiting, float]:
        began = time.thread_time()
        try:
            [ready] = slices([record], lambda: self._pipeline.models, self._pipeline.limits, lambda: _NOW)
            [item] = ready.items
        except Exception as error:
            message = f"case {record.offset} crashed: {type(error).__name__}"
            raise FindingError(message) from error
        return item, time.thread_time() - began

    def _check_letter(self, record: Record, letter: object) -> None:
        reason = dict(letter.headers)["reason"].decode()  # type: ignore[attr-defined]
        self.counted[reason] += 1
        kept = letter.value == record.value and letter.headers[: len(record.headers)] == record.headers  # type: ignore[attr-defined]
        if reason not in set(Unreadable) or not kept:
            message = f"case {record.offset}: its dead letter is not what it was"
            raise FindingError(message)

    def _check_verdict(self, record: Record, item: Waiting, published: object) -> None:
        verdict = decode_verdict(published.value)  # type: ignore[attr-defined]
        self.counted["verdict" if verdict.reason is None else verdict.reason] += 1
        is_whole = verdict.source.offset == record.offset and (verdict.action == Action.UNSCORED) == (
            verdict.score is None
        )
        if not is_whole or len(item.prepared or ()) > self._most:
            message = f"case {record.offset}: its verdict does not hold"
            raise FindingError(message)
