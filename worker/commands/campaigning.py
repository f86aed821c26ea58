"""`hamgate campaigns`: what the workers have seen of campaigns, added up. No text, no number."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from worker import app, broker
from worker.campaigns.summaries import CampaignSummary, decode_summary
from worker.messages import rfc3339
from worker.process import signals

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

    from worker.messages import Record
    from worker.settings import Settings


@dataclass(frozen=True, slots=True)
class CampaignTotal:
    """One campaign as all workers have seen it, under the smallest of its ids."""

    id: str
    parts: Sequence[CampaignSummary]

    def sum(self, name: str) -> int:
        """A count, over the workers."""
        return sum(getattr(each, name) for each in self.parts)

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
        weighted = [(each.score, each.delivered + each.flagged + each.blocked) for each in self.parts if each.score]
        weight = sum(count for _, count in weighted)
        return sum(score * count for score, count in weighted) / weight if weight else None

    def as_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        counts = ("size", "senders", "recipients", "hosts", "delivered", "flagged", "blocked", "unscored")
        names = {each.campaign for each in self.parts}.union(*(each.aliases for each in self.parts))
        return {
            "campaign": self.id,
            "aliases": sorted(names - {self.id}),
            "first": rfc3339(min(each.first for each in self.parts).timestamp()),
            "last": rfc3339(self.last),
            **{name: self.sum(name) for name in counts},
            "score": None if self.score is None else round(self.score, 4),
            "workers": sorted({each.worker for each in self.parts}),
        }

    def line(self) -> str:
        """What matters of it, for people."""
        blocked = "-" if self.blocked_share is None else f"{self.blocked_share:.1%}"
        score = "-" if self.score is None else f"{self.score:.3f}"
        first = rfc3339(min(each.first for each in self.parts).timestamp())
        return (
            f"{self.id} {self.sum('size'):>9,} {first[:19]}Z {rfc3339(self.last)[:19]}Z "
            f"{self.sum('senders'):>9,} {self.sum('recipients'):>10,} {self.sum('hosts'):>6,} {blocked:>7} {score:>6}"
        )


_HEADING = (
    f"{'campaign':<16} {'messages':>9} {'first':<20} {'last':<20} "
    f"{'senders':>9} {'recipients':>10} {'hosts':>6} {'blocked':>7} {'score':>6}"
)


def campaigns(settings: Settings, options: argparse.Namespace) -> int:
    """Read the topic to its end, and print what is in it, the largest campaign first."""
    topic = settings.campaigns_topic
    if topic is None:
        return _fail("HAMGATE_CAMPAIGNS_TOPIC: not set; name the topic of the workers, as sms.campaigns", signals.USAGE)
    try:
        since = app.moment("--since", options.since)
    except ValueError as error:
        return _fail(str(error), signals.USAGE)
    try:
        with broker.Reader(app.link(settings), topic) as reader:
            found, unreadable = summaries(reader.to_end())
    except (broker.BrokerError, TimeoutError) as error:
        return _fail(str(error))
    shown = [each for each in added_up(found) if since is None or each.last >= since]
    if options.json:
        print(json.dumps([each.as_json() for each in shown], indent=1))  # noqa: T201 the answer
    else:
        for line in (_HEADING, *(each.line() for each in shown)):
            print(line)  # noqa: T201 the answer
    if unreadable:
        print(f"{unreadable:,} records of {topic} are no summaries; passed over", file=sys.stderr)  # noqa: T201
    if not shown:
        return _fail(f"no campaigns in {topic}: a campaign is told from its tenth message on, within some 10 s")
    return signals.DONE


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


def _fail(why: str, status: int = signals.FAILED) -> int:
    print(why, file=sys.stderr)  # noqa: T201 for the person who typed the command
    return status
