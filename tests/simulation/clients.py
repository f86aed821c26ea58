"""The clients' side: kafka-python's consumer and its connections, speaking to the simulated brokers.

They behave as the real ones were found to (docs of the traps, tests/contracts/test_kafka_traps.py): a group is joined
and its assignment taken up only inside `poll`; heartbeats come from elsewhere and may take the generation away between
two polls. Our transactions run unchanged on the connections.
"""

from __future__ import annotations

import functools
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from kafka import TopicPartition, errors
from kafka.coordinator.base import MemberState
from kafka.future import Future
from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata

from tests.simulation.answers import GROUP_NODE, LABELS, answer
from tests.simulation.cluster import INPUT
from worker.broker.client.network import TooLateError, UnknownOutcomeError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from tests.simulation.coroutines import Hub
    from tests.simulation.process import Process

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
    """The part of the client's coordinator that worker.broker.member calls or replaces."""

    consumer: SimConsumer
    group_instance_id: str | None
    state: Any = MemberState.UNJOINED
    _heartbeat_enabled: bool = True
    _do_join_and_sync_async: Any = None
    _send_group_coordinator_request: Any = None

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
        nothing = SimpleNamespace(run=lambda _: False)  # is on its way
        self._fetcher = SimpleNamespace(fetched_records=self._drawn, send_fetches=lambda: None, _manager=nothing)
        self._cluster = SimpleNamespace(topic_id=lambda _: None)
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

    def _was_replaced(self) -> bool:
        """Whether another has joined under this static name."""
        return self._instance is not None and self._brokers.group.statics.get(self._instance) != self._member

    def heartbeat(self) -> None:
        """Do a step of the client's heartbeat thread, which may run at any time."""
        group = self._brokers.group
        if self._coordinator.state == MemberState.UNJOINED or self._is_fenced:
            return
        if self._was_replaced():
            if self._coordinator.state == MemberState.STABLE:
                self._coordinator._heartbeat_enabled = False  # it only falls silent; else the join's answer says it
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

    def partitions_for_topic(self, _: str) -> set[int]:
        return set(range(self._brokers.partitions))

    def _drawn(self, _: int, *, update_offsets: bool) -> tuple[dict[TopicPartition, list[Any]], bool]:
        assert update_offsets
        return self._fetched(), False

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
        if self._was_replaced():
            raise errors.FencedInstanceIdError
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

    def committed(self, partition: TopicPartition, *, metadata: bool, timeout_ms: float) -> OffsetAndMetadata | None:
        assert metadata
        key = (partition.topic, partition.partition)

        def is_stable() -> bool:
            return not self._reads_stable or not any(key in held for held in self._brokers.group.pending.values())

        if not self._hub.pause("committed", is_stable, timeout_ms / 1000):
            raise errors.KafkaTimeoutError
        offset = self._brokers.group.committed.get(key)
        return None if offset is None else OffsetAndMetadata(offset, "", -1)

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


class SimFuture(Future):  # type: ignore[misc] # the client is untyped
    """A future of the simulated client; `label` names what it waits for."""

    def __init__(self, label: str) -> None:
        super().__init__()
        self.label = label


@dataclass(eq=False)
class Request:
    """One on its way to the brokers: it may arrive late, after its sender's death, or never.

    Those of one connection arrive in their order; those of two, in any.
    """

    apply: Callable[[], Any]
    connection: tuple[object, int]
    answer: SimFuture

    def arrive(self, *, is_heard: bool = True) -> None:
        """Take effect at the brokers; whether anybody hears the answer is another matter."""
        answer = self.apply()
        if is_heard:
            self.answer.success(answer)

    def cut(self) -> None:
        """Its sender is told that the connection is broken, and not what became of it."""
        self.answer.failure(UnknownOutcomeError("cut"))


class Pause:
    """Time that passes; a transaction's settling ends the wait for it, as a schedule may have no patience."""

    label = "settling"
    exception = None

    def __init__(self, hub: Hub, seconds: float, is_settled: Callable[[], bool]) -> None:
        self._hub, self._until, self._is_settled = hub, hub.now + seconds, is_settled

    @property
    def is_done(self) -> bool:
        return self._hub.now >= self._until or self._is_settled()

    @property
    def until(self) -> float:
        return self._until

    def __await__(self) -> Any:
        yield self


class SimNetwork:
    """`worker.broker.client.network.Network`: one connection to each of the simulated brokers.

    The first coordinates transactions, the second the group; each partition's leader is another.
    """

    def __init__(self, process: Process) -> None:
        self._process, self._cluster, self._hub = process, process.cluster, process.hub

    def send(self, request: Any, node: int | None) -> SimFuture:
        self._hub.pause("send")
        future = SimFuture(LABELS[type(request)])
        apply = functools.partial(answer, self._cluster, request)
        self._process.in_flight.append(Request(apply, (self, node or 0), future))
        return future

    def run(self, work: Callable[[], Awaitable[Any]], *, until: float) -> Any:
        coroutine = _awaiting(work)
        try:
            while True:
                awaited = coroutine.send(None)
                wake_at = min(until, getattr(awaited, "until", until))
                while not self._hub.pause(awaited.label, lambda it=awaited: it.is_done, wake_at - self._hub.now):
                    if self._hub.now >= until:
                        coroutine.close()
                        raise TooLateError
        except StopIteration as end:
            return end.value

    def catch_up(self) -> None: ...

    def sleep(self, seconds: float) -> Pause:
        return Pause(self._hub, seconds, lambda: not self._cluster.unmarked())

    async def partitions(self, _: str) -> list[int]:
        return list(range(self._cluster.partitions))

    def leader(self, partition: TopicPartition) -> int:
        return GROUP_NODE + 1 + int(partition.partition)

    def knows(self, _: int) -> bool:
        return True

    async def refresh(self) -> None: ...

    def close(self) -> None: ...


async def _awaiting(work: Callable[[], Awaitable[Any]]) -> Any:
    return await work()
