"""What follows from a sender's flags: a stranger who writes to many, or fast, is trusted less."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from worker.messages import BEHAVIOUR_RULE, Decider, Flag
from worker.policy.addresses import SenderType, sender_type
from worker.policy.order import Ruling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.policy.facts import Facts
    from worker.senders.behaviour import Behaviour

RULE: Final = BEHAVIOUR_RULE
ODDS: Final = 4.0
"""Added to the log odds of the score: 0.02 becomes 0.53, 0.1 becomes 0.86."""
_PEOPLE: Final = frozenset((SenderType.NUMBER, SenderType.EMAIL))
_INFORMS: Final = frozenset((Flag.NOTICE, Flag.ONE_TIME_CODE))
_NOTHING: Final[tuple[Ruling, ...]] = ()


def concerns(facts: Facts) -> bool:
    """Whether the rule would look at how this message's sender behaves.

    Only a number or an e-mail address, as people have. Short codes and names are organisations', which write to many:
    they are the registry's. A one-time code or a plain notice is no conversation.
    """
    return (
        facts.sender is not None
        and facts.recipient is not None
        and _INFORMS.isdisjoint(facts.flags)
        and sender_type(facts.sender) in _PEOPLE
    )


@dataclass(slots=True)
class BehaviourRules:
    """First contact, and fan-out or a burst: the score's log odds are raised by ODDS.

    Only of senders most of whose last messages went to strangers: a school writes to many, and to those it knows. Never
    of a registered one.
    """

    behaviour: Behaviour
    is_dry_run: bool
    odds: float = ODDS
    decider: Decider = Decider.SENDER
    _raised: tuple[Ruling, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Make the one ruling that there is."""
        self._raised = (Ruling(RULE, odds=self.odds, is_dry_run=self.is_dry_run),)

    def begin(self) -> None:
        """Nothing changes while it runs."""

    def foresee(self, some: Sequence[Facts]) -> None:
        """Nothing costs less for many."""

    def rulings(self, facts: Facts) -> Sequence[Ruling]:
        """Raise the odds where the flags say so."""
        flags = facts.flags
        if not self.behaviour.is_to_strangers or not (Flag.FAN_OUT in flags or Flag.BURST in flags):
            return _NOTHING
        return self._raised if concerns(facts) and not facts.is_registered else _NOTHING
