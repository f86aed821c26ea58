"""From scores to what is published: one verdict for each message, one dead letter for each unreadable event."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from worker.messages import (
    Action,
    DeadLetter,
    DryRun,
    Flag,
    Latency,
    Outgoing,
    RecordSource,
    Sms,
    Unscored,
    Verdict,
    encode_dead_letter,
    encode_verdict,
    kind_of,
    rfc3339,
)
from worker.model.classifier import UNSCORED, published
from worker.pipeline import tracecontext
from worker.policy.addresses import sender_type
from worker.policy.facts import Facts
from worker.policy.order import Decided, Scored

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from worker.messages import Decider, Headers, RuleKind
    from worker.model.models_in_service import Role
    from worker.pipeline.batch import Batch, Waiting
    from worker.policy.bands import Policy
    from worker.policy.order import Context

_LEAST: Final = 1e-6
"""Of a score: its last digit."""
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
    ruled: Counter[tuple[tuple[Decider, RuleKind], Action, bool]] = field(default_factory=Counter)
    traces: dict[int, str] = field(default_factory=dict)
    said: dict[int, tuple[str | None, Action]] = field(default_factory=dict)

    def count(self, verdict: Verdict, decided: Decided) -> None:
        """Count one verdict."""
        self.decisions[verdict.label, verdict.action] += 1
        self.languages[verdict.language, verdict.action] += 1
        for flag in verdict.flags:
            self.flagged[flag, verdict.action] += 1
        if decided.scored.reason:
            self.unscored[decided.scored.reason] += 1
        if decided.rule:
            self.ruled[kind_of(decided.rule), verdict.action, False] += 1
        for rule, action in decided.trials:
            self.ruled[kind_of(rule), action, True] += 1


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Makes verdicts by a policy, in the name of one model (`name@digest`).

    A message that carries the model that judged it gets its verdict from that model's.
    """

    labels: tuple[str, ...]
    policy: Policy
    model: str

    def of(
        self,
        batch: Batch,
        *,
        now: float,
        contexts: Mapping[int, Headers] | None = None,
        beside: Context | None = None,
    ) -> Outcome:
        """Decide on every item of a batch, in order.

        `contexts` are those of the items that are traced here, by row; `beside` is what is known beside their texts.
        """
        outcome = Outcome()
        scores, labels = published(batch.scores.score).tolist(), batch.scores.label.tolist()
        answers = dict(zip(batch.rows, zip(labels, scores, strict=True), strict=True))
        when = _Times(batch.taken_at, _milliseconds(batch.seconds), rfc3339(batch.ended_at), now)
        known: dict[int, tuple[Context, Facts]] = {}
        if beside:
            known = {row: (beside, _facts(item, item.sms)) for row, item in enumerate(batch.items) if item.sms}
            beside.foresee([facts for _, facts in known.values()])
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
                verdict, decided = its.verdict(item, item.sms, answers.get(row), when, known.get(row))
                outcome.count(verdict, decided)
                if trace:
                    outcome.said[row] = verdict.label, verdict.action
                if verdict.label and item.model:
                    outcome.judged[item.model.role, verdict.label] += 1
                outcome.verdicts.append(Outgoing(item.record.key, encode_verdict(verdict), context))
        return outcome

    def verdict(
        self,
        item: Waiting,
        sms: Sms,
        answer: tuple[int, float] | None,
        when: _Times,
        known: tuple[Context, Facts] | None = None,
    ) -> tuple[Verdict, Decided]:
        """Decide on one message: the answer is the label's index and the score; none came too late."""
        record = item.record
        flags, language = (item.prepared.flags, item.prepared.language) if item.prepared else ((), None)
        raised = self._raisable(answer, flags, language) if known and answer and answer[0] != UNSCORED else None
        scored = Scored(*self.decide(answer, is_empty=not item.tokens, flags=flags, language=language), raised)
        decided = Decided(scored)
        facts = None
        if known:
            beside, facts = known
            decided = beside.decide(facts, scored)
            scored, flags = decided.scored, facts.flags
        verdict = Verdict(
            id=sms.id,
            label=scored.label,
            score=scored.score,
            threshold=self.policy.banded_of(language).threshold,
            action=scored.action,
            reason=decided.reason,
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
            rule=decided.rule or msgspec.UNSET,
            dry_run=tuple(DryRun(*trial) for trial in decided.trials) or msgspec.UNSET,
            campaign=(facts and facts.campaign) or msgspec.UNSET,
            campaign_size=facts.campaign_size if facts and facts.campaign else msgspec.UNSET,
        )
        return verdict, decided

    def _raisable(
        self, answer: tuple[int, float], flags: tuple[str, ...], language: str | None
    ) -> Callable[[float], Scored]:
        """What it would be with more odds. A finer label than spam is not chosen anew."""
        label, score = answer

        def raised(odds: float) -> Scored:
            more = with_odds(score, odds)
            is_spam = more >= self.policy.banded_of(language).threshold
            chosen = label or 1 if is_spam else 0
            return Scored(self.labels[chosen], more, self.policy.action(more, flags, language), None)

        return raised

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


def _facts(item: Waiting, sms: Sms) -> Facts:
    """What is known beside the score before anybody asks."""
    flags, language = (item.prepared.flags, item.prepared.language) if item.prepared else ((), None)
    facts = Facts(
        sms.text, sms.sender, sms.recipient, sms.received_at, item.partition, item.record.offset, flags, language
    )
    facts.plain = item.prepared.plain if item.prepared else None
    facts.sender_type = sms.sender_type or (sender_type(sms.sender) if sms.sender else None)
    return facts


def with_odds(score: float, odds: float) -> float:
    """A probability with so much added to its log odds, to the digits that a verdict gives."""
    inside = min(max(score, _LEAST), 1 - _LEAST)
    return round(1 / (1 + math.exp(-(math.log(inside / (1 - inside)) + odds))), 6)


def _milliseconds(seconds: float) -> float:
    """To the hundredth; never below zero, for clocks that differ."""
    # By a whole number: to round to digits is to print the number and read it.
    return round(seconds * _HUNDREDTHS) / 100 if seconds > 0 else 0.0
