"""Maps a score to the carrier's action."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from worker.messages import Action

ON_UNSCORED: Final = {"unscored": Action.UNSCORED, "fail-open": Action.DELIVER, "fail-closed": Action.BLOCK}


class PolicyError(ValueError):
    """The bands do not hold with this bundle's threshold."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Bands of the score: deliver below `flag_from`, flag below `block_from`, block from there on.

    The label turns at `threshold`, which must lie within or at the edge of the flagged band, so that nothing is
    labelled spam and delivered, or labelled ham and blocked.
    """

    threshold: float
    flag_from: float
    block_from: float
    unscored: Action

    @classmethod
    def make(cls, threshold: float, *, flag_from: float | None, block_from: float | None, on_unscored: str) -> Self:
        """Bands from the settings, each of them the threshold when unset. Raises PolicyError by setting's name."""
        flag_from = threshold if flag_from is None else flag_from
        block_from = threshold if block_from is None else block_from
        if not flag_from <= threshold <= block_from:
            message = (
                f"HAMGATE_FLAG_FROM {flag_from:g}, threshold {threshold:g}, HAMGATE_BLOCK_FROM {block_from:g}: "
                "allowed: flag_from <= threshold <= block_from (the threshold is the bundle's, or HAMGATE_THRESHOLD)"
            )
            raise PolicyError(message)
        return cls(threshold, flag_from, block_from, ON_UNSCORED[on_unscored])

    def action(self, score: float) -> Action:
        """Return the action for a message of this score."""
        if score >= self.block_from:
            return Action.BLOCK
        return Action.FLAG if score >= self.flag_from else Action.DELIVER
