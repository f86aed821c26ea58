"""A batch that the broker takes and nobody can read: one sender's doing, which must not stop a partition."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from confluent_kafka import Producer

from tests.contracts.worlds import InKafka, events, read_to_the_end, settled, take, until
from tests.fakes import FakeClassifier
from tests.pipelines import pipeline_of
from worker.broker import BrokerError, KafkaSource, Member, Selection, codecs, replay
from worker.broker.audit import KafkaTail
from worker.messages import UnreadableError, decode
from worker.metrics import Metrics
from worker.pipeline.batching import MicroBatcher
from worker.pipeline.slices import Limits
from worker.pipeline.verdicts import Verdicts
from worker.policy.bands import Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Place
    from worker.messages import Record

COUNT = 3


@pytest.fixture(autouse=True)
def _small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "MOST", 1 << 20)


@pytest.fixture
def member(in_kafka: InKafka) -> Iterator[Callable[[str], KafkaSource]]:
    opened = []

    def of_policy(policy: Any) -> KafkaSource:
        link, options = in_kafka.place.as_client("member"), Member(unreadable_batch=policy)
        group = in_kafka.place.group
        opened.append(KafkaSource(link, in_kafka.input, group, session_timeout=6, max_poll_interval=30, member=options))
        return opened[-1]

    yield of_policy
    for each in opened:
        each.close()


def bomb(place: Place) -> None:
    """A batch of little on the wire, and of much in the reader's memory."""
    options = {"compression.type": "zstd", "linger.ms": 10_000, "message.max.bytes": 20 << 20, "batch.size": 20 << 20}
    own = {"bootstrap.servers": place.link.brokers, "partitioner": "murmur2_random"}  # as of the other clients
    producer = Producer(own | options)
    # Until the partitions are known the client holds messages back, and a flush then hands them on one by one: some
    # would go as batches of their own, small enough to be read.
    producer.list_topics(place.input, 30)
    for _ in range(COUNT):
        producer.produce(place.input, key=b"k", value=json.dumps({"text": " " * 600_000}).encode())
    assert producer.flush(30) == 0


def test_it_is_dead_letters_of_its_offsets_and_what_follows_is_judged(
    in_kafka: InKafka, member: Callable[[str], KafkaSource]
) -> None:
    bomb(in_kafka.place)
    in_kafka.feed(*(each for each in events(1)))
    source, classifier, batcher = member("dead-letter"), FakeClassifier(), MicroBatcher[Any](10_000, 1000, 0.1)
    policy = Policy.make(0.5, flag_from=None, block_from=None, on_unscored="unscored")
    verdicts, metrics = Verdicts(classifier.labels, policy, "fake@000000000000"), Metrics()
    settled(in_kafka, source)
    pipeline = pipeline_of(source, in_kafka.sink(), classifier, verdicts, batcher, metrics, Limits(65_536, None))

    with structlog.testing.capture_logs() as said:
        read_to_the_end(pipeline)
    pipeline.judge()
    pipeline.write()

    letters = [dict(each.headers) for each in in_kafka.read(in_kafka.dead_letters)]
    assert {each["source-offset"]: each["reason"] for each in letters} == {
        b"0": b"unreadable-batch",
        b"1": b"unreadable-batch",
        b"2": b"unreadable-batch",
        b"3": b"not-an-object",
    }
    assert len(letters) == COUNT + 1
    [loud] = [entry for entry in said if entry["event"] == "unreadable batch"]
    assert (loud["log_level"], loud["goes_to"]) == ("error", "dead letters")
    assert f"{in_kafka.input}:" in loud["problem"]
    # Nothing of it is sent back, which would be tombstones: the events are still in the input.
    done = replay(
        in_kafka.place.link,
        Selection(),
        dead_letter_topic=in_kafka.dead_letters,
        input_topic=in_kafka.input,
        name=f"{in_kafka.place.group}.replay",
    )
    assert done.sent == {"not-an-object": 1}


def test_by_policy_it_stops_the_worker_by_name_after_what_came_before_it(
    in_kafka: InKafka, member: Callable[[str], KafkaSource]
) -> None:
    in_kafka.feed(*events(1, 2))
    bomb(in_kafka.place)
    source = member("fail")
    settled(in_kafka, source)

    before = take(source, 2)

    assert [each.offset for each in before] == [0, 1]
    with pytest.raises(BrokerError, match=rf"batch {in_kafka.input}:\d:2: .*HAMGATE_UNREADABLE_BATCH"):
        until(lambda: bool(source.poll(0.1)))


def test_the_audit_expects_an_answer_for_each_of_its_offsets(in_kafka: InKafka) -> None:
    bomb(in_kafka.place)
    found: list[Record] = []

    with KafkaTail(in_kafka.place.link, in_kafka.input) as tail:
        for place in tail.places:
            tail.seek(place, 0)
        tail.only(tail.places)
        until(lambda: found.extend(r for chunk in tail.chunks(0.1) for r in chunk.records) or len(found) == COUNT)

    assert [(each.offset, each.is_tombstone) for each in found] == [(0, False), (1, False), (2, False)]
    with pytest.raises(UnreadableError, match="unreadable-batch"):
        decode(found[0], max_bytes=65_536)


def test_a_reader_of_whole_topics_says_so(in_kafka: InKafka) -> None:
    bomb(in_kafka.place)

    with pytest.raises(BrokerError, match="once decompressed"):
        in_kafka.read(in_kafka.input)
