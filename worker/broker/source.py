"""The input topic as one member of a consumer group, and the claim that fences what it read."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from kafka import KafkaConsumer, TopicPartition, errors
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.base import MemberState

from worker.broker.link import BrokerError, explained, milliseconds
from worker.messages import Record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker import messages
    from worker.broker.link import KafkaLink
    from worker.stream import Claim

MAX_POLL_RECORDS: Final = 4096
# How soon a member hears that the group is changing.
_HEARTBEAT: Final = 1.0
# How often a committed offset is asked for again while a transaction still holds it.
_RETRY: Final = 0.02
_CLOSE_WAIT: Final = 5.0
_METADATA_WAIT: Final = 2.0


class KafkaSource:
    """One member of the group. Every call from one thread; no listener: kafka would call it on its heartbeat thread.

    The group is watched by its generation instead. Each assignment has one, the client changes it only inside `poll`,
    and the claim follows it only once the new assignment stands, so that no record can be stamped with a newer one.
    """

    def __init__(  # noqa: PLR0913 seven plain values, each a setting
        self,
        link: KafkaLink,
        topic: str,
        group_id: str,
        *,
        session_timeout: float,
        max_poll_interval: float,
        max_poll_records: int = MAX_POLL_RECORDS,
    ) -> None:
        """Connect. The group is joined by the first polls."""
        self._patience = link.patience
        self._has_moved = False
        logging.getLogger("kafka.coordinator.consumer").addFilter(_is_news)
        with explained(link):
            self._consumer = link.connect(
                KafkaConsumer,
                topic,
                group_id=group_id,
                # Without it the client does not ask for stable offsets: it would read what an open transaction commits.
                isolation_level="read_committed",
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                allow_auto_create_topics=False,
                partition_assignment_strategy=(RangePartitionAssignor,),
                max_poll_records=max_poll_records,
                session_timeout_ms=milliseconds(session_timeout),
                max_poll_interval_ms=milliseconds(max_poll_interval),
                heartbeat_interval_ms=milliseconds(min(_HEARTBEAT, session_timeout / 5)),
                retry_backoff_ms=milliseconds(_RETRY),
                metrics_enabled=False,
            )
        self._await_partitions(topic)
        keep_joining(self._consumer)
        self._claim = self._consumer.group_metadata()

    def poll(self, wait: float) -> Sequence[Record]:
        """Return the next records, in offset order for each partition; none after `wait` seconds, or on a rebalance."""
        fetched = self._consumer.poll(milliseconds(wait))
        if self._follow_group():
            self._give_back(fetched)
            return []
        return [record_of(raw) for raws in fetched.values() for raw in raws]

    def rebalanced(self) -> bool:
        """Whether partitions came or went since this was last asked."""
        moved, self._has_moved = self._has_moved, False
        return moved

    def keep_alive(self) -> None:
        """Stay in the group while the pipe is full: fetch nothing, answer rebalances."""
        self._consumer.pause(*self._consumer.assignment())
        fetched = self._consumer.poll(0)
        self._follow_group()
        self._give_back(fetched)  # of partitions that were assigned, unpaused, in this very poll
        self._consumer.resume(*self._consumer.paused())

    def claim(self) -> Claim:
        """Return the group's metadata as of the last poll: of then, never of commit time."""
        claim: Claim = self._claim
        return claim

    def rewind(self) -> None:
        """Go back to the last committed offset of every assigned partition; to its start where there is none.

        Offsets that a transaction is about to commit are waited for. Raises BrokerError when that takes too long.
        """
        for partition in self._consumer.assignment():
            committed = self._committed(partition)
            if committed is None:
                self._consumer.seek_to_beginning(partition)
            else:
                self._consumer.seek(partition, committed)

    def assignment(self) -> frozenset[messages.TopicPartition]:
        """Return the partitions held now."""
        return frozenset((partition.topic, partition.partition) for partition in self._consumer.assignment())

    def lag(self) -> Mapping[messages.TopicPartition, int]:
        """Return the records between the last polled and the end, where both are known; asks no broker."""
        # `position()` would ask one, for a partition whose start is not known yet.
        states = self._consumer._subscription.assignment.items()  # noqa: SLF001
        return {
            (partition.topic, partition.partition): max(0, state.highwater - state.position.offset)
            for partition, state in states
            if state.highwater is not None and state.position is not None
        }

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close(autocommit=False, timeout_ms=milliseconds(_CLOSE_WAIT))

    def _committed(self, partition: TopicPartition) -> int | None:
        try:
            offset: int | None = self._consumer.committed(partition, timeout_ms=milliseconds(self._patience))
        except errors.KafkaTimeoutError as error:
            message = (
                f"the committed offset of {partition.topic}:{partition.partition} was not to be had within "
                f"{self._patience:g} s; check that the brokers are up, and with kafka-transactions.sh find-hanging "
                "that no transaction holds it for ever"
            )
            raise BrokerError(message) from error
        return offset

    def _await_partitions(self, topic: str) -> None:
        """Know the topic before the group is joined: else the first assignment is empty, and all must join again."""
        deadline = time.monotonic() + _METADATA_WAIT
        cluster = self._consumer._cluster  # noqa: SLF001 the public call asks for all topics there are
        while cluster.partitions_for_topic(topic) is None and time.monotonic() < deadline:
            time.sleep(_RETRY)

    def _follow_group(self) -> bool:
        """Whether the member has been given a new assignment since the last poll; its claim then goes with it."""
        now = self._consumer.group_metadata()
        # Between a join and its assignment there is a generation already, but no right to it yet.
        if now.state != MemberState.STABLE or _generation(now) == _generation(self._claim):
            return False
        self._claim, self._has_moved = now, True
        return True

    def _give_back(self, fetched: Mapping[TopicPartition, Sequence[Any]]) -> None:
        for partition, raws in fetched.items():
            self._consumer.seek(partition, raws[0].offset)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether it is worth a line: to wait for a transaction to settle is no error, though the client calls it one."""
    return "UnstableOffsetCommitError" not in record.getMessage()


def keep_joining(consumer: Any) -> None:  # noqa: ANN401 the client is untyped
    """Let no join be forgotten while nobody waits in `poll`, as the client does in two ways when polls are short.

    An assignment that comes between two polls is thrown away and asked for anew, so that two members can keep each
    other rebalancing for ever. And a join made because partitions were added no longer counts as wanted once it is
    under way: it is never taken up, heartbeats stay off, and the member is out of the group without knowing.
    """
    coordinator = consumer._coordinator  # noqa: SLF001
    join = coordinator._do_join_and_sync_async  # noqa: SLF001
    answered: list[tuple[Any, Any]] = []

    async def join_once() -> Any:  # noqa: ANN401
        if answered and coordinator.state == MemberState.REBALANCING:
            generation, assignment = answered.pop()
            if generation is coordinator._generation:  # noqa: SLF001 neither lost nor overtaken
                return assignment
        answered.clear()
        coordinator.rejoin_needed = True  # until the client takes the answer up
        assignment = await join()
        answered.append((coordinator._generation, assignment))  # noqa: SLF001
        return assignment

    coordinator._do_join_and_sync_async = join_once  # noqa: SLF001


def _generation(claim: Any) -> tuple[int, str]:  # noqa: ANN401 the client is untyped
    return claim.generation_id, claim.member_id


def record_of(raw: Any) -> Record:  # noqa: ANN401 the client is untyped
    """Our record from the client's; a header without a value keeps its None."""
    topic, partition, _, offset, timestamp, _, key, value, headers, *_ = raw
    return Record(topic, partition, offset, timestamp / 1000, key, value, tuple(headers) if headers else ())
