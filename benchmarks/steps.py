"""The cost of each step of the worker by itself: CPU time a message of one thread, on the same messages, no broker."""

from __future__ import annotations

import functools
import json
import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder

from worker.broker import batches
from worker.broker.client.unpacking import unpacked
from worker.engine import Done, Kind
from worker.messages import decode
from worker.model.bundle import Bundle
from worker.model.classifier import Classifier, Scores
from worker.model.models_in_service import Model
from worker.model.normalise import normalise
from worker.pipeline.batch import Batch, Waiting
from worker.pipeline.verdicts import Verdicts
from worker.policy.bands import Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from worker.messages import Record

BATCH: Final = 2048
_ROUNDS: Final = 3
_PARTITIONS: Final = 6
_NOW: Final = 1_764_000_000.0


class NoEngine:
    """Everything is ham, at once."""

    kind, labels, token_budget, shared_tokens, halvings, memory = Kind.CPU, 2, 65_536, 0, 0, None

    def begin(self, tokens: Sequence[Any]) -> Done:
        """Two numbers a message."""
        return Done(np.zeros((len(tokens), 2), dtype=np.float32))


def costs(lines: Sequence[str], bundle: Path) -> dict[str, float]:
    """Microseconds a message for each step, in their order; of all threads of this process."""
    count = len(lines)
    events = [
        (f"+{n % 997}".encode(), json.dumps({"id": str(n), "text": text}).encode()) for n, text in enumerate(lines)
    ]
    found: dict[str, float] = {}

    def step(name: str, work: Callable[[], Any]) -> Any:  # noqa: ANN401 whatever it makes
        best = float("inf")
        for _ in range(_ROUNDS):
            began = time.process_time()
            made = work()
            best = min(best, time.process_time() - began)
        found[name] = 1e6 * best / count
        return made

    fetched = [_fetched(events[at : at + BATCH]) for at in range(0, count, BATCH)]
    records = step("unpack records", lambda: [record for raw in fetched for record in _unpacked(raw)])
    messages = step("decode", lambda: [decode(record, max_bytes=65_536) for record in records])
    plain = step("normalise", lambda: [normalise(sms.text) for sms in messages])
    classifier = Classifier(Bundle.load(bundle), NoEngine())  # type: ignore[arg-type]
    step("normalise and tokenise", lambda: _in_batches(classifier.prepare, [sms.text for sms in messages]))
    prepared = _in_batches(classifier.prepare, plain)
    policy = Policy.make(0.5, flag_from=None, block_from=None, on_unscored="unscored")
    verdicts = Verdicts(("ham", "spam"), policy, "nano@0123456789ab")
    model = Model(classifier, verdicts)
    rows = zip(records, messages, prepared, strict=True)
    items = [Waiting(record, _NOW, sms, ready, None, model, 0, len(ready)) for record, sms, ready in rows]
    batches = [Batch(0, None, items[at : at + BATCH], _NOW + 0.1) for at in range(0, count, BATCH)]  # type: ignore[arg-type]
    judged = [_judged(batch) for batch in batches]
    outcomes = step("verdicts, encoded", lambda: [verdicts.of(each, now=_NOW + 0.2) for each in judged])
    for codec in ("none", "gzip", "lz4"):
        step(f"batches of records, {codec}", functools.partial(_built, [each.verdicts for each in outcomes], codec))
    return found


def _in_batches(work: Callable[[Sequence[str]], list[Any]], texts: Sequence[str]) -> list[Any]:
    return [made for at in range(0, len(texts), BATCH) for made in work(texts[at : at + BATCH])]


def _fetched(events: Sequence[tuple[bytes, bytes]]) -> bytes:
    builder = MemoryRecordsBuilder(2, 0, 16 << 20)
    for key, value in events:
        builder.append(int(_NOW * 1000), key, value, [])
    builder.close()
    return bytes(builder.buffer())


def _unpacked(raw: bytes) -> list[Record]:
    batches, records = MemoryRecords(raw), []
    while (batch := batches.next_batch()) is not None:
        records += unpacked(batch, "sms.events", 0)
    return records


def _judged(batch: Batch) -> Batch:
    count = len(batch.items)
    scores = Scores(np.full(count, 0.123456789), np.zeros(count, dtype=np.int64), np.ones(count, dtype=bool))
    return batch.begun(list(range(count)), 0.0, None).judged(scores, _NOW + 0.101, 0.001)


def _built(outcomes: Sequence[Sequence[Any]], codec: str) -> None:
    for records in outcomes:
        for _, batch in batches.build(records, _PARTITIONS, round(_NOW * 1000), keyless=0, compression=codec):
            batch.close()  # compresses
