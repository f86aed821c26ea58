"""The records of the topic of campaigns: one for each campaign and worker, under `id:worker`; a tombstone ends it.

They hold no text, number, sender or link. A signature is 128 bytes of hashes: whoever has a text can tell by it whether
the text is of the campaign, and whoever has none cannot read one out of it.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Final

import msgspec

from worker.campaigns.index import ALIASES
from worker.campaigns.signature import LENGTH
from worker.messages import EARLIEST, LATEST

Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 48)]
CampaignId = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]
Moment = Annotated[dt.datetime, msgspec.Meta(tz=True)]


class CampaignSummary(msgspec.Struct, frozen=True, gc=False):
    """What one worker has seen of a campaign since it knows it: readers add up over workers.

    `aliases` are other ids of it. Different senders, recipients and hosts are estimates; one that two workers have seen
    counts with both. Actions count from the campaign's second message on; `score` is the mean of those that have one,
    `scored` of them. `alone_flagged` and `alone_blocked` are how many their scores alone would have had so.
    """

    campaign: CampaignId
    worker: Annotated[str, msgspec.Meta(max_length=255)]
    size: Count
    first: Moment
    last: Moment
    scheme: str
    signature: Annotated[bytes, msgspec.Meta(min_length=LENGTH, max_length=LENGTH)]
    aliases: Annotated[tuple[CampaignId, ...], msgspec.Meta(max_length=ALIASES)] = ()
    senders: Count = 0
    recipients: Count = 0
    hosts: Count = 0
    delivered: Count = 0
    flagged: Count = 0
    blocked: Count = 0
    unscored: Count = 0
    score: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    scored: Count = 0
    alone_flagged: Count = 0
    alone_blocked: Count = 0

    @property
    def key(self) -> str:
        """Its record's."""
        return f"{self.campaign}:{self.worker}"


_decoder: Final = msgspec.json.Decoder(CampaignSummary)
encode_summary: Final = msgspec.json.Encoder().encode


def decode_summary(value: bytes) -> CampaignSummary:
    """Read a summary. Raises msgspec.DecodeError."""
    try:
        told = _decoder.decode(value)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from None
    if not EARLIEST <= told.first.timestamp() <= told.last.timestamp() <= LATEST:
        message = "no time that messages can have: first before last, and both of this century"
        raise msgspec.ValidationError(message)
    if told.alone_flagged + told.alone_blocked > told.scored:
        message = "more messages flagged and blocked by their score than have one"
        raise msgspec.ValidationError(message)
    return told
