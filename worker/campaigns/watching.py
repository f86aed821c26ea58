"""The observer of campaigns: gives each message its campaign and the campaign's size, and counts what became of it.

All of it runs in the writing thread. The companion that shares campaigns takes `changed` and `forgotten` from it, and
leaves what it has read in `heard`; these are dicts and deques, whose single steps no other thread can part. A campaign
is put among the changed after it has changed: so whatever the companion reads of it too early, it reads once more.
"""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from worker.campaigns.index import LARGE, Index, KnownCampaign, Likeness, ScoredAlone, SignatureBands, Similar
from worker.campaigns.signature import NEAR, SCHEME, Signature, constants, is_enough, signatures_of
from worker.campaigns.sketch import Different
from worker.campaigns.summaries import CampaignSummary
from worker.messages import Action, Flag
from worker.model.normalise import normalise
from worker.policy.links import hosts_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.metrics import Metrics
    from worker.policy.facts import Facts
    from worker.policy.order import Decided

FOUND: Final = "campaign"
"""Of `Facts.found`: the campaign of a message."""
_AT_ONCE: Final = 64
"""Summaries taken up by one transaction: some 3 ms."""
_WORDINGS: Final = 8_192
"""That are not looked for anew: most of what organisations send differs in numbers alone. Up to twice as many are kept,
some 1 KB each.
"""
_TEXTS: Final = 16_384
"""Whose words are not taken out again; some 5 MB."""
_SHORT: Final = 320
"""Characters of these at most: longer ones are rarely sent to many, and a sender chooses how long."""
_WORDING: Final = "wording"
"""Of `Facts.found`: what is kept of a text."""
_TOMBSTONES: Final = 100_000
"""That may wait."""


class Heard(NamedTuple):
    """A record of the topic; without a summary a tombstone. `is_own`: of this worker before it was started anew."""

    key: str
    summary: CampaignSummary | None
    is_own: bool = False


@dataclass(slots=True, eq=False)
class Wording:
    """What is kept of a text, by its signature; and the campaign that it was found to be of."""

    signature: Signature
    bands: SignatureBands
    campaign: KnownCampaign | None = None
    similar: Similar | None = None
    """What it is like, by `Index.ahead`, for the batch that comes next; None: to be looked up when it comes."""


class CampaignWatch:
    """An `Observer` (worker/policy/order.py)."""

    def __init__(self, metrics: Metrics, worker: str, index: Index | None = None) -> None:
        self.index = Index() if index is None else index
        self.worker = worker
        self.changed: dict[KnownCampaign, None] = {}
        self.forgotten: deque[str] = deque(maxlen=_TOMBSTONES)
        self.heard: deque[Heard] = deque()
        self._metrics = metrics
        self._now = math.inf
        self._wordings: dict[str, Wording] = {}
        self._wordings_before: dict[str, Wording] = {}
        self._texts: dict[str, str] = {}
        constants([""])  # else the first messages wait for its table, 0.1 s

    def begin(self, now: float) -> None:
        """Take up some of what other workers have told."""
        self._now = now
        for _ in range(min(_AT_ONCE, len(self.heard))):
            self._take_up(self.heard.popleft())

    def foresee(self, some: Sequence[Facts]) -> None:
        """Make the signatures of a batch, of wordings that are not known."""
        if len(self._wordings) > _WORDINGS:
            self._wordings_before, self._wordings = self._wordings, {}
        known, before = self._wordings, self._wordings_before
        found = self._kept(some)
        fresh: list[str] = []
        for kept in dict.fromkeys(found):
            if kept in known:
                continue
            if wording := before.get(kept):
                known[kept] = wording
            elif is_enough(kept):
                fresh.append(kept)
        if fresh:
            signatures = signatures_of(fresh)
            known.update(zip(fresh, map(Wording, signatures, self.index.bands(signatures)), strict=True))
        for facts, kept in zip(some, found, strict=True):
            facts.found[_WORDING] = known.get(kept)
        self._look_ahead([(known[kept], times) for kept, times in Counter(found).items() if kept in known])

    def _kept(self, some: Sequence[Facts]) -> list[str]:
        """What stays the same of each text: the same text is often sent to many."""
        texts = [*map(_plain, some)]
        if len(self._texts) > _TEXTS:
            self._texts.clear()
        known = self._texts
        fresh = [text for text in dict.fromkeys(texts) if text not in known]
        made = dict(zip(fresh, constants(fresh), strict=True))
        known.update((text, kept) for text, kept in made.items() if len(text) <= _SHORT)
        return [made[text] if text in made else known[text] for text in texts]

    def _look_ahead(self, some: Sequence[tuple[Wording, int]]) -> None:
        """Find what the wordings of a batch are like. One that comes again must find itself when it does."""
        loose = [(each, times) for each, times in some if not (each.campaign and each.campaign.place)]
        if loose:
            ahead = self.index.ahead([(each.signature, each.bands) for each, _ in loose])
            for (wording, times), similar in zip(loose, ahead, strict=True):
                wording.similar = similar if times == 1 else None

    def look(self, facts: Facts) -> None:
        """Find a message's campaign."""
        if _WORDING not in facts.found:
            self.foresee((facts,))
        wording = facts.found[_WORDING]
        if not isinstance(wording, Wording):
            return
        similar, wording.similar = wording.similar, None
        if similar == ():
            if not facts.is_repeated:
                self.index.add_alone(wording.signature, wording.bands, min(facts.received_at, self._now))
            return
        campaign, gone = wording.campaign, None
        if campaign and campaign.place:
            match = Likeness(campaign, is_close=True)
        else:
            match = self.index.like(wording.signature, wording.bands, similar)
        campaign = match.campaign
        if not facts.is_repeated:
            at = min(facts.received_at, self._now)
            campaign, gone = self.index.count(wording.signature, match, at, wording.bands)
        wording.campaign = campaign
        if gone:
            self._forget(gone)
        if campaign and campaign.total > 1:
            facts.campaign, facts.campaign_size = campaign.id, campaign.total
            facts.campaign_ids = (campaign.id, *campaign.aliases)
            facts.found[FOUND] = campaign

    def learn(self, facts: Facts, decided: Decided) -> None:
        """Count what became of it."""
        campaign = facts.found.get(FOUND)
        if facts.is_repeated or not isinstance(campaign, KnownCampaign):
            return
        self._metrics.campaign_messages.inc()
        campaign.different.add(facts.sender, facts.recipient, hosts_of(facts))
        scored = decided.scored
        if scored.action is Action.DELIVER:
            campaign.delivered += 1
        elif scored.action is Action.FLAG:
            campaign.flagged += 1
        elif scored.action is Action.BLOCK:
            campaign.blocked += 1
        else:
            campaign.unscored += 1
        if scored.score is not None:
            campaign.judge(scored.score, facts.alone or scored.action)
        if campaign.total >= LARGE:
            self.changed[campaign] = None

    def summary(self, campaign: KnownCampaign) -> CampaignSummary | None:
        """What this worker has to tell of a campaign; None once it is forgotten. For the companion."""
        told = self.index.signature_of(campaign)
        if told is None:
            return None
        counts = (max(campaign.different.count(each), campaign.before[each]) for each in Different)
        senders, recipients, linked = counts
        return CampaignSummary(
            campaign=campaign.id,
            worker=self.worker,
            size=campaign.size,
            first=dt.datetime.fromtimestamp(campaign.first, dt.UTC),
            last=dt.datetime.fromtimestamp(campaign.last, dt.UTC),
            scheme=SCHEME,
            signature=told.tobytes(),
            aliases=campaign.aliases,
            senders=senders,
            recipients=recipients,
            hosts=linked,
            delivered=campaign.delivered,
            flagged=campaign.flagged,
            blocked=campaign.blocked,
            unscored=campaign.unscored,
            score=round(campaign.scores / campaign.scored, 4) if campaign.scored else None,
            scored=campaign.scored,
            alone_flagged=campaign.alone_flagged,
            alone_blocked=campaign.alone_blocked,
        )

    def _forget(self, gone: KnownCampaign) -> None:
        self._metrics.campaigns_forgotten.inc()
        self.changed.pop(gone, None)
        if gone.key:
            self.forgotten.append(gone.key)

    def _take_up(self, heard: Heard) -> None:
        key, told, is_own = heard
        if told is None:
            if campaign := self.index.named(key.partition(":")[0]):
                campaign.others.pop(key, None)
                campaign.hear(key, None)
            return
        if told.scheme != SCHEME:
            return
        campaign = self._campaign_of(told)
        for name in (told.campaign, *told.aliases):
            self.index.also_named(campaign, name)
        if is_own:
            if campaign.key:  # two of this worker's records have become one campaign
                self.forgotten.append(told.key)
                self.changed[campaign] = None
            _restore(campaign, told)
        else:
            campaign.others[key] = told.size
            campaign.hear(key, ScoredAlone(told.scored, told.alone_flagged, told.alone_blocked))
            campaign.first = min(campaign.first, told.first.timestamp())
        self.index.touch(campaign)

    def _campaign_of(self, told: CampaignSummary) -> KnownCampaign:
        """The campaign that another worker tells of: by its id, else by its signature, else begun here too."""
        for name in (told.campaign, *told.aliases):
            if campaign := self.index.named(name):
                return campaign
        its = np.frombuffer(told.signature, dtype=np.uint8)
        self.index.settle()
        if campaign := self.index.like(its).campaign:
            return campaign
        campaign, gone = self.index.found(its, told.last.timestamp(), told.campaign)
        if gone:
            self._forget(gone)
        return campaign


def _plain(facts: Facts) -> str:
    """A text, normalised but for white space: most are so as they are sent."""
    if facts.plain is not None:
        return facts.plain
    return normalise(facts.text[:NEAR]) if Flag.NORMALISED in facts.flags else facts.text


def _restore(campaign: KnownCampaign, told: CampaignSummary) -> None:
    """Go on from where this worker was before it was started anew."""
    campaign.key = campaign.key or told.key
    campaign.size += told.size
    campaign.first = min(campaign.first, told.first.timestamp())
    campaign.delivered += told.delivered
    campaign.flagged += told.flagged
    campaign.blocked += told.blocked
    campaign.unscored += told.unscored
    campaign.alone_flagged += told.alone_flagged
    campaign.alone_blocked += told.alone_blocked
    if told.score is not None:
        scored = told.scored or told.delivered + told.flagged + told.blocked
        campaign.scored += scored
        campaign.scores += told.score * scored
    campaign.before = (told.senders, told.recipients, told.hosts)
