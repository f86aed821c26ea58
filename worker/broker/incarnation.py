"""Which topic of a name an offset belongs to: its id (KIP-516), kept beside each committed offset.

A topic that is deleted and created again has the same name and begins at 0. An offset of the old one would skip as many
messages of the new one. Brokers before Kafka 2.8 have no ids; then nothing is noted, and nothing is noticed.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from uuid import UUID

_MARK: Final = "topic-id:"


class Membership(NamedTuple):
    """Group metadata as of a poll (KIP-447), and the id of the topic that was polled."""

    group_id: str | None
    generation_id: int
    member_id: str
    group_instance_id: str | None
    topic_id: str = ""


def written(topic_id: UUID | None) -> str:
    """Return a topic's id as Kafka's own tools print it; nothing where it is not known."""
    return base64.urlsafe_b64encode(topic_id.bytes).decode().rstrip("=") if topic_id and topic_id.int else ""


def note(topic_id: str, other: str = "") -> str:
    """Return what is kept beside an offset: `other`, then the id of the topic."""
    return f"{other} {_MARK}{topic_id}".strip() if topic_id else other


def read(kept: str) -> tuple[str, str]:
    """Return the id of the topic that an offset belongs to, nothing where it is not known; and the rest of the note."""
    other, _, topic_id = kept.rpartition(_MARK) if _MARK in kept else (kept, "", "")
    return topic_id, other.rstrip()


def of(metadata: Any) -> str:  # noqa: ANN401 the client's, or ours
    """Return the id of the topic that was polled under this group metadata; nothing where it is not known."""
    return getattr(metadata, "topic_id", "")


def is_another(noted: str, now: str) -> bool:
    """Whether these are known to be two topics."""
    return bool(noted and now) and noted != now
