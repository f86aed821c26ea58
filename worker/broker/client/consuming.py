"""State of a consumer that has no public call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from kafka import TopicPartition


def is_session_over(consumer: Any) -> bool:  # noqa: ANN401 the client is untyped
    """Whether no heartbeat was answered for a whole session."""
    is_over: bool = consumer._coordinator.heartbeat.session_timeout_expired()  # noqa: SLF001
    return is_over


def states(consumer: Any) -> dict[TopicPartition, Any]:  # noqa: ANN401 the client is untyped
    """Return the client's state of each partition held: kept for as long as it is held, new when it comes again."""
    return dict(consumer._subscription.assignment)  # noqa: SLF001


def topic_id(consumer: Any, topic: str) -> UUID | None:  # noqa: ANN401 the client is untyped
    """Return the topic's id as of the client's last metadata; None where it, or the topic, is not known."""
    found: UUID | None = consumer._cluster.topic_id(topic)  # noqa: SLF001
    return found


def lags(consumer: Any) -> Mapping[TopicPartition, int]:  # noqa: ANN401 the client is untyped
    """Return the records between the last polled and the end, where both are known.

    Asks no broker, as the public `position` does for a partition whose start is not known yet.
    """
    return {
        partition: max(0, state.highwater - state.position.offset)
        for partition, state in states(consumer).items()
        if state.highwater is not None and state.position is not None
    }


def fetch(consumer: Any, most: int, timeout_ms: int) -> dict[TopicPartition, list[Any]]:  # noqa: ANN401
    """Return records as `poll` does, also while the group is joining: the public call then returns nothing."""
    fetched: dict[TopicPartition, list[Any]]
    fetched, _ = consumer._fetcher.fetch_records(most, update_offsets=True, timeout_ms=timeout_ms)  # noqa: SLF001
    return fetched
