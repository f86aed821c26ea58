"""START HERE. Who decides a message: the first of these that has something to say.

    | | what it looks at                          | says                  | reason of the verdict |
    |-|-------------------------------------------|-----------------------|-----------------------|
    |1| lists: sender, recipient, campaign, links | deliver, flag, block  | list                  |
    |2| sender registry: who may speak as whom    | at most, or more odds | sender                |
    |3| campaigns: what the score said of its like| at least              | campaign              |
    |4| the model's score, within its bands       | deliver, flag, block  | none, or why no score |

A list entry for a campaign is a list's: its reason is `list`. A rule in dry run decides nothing: what it would have
done stands in the verdict's `dry_run`, and is counted. Observers (campaigns, sender behaviour) look at every message
before, and may add flags, which rules may use; nothing that they do changes a verdict by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from worker.messages import Action, Decider

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.messages import TopicPartition, Unscored
    from worker.policy.facts import Facts

SEVERITY: Final = (Action.DELIVER, Action.FLAG, Action.BLOCK)
_REACH: Final = 1 << 17
"""Offsets that may be read again, many times what the pipeline holds; one further back is of a topic made anew."""


# These two are made for every message, and take a fifth of a data class's time.
class Scored(msgspec.Struct, frozen=True, gc=False):
    """What the model and the bands say; `raised` says it again with so much added to the score's log odds."""

    label: str | None
    score: float | None
    action: Action
    reason: Unscored | None
    raised: Callable[[float], Scored] | None = None

    def says(self, other: Scored) -> bool:
        """Whether both say the same."""
        return (self.action, self.score, self.label, self.reason) == (
            other.action, other.score, other.label, other.reason,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a rule says of a message: an action; or the most or the least that is done; or odds to add to the score's.

    `rule` names the entry, as `list:sender:3f9c0a…`: never what it matched.
    """

    rule: str
    action: Action | None = None
    at_most: Action | None = None
    odds: float = 0.0
    is_dry_run: bool = False
    at_least: Action | None = None

    def applied(self, scored: Scored) -> Scored:
        """What becomes of what the score says."""
        if self.action is not None:
            return msgspec.structs.replace(scored, action=self.action)
        if self.odds and scored.raised:
            scored = scored.raised(self.odds)
        if self.at_least is not None and scored.action in SEVERITY:
            scored = msgspec.structs.replace(scored, action=max(scored.action, self.at_least, key=SEVERITY.index))
        if self.at_most is not None and scored.action in SEVERITY:
            return msgspec.structs.replace(scored, action=min(scored.action, self.at_most, key=SEVERITY.index))
        return scored


class Decided(msgspec.Struct, frozen=True, gc=False):
    """The end of it: as scored, or as a rule has it. `trials` are rules in dry run, with what they would have done."""

    scored: Scored
    by: Decider | None = None
    rule: str | None = None
    trials: tuple[tuple[str, Action], ...] = ()

    @property
    def reason(self) -> str | None:
        """What the verdict gives as its reason."""
        return self.by or self.scored.reason


class Rules(Protocol):
    """One row of the table. Used from the writing thread only."""

    decider: Decider

    def begin(self) -> None:
        """Take up what has changed: called at each transaction's beginning, and at no other time."""

    def foresee(self, some: Sequence[Facts]) -> None:
        """Make ready for some messages that come next: what costs less for many at once."""

    def rulings(self, facts: Facts) -> Sequence[Ruling]:
        """What its rules say of a message, the deciding one first; those in dry run anywhere."""


class Observer(Protocol):
    """Who watches the stream, in bounded memory. Used from the writing thread only."""

    def begin(self, now: float) -> None:
        """A transaction begins; `now` in Unix seconds."""

    def foresee(self, some: Sequence[Facts]) -> None:
        """Make ready for some messages that will be looked at next: what costs less for many at once."""

    def look(self, facts: Facts) -> None:
        """See a message before it is decided; may set its flags and campaign. Counts none that is repeated."""

    def learn(self, facts: Facts, decided: Decided) -> None:
        """See what became of it. Counts none that is repeated."""


@dataclass(slots=True)
class Context:
    """What a worker knows beside the text: the rules in the table's order, and the observers. For one thread."""

    rules: Sequence[Rules] = ()
    observers: Sequence[Observer] = ()
    _seen: dict[TopicPartition, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Put the rules in the order of the table."""
        order = list(Decider)
        self.rules = sorted(self.rules, key=lambda rules: order.index(rules.decider))

    def begin(self, now: float) -> None:
        """A transaction begins; `now` in Unix seconds."""
        for rules in self.rules:
            rules.begin()
        for observer in self.observers:
            observer.begin(now)

    def foresee(self, some: Sequence[Facts]) -> None:
        """Make ready for a batch's messages, which need not all come to be decided."""
        for rules in self.rules:
            rules.foresee(some)
        for observer in self.observers:
            observer.foresee(some)

    def decide(self, facts: Facts, scored: Scored) -> Decided:
        """Walk through the table."""
        before = self._seen.get(facts.partition, -1)
        facts.is_repeated = before - _REACH < facts.offset <= before
        if not facts.is_repeated:
            self._seen[facts.partition] = facts.offset
        for observer in self.observers:
            observer.look(facts)
        decided = self._decided(facts, scored)
        for observer in self.observers:
            observer.learn(facts, decided)
        return decided

    def _decided(self, facts: Facts, scored: Scored) -> Decided:
        facts.alone = scored.action
        trials: list[tuple[str, Action]] = []
        for rules in self.rules:
            for ruling in rules.rulings(facts):
                after = ruling.applied(scored)
                if ruling.is_dry_run:
                    trials.append((ruling.rule, after.action))
                elif ruling.action is not None or not after.says(scored):
                    return Decided(after, rules.decider, ruling.rule, tuple(trials))
        return Decided(scored, trials=tuple(trials))
