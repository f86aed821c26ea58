"""Verdicts on texts that no topic holds: what a verdict says, less what is of its record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from worker.messages import Action, Unscored  # noqa: TC001 # types of fields
from worker.model.classifier import published

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.model.classifier import Prepared, Scores
    from worker.pipeline.verdicts import Verdicts


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A text's verdict, its fields as in verdict v1."""

    label: str | None
    score: float | None
    threshold: float
    action: Action
    reason: Unscored | None
    flags: tuple[str, ...]
    language: str | None
    model: str


def answers(prepared: Sequence[Prepared], scores: Scores, verdicts: Verdicts) -> Iterator[Answer]:
    """Decide on texts by their scores, in order."""
    pairs = zip(scores.label.tolist(), published(scores.score).tolist(), strict=True)
    for message, pair in zip(prepared, pairs, strict=True):
        label, score, action, reason = verdicts.decide(
            pair, is_empty=message.is_empty, flags=message.flags, language=message.language
        )
        threshold = verdicts.policy.banded_of(message.language).threshold
        yield Answer(label, score, threshold, action, reason, tuple(message.flags), message.language, verdicts.model)
