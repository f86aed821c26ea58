"""From scores to what is published: one verdict for each message, one dead letter for each unreadable event."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from worker.messages import (
    Action,
    DeadLetter,
    Flag,
    Latency,
    Outgoing,
    RecordSource,
    Sms,
    Unscored,
    Verdict,
    encode_dead_letter,
    encode_verdict,
    rfc3339,
)
from worker.model.classifier import UNSCORED, published
from worker.pipeline import tracecontext

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.messages import Headers
    from worker.model.models_in_service import Role
    from worker.model.policy import Policy
    from worker.pipeline.batch import Batch, Waiting

_HUNDREDTHS: Final = 100_000
"""Of a millisecond, in a second."""


@dataclass(frozen=True, slots=True)
class _Times:
    """A batch's, but `inference`, which is in a verdict's milliseconds."""

    taken_at: float
    inference: float
    scored_at: str
    now: float


@dataclass(slots=True)
class Outcome:
    """The results of a batch, encoded and counted; of traced messages also trace ids and, in `said`, decisions."""

    verdicts: list[Outgoing] = field(default_factory=list)
    dead_letters: list[Outgoing] = field(default_factory=list)
    decisions: Counter[tuple[str | None, Action]] = field(default_factory=Counter)
    unscored: Counter[Unscored] = field(default_factory=Counter)
    judged: Counter[tuple[Role, str]] = field(default_factory=Counter)
    flagged: Counter[tuple[str, Action]] = field(default_factory=Counter)
    languages: Counter[tuple[str | None, Action]] = field(default_factory=Counter)
    traces: dict[int, str] = field(default_factory=dict)
    said: dict[int, tuple[str | None, Action]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Makes verdicts by a policy, in the name of one model (`name@digest`).

    A message that carries the model that judged it gets its verdict from that model's.
    """

    labels: tuple[str, ...]
    policy: Policy
    model: str

    def of(self, batch: Batch, *, now: float, contexts: Mapping[int, Headers] | None = None) -> Outcome:
        """Decide on every item of a batch, in order; `contexts` are those of the items that are traced here, by row."""
        outcome = Outcome()
        scores, labels = published(batch.scores.score).tolist(), batch.scores.label.tolist()
        answers = dict(zip(batch.rows, zip(labels, scores, strict=True), strict=True))
        when = _Times(batch.taken_at, _milliseconds(batch.seconds), rfc3339(batch.ended_at), now)
        for row, item in enumerate(batch.items):
            context, trace = tracecontext.carried(item.record.headers) if item.record.headers else ((), None)
            if trace:
                outcome.traces[row] = trace
                context = contexts.get(row, context) if contexts else context
            if item.unreadable:
                why = item.unreadable
                letter = DeadLetter(item.record, why.reason, now, why.field, why.at)
                outcome.dead_letters.append(encode_dead_letter(letter))
            elif item.sms:
                its = item.model.verdicts if item.model else self
                verdict = its.verdict(item, item.sms, answers.get(row), when)
                outcome.decisions[verdict.label, verdict.action] += 1
                outcome.languages[verdict.language, verdict.action] += 1
                for flag in verdict.flags:
                    outcome.flagged[flag, verdict.action] += 1
                if trace:
                    outcome.said[row] = verdict.label, verdict.action
                if verdict.label and item.model:
                    outcome.judged[item.model.role, verdict.label] += 1
                if verdict.reason:
                    outcome.unscored[verdict.reason] += 1
                outcome.verdicts.append(Outgoing(item.record.key, encode_verdict(verdict), context))
        return outcome

    def verdict(self, item: Waiting, sms: Sms, answer: tuple[int, float] | None, when: _Times) -> Verdict:
        """Decide on one message: the answer is the label's index and the score; none came too late."""
        record = item.record
        flags, language = (item.prepared.flags, item.prepared.language) if item.prepared else ((), None)
        label, score, action, reason = self.decide(answer, is_empty=not item.tokens, flags=flags, language=language)
        return Verdict(
            id=sms.id,
            label=label,
            score=score,
            threshold=self.policy.banded_of(language).threshold,
            action=action,
            reason=reason,
            flags=(Flag.REPAIRED.value, *flags) if sms.is_repaired else flags,
            model=self.model,
            source=RecordSource(record.topic, record.partition, record.offset, record.broker_ms),
            scored_at=when.scored_at,
            latency_ms=Latency(
                broker=_milliseconds(item.polled_at - record.timestamp),
                queue=_milliseconds(when.taken_at - item.polled_at),
                inference=when.inference,
                total=_milliseconds(when.now - record.timestamp),
            ),
            language=language,
        )

    def decide(
        self,
        answer: tuple[int, float] | None,
        *,
        is_empty: bool,
        flags: tuple[str, ...] = (),
        language: str | None = None,
    ) -> tuple[str | None, float | None, Action, Unscored | None]:
        """Label, score, action and why unscored, from the label's index and published score; no answer: too late."""
        if answer and answer[0] != UNSCORED:
            label, score = answer
            return self.labels[label], score, self.policy.action(score, flags, language), None
        unempty = Unscored.NON_FINITE_SCORE if answer else Unscored.DEADLINE
        reason = Unscored.EMPTY_TEXT if is_empty else unempty
        return None, None, self.policy.unscored, reason


def _milliseconds(seconds: float) -> float:
    """To the hundredth; never below zero, for clocks that differ."""
    # By a whole number: to round to digits is to print the number and read it.
    return round(seconds * _HUNDREDTHS) / 100 if seconds > 0 else 0.0
