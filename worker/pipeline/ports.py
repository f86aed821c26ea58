"""The pipeline's interfaces to a broker, and the two ways it may refuse.

`worker.broker` answers with Kafka, `tests.fakes` with lists; tests/contracts runs the same tests on both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.messages import Outgoing, Positions, Record, TopicPartition


class RolledBackError(Exception):
    """The group's failure: nothing of this transaction will ever be seen. Rewind to what is committed and go on."""


class FencedError(Exception):
    """A newer instance with this transactional id has taken over. Stop: all that follows would be refused."""


class GroupMetadata(Protocol):
    """Proof of belonging to the group as of one poll, carried with its records to the commit (KIP-447)."""


class Source(Protocol):
    """The input topic as one member of a consumer group. Used from one thread only."""

    def poll(self, wait: float) -> Sequence[Record]:
        """Return the next records, in offset order for each partition; none after `wait` seconds.

        Never returns records across a rebalance: when the assignment has changed since the last poll, `rebalanced()`
        turns true first and this poll is empty.
        """

    def has_more(self) -> bool:
        """Whether the last poll brought as much as one may, so that there is more at hand: the next need not wait."""

    def rebalanced(self) -> bool:
        """Whether the group changed since this was last asked. What was polled of what is not `kept` is then void."""

    def kept(self) -> frozenset[TopicPartition]:
        """Return which partitions were held without a break through the change that `rebalanced` reported.

        Their records go on where they were: what was polled of them need not be discarded, and may be committed under
        the metadata of now.
        """

    def keep_alive(self) -> None:
        """Stay in the group while the pipe is full: fetch nothing, answer rebalances."""

    def is_cut_off(self) -> bool:
        """Whether the group has not answered for a whole session. May be asked from another thread."""

    def group_metadata(self) -> GroupMetadata:
        """Return the group metadata as of the last poll, never as of the commit."""

    def rewind(self, kept: frozenset[TopicPartition] = frozenset()) -> None:
        """Go back to the last committed offset of every assigned partition but those kept."""

    def assignment(self) -> frozenset[TopicPartition]:
        """Return the partitions held now."""

    def lag(self) -> Mapping[TopicPartition, int]:
        """Return the records between the last polled and the end, for each partition held; asks no broker."""

    def close(self) -> None:
        """Leave the group."""


class Sink(Protocol):
    """Publishes verdicts and dead letters and commits the offsets they answer. Used from one thread only."""

    is_rebuilding: bool
    """Whether it is making itself ready again after a transaction that did not commit; may be asked by any thread."""

    @property
    def transaction_version(self) -> int:
        """The version of Kafka's transactions in force (KIP-890): 1 or 2; 0 where there are none."""

    @property
    def has_ended(self) -> bool:
        """Whether a process that it needs is gone, so that the next write will fail; may be asked by any thread."""

    def prepare(self, metadata: GroupMetadata) -> None:
        """Begin what a write under this metadata, the next call, will need; waits for nothing, raises nothing."""

    def write(
        self,
        verdicts: Sequence[Outgoing],
        dead_letters: Sequence[Outgoing],
        positions: Positions,
        metadata: GroupMetadata,
    ) -> None:
        """Publish all and commit `positions` with them; when this returns, a read_committed reader will see it.

        Exactly once: in one transaction, fenced by the group metadata. At least once: published and acknowledged, then
        committed. Raises RolledBackError (nothing of it took effect; the sink is ready for another), FencedError, or
        whatever else broke: then nothing may be assumed, and the process must end.
        """

    def close(self) -> None:
        """Close the connections; an open transaction is aborted."""
