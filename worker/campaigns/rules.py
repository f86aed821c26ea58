"""What follows from a campaign: where the score stopped nearly all of its variants, the next one is stopped alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from worker.campaigns.index import KnownCampaign
from worker.campaigns.watching import FOUND
from worker.messages import Action, Decider, Flag
from worker.policy.order import Ruling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.policy.facts import Facts

RULE: Final = "campaign:alike"
LEAST: Final = 10
"""Messages with a score, of all workers that are known, before a campaign says anything."""
NEARLY_ALL: Final = 0.9
_INFORMS: Final = frozenset((Flag.NOTICE, Flag.ONE_TIME_CODE))
_NOTHING: Final[tuple[Ruling, ...]] = ()


@dataclass(slots=True)
class CampaignRules:
    """The row `campaign` of the table in order.py: at least blocked, or at least flagged, as nearly all before it.

    It goes by what the scores alone said of the earlier messages, so what it decides itself never counts. A one-time
    code, a plain notice or a registered sender's text is flagged at most.
    """

    is_dry_run: bool
    decider: Decider = Decider.CAMPAIGN
    _flagged: tuple[Ruling, ...] = field(init=False)
    _blocked: tuple[Ruling, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Make the two rulings that there are."""
        self._flagged = (Ruling(RULE, at_least=Action.FLAG, is_dry_run=self.is_dry_run),)
        self._blocked = (Ruling(RULE, at_least=Action.BLOCK, is_dry_run=self.is_dry_run),)

    def begin(self) -> None:
        """Nothing changes while it runs."""

    def foresee(self, some: Sequence[Facts]) -> None:
        """Nothing costs less for many."""

    def rulings(self, facts: Facts) -> Sequence[Ruling]:
        """Say at least what was said of nearly all before it, by `CampaignWatch`, which must look first."""
        campaign = facts.found.get(FOUND)
        if not isinstance(campaign, KnownCampaign):
            return _NOTHING
        scored, flagged, blocked = campaign.elsewhere
        scored += campaign.scored
        blocked += campaign.alone_blocked
        if scored < LEAST:
            return _NOTHING
        enough = scored * NEARLY_ALL
        if blocked >= enough:
            return self._flagged if facts.is_registered or not _INFORMS.isdisjoint(facts.flags) else self._blocked
        return self._flagged if blocked + flagged + campaign.alone_flagged >= enough else _NOTHING
