"""The clients' side: kafka-python's consumer and our producer, speaking to the simulated brokers.

They behave as the real ones were found to (docs of the traps, tests/contracts/test_kafka_traps.py): a group is joined
and its assignment taken up only inside `poll`; heartbeats come from elsewhere and may take the generation away between
two polls; offsets of a transaction that failed stay in the producer and go out with its next one.
"""

from __future__ import annotations

import zlib
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from kafka import TopicPartition, errors
from kafka.coordinator.base import MemberState
from kafka.structs import ConsumerGroupMetadata

from tests.simulation.cluster import INPUT, OFFSETS
from worker.broker.producer import TooLateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tests.simulation.process import Process
    from worker.messages import Outgoing, Positions

_GROUP = "hamgate"


@dataclass(eq=False)
class State:
    """Of one partition, for as long as it is held: the client makes a new one when it comes again."""

    offset: int | None = None
    is_paused: bool = False
    highwater: int | None = None
    position: State | None = None


@dataclass(eq=False)
class SimCoordinator:
    """What worker.broker.member asks of the client's, or replaces in it."""

    consumer: SimConsumer
    group_instance_id: str | None
    state: Any = MemberState.UNJOINED
    _heartbeat_enabled: bool = True
    _do_join_and_sync_async: Any = None

    async def _on_join_complete_async(self, *_: Any) -> None:
        self.consumer.take_up()


class SimConsumer:
    """`kafka.KafkaConsumer`, as far as worker.broker.source asks."""

    def __init__(self, process: Process, **configs: Any) -> None:
        self._process, self._brokers, self._hub = process, process.cluster, process.hub
        self._session, self._instance = configs["session_timeout_ms"] / 1000, configs["group_instance_id"]
        self._reads_stable = configs["isolation_level"] == "read_committed"
        self._most = configs["max_poll_records"]
        self._coordinator = SimCoordinator(self, self._instance)
        self._member, self._generation = "", -1
        self._must_join, self._has_asked = True, False
        self._held: dict[TopicPartition, State] = {}
        self._cluster = SimpleNamespace(partitions_for_topic=lambda _: set(range(process.cluster.partitions)))
        self._fetcher = SimpleNamespace(fetch_records=lambda most, **_: (self._fetched(), most))
        process.consumer = self

    @property
    def _subscription(self) -> Any:
        for partition, state in self._held.items():
            state.highwater = len(self._brokers.events[partition.partition])
            state.position = None if state.offset is None else state
        return SimpleNamespace(assignment=self._held)

    @property
    def _is_fenced(self) -> bool:
        return not self._coordinator._heartbeat_enabled

    def heartbeat(self) -> None:
        """What the client's own thread does, at any time."""
        group = self._brokers.group
        if self._coordinator.state == MemberState.UNJOINED or self._is_fenced:
            return
        if self._instance is not None and group.statics.get(self._instance) != self._member:
            self._coordinator._heartbeat_enabled = False  # it only falls silent
        elif self._member not in group.members:
            self._member, self._generation, self._coordinator.state = "", -1, MemberState.UNJOINED
            self._must_join, self._has_asked = True, False
        else:
            group.members[self._member] = self._hub.now
            is_stale = group.joined is not None or group.generation != self._generation
            self._must_join |= self._coordinator.state == MemberState.STABLE and is_stale

    def poll(self, timeout_ms: int) -> Mapping[TopicPartition, Sequence[Any]]:
        self._hub.pause("poll")
        until = self._hub.now + timeout_ms / 1000
        while True:
            left = max(0.0, until - self._hub.now)
            if self._must_join and (self._is_fenced or not self._joined(left)):
                return {}
            self._find_positions()
            left = max(0.0, until - self._hub.now)
            if left and not self._has_news():
                self._hub.pause("wait for records", self._has_news, left)
            fetched = {} if self._must_join else self._fetched()
            if fetched or self._hub.now >= until:
                return fetched

    def _fetched(self) -> dict[TopicPartition, list[Any]]:
        fetched = {}
        for partition, state in self._held.items():
            if state.offset is not None and not state.is_paused:
                found = self._brokers.events[partition.partition][state.offset : state.offset + self._most]
                state.offset += len(found)
                if found:
                    fetched[partition] = found
        return fetched

    def _has_news(self) -> bool:
        return self._must_join or any(
            state.offset is not None
            and not state.is_paused
            and state.offset < len(self._brokers.events[partition.partition])
            for partition, state in self._held.items()
        )

    def _joined(self, wait: float) -> bool:
        """Go through a rebalance as far as the others let us."""
        group = self._brokers.group
        if not self._has_asked:
            if self._coordinator.state == MemberState.UNJOINED:
                self._held = {}  # lost, not given back
            owned = frozenset(partition.partition for partition in self._held)
            self._member = group.join(self._member, self._instance, self._session, self._hub.now, owned)
            self._has_asked, self._coordinator.state = True, MemberState.REBALANCING

        def is_answered() -> bool:
            return group.joined is None or self._member not in group.members or self._member not in group.joined

        if wait:
            self._hub.pause("join", is_answered, wait)
        if not self._has_asked or not is_answered():
            return False
        self._has_asked = False
        if self._member not in group.members or group.joined is not None:
            return False  # put out, or the next rebalance has begun: ask anew at the next poll
        self._generation, self._coordinator.state, self._must_join = group.generation, MemberState.STABLE, False
        group.members[self._member] = self._hub.now
        with suppress(StopIteration):
            self._coordinator._on_join_complete_async(self._generation, self._member, None, None).send(None)
        return True

    def take_up(self) -> None:
        """Hold what the generation just joined has given."""
        group = self._brokers.group
        mine = [TopicPartition(INPUT, number) for number in sorted(group.assigned[self._member])]
        if group.is_cooperative and set(self._held) - set(mine):
            self._must_join = True  # so that they may be given to others
        self._held = {partition: self._held.get(partition) or State() for partition in mine}

    def _find_positions(self) -> None:
        for partition, state in self._held.items():
            if state.offset is None:
                try:
                    state.offset = self._offset(partition)
                except errors.UnstableOffsetCommitError:
                    continue
                if state.offset is None:
                    raise errors.NoOffsetForPartitionError([partition])

    def _offset(self, partition: TopicPartition) -> int | None:
        group, key = self._brokers.group, (partition.topic, partition.partition)
        return group.stable_offset(key) if self._reads_stable else group.committed.get(key)

    def committed(self, partition: TopicPartition, timeout_ms: float) -> int | None:
        key = (partition.topic, partition.partition)

        def is_stable() -> bool:
            return not self._reads_stable or not any(key in held for held in self._brokers.group.pending.values())

        if not self._hub.pause("committed", is_stable, timeout_ms / 1000):
            raise errors.KafkaTimeoutError
        return self._brokers.group.committed.get(key)

    def group_metadata(self) -> ConsumerGroupMetadata:
        return ConsumerGroupMetadata(_GROUP, self._generation, self._member, self._instance, self._coordinator.state)

    def assignment(self) -> set[TopicPartition]:
        return set(self._held)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._held[partition].offset = offset

    def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        for partition in partitions:
            self._held[partition].offset = 0

    def pause(self, *partitions: TopicPartition) -> None:
        for partition in partitions:
            self._held[partition].is_paused = True

    def resume(self, *partitions: TopicPartition) -> None:
        for partition in partitions:
            self._held[partition].is_paused = False

    def paused(self) -> set[TopicPartition]:
        return {partition for partition, state in self._held.items() if state.is_paused}

    def close(self, **_: Any) -> None:
        if self._instance is None:
            self._brokers.group.leave(self._member)


@dataclass(eq=False)
class Request:
    """One on its way to the brokers: it may arrive late, after its sender's death, or never."""

    apply: Callable[[], Any]
    sender: Process
    is_answered: bool = False
    is_cut: bool = False
    answer: Any = None
    error: errors.KafkaError | None = None

    def arrive(self) -> None:
        """Take effect at the brokers; whether anybody hears the answer is another matter."""
        try:
            self.answer = self.apply()
        except errors.KafkaError as error:
            self.error = error
        self.is_answered = True


@dataclass(eq=False)
class Result:
    """What becomes of a call: the client's own results and batches behave so."""

    is_done: bool = False
    error: BaseException | None = None


class SimProducer:
    """`worker.broker.producer.Producer`, its sender a task of its own."""

    def __init__(self, process: Process, name: str, timeout: float) -> None:
        self._process, self._cluster, self._hub, self._name = process, process.cluster, process.hub, name
        self._queue: deque[tuple[Result, Callable[[], None]]] = deque()
        self._is_closed = False
        self.trouble: errors.KafkaError | None = None
        # Trap 1: what a transaction was to commit is kept until a broker has taken it, abort or no abort.
        self._offsets: Positions = {}
        self._sequences: dict[tuple[str, int], int] = {}
        self._added: set[tuple[str, int]] = set()
        self._epoch = self._ask("init", lambda: self._cluster.init_producer(name, timeout))
        process.hub.spawn(process, "sender", self._send_all)

    def begin(self) -> None:
        self._require_well()

    def publish(self, topic: str, records: Iterable[Outgoing], **_: Any) -> list[Result]:
        self._require_well()
        batches: dict[int, list[Outgoing]] = {}
        for record in records:
            batches.setdefault(zlib.crc32(record.key or b"") % self._cluster.partitions, []).append(record)
        return [self._enqueue(self._produce, (topic, number), batch) for number, batch in batches.items()]

    def _produce(self, partition: tuple[str, int], batch: list[Outgoing]) -> None:
        if partition not in self._added:
            self._ask("add", lambda: self._cluster.add(self._name, self._epoch, partition))
            self._added.add(partition)
        sequence = self._sequences.get(partition, 0)
        self._ask("produce", lambda: self._cluster.produce(self._name, self._epoch, partition, batch, sequence))
        self._sequences[partition] = sequence + 1

    def settle(self, batches: Sequence[Result], *, until: float) -> None:
        for batch in batches:
            self.await_(batch, until=until)

    def send_offsets(self, positions: Positions, claim: Any) -> Result:
        self._require_well()
        self._offsets |= positions
        return self._enqueue(self._send_offsets, claim)

    def _send_offsets(self, claim: Any) -> None:
        positions = dict(self._offsets)
        if OFFSETS not in self._added:
            self._ask("add", lambda: self._cluster.add(self._name, self._epoch, OFFSETS))
            self._added.add(OFFSETS)
        self._ask("offsets", lambda: self._cluster.commit_offsets(self._name, self._epoch, positions, claim))
        self._offsets.clear()

    def commit(self) -> Result:
        self._require_well()
        return self._enqueue(self._end, "commit")

    def abort(self) -> Result:
        if self.trouble is not None and not isinstance(
            self.trouble, errors.InvalidProducerEpochError | errors.ProducerFencedError
        ):
            self.trouble = None
        self._require_well()
        return self._enqueue(self._end, "abort")

    def _end(self, how: str) -> None:
        if self._added:
            self._ask("end", lambda: self._cluster.end(self._name, self._epoch, commit=how == "commit"))
        self._added.clear()

    def await_(self, result: Result, *, until: float) -> None:
        if not self._hub.pause("await", lambda: result.is_done, max(0.0, until - self._hub.now)):
            raise TooLateError
        if result.error:
            raise result.error

    def close(self) -> None:
        self._is_closed = True

    def _require_well(self) -> None:
        if self.trouble:
            # Trap 5: the cause is told in the text only.
            message = f"producer is in an error state: {self.trouble!r}"
            raise errors.KafkaError(message)

    def _enqueue(self, work: Callable[..., None], *arguments: Any) -> Result:
        result = Result()
        self._queue.append((result, lambda: work(*arguments)))
        return result

    def _send_all(self) -> None:
        while not self._is_closed:
            self._hub.pause("send", lambda: self._is_closed or bool(self._queue))
            if self._is_closed:
                return
            result, work = self._queue.popleft()
            try:
                if self.trouble:
                    raise self.trouble
                work()
            except errors.KafkaError as error:
                self.trouble = result.error = error
            except _ClosedError:
                return
            result.is_done = True

    def _ask(self, label: str, apply: Callable[[], Any]) -> Any:
        """Send a request until it is answered: again when the connection is cut, or an earlier one still settles."""
        while True:
            request = Request(apply, self._process)
            self._process.wire.append(request)
            self._hub.pause(label, lambda sent=request: sent.is_answered or sent.is_cut or self._is_closed)
            if self._is_closed:
                raise _ClosedError
            if request.is_cut:
                continue
            if isinstance(request.error, errors.ConcurrentTransactionsError):
                self._hub.pause("settling", timeout=0.001, until=lambda: not self._cluster.unmarked())
                continue
            if request.error:
                raise request.error
            return request.answer


class _ClosedError(Exception):
    """Nobody waits for it any more."""
