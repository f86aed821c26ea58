"""Kafka and the model in memory, for tests that must not wait: held to the real ones' contracts by tests/contracts."""

from __future__ import annotations

import itertools
import time
import zlib
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from worker.messages import Record
from worker.model.classifier import UNSCORED, Prepared, Scores
from worker.model.turns import Turns
from worker.pipeline.ports import FencedError, RolledBackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from worker.messages import Headers, Outgoing, Positions, TopicPartition
    from worker.pipeline.ports import GroupMetadata

INPUT: Final = "sms.events"
VERDICTS: Final = "sms.verdicts"
DEAD_LETTERS: Final = "sms.dead-letters"


@dataclass(frozen=True)
class FakeGroupMetadata:
    """A member's place in one generation of the group."""

    member: int
    generation: int


@dataclass
class FakeBroker:
    """Topics of partitions, one consumer group, and writers by name. What is not committed is not in it."""

    partitions: int = 2
    logs: dict[str, list[list[Record]]] = field(default_factory=dict)
    committed: Positions = field(default_factory=dict)
    generation: int = 0
    members: list[FakeSource] = field(default_factory=list)
    writers: dict[str, FakeSink] = field(default_factory=dict)
    keyless: itertools.count[int] = field(default_factory=itertools.count)

    def publish(self, topic: str, records: Iterable[Outgoing], *, timestamp: float | None = None) -> None:
        """Append, each to its key's partition; those without a key to one together, the next time another."""
        turn = next(self.keyless)
        for record in records:
            partition = (turn if record.key is None else zlib.crc32(record.key)) % self.partitions
            at = time.time() if timestamp is None else timestamp
            self.append(topic, partition, at, record.key, record.value, record.headers)

    def append(
        self, topic: str, partition: int, at: float, key: bytes | None, value: bytes | None, headers: Headers = ()
    ) -> None:
        """Append one record."""
        log = self.log(topic)[partition]
        log.append(Record(topic, partition, len(log), at, key, value, headers))

    def feed(self, *values: bytes | None, partition: int = 0, at: float = 0.0) -> None:
        """Put events into one partition of the input."""
        for value in values:
            self.append(INPUT, partition, at, None, value)

    def log(self, topic: str) -> list[list[Record]]:
        """All records of a topic, by partition."""
        return self.logs.setdefault(topic, [[] for _ in range(self.partitions)])

    def records(self, topic: str) -> list[Record]:
        """All records of a topic, partition after partition."""
        return list(itertools.chain.from_iterable(self.log(topic)))

    def rebalance(self) -> None:
        """Begin a new generation: every member hears of it at its next poll."""
        self.generation += 1

    def share(self, source: FakeSource) -> frozenset[TopicPartition]:
        """A member's partitions: every n-th."""
        turn = self.members.index(source)
        return frozenset((source.topic, partition) for partition in range(turn, self.partitions, len(self.members)))


class FakeSource:
    """One member of the broker's group; never waits."""

    def __init__(self, broker: FakeBroker, topic: str = INPUT, *, max_poll_records: int = 100) -> None:
        self.broker, self.topic, self.max_poll_records = broker, topic, max_poll_records
        self.positions: Positions = {}
        self.waits: list[float] = []
        self.rewinds = self.times_kept_alive = 0
        self.has_lost_the_brokers = False
        self.failure: Exception | None = None
        self.is_closed = False
        self._generation, self._has_moved, self._has_more = -1, False, False
        self._kept: frozenset[TopicPartition] = frozenset()
        broker.members.append(self)
        broker.rebalance()

    def poll(self, wait: float) -> Sequence[Record]:
        self.waits.append(wait)
        self._has_more = False
        if self.failure:
            raise self.failure
        if self._follow_group():
            return []
        polled: list[Record] = []
        for (topic, partition), position in self.positions.items():
            found = self.broker.log(topic)[partition][position : position + self.max_poll_records - len(polled)]
            polled += found
            self.positions[topic, partition] = position + len(found)
        self._has_more = len(polled) == self.max_poll_records
        return polled

    def has_more(self) -> bool:
        return self._has_more

    def rebalanced(self) -> bool:
        moved, self._has_moved = self._has_moved, False
        return moved

    def kept(self) -> frozenset[TopicPartition]:
        return self._kept

    def keep_alive(self) -> None:
        self.times_kept_alive += 1
        self._follow_group()

    def is_cut_off(self) -> bool:
        return self.has_lost_the_brokers

    def group_metadata(self) -> GroupMetadata:
        return FakeGroupMetadata(id(self), self._generation)

    def rewind(self, kept: frozenset[TopicPartition] = frozenset()) -> None:
        self.rewinds += 1
        self.positions |= {each: self.broker.committed.get(each, 0) for each in self.positions.keys() - kept}

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(self.positions)

    def lag(self) -> Mapping[TopicPartition, int]:
        return {
            (topic, partition): len(self.broker.log(topic)[partition]) - position
            for (topic, partition), position in self.positions.items()
        }

    def close(self) -> None:
        self.is_closed = True
        self.broker.members.remove(self)
        self.broker.rebalance()

    def _follow_group(self) -> bool:
        if self._generation == self.broker.generation:
            return False
        self._generation, self._has_moved = self.broker.generation, True
        share, before = sorted(self.broker.share(self)), self.positions
        self.positions = {each: before.get(each, self.broker.committed.get(each, 0)) for each in share}
        self._kept = frozenset(before.keys() & self.positions.keys())
        return True


class FakeSink:
    """Writes all at once or not at all. `failures` are raised by the coming writes, in order; None lets one through."""

    transaction_version = 2
    is_rebuilding = False
    has_ended = False

    def __init__(self, broker: FakeBroker, *failures: Exception | None, name: str = "writer") -> None:
        self.broker, self.name, self.failures = broker, name, list(failures)
        self.writes = 0
        self.is_closed = False
        broker.writers[name] = self

    def prepare(self, metadata: GroupMetadata) -> None:
        assert isinstance(metadata, FakeGroupMetadata)

    def write(
        self,
        verdicts: Sequence[Outgoing],
        dead_letters: Sequence[Outgoing],
        positions: Positions,
        metadata: GroupMetadata,
    ) -> None:
        failure = self.failures.pop(0) if self.failures else None
        if failure:
            raise failure
        if self.broker.writers[self.name] is not self:
            raise FencedError
        assert isinstance(metadata, FakeGroupMetadata)
        if metadata.generation != self.broker.generation or metadata.member not in map(id, self.broker.members):
            raise RolledBackError
        self.broker.publish(VERDICTS, verdicts)
        self.broker.publish(DEAD_LETTERS, dead_letters)
        self.broker.committed.update(positions)
        self.writes += 1

    def close(self) -> None:
        self.is_closed = True


@dataclass(frozen=True)
class FakeJudging:
    """Judged as it was begun."""

    answer: Scores
    is_done: Final = True

    def scores(self) -> Scores:
        return self.answer


class FakeClassifier:
    """One token a word. `win` anywhere is spam, `nan` has no finite score, anything else is ham."""

    labels: Final = ("ham", "spam")
    threshold: Final = 0.5

    def __init__(self) -> None:
        self.has_tokenizer = self.has_engine = True
        self.turns = Turns()
        self.batches: list[int] = []
        self._words: defaultdict[str, int] = defaultdict(itertools.count(3).__next__, {"win": 1, "nan": 2})

    def beside(self) -> FakeClassifier:
        return self

    def prepare(self, texts: Sequence[str]) -> list[Prepared]:
        return [Prepared([self._words[word] for word in text.split()]) for text in texts]

    def begin_preparing(self, texts: Sequence[str]) -> Callable[[], list[Prepared]]:
        return lambda: self.prepare(texts)

    def begin(self, prepared: Sequence[Prepared]) -> FakeJudging:
        return FakeJudging(self.judge(prepared))

    def judge(self, prepared: Sequence[Prepared]) -> Scores:
        self.batches.append(len(prepared))
        score = np.array([self._score(message.tokens) for message in prepared], dtype=np.float64)
        scored = np.isfinite(score)
        label = np.where(scored, (score >= self.threshold).astype(np.int64), UNSCORED)
        return Scores(score, label, scored)

    @staticmethod
    def _score(tokens: list[int]) -> float:
        if not tokens or 2 in tokens:
            return float("nan")
        return 0.9 if 1 in tokens else 0.1
