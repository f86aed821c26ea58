"""What is known of one message beside its score, found when somebody asks. Never logged, published or kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from worker.messages import Action, SenderType, TopicPartition


class Facts(msgspec.Struct, gc=False):
    """One message on its way to a verdict.

    `text` as sent, and `plain` the beginning of what normalising made of it, where it changed more than white space;
    `sender` and `recipient` as the event gives them, None where it does not; `sender_type` as given, or by the sender's
    spelling; `flags` are the text's and those that observers add; `received_at` in Unix seconds. Of a message that
    `is_repeated` a transaction before this one was rolled back, or another worker's was: who counts has counted it
    already. `campaign`, its size and all ids that it has had are the campaign observer's. It `is_registered` where the
    registry has the sender as an organisation's, and no link leads elsewhere. `alone` is what the score would have had
    done without any rule, once it is decided.
    """

    text: str
    sender: str | None
    recipient: str | None
    received_at: float
    partition: TopicPartition
    offset: int
    flags: tuple[str, ...] = ()
    language: str | None = None
    is_repeated: bool = False
    campaign: str | None = None
    campaign_size: int = 0
    campaign_ids: tuple[str, ...] = ()
    found: dict[str, Any] = {}
    """What was looked for in the text already, by the name of who looked: links, numbers."""
    sender_type: SenderType | None = None
    is_registered: bool = False
    alone: Action | None = None
    plain: str | None = None
