"""Which model judges which message: the primary, and for a share of the keys its canary.

The models in service are a value. The reader takes it for each slice of a poll, and a message carries the model that
tokenised it to the judge and to its verdict. So no message is cut by one model's tokenizer and judged by another's
weights, and a transaction never holds messages of two revisions.
"""

from __future__ import annotations

import enum
import time
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from worker.model.classifier import NO_SCORES, Scores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.messages import Record, Sms
    from worker.model.classifier import Classifier, Judging, Prepared
    from worker.pipeline.verdicts import Verdicts
    from worker.rollout.drift import Reference

_HASHES: Final = 1 << 32


class Role(enum.StrEnum):
    """A bundle's role: to judge, to judge a share of the keys, or to judge without publishing."""

    __hash__ = str.__hash__  # an Enum's own is Python; this one is counted with every verdict

    PRIMARY = "primary"
    CANARY = "canary"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A bundle that judges, the verdicts made in its name, and how its evaluation scored, if it says so."""

    classifier: Classifier
    verdicts: Verdicts
    role: Role = Role.PRIMARY
    reference: Reference | None = None

    @property
    def name(self) -> str:
        """`name@digest`, as verdicts call it."""
        return self.verdicts.model


@dataclass(frozen=True, slots=True, eq=False)
class ModelsInService:
    """The models in service; `revision` rises with each change, `since` is when it came about (time.monotonic)."""

    primary: Model
    canary: Model | None = None
    share: float = 0.0
    revision: int = 0
    since: float = field(default_factory=time.monotonic)

    @property
    def all(self) -> list[Model]:
        """Return the primary, and the canary where there is one."""
        return [self.primary] if self.canary is None else [self.primary, self.canary]

    def begin_preparing(self, messages: Sequence[tuple[Record, Sms]]) -> Callable[[], list[tuple[Prepared, Model]]]:
        """Begin to tokenise each message with the model that will judge it; called, what is returned waits for it."""
        if self.canary is None:
            made = self.primary.classifier.begin_preparing([sms.text for _, sms in messages])
            return lambda: [(prepared, self.primary) for prepared in made()]
        models = [self.canary if in_share(record, self.share) else self.primary for record, _ in messages]
        parts = [
            (rows, model.classifier.begin_preparing([messages[row][1].text for row in rows]))
            for model, rows in of_each(models)
        ]

        def prepared() -> list[tuple[Prepared, Model]]:
            found = {row: made for rows, wait in parts for row, made in zip(rows, wait(), strict=True)}
            return [(found[row], model) for row, model in enumerate(models)]

        return prepared


@dataclass(frozen=True, slots=True)
class Judgement:
    """A batch of `count` messages on its way: by each model, which of them."""

    count: int
    parts: list[tuple[list[int], Judging]]

    @property
    def is_done(self) -> bool:
        """Whether its scores can be had without waiting."""
        return all(judging.is_done for _, judging in self.parts)

    def scores(self) -> Scores:
        """Wait for the engines; the scores, in order."""
        if len(self.parts) == 1:
            return self.parts[0][1].scores()
        if not self.parts:
            return NO_SCORES
        score, label = np.empty(self.count), np.empty(self.count, dtype=np.int64)
        scored = np.empty(self.count, dtype=np.bool_)
        for rows, judging in self.parts:
            part = judging.scores()
            score[rows], label[rows], scored[rows] = part.score, part.label, part.scored
        return Scores(score, label, scored)


def begin(messages: Sequence[tuple[Prepared, Model]]) -> Judgement:
    """Begin to score each message by the model that tokenised it."""
    parts = of_each([model for _, model in messages])
    begun = [(rows, model.classifier.begin([messages[row][0] for row in rows])) for model, rows in parts]
    return Judgement(len(messages), begun)


def of_each(models: Sequence[Model | None]) -> list[tuple[Model, list[int]]]:
    """Each model, in the order they first come, and the indexes at which it stands."""
    if models and models[0] is not None and models.count(models[0]) == len(models):
        return [(models[0], list(range(len(models))))]  # as it mostly is
    found: dict[int, tuple[Model, list[int]]] = {}
    for row, model in enumerate(models):
        if model is not None:
            found.setdefault(id(model), (model, []))[1].append(row)
    return list(found.values())


def in_share(record: Record, share: float) -> bool:
    """Whether a record's key is among a share of the keys: always the same keys, and more of them as it grows."""
    # Records without a key are on their own: each by where it lies, so that a redelivered one is judged alike.
    key = record.name.encode() if record.key is None else record.key
    return zlib.crc32(key) < share * _HASHES
