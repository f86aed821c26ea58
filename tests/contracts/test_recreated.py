"""A topic that was deleted and created again under its name: an offset of the old one means nothing in the new one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import structlog
from kafka import errors
from kafka.admin import KafkaAdminClient

from deploy.kafka import topics
from tests.contracts.worlds import InKafka, events, positions, settled, take, until, values
from worker.audit.auditor import Topics
from worker.broker import BrokerError, KafkaSource, Member, Publisher, Reader, Selection, SinkProcess, replay
from worker.broker.audit import AuditedTopics
from worker.messages import DeadLetter, Outgoing, Record, Unreadable, encode_dead_letter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OLD, NEW = 3, 9


@pytest.fixture(autouse=True)
def _young_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.broker.link._METADATA_AGE", 0.5)


@pytest.fixture
def member(in_kafka: InKafka) -> Iterator[Callable[..., KafkaSource]]:
    opened = []

    def of_policy(policy: Any = "fail", **more: Any) -> KafkaSource:
        link, options = in_kafka.place.as_client(f"member-{policy}"), Member(out_of_range=policy)
        group = in_kafka.place.group
        opened.append(
            KafkaSource(link, in_kafka.input, group, session_timeout=6, max_poll_interval=30, member=options, **more)
        )
        return opened[-1]

    yield of_policy
    for each in opened:
        each.close()


def recreate(world: InKafka, topic: str, partitions: int | None = None) -> None:
    link = world.place.link
    with KafkaAdminClient(**link.options()) as admin:
        admin.delete_topics([topic])
        until(lambda: topic not in admin.list_topics())
    topics.create(link.brokers, [topic], partitions or world.partitions)


def judged(world: InKafka, source: KafkaSource) -> list[Any]:
    """Some messages that were read; their offsets are committed."""
    world.feed(*events(*range(OLD)))
    settled(world, source)
    taken = take(source, OLD)
    world.sink().write([], [], positions(taken), source.group_metadata())
    return taken


def read(source: KafkaSource, found: list[bytes | None], *, count: int) -> None:
    """Read on, going back as the pipeline does after a rebalance."""

    def enough() -> bool:
        found.extend(values(source.poll(0.1)))
        if source.rebalanced():
            found.clear()
            source.rewind(source.kept())
        return len(found) >= count

    until(enough, within=40)


def test_a_running_worker_stops_by_name_instead_of_skipping_the_first_messages(
    in_kafka: InKafka, member: Callable[..., KafkaSource]
) -> None:
    source = member("fail")
    judged(in_kafka, source)

    recreate(in_kafka, in_kafka.input)
    in_kafka.feed(*events(*range(NEW)))

    with pytest.raises(BrokerError, match=rf"{in_kafka.input} was deleted and created again.*OFFSET_OUT_OF_RANGE"):
        read(source, [], count=NEW)  # what lies behind the old position may be read before the new id is known


def test_by_policy_a_running_worker_begins_anew_at_the_start_of_the_new_topic(
    in_kafka: InKafka, member: Callable[..., KafkaSource]
) -> None:
    source, found = member("earliest"), []
    judged(in_kafka, source)

    recreate(in_kafka, in_kafka.input)
    in_kafka.feed(*events(*range(NEW)))
    with structlog.testing.capture_logs() as said:
        read(source, found, count=NEW)

    assert found == [b"%d" % number for number in range(NEW)]
    assert {entry["log_level"] for entry in said if "created again" in entry["event"]} == {"error"}


@pytest.mark.parametrize("policy", ["fail", "earliest", "latest"])
def test_an_offset_of_the_old_topic_that_was_committed_into_the_new_one_is_not_taken_for_a_position(
    in_kafka: InKafka, member: Callable[..., KafkaSource], policy: str
) -> None:
    first = member("first-fail")
    in_kafka.feed(*events(*range(OLD)))
    settled(in_kafka, first)
    in_flight, metadata, sink = take(first, OLD), first.group_metadata(), in_kafka.sink()
    recreate(in_kafka, in_kafka.input)
    in_kafka.feed(*events(*range(NEW)))

    sink.write([], [], positions(in_flight), metadata)
    first.close()

    source, found = member(policy), []
    if policy == "fail":
        with pytest.raises(BrokerError, match=f"offset {OLD} .*created again.*OFFSET_OUT_OF_RANGE"):
            read(source, found, count=1)
        return
    if policy == "latest":
        until(lambda: source.rebalanced() or bool(source.poll(0.1)))
        source.rewind()
        source.poll(0.5)
        in_kafka.feed(*events(100))
    read(source, found, count=NEW if policy == "earliest" else 1)
    assert found == ([b"%d" % number for number in range(NEW)] if policy == "earliest" else [b"100"])


def kept(world: InKafka, group: str) -> dict[Any, Any]:
    with KafkaAdminClient(**world.place.link.options()) as admin:
        found = admin.list_group_offsets({group: None})[group]
    return {place: each for place, each in found.items() if each.offset >= 0}


def put_back(world: InKafka, group: str, offsets: dict[Any, Any]) -> None:
    """As brokers do that leave a deleted topic's offsets where they are, or a commit that was late."""
    with KafkaAdminClient(**world.place.link.options()) as admin:
        assert set(admin.alter_group_offsets(group, offsets).values()) == {errors.NoError}


def letters(*numbers: int) -> list[Outgoing]:
    records = [Record("t", 0, number, 1_800_000_000.0, b"k", b"%d" % number) for number in numbers]
    return [encode_dead_letter(DeadLetter(each, Unreadable.INVALID_JSON, 1_800_000_000.0)) for each in records]


@pytest.mark.parametrize("kind", ["exactly once", "at least once", "by the sink process"])
def test_every_sink_notes_the_topic_beside_the_offset(in_kafka: InKafka, kind: str) -> None:
    source, terms = in_kafka.source(), in_kafka.terms("writer")
    if kind == "at least once":
        terms = msgspec.structs.replace(terms, transactional_id=None)
    link = in_kafka.place.as_client("writer")
    sink = SinkProcess(link, terms) if kind == "by the sink process" else terms.sink(link)
    in_kafka.feed(*events(*range(OLD)))
    settled(in_kafka, source)
    taken = take(source, OLD)

    sink.write([], [], positions(taken), source.group_metadata())
    sink.close()

    with Reader(in_kafka.place.link, in_kafka.input) as reader:
        noted = f"topic-id:{reader.topic_id(in_kafka.input)}"
    [committed] = kept(in_kafka, in_kafka.place.group).values()
    assert (committed.offset, committed.metadata) == (OLD, noted)
    assert len(noted) == len("topic-id:") + 22


def test_what_was_sent_back_of_an_old_topic_keeps_no_letter_of_the_new_one_from_being_sent(in_kafka: InKafka) -> None:
    def replayed() -> tuple[int, int]:
        topics = {"dead_letter_topic": in_kafka.dead_letters, "input_topic": in_kafka.input}
        done = replay(in_kafka.place.link, Selection(), **topics, name=f"{in_kafka.place.group}.replay")
        return done.sent.total(), done.left.total()

    def bury(*numbers: int) -> None:
        with Publisher(in_kafka.place.link) as publisher:
            publisher.publish(in_kafka.dead_letters, letters(*numbers))

    bury(1, 2, 3)
    assert replayed() == (3, 0)
    assert replayed() == (0, 3)
    notes = kept(in_kafka, f"{in_kafka.place.group}.replay")

    recreate(in_kafka, in_kafka.dead_letters)
    put_back(in_kafka, f"{in_kafka.place.group}.replay", notes)
    bury(4, 5, 6, 7)

    assert replayed() == (4, 0)
    assert replayed() == (0, 4)
    assert values(in_kafka.read(in_kafka.input)) == [b"%d" % number for number in range(1, 8)]


def test_an_audit_does_not_go_on_in_a_topic_that_is_another_now(in_kafka: InKafka) -> None:
    names, group = Topics(in_kafka.input, in_kafka.verdicts, in_kafka.dead_letters), f"{in_kafka.place.group}.audit"
    link, topic_ids = in_kafka.place.link, dict[str, str]()

    def opened(topic_ids: dict[str, str] | None = None) -> AuditedTopics:
        return AuditedTopics(link, names, worker_group=in_kafka.place.group, audit_group=group, topic_ids=topic_ids)

    with opened(topic_ids) as brokers:
        brokers.partitions()
        brokers.commit({(in_kafka.input, 0): (3, ""), (in_kafka.verdicts, 0): (2, "2")})
        assert brokers.progress() == {(in_kafka.input, 0): (3, ""), (in_kafka.verdicts, 0): (2, "2")}
        before = kept(in_kafka, group)

        recreate(in_kafka, in_kafka.input)

        with pytest.raises(BrokerError, match=rf"{in_kafka.input} was deleted and created again.*{group}"):
            brokers.partitions()

    with opened(topic_ids) as again, pytest.raises(BrokerError, match="deleted and created again"):
        again.partitions()
    put_back(in_kafka, group, before)
    with opened() as brokers, pytest.raises(BrokerError, match=rf"{in_kafka.input} was deleted and created again"):
        brokers.progress()
