"""Four readers of the same topics, read_committed: one that runs all along, and three of different make at the end."""

from __future__ import annotations

import subprocess
import threading
import time
import uuid
from typing import TYPE_CHECKING, Final, NamedTuple

from confluent_kafka import Consumer, TopicPartition

from deploy.kafka import java
from worker.broker import KafkaLink, Reader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from confluent_kafka import Message

_SOURCE: Final = "tests/delivery/Reader.java"
_BATCH: Final = 2000
_END: Final = -191  # librdkafka's _PARTITION_EOF


class Seen(NamedTuple):
    """One record as some reader saw it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


def _consumer(brokers: str, topics: tuple[str, ...]) -> Consumer:
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": f"reader-{uuid.uuid4().hex}",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 50,
            "log_level": 2,
        }
    )
    deadline = time.monotonic() + 30
    known = consumer.list_topics(timeout=30).topics
    while not known.keys() >= set(topics):  # each broker hears of a new topic in its own time
        assert time.monotonic() < deadline, f"{topics} not known"
        time.sleep(0.1)
        known = consumer.list_topics(timeout=30).topics
    consumer.assign([TopicPartition(topic, number, 0) for topic in topics for number in known[topic].partitions])
    return consumer


def _seen(message: Message) -> Seen:
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    return Seen(topic, partition, offset, message.key(), message.value())


class Watch:
    """Reads all along, by librdkafka, from a thread of its own; `arrivals` are Unix times, beside `records`."""

    def __init__(self, brokers: str, *topics: str) -> None:
        self.records: list[Seen] = []
        self.arrivals: list[float] = []
        self._consumer = _consumer(brokers, topics)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            messages = self._consumer.consume(_BATCH, timeout=0.02)
            now = time.time()
            fresh = [_seen(message) for message in messages if message.error() is None]
            self.arrivals += [now] * len(fresh)
            self.records += fresh

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._consumer.close()


def by_ours(brokers: str, *topics: str) -> Iterator[Seen]:
    """kafka-python, as the project reads."""
    with Reader(KafkaLink(brokers, client_id="final-reader"), *topics) as reader:
        for record in reader.to_end(within=120):
            yield Seen(record.topic, record.partition, record.offset, record.key, record.value)


def by_librdkafka(brokers: str, *topics: str) -> Iterator[Seen]:
    """confluent-kafka, which is librdkafka."""
    consumer = _consumer(brokers, topics)
    ended: set[tuple[str | None, int | None]] = set()
    open_ = len(consumer.assignment())
    deadline = time.monotonic() + 120
    try:
        while len(ended) < open_:
            assert time.monotonic() < deadline, "librdkafka did not reach the end in time"
            for message in consumer.consume(_BATCH, timeout=0.2):
                error = message.error()
                if error is None:
                    yield _seen(message)
                elif error.code() == _END:
                    ended.add((message.topic(), message.partition()))
    finally:
        consumer.close()


def by_java(brokers: str, *topics: str) -> Iterator[Seen]:
    """Kafka's own client, in a JVM."""
    program, jars = java.ready()
    classes = _compiled(jars)
    command = [str(program), "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    command += ["-cp", f"{jars}/*:{classes}", "Reader", brokers, *topics]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for line in done.stdout.splitlines():
        topic, partition, offset, key, value = line.split(" ")
        yield Seen(topic, int(partition), int(offset), _bytes(key), _bytes(value))


def _bytes(text: str) -> bytes | None:
    return None if text == "-" else bytes.fromhex(text)


def _compiled(jars: Path) -> Path:
    classes = java.CACHE / "delivery-reader"
    source = java.CACHE.parents[1] / _SOURCE
    made = classes / "Reader.class"
    if not made.exists() or made.stat().st_mtime < source.stat().st_mtime:
        compiler = java.compiler()
        command = [str(compiler), "-cp", f"{jars}/*", "-d", str(classes), str(source)]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    return classes
