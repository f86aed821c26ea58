"""The input topic as one member of a consumer group, and the metadata that fences what it read."""

from __future__ import annotations

import itertools
import logging
import time
from typing import TYPE_CHECKING, Any, Final

import structlog
from kafka import KafkaConsumer, TopicPartition, errors

from worker.broker import incarnation
from worker.broker.client import consuming
from worker.broker.client.fetching import ask_once
from worker.broker.client.membership import generations_taken_up, is_fenced, is_joining, keep_joining, pause_lookups
from worker.broker.client.unpacking import unpack
from worker.broker.incarnation import Membership
from worker.broker.link import BrokerError, explain, explained, milliseconds
from worker.broker.member import Member
from worker.broker.offsets import Offsets
from worker.broker.reader import Reader
from worker.messages import dated
from worker.pipeline.ports import FencedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from kafka.structs import OffsetAndMetadata

    from worker import messages
    from worker.broker.link import KafkaLink
    from worker.messages import Record
    from worker.pipeline.ports import GroupMetadata

MAX_POLL_RECORDS: Final = 4096
# Of values: events as large as they may be, each made to be slow to read, must not hold the reader out of its group.
_MAX_POLL_BYTES: Final = 4 << 20
# How soon a member hears that the group is changing.
_HEARTBEAT: Final = 1.0
# How often a committed offset is asked for again while a transaction still holds it.
_RETRY: Final = 0.02
_CLOSE_WAIT: Final = 5.0
_METADATA_WAIT: Final = 2.0
_RECREATED: Final = "was deleted and created again"
_REMEDY: Final = (
    "reset the group's offsets, or set HAMGATE_OFFSET_OUT_OF_RANGE to earliest (judge what is left, perhaps again) or "
    "latest (skip)"
)

log = structlog.get_logger()


class KafkaSource:
    """One member of the group. Every call from one thread; no listener: kafka would call it on its heartbeat thread.

    The group is watched by its generation instead. Each assignment has one, the client takes it up only inside `poll`,
    and the metadata follows it only once the new assignment stands, so that no record can be stamped with a newer one.
    """

    def __init__(  # noqa: PLR0913 plain values, each a setting, and whom to tell
        self,
        link: KafkaLink,
        topic: str,
        group_id: str,
        *,
        session_timeout: float,
        max_poll_interval: float,
        max_poll_records: int = MAX_POLL_RECORDS,
        member: Member | None = None,
        verdict_topic: str | None = None,
        undated: Callable[[int], object] = lambda _: None,
    ) -> None:
        """Connect. The first polls join the group. `undated` gets the number of records that had to be `dated`.

        `verdict_topic`: a group without any committed offset is new if that topic is empty, else it was forgotten.
        Without it, every such group is new.
        """
        self._verdict_topic = verdict_topic
        self._undated = undated
        self._link, self._member, self._max_records = link, member or Member(), max_poll_records
        self._topic, self._topic_id = topic, ""
        self._has_moved = self._has_more = False
        self._held: dict[TopicPartition, Any] = {}
        self._kept: frozenset[messages.TopicPartition] = frozenset()
        self._failing_since: float | None = None
        self._said_unreadable: str | None = None
        logging.getLogger("kafka.coordinator.consumer").addFilter(_is_news)
        with explained(link):
            self._consumer = link.connect(
                KafkaConsumer,
                topic,
                group_id=group_id,
                # Without it the client does not ask for stable offsets: it would read what an open transaction commits.
                isolation_level="read_committed",
                enable_auto_commit=False,
                allow_auto_create_topics=False,
                **self._member.options(),
                max_poll_records=max_poll_records,
                session_timeout_ms=milliseconds(session_timeout),
                max_poll_interval_ms=milliseconds(max_poll_interval),
                heartbeat_interval_ms=milliseconds(min(_HEARTBEAT, session_timeout / 5)),
                retry_backoff_ms=milliseconds(_RETRY),
                metrics_enabled=False,
            )
        unpack(self._consumer)
        ask_once(self._consumer)
        self._await_partitions(topic)
        keep_joining(self._consumer)
        pause_lookups(self._consumer)
        self._metadata, self._taken_up = self._consumer.group_metadata(), generations_taken_up(self._consumer)
        self._follow_topic()

    def poll(self, wait: float) -> Sequence[Record]:
        """Return the next records, in offset order for each partition; none after `wait` seconds, or on a rebalance.

        Raises FencedError, or BrokerError when a right was taken away or the next record cannot be read.
        """
        fetched, self._has_more = self._fetch(wait), False
        if self._follow():
            self._give_back(fetched)
            return []
        self._has_more = sum(len(each) for each in fetched.values()) >= self._max_records
        self._heed_unreadable(fetched)
        now = time.time()
        records = [dated(record, now) for each in self._within_bytes(fetched) for record in each]
        if undated := sum(record.stamped is not None for record in records):
            self._undated(undated)
        return records

    def has_more(self) -> bool:
        """Whether the last poll brought as much as one may."""
        return self._has_more

    def rebalanced(self) -> bool:
        """Whether partitions came or went since this was last asked."""
        moved, self._has_moved = self._has_moved, False
        return moved

    def kept(self) -> frozenset[messages.TopicPartition]:
        """Return the partitions held without a break through the last change, and read on where they were."""
        return self._kept

    def keep_alive(self) -> None:
        """Stay in the group while the pipe is full: fetch nothing, answer rebalances. Raises as `poll` does."""
        self._consumer.pause(*self._consumer.assignment())
        fetched = self._fetch(0.0)
        self._follow()
        self._give_back(fetched)  # of partitions that were assigned, unpaused, in this very poll
        self._consumer.resume(*self._consumer.paused())

    def is_cut_off(self) -> bool:
        """Whether no heartbeat was answered for a whole session: the brokers are gone, or out of reach."""
        return consuming.is_session_over(self._consumer)

    def group_metadata(self) -> GroupMetadata:
        """Return the group metadata as of the last poll, never as of the commit."""
        known = self._metadata
        return Membership(known.group_id, known.generation_id, known.member_id, known.group_instance_id, self._topic_id)

    def rewind(self, kept: frozenset[messages.TopicPartition] = frozenset()) -> None:
        """Go back to the last committed offset of every assigned partition but those kept; to its start for none.

        Offsets that a transaction is about to commit are waited for. Raises BrokerError when that takes too long, or
        by policy where an offset is of a topic that was deleted and created again, or was forgotten.
        """
        without: list[TopicPartition] = []
        for partition in self._consumer.assignment():
            if (partition.topic, partition.partition) in kept:
                continue
            committed = self._committed(partition)
            if committed is None:
                without.append(partition)
            elif incarnation.is_another(incarnation.read(committed.metadata)[0], self._topic_id):
                self._go_on_by_policy(partition, committed.offset, f"is of an older {self._topic}, which {_RECREATED}")
            else:
                self._consumer.seek(partition, committed.offset)
        if without and self._verdict_topic is None:
            self._consumer.seek_to_beginning(*without)
        elif without:
            self._begin(sorted(without))

    def assignment(self) -> frozenset[messages.TopicPartition]:
        """Return the partitions held now."""
        return frozenset((partition.topic, partition.partition) for partition in self._consumer.assignment())

    def lag(self) -> Mapping[messages.TopicPartition, int]:
        """Return the records between the last polled and the end, where both are known; asks no broker."""
        return {
            (partition.topic, partition.partition): lag for partition, lag in consuming.lags(self._consumer).items()
        }

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close(autocommit=False, timeout_ms=milliseconds(_CLOSE_WAIT))

    def _committed(self, partition: TopicPartition) -> OffsetAndMetadata | None:
        deadline = time.monotonic() + self._link.patience
        try:
            while True:
                try:
                    left = milliseconds(max(0.001, deadline - time.monotonic()))
                    committed: OffsetAndMetadata | None
                    committed = self._consumer.committed(partition, metadata=True, timeout_ms=left)
                except errors.KafkaConnectionError as error:  # a broker that goes just now: the next knows
                    self._wait_before_retry(error)
                else:
                    return committed
        except errors.KafkaTimeoutError as error:
            message = (
                f"could not read the committed offset of {partition.topic}:{partition.partition} within "
                f"{self._link.patience:g} s; check that {self._link.brokers} are up, and with "
                "kafka-transactions.sh find-hanging that no transaction holds it for ever"
            )
            raise BrokerError(message) from error

    def _begin(self, partitions: list[TopicPartition]) -> None:
        """Begin where the group has no offset, and commit where that is. Raises BrokerError, by policy if forgotten.

        The commit says from now on that the group is not new, also if its first transaction is rolled back.
        """
        try:
            at, ends = self._consumer.beginning_offsets(partitions), self._consumer.end_offsets(partitions)
            counts = {each: ends[each] - at[each] for each in partitions if ends[each] > at[each]}
            if counts and self._is_forgotten():
                at = self._begin_forgotten(counts, at, ends)
            for partition in partitions:
                self._consumer.seek(partition, at[partition])
            self._commit({(each.topic, each.partition): at[each] for each in partitions})
        except errors.KafkaError as error:
            raise BrokerError(explain(error, self._link)) from error

    def _is_forgotten(self) -> bool:
        """Whether the group has judged before: it has no offset at all, yet there are verdicts."""
        for number in sorted(self._consumer.partitions_for_topic(self._topic) or ()):
            try:
                if self._committed(TopicPartition(self._topic, number)) is not None:
                    return False  # those without are new
            except BrokerError:
                return False  # an open transaction holds it: there is one, or will be
        with Reader(self._link, str(self._verdict_topic)) as verdicts:
            return not verdicts.is_empty()

    def _begin_forgotten(
        self,
        counts: Mapping[TopicPartition, int],
        starts: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
    ) -> Mapping[TopicPartition, int]:
        policy, group = self._member.out_of_range, self._metadata.group_id
        if policy == "fail":
            where = ", ".join(f"{each.topic}:{each.partition} ({count:,} messages)" for each, count in counts.items())
            message = (
                f"group {group} has no position in {where}, but {self._verdict_topic} has verdicts: its offsets have "
                "expired (offsets.retention.minutes) or were deleted, or HAMGATE_GROUP_ID is not the name it had; "
                f"{_REMEDY}"
            )
            raise BrokerError(message)
        for partition, count in counts.items():
            log.error(
                "committed offset forgotten",
                group=group,
                topic=partition.topic,
                partition=partition.partition,
                messages=count,
                goes_on_from=policy,
            )
        return starts if policy == "earliest" else ends

    def _commit(self, positions: messages.Positions) -> None:
        """Commit under the metadata of now. Where that is stale, a rebalance is due, and with it another look."""
        offsets = Offsets(self._link)
        try:
            offsets.commit(positions, self.group_metadata(), until=time.monotonic() + self._link.patience)
        except (errors.IllegalGenerationError, errors.UnknownMemberIdError, errors.RebalanceInProgressError):
            pass
        except errors.FencedInstanceIdError as error:
            raise self._fenced() from error
        finally:
            offsets.close()

    def _await_partitions(self, topic: str) -> None:
        """Know the topic before the group is joined: else the first assignment is empty, and all must join again."""
        deadline = time.monotonic() + _METADATA_WAIT
        while self._consumer.partitions_for_topic(topic) is None and time.monotonic() < deadline:
            time.sleep(_RETRY)

    def _follow(self) -> bool:
        """Whether all that was polled is void: the member has a new assignment, or the topic is another by now."""
        has_moved = self._follow_group()
        return self._follow_topic() or has_moved

    def _follow_topic(self) -> bool:
        """Whether the topic was deleted and created again. Raises BrokerError where the policy is to stop then."""
        now = incarnation.written(consuming.topic_id(self._consumer, self._topic))
        before, self._topic_id = self._topic_id, now or self._topic_id
        if not incarnation.is_another(before, now):
            return False
        policy = self._member.out_of_range
        if policy == "fail":
            message = f"topic {self._topic} {_RECREATED} while it was read (id {before}, now {now}); {_REMEDY}"
            raise BrokerError(message)
        log.error("input topic deleted and created again", topic=self._topic, before=before, now=now)
        # Its partitions may be held without a break: the positions in them are of the old one all the same.
        self._has_moved, self._kept = True, frozenset()
        return True

    def _follow_group(self) -> bool:
        """Whether the member has been given a new assignment since the last poll; its metadata then goes with it."""
        if not self._taken_up:
            return False
        generations = [each.generation_id for each in (self._metadata, *self._taken_up)]
        # Of a generation that was never taken up nobody has told us: another may have held it all meanwhile.
        has_missed_one = any(after - before not in {0, 1} for before, after in itertools.pairwise(generations))
        self._metadata, self._has_moved = self._taken_up[-1], True
        self._taken_up.clear()
        # The client keeps a partition's state for as long as it is held, and makes a new one when it comes (again).
        held = consuming.states(self._consumer)
        kept = (p for p, state in held.items() if self._held.get(p) is state and not has_missed_one)
        self._held, self._kept = held, frozenset((partition.topic, partition.partition) for partition in kept)
        return True

    def _is_held_up(self) -> bool:
        """Whether the client reads nothing until the slowest member, or a dead one's session, lets the join end."""
        return self._member.rebalance == "cooperative" and is_joining(self._consumer)

    def _fetch(self, wait: float) -> dict[TopicPartition, list[Record]]:
        try:
            for_news = min(wait, _RETRY) if self._is_held_up() else wait
            fetched: dict[TopicPartition, list[Record]] = self._consumer.poll(milliseconds(for_news))
            if not fetched and self._is_held_up():
                fetched = consuming.fetch(self._consumer, self._max_records, milliseconds(wait))
        except errors.FencedInstanceIdError as error:
            raise self._fenced() from error
        except errors.NoOffsetForPartitionError as error:
            self._consumer.seek_to_beginning(*error.args[0])  # until `rewind`, which asks why there is none
            return {}
        except errors.OffsetOutOfRangeError as error:
            self._out_of_range(error.args[0])
            return {}
        except errors.LogTruncationError as error:
            self._out_of_range({each: self._consumer.position(each) for each in error.divergent_offsets})
            return {}
        except errors.RetriableError as error:
            self._wait_before_retry(error)
            return {}
        except errors.KafkaError as error:
            raise BrokerError(explain(error, self._link)) from error
        if is_fenced(self._consumer):
            raise self._fenced()
        self._failing_since = None
        return fetched

    def _wait_before_retry(self, error: errors.KafkaError) -> None:
        """Wait a little while a broker is away or changes: the client lets some of that through. Raises BrokerError."""
        now = time.monotonic()
        self._failing_since = self._failing_since or now
        if now - self._failing_since > self._link.patience:
            raise BrokerError(explain(error, self._link)) from error
        time.sleep(_RETRY)

    def _out_of_range(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Do by policy where the next record is gone, or not there yet. Raises BrokerError when that is to stop."""
        for partition, offset in offsets.items():
            self._go_on_by_policy(
                partition, offset, "is not in the input: messages were deleted unjudged, or the brokers lost data"
            )

    def _go_on_by_policy(self, partition: TopicPartition, offset: int, why: str) -> None:
        policy = self._member.out_of_range
        if policy == "fail":
            message = f"offset {offset} of {partition.topic}:{partition.partition}, the next to judge, {why}; {_REMEDY}"
            raise BrokerError(message)
        where = {"topic": partition.topic, "partition": partition.partition, "offset": offset}
        log.error("offset out of range", **where, problem=why, goes_on_from=policy)
        seek = {"earliest": self._consumer.seek_to_beginning, "latest": self._consumer.seek_to_end}[policy]
        seek(partition)

    def _heed_unreadable(self, fetched: dict[TopicPartition, list[Record]]) -> None:
        """Log batches that cannot be read; by policy stop before the first. Raises BrokerError once it is next."""
        for partition, records in fetched.items():
            found = [(at, record) for at, record in enumerate(records) if record.unreadable]
            if found and self._member.unreadable_batch == "fail":
                (at, first), *_ = found
                if at == 0:
                    message = (
                        f"{first.unreadable}; move the group's offset behind that batch, or set "
                        "HAMGATE_UNREADABLE_BATCH=dead-letter, which writes a dead letter for each of its offsets"
                    )
                    raise BrokerError(message)
                self._consumer.seek(partition, first.offset)
                fetched[partition] = records[:at]
                continue
            for why in dict.fromkeys(record.unreadable for _, record in found):
                if why != self._said_unreadable:  # a batch of many records comes in several polls
                    log.error("unreadable batch", problem=why, goes_to="dead letters")
                self._said_unreadable = why

    def _fenced(self) -> FencedError:
        return FencedError(f"another worker has joined the group as {self._member.static_name}")

    def _within_bytes(self, fetched: Mapping[TopicPartition, Sequence[Record]]) -> Iterator[Sequence[Record]]:
        """Yield records up to the bytes a poll may return; the rest is left for the next poll."""
        room = _MAX_POLL_BYTES
        for partition, records in fetched.items():
            for index, record in enumerate(records):
                if room <= 0:
                    self._consumer.seek(partition, record.offset)
                    self._has_more = True
                    yield records[:index]
                    break
                room -= len(record.value or b"")
            else:
                yield records

    def _give_back(self, fetched: Mapping[TopicPartition, Sequence[Record]]) -> None:
        for partition, records in fetched.items():
            self._consumer.seek(partition, records[0].offset)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether it is worth a line: to wait for a transaction to settle is no error, though the client calls it one."""
    return "UnstableOffsetCommitError" not in record.getMessage()
