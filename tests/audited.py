"""Topics in lists for the audit's unit tests: transactions open, ended and aborted, markers, deletion, and outages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from worker.audit.auditor import Auditor, RepartitionedError, Topics
from worker.audit.brokers import AwayError, FetchedRecords
from worker.audit.ledger import Ledger
from worker.audit.starting import Start, begin
from worker.messages import (
    Action,
    DeadLetter,
    Latency,
    Outgoing,
    Record,
    RecordSource,
    Unreadable,
    Verdict,
    encode_dead_letter,
    encode_verdict,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Mapping

    from worker.messages import Positions, TopicPartition

TOPICS: Final = Topics("events", "verdicts", "letters")
NOON: Final = 1_800_000_000.0
POISON: Final = b"poison"


def verdict(partition: int, offset: int, topic: str = TOPICS.events) -> Outgoing:
    """An answer as the worker writes it."""
    said = Verdict(
        id="m",
        label="ham",
        score=0.1,
        threshold=0.5,
        action=Action.DELIVER,
        reason=None,
        flags=(),
        model="tiny@0",
        source=RecordSource(topic, partition, offset, 0),
        scored_at="2027-01-15T08:00:00.000Z",
        latency_ms=Latency(0, 0, 0, 0),
    )
    return Outgoing(b"k", encode_verdict(said))


def letter(partition: int, offset: int, topic: str = TOPICS.events) -> Outgoing:
    """A dead letter as the worker writes it."""
    return encode_dead_letter(
        DeadLetter(Record(topic, partition, offset, NOON, b"k", POISON), Unreadable.INVALID_JSON, NOON)
    )


@dataclass
class Log:
    """One partition. `None` is what no reader of committed records sees; from `stable` on nothing can be read yet."""

    entries: list[Record | None] = field(default_factory=list)
    start: int = 0
    open: dict[object, int] = field(default_factory=dict)
    """Where the open transactions begin, by whose they are."""

    @property
    def stable(self) -> int:
        return min([len(self.entries), *self.open.values()])


@dataclass
class FakeTail:
    """Reads logs as a client does, a few records of a partition at a time."""

    world: World
    topics: tuple[str, ...]
    at_once: int = 3
    positions: Positions = field(default_factory=dict)
    wanted: set[TopicPartition] = field(default_factory=set)

    def _logs(self) -> dict[TopicPartition, Log]:
        return {place: log for place, log in self.world.logs.items() if place[0] in self.topics}

    def starts(self) -> Positions:
        return {place: log.start for place, log in self._logs().items()}

    def ends(self) -> Positions:
        self.world.answer()
        return {place: log.stable for place, log in self._logs().items()}

    def at(self, seconds: float) -> Positions:
        return {
            place: next(
                (
                    each.offset
                    for each in log.entries[log.start : log.stable]
                    if each is not None and each.timestamp >= seconds
                ),
                log.stable,
            )
            for place, log in self._logs().items()
        }

    def position(self, place: TopicPartition) -> int:
        return self.positions[place]

    def seek(self, place: TopicPartition, offset: int) -> None:
        self.positions[place] = offset

    def only(self, places: Iterable[TopicPartition]) -> None:
        self.wanted = set(places)

    def chunks(self, wait: float) -> list[FetchedRecords]:
        del wait
        return [chunk for place in sorted(self.wanted) if (chunk := self._chunk(place))]

    def _chunk(self, place: TopicPartition) -> FetchedRecords | None:
        self.world.answer()
        log, at = self.world.logs[place], self.positions[place]
        gap = log.start if log.start > at else None
        begin = max(log.start, at)
        end = min(log.stable, begin + self.at_once)
        self.positions[place] = max(begin, end)
        records = [each for each in log.entries[begin:end] if each is not None]
        return FetchedRecords(place, records, gap) if records or gap is not None else None


@dataclass
class World:
    """Three topics of so many partitions, a worker's group and the audit's."""

    events: int = 2
    outputs: int = 2
    logs: dict[TopicPartition, Log] = field(default_factory=dict)
    group: Positions = field(default_factory=dict)
    audit_group: dict[TopicPartition, tuple[int, str]] = field(default_factory=dict)
    failures: random.Random | None = None
    """Where it is set, questions fail now and then."""

    def __post_init__(self) -> None:
        for topic, count in ((TOPICS.events, self.events), (TOPICS.verdicts, self.outputs), (TOPICS.dead_letters, 1)):
            self.logs |= {(topic, partition): Log() for partition in range(count)}

    # --- what the tests do ----------------------------------------------------------------------------------------

    def append(self, topic: str, partition: int, record: Outgoing | None, at: float = NOON) -> None:
        """Append a record, or with None a marker."""
        entries = self.logs[topic, partition].entries
        made = record and Record(topic, partition, len(entries), at, record.key, record.value, record.headers)
        entries.append(made)

    def feed(self, partition: int, *values: bytes | None) -> None:
        """Events, poison and tombstones (None) into the input."""
        for value in values:
            self.append(TOPICS.events, partition, Outgoing(b"k", value))

    def answered(self, partition: int, offset: int, output: int = 0) -> None:
        """One record's right answer, committed."""
        record = self.logs[TOPICS.events, partition].entries[offset]
        assert record is not None
        if record.value == POISON:
            self.append(TOPICS.dead_letters, 0, letter(partition, offset))
        else:
            self.append(TOPICS.verdicts, output, verdict(partition, offset))

    def commit_group(self, partition: int, offset: int) -> None:
        """Set the offset that the worker's group has committed."""
        self.group[TOPICS.events, partition] = offset

    def delete(self, topic: str, partition: int, below: int) -> None:
        """As retention does."""
        self.logs[topic, partition].start = below

    def session(self) -> Session:
        """Connect."""
        return Session(self)

    def answer(self) -> None:
        """Fail, now and then."""
        if self.failures and self.failures.random() < 0.05:
            message = "no answer"
            raise AwayError(message)


@dataclass
class Session:
    """One connection to a world."""

    world: World
    events: FakeTail = field(init=False)
    answers: FakeTail = field(init=False)

    def __post_init__(self) -> None:
        self.events = FakeTail(self.world, (TOPICS.events,))
        self.answers = FakeTail(self.world, (TOPICS.verdicts, TOPICS.dead_letters))

    def partitions(self) -> frozenset[TopicPartition]:
        self.world.answer()
        return frozenset(self.world.logs)

    def written(self) -> Positions:
        self.world.answer()
        return {place: len(log.entries) for place, log in self.world.logs.items() if place[0] != TOPICS.events}

    def committed(self) -> Positions:
        self.world.answer()
        return dict(self.world.group)

    def settled(self) -> Positions:
        return dict(self.world.group)

    def progress(self) -> Mapping[TopicPartition, tuple[int, str]]:
        return dict(self.world.audit_group)

    def commit(self, progress: Mapping[TopicPartition, tuple[int, str]]) -> None:
        self.world.audit_group |= progress

    def close(self) -> None:
        pass


class Audited:
    """An audit of a world, as `worker.audit.running` runs it, a round at a time."""

    def __init__(self, world: World, *, window: int = 1000, start: Start | None = None) -> None:
        self.world, self.window = world, window
        self.ledger = Ledger(TOPICS.events, window)
        self.brokers = world.session()
        failures, world.failures = world.failures, None
        positions, seen = begin(self.ledger, self.brokers, start or Start(), TOPICS.verdicts)
        self.auditor = Auditor(self.ledger, TOPICS, positions, seen, lambda record: record.value != POISON)
        self.auditor.resume(self.brokers)
        world.failures = failures

    def turn(self, times: int = 1) -> None:
        """Go so many rounds, each through one outage at most."""
        for _ in range(times):
            try:
                self.auditor.turn(self.brokers)
            except (AwayError, RepartitionedError):
                failures, self.world.failures = self.world.failures, None
                self.brokers = self.world.session()
                self.auditor.resume(self.brokers)
                self.world.failures = failures

    def commit(self) -> None:
        """Commit its progress."""
        self.brokers.commit(self.auditor.progress())

    def found(self) -> list[tuple[str, int, int]]:
        """Kind, partition and offset of each mismatch found since this was last asked; a run of losses one by one."""
        return [
            (
                str(each.kind),
                each.source.partition if each.source else -1,
                each.source.offset + number if each.source else -1,
            )
            for each in self.ledger.found()
            for number in range(each.count)
        ]
