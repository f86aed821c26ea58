"""What the workers have seen of campaigns, added up, for the command and the console."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from worker.campaigns.summaries import CampaignSummary, decode_summary
from worker.messages import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from worker.messages import Record


@dataclass(frozen=True, slots=True)
class CampaignTotal:
    """One campaign as all workers have seen it, under the smallest of its ids."""

    id: str
    parts: Sequence[CampaignSummary]

    def sum(self, name: str) -> int:
        """A count, over the workers."""
        return sum(getattr(each, name) for each in self.parts)

    @property
    def first(self) -> float:
        """Unix seconds of its first message."""
        return min(each.first for each in self.parts).timestamp()

    @property
    def names(self) -> tuple[str, ...]:
        """All ids that it has or had: its own, then the others."""
        found = {each.campaign for each in self.parts}.union(*(each.aliases for each in self.parts))
        return (self.id, *sorted(found - {self.id}))

    @property
    def last(self) -> float:
        """Unix seconds of its last message."""
        return max(each.last for each in self.parts).timestamp()

    @property
    def blocked_share(self) -> float | None:
        """Of the messages whose action is counted."""
        counted = sum(self.sum(action) for action in ("delivered", "flagged", "blocked", "unscored"))
        return self.sum("blocked") / counted if counted else None

    @property
    def score(self) -> float | None:
        """The mean of the scores, each worker's weighted by its messages that may have one."""
        weighted = [
            (each.score, each.delivered + each.flagged + each.blocked) for each in self.parts if each.score is not None
        ]
        weight = sum(count for _, count in weighted)
        return sum(score * count for score, count in weighted) / weight if weight else None

    def as_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        counts = ("size", "senders", "recipients", "hosts", "delivered", "flagged", "blocked", "unscored")
        return {
            "campaign": self.id,
            "aliases": list(self.names[1:]),
            "first": rfc3339(self.first),
            "last": rfc3339(self.last),
            **{name: self.sum(name) for name in counts},
            "score": None if self.score is None else round(self.score, 4),
            "workers": sorted({each.worker for each in self.parts}),
        }

    def line(self) -> str:
        """What matters of it, for people."""
        blocked = "-" if self.blocked_share is None else f"{self.blocked_share:.1%}"
        score = "-" if self.score is None else f"{self.score:.3f}"
        return (
            f"{self.id} {self.sum('size'):>9,} {rfc3339(self.first)[:19]}Z {rfc3339(self.last)[:19]}Z "
            f"{self.sum('senders'):>9,} {self.sum('recipients'):>10,} {self.sum('hosts'):>6,} {blocked:>7} {score:>6}"
        )


def summaries(records: Iterable[Record]) -> tuple[list[CampaignSummary], int]:
    """The last summary under each key, and how many records cannot be read."""
    found: dict[bytes, CampaignSummary] = {}
    unreadable = 0
    for record in records:
        key = record.key or b""
        if record.value is None:
            found.pop(key, None)
            continue
        try:
            found[key] = decode_summary(record.value)
        except msgspec.DecodeError:
            unreadable += 1
    return [*found.values()], unreadable


def added_up(found: Iterable[CampaignSummary]) -> list[CampaignTotal]:
    """One for each campaign, the largest first; what has an id in common is one campaign."""
    found = [*found]
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while (above := parent.setdefault(name, name)) != name:
            name = above
        return name

    for each in found:
        for alias in each.aliases:
            smaller, larger = sorted((root(each.campaign), root(alias)))
            parent[larger] = smaller
    parts: dict[str, list[CampaignSummary]] = {}
    for each in found:
        parts.setdefault(root(each.campaign), []).append(each)
    return sorted(
        (CampaignTotal(name, some) for name, some in parts.items()), key=lambda each: (-each.sum("size"), each.id)
    )
