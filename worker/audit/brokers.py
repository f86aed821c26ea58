"""The audit's view of the brokers. `worker.broker.audit` implements it with Kafka, the unit tests with lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from worker.messages import Positions, Record, TopicPartition


class AwayError(Exception):
    """The brokers do not answer, or not as they should; asking again later may help. The text says how."""


@dataclass(frozen=True, slots=True)
class FetchedRecords:
    """The records of one poll of a partition, in offset order.

    `gap` is set where the next records are not there any more, but deleted, or lost by the brokers: the offset from
    which the partition goes on.
    """

    place: TopicPartition
    records: Sequence[Record]
    gap: int | None = None


class Tail(Protocol):
    """Some topics, read from positions that the audit keeps; only what is committed."""

    def starts(self) -> Positions:
        """Return where each partition begins."""

    def ends(self) -> Positions:
        """Return for each partition how far it can be read now: its last stable offset."""

    def at(self, seconds: float) -> Positions:
        """Return for each partition its first record of this Unix time or later; its end where there is none."""

    def position(self, place: TopicPartition) -> int:
        """Return the next offset that a poll will bring, or its successors."""

    def seek(self, place: TopicPartition, offset: int) -> None:
        """Go on from this offset."""

    def only(self, places: Iterable[TopicPartition]) -> None:
        """Poll these, and no others."""

    def chunks(self, wait: float) -> Sequence[FetchedRecords]:
        """Return the next records; nothing after `wait` seconds."""


class Brokers(Protocol):
    """Three topics and two groups. Every call may raise AwayError, or BrokerError where asking again does not help."""

    @property
    def events(self) -> Tail:
        """The input topic."""

    @property
    def answers(self) -> Tail:
        """The two output topics."""

    def partitions(self) -> frozenset[TopicPartition]:
        """Return every partition of the three topics, as of now."""

    def written(self) -> Positions:
        """Return the ends of the output topics' partitions, with what open transactions have written."""

    def committed(self) -> Positions:
        """Return offsets that the worker's group has committed: as of now, or of a moment ago."""

    def settled(self) -> Positions:
        """Return the same, once no open transaction can change them."""

    def progress(self) -> Mapping[TopicPartition, tuple[int, str]]:
        """Return what the audit's group has committed, with its notes."""

    def commit(self, progress: Mapping[TopicPartition, tuple[int, str]]) -> None:
        """Commit the same."""

    def close(self) -> None:
        """Disconnect."""
