"""A record on its way, and the batch that is judged, published and committed as one."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import msgspec

from worker.model.classifier import NO_SCORES, Scores

if TYPE_CHECKING:
    from worker.messages import Fault, Positions, Record, Sms, TopicPartition
    from worker.model.classifier import Prepared
    from worker.model.models_in_service import Judgement, Model
    from worker.pipeline.ports import GroupMetadata

    Held = frozenset[TopicPartition]

_numbers: Final = itertools.count()


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """A record on its way: a message made ready, or the reason it is unreadable, or, with neither, a tombstone.

    `model` is what tokenised it and will judge it; `revision` that of the models in service when it was polled;
    `tokens` what it costs in a batch, which is asked for at every step.
    """

    record: Record
    polled_at: float
    sms: Sms | None = None
    prepared: Prepared | None = None
    unreadable: Fault | None = None
    model: Model | None = None
    revision: int = 0
    tokens: int = 0

    @property
    def partition(self) -> TopicPartition:
        """The input topic and partition."""
        return self.record.topic, self.record.partition

    @property
    def timestamp(self) -> float:
        """The record's own, in Unix seconds."""
        return self.record.timestamp


@dataclass(frozen=True, slots=True)
class Batch:
    """Records in flight, with what each stage has added: the one handle that goes from the inbox to the commit.

    From the inbox: `ownership` numbers the ownership it was read under; `metadata` fences its commit (KIP-447);
    `taken_at` in Unix seconds. From the judge: `rows` are the items that the model was given, `scores` theirs in the
    same order; `ended_at` (Unix seconds) and `seconds` are when the model was done and how long it took; `began` is in
    `time.monotonic` seconds.
    """

    ownership: int
    metadata: GroupMetadata
    items: list[Waiting]
    taken_at: float
    rows: list[int] = field(default_factory=list)
    scores: Scores = NO_SCORES
    began: float = 0.0
    ended_at: float = 0.0
    seconds: float = 0.0
    judgement: Judgement | None = None
    number: int = field(default_factory=_numbers.__next__)

    # --- what a stage makes of it -------------------------------------------------------------------------------

    def begun(self, rows: list[int], began: float, judgement: Judgement | None) -> Batch:
        """Return it on its way through the model."""
        return replace(self, rows=rows, began=began, judgement=judgement)

    def judged(self, scores: Scores, ended_at: float, seconds: float) -> Batch:
        """Return it judged."""
        return replace(self, scores=scores, ended_at=ended_at, seconds=seconds, judgement=None)

    def only(self, held: Held, metadata: GroupMetadata) -> Batch:
        """Return the part from these partitions, under this group metadata."""
        items = [item for item in self.items if item.partition in held]
        answers = {id(self.items[row]): at for at, row in enumerate(self.rows)}
        rows = [row for row, item in enumerate(items) if id(item) in answers]
        scores = self.scores
        if len(scores.score):
            chosen = [answers[id(items[row])] for row in rows]
            scores = Scores(scores.score[chosen], scores.label[chosen], scores.scored[chosen])
        return replace(self, metadata=metadata, items=items, rows=rows, scores=scores)

    # --- what it is asked ---------------------------------------------------------------------------------------

    @property
    def is_done(self) -> bool:
        """Whether its scores are there without waiting."""
        return self.judgement is None or self.judgement.is_done

    def wait(self) -> Scores:
        """Wait for the model."""
        return self.judgement.scores() if self.judgement else self.scores

    @property
    def started_at(self) -> float:
        """When the model took it up, in Unix seconds."""
        return self.ended_at - self.seconds

    @property
    def positions(self) -> Positions:
        """The offsets to commit with it: the next one to read, by partition."""
        # Kafka wants the next offset to read, not the last one read.
        return {(r.topic, r.partition): r.offset + 1 for r in [item.record for item in self.items]}

    @property
    def revision(self) -> int:
        """The revision of the models in service that all of it was polled under."""
        return self.items[0].revision

    @property
    def oldest(self) -> float:
        """The earliest timestamp in it, in Unix seconds."""
        return min([item.record.timestamp for item in self.items])

    @property
    def tokens(self) -> int:
        """Its number of tokens."""
        return sum([item.tokens for item in self.items])
