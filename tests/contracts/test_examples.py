"""The examples of docs/integrate.md, run as they stand there: only the broker's address and the names are replaced."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from deploy.kafka import java
from tests.conftest import make_place
from tests.contracts.worlds import InKafka, read_to_the_end, settled, take, until
from tests.fakes import FakeClassifier
from tests.pipelines import pipeline_of
from tests.schemas import problems
from worker.messages import Outgoing, decode, decode_verdict
from worker.metrics import Metrics
from worker.pipeline.batching import MicroBatcher
from worker.pipeline.slices import Limits
from worker.pipeline.verdicts import Verdicts
from worker.policy.bands import Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deploy.kafka.node import Node
    from tests.conftest import Place
    from worker.messages import Record

ROOT: Final = Path(__file__).resolve().parents[2]
DOCUMENT: Final = (ROOT / "docs" / "integrate.md").read_text()
EXAMPLES: Final = {
    name: (language, code)
    for name, language, code in re.findall(r"<!-- example: (.+?) -->\n```(\w+)\n(.*?)```", DOCUMENT, re.DOTALL)
}
CLIENTS: Final = ("kafka-python", "confluent-kafka", "java", "kafkajs", "kcat")
KEY: Final = b"+447700900123"
TRACE: Final = ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
MESSAGES: Final = 40  # of one key: their verdicts are a batch of more than 4 KiB
NOT_COMMITTED: Final = "rolled-back"


def test_every_client_has_a_producer_and_a_consumer_and_no_example_is_left_out() -> None:
    assert set(EXAMPLES) == {f"{client} {role}" for client in CLIENTS for role in ("producer", "consumer")}
    assert DOCUMENT.count("```") == 2 * len(EXAMPLES)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_producer_s_event_is_read_and_lies_where_hamgate_s_own_clients_put_its_key(
    client: str, in_kafka: InKafka, tmp_path: Path
) -> None:
    command = program(f"{client} producer", in_kafka.place, tmp_path)
    in_kafka.feed(Outgoing(KEY, b'{"text": "ours"}'))

    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)

    assert done.returncode == 0, done.stderr
    ours, theirs = in_kafka.read(in_kafka.input)
    sms = decode(theirs, max_bytes=65_536)
    assert (theirs.key, theirs.headers) == (KEY, (TRACE,))
    assert (sms.id, sms.text) == ("m-1", "WINNER!! Call now")
    assert (theirs.partition, theirs.offset) == (ours.partition, 1)
    schema = json.loads((ROOT / "docs" / "formats" / "event-v1.schema.json").read_text())
    assert problems(json.loads(theirs.value or b""), schema) == []


@pytest.mark.parametrize("client", CLIENTS)
def test_a_consumer_reads_what_is_committed_and_commits_what_it_has_read(
    client: str, answered: Callable[[str], InKafka], tmp_path: Path
) -> None:
    group = f"billing-{uuid.uuid4().hex[:8]}"
    world = answered("producer")
    command = program(f"{client} consumer", world.place, tmp_path, group)
    expected = {f"m-{n}" for n in range(MESSAGES)}

    with Lines(command) as lines:
        until(lambda: lines.has_ended() or (lines.ids() >= expected and "invalid-json" in lines.text()), within=90)
        committed = world.read(world.verdicts) + world.read(world.dead_letters)
        until(lambda: lines.has_ended() or has_committed(world.place, group, committed), within=30)

    assert lines.ids() == expected, lines.text()
    assert "invalid-json" in lines.text()
    assert NOT_COMMITTED not in lines.text()
    assert has_committed(world.place, group, committed)


def test_verdicts_are_read_by_a_client_with_no_more_than_its_language_brings(
    answered: Callable[[str], InKafka], tmp_path: Path
) -> None:
    world = answered("producer")
    example = program("kafka-python consumer", world.place, tmp_path, f"billing-{uuid.uuid4().hex[:8]}")[1]
    stock = tmp_path / "stock"
    stock.write_text(
        "import runpy, sys\n"
        "for extra in ('lz4', 'lz4.frame', 'snappy', 'zstandard'): sys.modules[extra] = None\n"
        f"runpy.run_path({example!r}, run_name='__main__')\n"
    )
    expected = {f"m-{n}" for n in range(MESSAGES)}

    with Lines([sys.executable, str(stock)]) as lines:
        until(lambda: lines.has_ended() or lines.ids() >= expected, within=90)

    assert lines.ids() == expected, lines.text()


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_events_may_be_compressed_with_any_codec_of_kafka(codec: str, in_kafka: InKafka) -> None:
    compressed(in_kafka.place, codec)

    source = in_kafka.source()
    settled(in_kafka, source)

    assert len(take(source, 50)) == 50


@pytest.fixture(scope="module")
def answered(kafka: Node) -> Iterator[Callable[[str], InKafka]]:
    """Worlds with verdicts, a dead letter, and a verdict of a transaction that was rolled back."""
    made: dict[str, InKafka] = {}

    def get(compression: str) -> InKafka:
        if compression not in made:
            place = with_compression(make_place(kafka.bootstrap), compression, "verdicts", "dead_letters")
            made[compression] = world = InKafka(place)
            roll_back(world.place)
            answer(world)
        return made[compression]

    yield get
    for world in made.values():
        world.close()


def answer(world: InKafka) -> None:
    """Run the pipeline on some events, with a fake model."""
    events = [json.dumps({"id": f"m-{n}", "text": "win" if n % 2 else "hello"}).encode() for n in range(MESSAGES)]
    world.feed(*(Outgoing(KEY, each, (TRACE,)) for each in events), Outgoing(KEY, b"no event", (("reason", b"mine"),)))
    classifier, source, batcher = FakeClassifier(), world.source(), MicroBatcher[Any](10_000, 1000, 0.1)
    policy = Policy.make(0.5, flag_from=None, block_from=None, on_unscored="unscored")
    verdicts = Verdicts(classifier.labels, policy, "fake@000000000000")
    pipeline = pipeline_of(source, world.sink(), classifier, verdicts, batcher, Metrics(), Limits(1000, None))
    settled(world, source)
    read_to_the_end(pipeline)
    pipeline.judge()
    pipeline.write()
    written = world.read(world.verdicts)
    assert {decode_verdict(each.value or b"").id for each in written} == {f"m-{n}" for n in range(MESSAGES)}
    assert sum(len(each.value or b"") for each in written) > 4096
    assert len(world.read(world.dead_letters)) == 1


def roll_back(place: Place) -> None:
    producer = Producer({"bootstrap.servers": place.link.brokers, "transactional.id": f"{place.group}.other"})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(place.verdicts, key=KEY, value=json.dumps({"id": NOT_COMMITTED, "action": "deliver"}).encode())
    producer.flush(30)
    producer.abort_transaction(30)


def compressed(place: Place, codec: str) -> None:
    producer = Producer({"bootstrap.servers": place.link.brokers, "compression.type": codec, "linger.ms": 200})
    for _ in range(50):
        producer.produce(place.input, key=KEY, value=json.dumps({"text": "win " * 50}).encode())
    assert producer.flush(30) == 0


def with_compression(place: Place, codec: str, *topics: str) -> Place:
    """The place with new topics, which have the codec from the start: a change takes a while to be in force."""
    names: dict[str, Any] = {field: f"{getattr(place, field)}.{codec}" for field in topics}
    new = [NewTopic(name, place.partitions, 1, config={"compression.type": codec}) for name in names.values()]
    admin = AdminClient({"bootstrap.servers": place.link.brokers})  # kept: without it the answers never come
    for done in admin.create_topics(new).values():
        done.result(30)
    return replace(place, **names)


def has_committed(place: Place, group: str, records: list[Record]) -> bool:
    """Whether a group has committed all of these records."""
    last = {(each.topic, each.partition): each.offset for each in records}
    consumer = Consumer({"bootstrap.servers": place.link.brokers, "group.id": group})
    try:
        found = consumer.committed([TopicPartition(*each) for each in last], timeout=30)
    finally:
        consumer.close()
    return all(each.offset > last[each.topic, each.partition] for each in found)


def program(name: str, place: Place, folder: Path, group: str = "") -> list[str]:
    """The command that runs an example; skips the test where its client is not installed."""
    language, code = EXAMPLES[name]
    client = name.split(" ", maxsplit=1)[0]
    for old, new in (
        ("localhost:9092", place.link.brokers),
        ("sms.events", place.input),
        ("sms.verdicts", place.verdicts),
        ("sms.dead-letters", place.dead_letters),
        ("billing", group),
    ):
        code = code.replace(old, new)
    if client == "java":
        return _java(code, folder)
    if client == "kafkajs":
        found = ["node", "-e", "require.resolve('kafkajs')"]
        if not shutil.which("node") or subprocess.run(found, capture_output=True, check=False).returncode:
            pytest.skip("kafkajs is not installed where Node finds it (NODE_PATH)")
    if client == "kcat" and not shutil.which("kcat"):
        pytest.skip("kcat is not installed")
    source = folder / "example"
    source.write_text(code)
    return [{"python": sys.executable, "javascript": "node", "sh": "sh"}[language], str(source)]


def _java(code: str, folder: Path) -> list[str]:
    if not shutil.which("javac"):
        pytest.skip("a Java compiler is not installed")
    runtime, jars = java.ready()
    named = re.search(r"public class (\w+)", code)
    assert named
    source = folder / f"{named[1]}.java"
    source.write_text(code)
    subprocess.run(["javac", "-cp", f"{jars}/*", "-d", str(folder), str(source)], check=True, timeout=120)
    return [str(runtime), "-Xmx256m", "-cp", f"{jars}/*{os.pathsep}{folder}", named[1]]


class Lines:
    """The lines that a program which does not end has printed so far."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._lines: list[str] = []
        self._thread = threading.Thread(target=self._read, daemon=True)

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._lines.append(line)

    def text(self) -> str:
        return "".join(self._lines)

    def ids(self) -> set[str]:
        return set(re.findall(r"\bm-\d+\b", self.text()))

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join(10)
        if self._process.stdout:
            self._process.stdout.close()
