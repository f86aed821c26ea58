"""The same world twice: in lists, and in Kafka. What holds in one must hold in the other."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from tests import fakes
from worker.broker import KafkaSource, Publisher, Reader, SinkProcess, Terms, transactional_id
from worker.messages import Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.conftest import Place
    from worker.messages import Record
    from worker.pipeline.ports import Sink, Source
    from worker.pipeline.stages import Pipeline


class World(Protocol):
    """One broker, one group, three topics."""

    input: str
    verdicts: str
    dead_letters: str
    partitions: int

    def feed(self, *records: Outgoing) -> None: ...
    def source(self, *, max_poll_records: int = 4096) -> Source: ...
    def sink(self, name: str = "writer") -> Sink: ...
    def read(self, topic: str) -> list[Record]: ...


@dataclass
class InLists:
    input: str = fakes.INPUT
    verdicts: str = fakes.VERDICTS
    dead_letters: str = fakes.DEAD_LETTERS
    broker: fakes.FakeBroker = field(default_factory=lambda: fakes.FakeBroker(partitions=4))

    @property
    def partitions(self) -> int:
        return self.broker.partitions

    def feed(self, *records: Outgoing) -> None:
        self.broker.publish(self.input, records)

    def source(self, *, max_poll_records: int = 4096) -> Source:
        return fakes.FakeSource(self.broker, max_poll_records=max_poll_records)

    def sink(self, name: str = "writer") -> Sink:
        return fakes.FakeSink(self.broker, name=name)

    def read(self, topic: str) -> list[Record]:
        return self.broker.records(topic)


class InKafka:
    def __init__(self, place: Place) -> None:
        self.place = place
        self.input, self.verdicts, self.dead_letters = place.input, place.verdicts, place.dead_letters
        self.partitions = place.partitions
        self._opened: list[Source | Sink] = []
        self._names = itertools.count()

    def feed(self, *records: Outgoing) -> None:
        with Publisher(self.place.link) as publisher:
            publisher.publish(self.input, records)

    def source(self, *, max_poll_records: int = 4096) -> KafkaSource:
        source = KafkaSource(
            self.place.as_client(f"member-{next(self._names)}"),
            self.input,
            self.place.group,
            session_timeout=6,
            max_poll_interval=30,
            max_poll_records=max_poll_records,
        )
        self._opened.append(source)
        return source

    def terms(self, name: str) -> Terms:
        return Terms(self.verdicts, self.dead_letters, transactional_id(self.place.group, name), 5.0)

    def sink(self, name: str = "writer") -> Sink:
        sink = self.terms(name).sink(self.place.as_client(name))
        self._opened.append(sink)
        return sink

    def read(self, topic: str) -> list[Record]:
        with Reader(self.place.link, topic) as reader:
            return list(reader.to_end(within=15))

    def close(self) -> None:
        for opened in self._opened:
            opened.close()


class InKafkaBySinkProcess(InKafka):
    """With sinks in processes of their own."""

    def sink(self, name: str = "writer") -> SinkProcess:
        sink = SinkProcess(self.place.as_client(name), self.terms(name))
        self._opened.append(sink)
        return sink


def configured(place: Place, topic: str, configs: dict[str, str]) -> None:
    """Set a topic's configuration, as an operator would."""
    with KafkaAdminClient(bootstrap_servers=place.link.brokers) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs)])


def events(*numbers: int, key: str = "k") -> list[Outgoing]:
    return [Outgoing(key.encode(), b"%d" % number) for number in numbers]


def until(what: Callable[[], bool], *, within: float = 20) -> None:
    deadline = time.monotonic() + within
    while not what():
        assert time.monotonic() < deadline, "it did not come about in time"


def read_to_the_end(pipeline: Pipeline) -> None:
    """Read until the source lags in nothing."""
    pipeline.read()

    def is_answered() -> bool:
        pipeline.read()
        return not any(pipeline.source.lag().values())

    until(is_answered)


def settled(world: World, *sources: Source) -> None:
    """Let the group come to rest: every partition with one member, every member told."""

    def shared_out() -> bool:
        for source in sources:
            if source.poll(0.1):
                source.rewind()
        held = [source.assignment() for source in sources]
        return all(held) and len(frozenset.union(*held)) == sum(map(len, held)) == world.partitions

    until(shared_out)
    for source in sources:
        assert source.rebalanced()
        source.rewind()


def take(source: Source, count: int) -> list[Record]:
    """Poll until there are so many records, of one assignment."""
    taken: list[Record] = []

    def enough() -> bool:
        taken.extend(source.poll(0.1))
        assert not source.rebalanced()
        return len(taken) >= count

    until(enough)
    assert len(taken) == count
    return taken


def positions(records: Sequence[Record]) -> dict[tuple[str, int], int]:
    return {(record.topic, record.partition): record.offset + 1 for record in records}


def values(records: Sequence[Record]) -> list[bytes | None]:
    return [record.value for record in records]
