"""The brokers: partitions, one consumer group, transactions; as Kafka's coordinators have them, in memory.

What decides exactly-once is modelled to the step: epochs and fencing, generations, offsets that are pending until their
transaction's marker is written, markers that are written one partition at a time, sequences that make a resent batch
count once, the last stable offset. Replication, leaders and compaction are not: to a client they look like requests
that are late, lost, or answered by nobody.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from kafka import errors

from worker.messages import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.messages import Outgoing, Positions, TopicPartition

INPUT: Final = "sms.events"
VERDICTS: Final = "sms.verdicts"
DEAD_LETTERS: Final = "sms.dead-letters"
OFFSETS: Final[TopicPartition] = ("__consumer_offsets", 0)
_EMPTY, _ONGOING, _PREPARE_COMMIT, _PREPARE_ABORT = "empty", "ongoing", "prepare-commit", "prepare-abort"


@dataclass(eq=False)
class Transaction:
    """Everything between two states of a writer: where it has written, and what its markers will decide."""

    began: float
    partitions: list[TopicPartition] = field(default_factory=list)
    records: list[tuple[TopicPartition, Outgoing]] = field(default_factory=list)
    offsets: Positions = field(default_factory=dict)
    is_committed: bool | None = None


@dataclass
class Writer:
    """A transactional id as its coordinator knows it."""

    epoch: int = -1
    state: str = _EMPTY
    timeout: float = 0.0
    transaction: Transaction | None = None
    unmarked: list[TopicPartition] = field(default_factory=list)
    sequences: dict[TopicPartition, int] = field(default_factory=dict)
    last_commit: bool | None = None  # what became of the transaction before: a repeated EndTxn is answered by it


@dataclass
class Group:
    """The group's coordinator, with the leader's assignor in it. `joined` is None while a generation stands."""

    partitions: int
    is_cooperative: bool = False
    generation: int = 0
    members: dict[str, float] = field(default_factory=dict)
    timeouts: dict[str, float] = field(default_factory=dict)
    owned: dict[str, frozenset[int]] = field(default_factory=dict)
    assigned: dict[str, frozenset[int]] = field(default_factory=dict)
    statics: dict[str, str] = field(default_factory=dict)
    joined: set[str] | None = None
    rotation: int = 0
    committed: Positions = field(default_factory=dict)
    pending: dict[Transaction, Positions] = field(default_factory=dict)
    _names: itertools.count[int] = field(default_factory=itertools.count)

    def join(self, name: str, instance: str | None, timeout: float, now: float, owned: frozenset[int]) -> str:
        """Ask for a place in the next generation. Returns the member's name, a new one for who is not known.

        A static member that comes again takes its own old place, in the generation that stands. Raises
        FencedInstanceIdError for the one whose place was taken.
        """
        self._require_instance(name, instance)
        if name not in self.members:
            name = f"member-{next(self._names)}"
        self.timeouts[name], self.owned[name] = timeout, owned
        if instance is not None and self._take_place(name, instance, now):
            return name
        self.members[name] = now
        self.joined = (self.joined or set()) | {name}
        self._complete()
        return name

    def _take_place(self, name: str, instance: str, now: float) -> bool:
        """Whether a static member has its place back and needs to join nothing."""
        old, self.statics[instance] = self.statics.get(instance), name
        if old is None or old == name or old not in self.members:
            return False
        del self.members[old]
        self.members[name] = now
        self.assigned[name] = self.assigned.pop(old, frozenset())
        if self.joined is not None:
            self.joined.discard(old)
            return False
        # The brokers' own way would leave a partition that was given up, and not assigned yet, to nobody: not modelled.
        return sum(map(len, self.assigned.values())) == self.partitions

    def leave(self, name: str) -> None:
        """Go, or be put out: the others must join anew."""
        if self.members.pop(name, None) is not None:
            self.joined = (self.joined or set()) - {name}
            self._complete()

    def expire(self, now: float) -> None:
        """Put out who has not been heard of for its session's time."""
        for name, heard in list(self.members.items()):
            if now - heard > self.timeouts[name]:
                self.leave(name)

    def _complete(self) -> None:
        if self.joined == set(self.members):
            self.generation += 1
            self.joined = None
            self.assigned = self._released() if self.is_cooperative else self._target()

    def shake(self, rotation: int) -> None:
        """Have all join anew, as after a change of the topic, and give the shares out in another order."""
        self.rotation = rotation
        if self.members and self.joined is None:
            self.joined = set()

    def _target(self) -> dict[str, frozenset[int]]:
        names, wanted = sorted(self.members), range(self.partitions)
        return {
            name: frozenset(wanted[(at + self.rotation) % len(names) :: len(names)]) for at, name in enumerate(names)
        }

    def _released(self) -> dict[str, frozenset[int]]:
        """Of the target, what no other still owns: the rest is assigned in the next generation."""
        target = self._target()
        return {
            name: frozenset(p for p in share if not any(p in self.owned[o] for o in self.members if o != name))
            for name, share in target.items()
        }

    def require(self, name: str, generation: int, instance: str | None) -> None:
        """Refuse whoever is no member of this generation, as TxnOffsetCommit does also while the next is made."""
        self._require_instance(name, instance)
        if name not in self.members:
            raise errors.UnknownMemberIdError
        if generation != self.generation:
            raise errors.IllegalGenerationError

    def _require_instance(self, name: str, instance: str | None) -> None:
        if instance is not None and name and self.statics.get(instance, name) != name:
            raise errors.FencedInstanceIdError

    def stable_offset(self, partition: TopicPartition) -> int | None:
        """The committed offset. Raises UnstableOffsetCommitError while a transaction is about to change it."""
        if any(partition in offsets for offsets in self.pending.values()):
            raise errors.UnstableOffsetCommitError
        return self.committed.get(partition)


class Cluster:
    """All that outlives a worker."""

    def __init__(
        self, now: Callable[[], float], partitions: int, *, is_cooperative: bool, transaction_version: int = 1
    ) -> None:
        self._now, self.transaction_version = now, transaction_version
        self.partitions = partitions
        self.events: list[list[Record]] = [[] for _ in range(partitions)]
        self.outputs: dict[TopicPartition, list[tuple[Transaction, Outgoing]]] = {}
        self.marked: set[tuple[Transaction, TopicPartition]] = set()
        self.group = Group(partitions, is_cooperative)
        self.writers: dict[str, Writer] = {}
        self.decided: Callable[[Transaction], None] = lambda _: None

    def feed(self, partition: int, key: bytes, value: bytes | None) -> Record:
        """One more event."""
        log = self.events[partition]
        log.append(Record(INPUT, partition, len(log), self._now(), key, value))
        return log[-1]

    def committed(self, topic: str) -> list[Outgoing]:
        """Records a read_committed reader sees: up to the first whose transaction has no marker there yet."""
        seen = []
        for partition, log in sorted(self.outputs.items()):
            if partition[0] == topic:
                stable = itertools.takewhile(lambda entry: (entry[0], partition) in self.marked, log)  # noqa: B023
                seen += [record for transaction, record in stable if transaction.is_committed]
        return seen

    # --- the transaction coordinator ----------------------------------------------------------------------------

    def init_producer(self, name: str, timeout: float) -> int:
        """Fence every earlier producer of that name; what it left open is aborted first. Returns the epoch."""
        writer = self.writers.setdefault(name, Writer())
        writer.timeout = timeout
        if writer.state == _ONGOING:
            writer.epoch += 1
            self._decide(writer, commit=False)
        if writer.state != _EMPTY:
            raise errors.ConcurrentTransactionsError
        writer.epoch += 1
        writer.sequences.clear()
        return writer.epoch

    def add(self, name: str, epoch: int, partition: TopicPartition) -> None:
        """Make a partition (the group's offsets are one) part of the transaction, beginning one when there is none."""
        writer = self._writer(name, epoch)
        if writer.state not in (_EMPTY, _ONGOING):
            raise errors.ConcurrentTransactionsError
        if writer.transaction is None:
            writer.state, writer.transaction = _ONGOING, Transaction(self._now())
        if partition not in writer.transaction.partitions:
            writer.transaction.partitions.append(partition)

    def produce(
        self, name: str, epoch: int, partition: TopicPartition, records: Sequence[Outgoing], sequence: int
    ) -> None:
        """Append a batch, once however often it is sent; its records are counted from the writer's first there."""
        writer = self._writer(name, epoch)
        self._add_implicitly(name, epoch, partition)
        if sequence < writer.sequences.get(partition, 0):
            return
        if sequence > writer.sequences.get(partition, 0):
            raise errors.OutOfOrderSequenceNumberError
        transaction = writer.transaction
        if writer.state != _ONGOING or transaction is None or partition not in transaction.partitions:
            raise errors.InvalidTxnStateError
        writer.sequences[partition] = sequence + len(records)
        log = self.outputs.setdefault(partition, [])
        log += [(transaction, record) for record in records]
        transaction.records += [(partition, record) for record in records]

    def commit_offsets(self, name: str, epoch: int, positions: Positions, metadata: Any) -> None:
        """The group's part of a transaction: pending until its marker."""
        writer = self._writer(name, epoch)
        self._add_implicitly(name, epoch, OFFSETS)
        self.group.require(metadata.member_id, metadata.generation_id, metadata.group_instance_id)
        if writer.state != _ONGOING or writer.transaction is None or OFFSETS not in writer.transaction.partitions:
            raise errors.InvalidTxnStateError
        writer.transaction.offsets.update(positions)
        self.group.pending.setdefault(writer.transaction, {}).update(positions)

    def end(self, name: str, epoch: int, *, commit: bool) -> int:
        """Decide, and return the epoch to go on with. Asked again, the answer is the same once the markers are written.

        Version 2 takes a new epoch with every transaction, and knows a repeated request by the epoch before it.
        """
        is_repeated = self.transaction_version > 1 and epoch == self.writers[name].epoch - 1
        writer = self.writers[name] if is_repeated else self._writer(name, epoch)
        if is_repeated and (writer.state == _ONGOING or writer.last_commit is not commit):
            raise errors.InvalidProducerEpochError
        if writer.state == _ONGOING:
            self._decide(writer, commit=commit)
            if self.transaction_version > 1:
                writer.epoch += 1
                writer.sequences.clear()
        elif writer.state != _EMPTY:
            raise errors.ConcurrentTransactionsError
        return writer.epoch

    def _add_implicitly(self, name: str, epoch: int, partition: TopicPartition) -> None:
        """Version 2: whoever writes to a partition makes it part of the transaction (KIP-890)."""
        if self.transaction_version > 1:
            self.add(name, epoch, partition)

    def expire(self) -> None:
        """Abort transactions that outlived their timeout, fencing their producers; put out silent members."""
        for writer in self.writers.values():
            is_open = writer.transaction is not None and writer.state == _ONGOING
            if is_open and self._now() - writer.transaction.began > writer.timeout:
                writer.epoch += 1
                self._decide(writer, commit=False)
        self.group.expire(self._now())

    def unmarked(self) -> list[tuple[Writer, TopicPartition]]:
        """The markers that are still to be written, each at any time, in any order."""
        return [(writer, partition) for writer in self.writers.values() for partition in writer.unmarked]

    def is_settled(self) -> bool:
        """Whether no record, and no offset, still waits for its transaction to be ended and marked."""
        waiting = [each.transaction for each in self.writers.values() if each.transaction is not None]
        return not any(transaction.records or transaction.offsets for transaction in waiting)

    def mark(self, writer: Writer, partition: TopicPartition) -> None:
        """Write one marker; with a transaction's last, its writer may begin another."""
        transaction = writer.transaction
        assert transaction
        writer.unmarked.remove(partition)
        self.marked.add((transaction, partition))
        if partition == OFFSETS:
            offsets = self.group.pending.pop(transaction, {})
            if transaction.is_committed:
                self.group.committed.update(offsets)
        if not writer.unmarked:
            writer.state, writer.transaction = _EMPTY, None

    def _writer(self, name: str, epoch: int) -> Writer:
        writer = self.writers[name]
        if epoch != writer.epoch:
            raise errors.InvalidProducerEpochError
        return writer

    def _decide(self, writer: Writer, *, commit: bool) -> None:
        transaction = writer.transaction
        assert transaction
        transaction.is_committed = writer.last_commit = commit
        writer.state = _PREPARE_COMMIT if commit else _PREPARE_ABORT
        writer.unmarked = list(transaction.partitions)
        if commit:
            self.decided(transaction)
