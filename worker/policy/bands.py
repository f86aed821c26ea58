"""Maps a score to the carrier's action."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self

from worker.messages import Action, Flag

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from worker.model.bundle import Bands, Thresholds

ON_UNSCORED: Final = {"unscored": Action.UNSCORED, "fail-open": Action.DELIVER, "fail-closed": Action.BLOCK}
ON_OUTSIDE: Final = {"as-scored": Action.BLOCK, "flag": Action.FLAG, "deliver": Action.DELIVER}
NEVER: Final = 1.0
"""HAMGATE_BLOCK_FROM that blocks nothing."""
_NOTHING: Final = f", or to {NEVER:g} to block nothing"
_SEVERITY: Final = (Action.DELIVER, Action.FLAG, Action.BLOCK)
_INFORMS: Final = frozenset((Flag.ONE_TIME_CODE, Flag.NOTICE))


class PolicyError(ValueError):
    """The bands do not hold with this bundle's threshold."""


@dataclass(frozen=True, slots=True)
class Banded:
    """Bands of the score: deliver below `flag_from`, flag below `block_from`, block from there on.

    The label turns at `threshold`, which must lie within or at the edge of the flagged band, so that nothing is
    labelled spam and delivered, or labelled ham and blocked.
    """

    threshold: float
    flag_from: float
    block_from: float

    def action(self, score: float) -> Action:
        """Return the action for a message of this score."""
        if score >= self.block_from:
            return Action.BLOCK
        return Action.FLAG if score >= self.flag_from else Action.DELIVER


@dataclass(frozen=True, slots=True)
class Policy:
    """Bands for all texts and, where the bundle has them, for those of a language; and what limits them.

    `outside` is the most that is done with a text that the bundle's evaluation does not cover. One-time codes and plain
    notices are at most flagged.
    """

    banded: Banded
    unscored: Action
    outside: Action = Action.FLAG
    by_language: Mapping[str, Banded] = field(default_factory=dict)

    @classmethod
    def make(  # noqa: PLR0913 # what an operator may set, and what a bundle brings
        cls,
        threshold: float,
        *,
        flag_from: float | None,
        block_from: float | None,
        on_unscored: str,
        on_outside: str = "flag",
        bands: Bands | None = None,
        by_language: Mapping[str, Thresholds] = MappingProxyType({}),
    ) -> Self:
        """Bands from the settings; unset, the bundle's own; and where it has none, the threshold.

        A bundle's band gives way to a threshold beside it. Raises PolicyError by setting's name.
        """
        return cls(
            _banded(threshold, bands, flag_from, block_from),
            ON_UNSCORED[on_unscored],
            ON_OUTSIDE[on_outside],
            {language: _banded(own.threshold, own, flag_from, block_from) for language, own in by_language.items()},
        )

    def banded_of(self, language: str | None) -> Banded:
        """Bands and threshold for texts of a language; None: unknown."""
        return self.by_language.get(language, self.banded) if language else self.banded

    def most(self, flags: Collection[str]) -> Action:
        """The most that is done with a text of these flags, whatever its score."""
        most = self.outside if Flag.OUTSIDE in flags else Action.BLOCK
        return Action.FLAG if most is Action.BLOCK and not _INFORMS.isdisjoint(flags) else most

    def action(self, score: float, flags: Collection[str] = (), language: str | None = None) -> Action:
        """What to do with a message of this score, these flags and this language."""
        action = self.banded_of(language).action(score)
        if not flags or action is Action.DELIVER:
            return action
        return min(action, self.most(flags), key=_SEVERITY.index)

    def beyond(self, highest: float) -> Iterator[str]:
        """What to say of each band from which on there is no score, when none is above `highest`."""
        named = [("", self.banded), *((f" ({language})", each) for language, each in self.by_language.items())]
        for where, each in named:
            values = {
                "HAMGATE_THRESHOLD": each.threshold,
                "HAMGATE_FLAG_FROM": each.flag_from,
                "HAMGATE_BLOCK_FROM": each.block_from,
            }
            for name, value in values.items():
                is_same = name != "HAMGATE_THRESHOLD" and value == each.threshold
                if highest <= value < math.inf and not is_same:
                    yield (
                        f"{name} {value:g}{where}: no score reaches it; in the bundle's evaluation none is above "
                        f"{highest:g}. Set it lower" + _NOTHING * (name == "HAMGATE_BLOCK_FROM")
                    )


def _banded(threshold: float, bands: Bands | None, flag_from: float | None, block_from: float | None) -> Banded:
    own = (bands.flag_from, bands.block_from) if bands else (threshold, threshold)
    flag_from = min(own[0], threshold) if flag_from is None else flag_from
    block_from = max(own[1], threshold) if block_from is None else block_from
    if not flag_from <= threshold <= block_from:
        message = (
            f"HAMGATE_FLAG_FROM {flag_from:g}, threshold {threshold:g}, HAMGATE_BLOCK_FROM {block_from:g}: "
            "allowed: flag_from <= threshold <= block_from (the threshold is the bundle's, or HAMGATE_THRESHOLD)"
        )
        raise PolicyError(message)
    return Banded(threshold, flag_from, math.inf if block_from >= NEVER else block_from)
