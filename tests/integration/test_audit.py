"""The audit beside real workers: silent while they are right, and quick to say what a wrong one did."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import NoError, RetriableError
from kafka.structs import OffsetAndMetadata

from tests.audited import letter, verdict
from tests.integration.harness import (
    POISON,
    CompanionProcess,
    Traffic,
    Watch,
    WorkerProcess,
    environment,
    exactly_once,
    until,
)
from worker.audit.ledger import MismatchKind
from worker.broker import Publisher, Reader
from worker.messages import Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from deploy.kafka.node import Node
    from tests.conftest import Place

FOUND_WITHIN = 10.0
PATIENCE = 60.0
"""Seconds for all else: the machine may be busy."""
MISMATCHES = "hamgate_audit_mismatches_total"
PROVEN = "hamgate_audit_proven_messages_total"


def auditing(place: Place, log: Path) -> CompanionProcess:
    return CompanionProcess(("audit",), environment(place, log), log, patience=PATIENCE)


def mismatches(audit: CompanionProcess) -> dict[str, float]:
    return {kind: count for kind in MismatchKind if (count := audit.metric(MISMATCHES, kind=kind))}


@pytest.fixture
def audit(place: Place, tmp_path: Path) -> Iterator[CompanionProcess]:
    with auditing(place, tmp_path / "audit.log") as audit:
        yield audit


def once(
    place: Place, tmp_path: Path, *arguments: str, command: Sequence[str] = (sys.executable, "-m", "worker")
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, "audit", "--once", *arguments],
        env=environment(place, tmp_path), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def from_the_start(place: Place) -> list[str]:
    return [word for partition in range(place.partitions) for word in ("--from-offset", f"{partition}:0")]


@pytest.mark.long
def test_an_audit_beside_workers_that_come_and_go_finds_all_proven(
    place: Place,
    start: Callable[..., WorkerProcess],
    traffic: Traffic,
    watch: Watch,
    audit: CompanionProcess,
    tmp_path: Path,
) -> None:
    with traffic.flowing():
        worker = start("one")
        until(lambda: watch.seen() > 200, within=PATIENCE)
        worker.send(signal.SIGKILL)
        worker.ended()
        start("two")
        until(lambda: watch.seen() > 500, within=PATIENCE)
    exactly_once(traffic, watch)
    answered = len(traffic.sent) + traffic.poison.total()

    until(lambda: audit.metric(PROVEN) == answered, within=PATIENCE)

    assert mismatches(audit) == {}
    assert traffic.tombstones > 0
    assert traffic.poison.total() > len(POISON)
    assert audit.metric("hamgate_audit_window_messages") == audit.metric("hamgate_audit_skipped_total") == 0
    until(lambda: audit.metric("hamgate_audit_unproven_seconds") < 2)
    assert audit.stop() == 0
    assert '"event": "mismatch"' not in audit.said()
    assert "+4477" not in audit.said()
    assert "win a prize" not in audit.said()

    again = once(place, tmp_path, "--json", *from_the_start(place))
    assert again.returncode == 0, again.stderr
    report = json.loads(again.stdout)
    assert (report["proven"], report["is_proven"]) == (answered, True)
    with KafkaConsumer(bootstrap_servers=place.link.brokers) as consumer:
        places = [TopicPartition(place.input, partition) for partition in range(place.partitions)]
        ends = {each.partition: end for each, end in consumer.end_offsets(places).items()}
    assert report["offsets"] == {str(partition): [0, end] for partition, end in ends.items()}


@pytest.mark.long
def test_an_audit_that_is_stopped_or_killed_goes_on_where_it_was(
    place: Place, start: Callable[..., WorkerProcess], traffic: Traffic, watch: Watch, tmp_path: Path
) -> None:
    start()
    for number in range(4):
        with auditing(place, tmp_path / f"audit-{number}.log") as audit, traffic.flowing():
            awaited = watch.seen() + 100
            until(lambda: watch.seen() > awaited, within=PATIENCE)  # noqa: B023 it is over within this round
            until(lambda: audit.metric(PROVEN) > 50, within=PATIENCE)
            if number % 2:
                assert audit.stop() == 0
            assert '"event": "mismatch"' not in audit.said()
    exactly_once(traffic, watch)

    last = once(place, tmp_path, "--json")

    assert last.returncode == 0, last.stdout + last.stderr
    assert 0 < json.loads(last.stdout)["proven"] < len(traffic.sent) + traffic.poison.total()


class WrongWorker:
    """Writes outputs and offsets as a worker does, by a plain producer, and with whatever fault a test plants."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._producer = KafkaProducer(bootstrap_servers=place.link.brokers, linger_ms=0)
        self._admin = KafkaAdminClient(bootstrap_servers=place.link.brokers)

    def feed(self, *values: bytes | None) -> None:
        for value in values:
            self._producer.send(self._place.input, value=value, key=b"+447700900001", partition=0)
        self._producer.flush()

    def judge(self, *offsets: int, topic: str = "", partition: int = 1) -> None:
        for offset in offsets:
            made = verdict(0, offset, topic or self._place.input)
            self._producer.send(self._place.verdicts, value=made.value, key=made.key, partition=partition)
        self._producer.flush()

    def write_dead_letters(self, *offsets: int) -> None:
        for offset in offsets:
            made = letter(0, offset, self._place.input)
            headers = [(name, value or b"") for name, value in made.headers]  # this producer writes no null
            self._producer.send(self._place.dead_letters, value=made.value, key=made.key, headers=headers, partition=2)
        self._producer.flush()

    def commit(self, offset: int) -> None:
        group = {TopicPartition(self._place.input, 0): OffsetAndMetadata(offset, "", -1)}
        until(lambda: all(error is NoError for error in altered(self._admin, self._place.group, group)))

    def close(self) -> None:
        self._producer.close()
        self._admin.close()


@pytest.fixture
def worker(place: Place) -> Iterator[WrongWorker]:
    worker = WrongWorker(place)
    yield worker
    worker.close()


EVENT = b'{"text": "win a prize"}'


def lose(worker: WrongWorker) -> None:
    worker.judge(11, 13)
    worker.write_dead_letters(12)
    worker.commit(14)


def duplicate(worker: WrongWorker) -> None:
    worker.judge(10, 11, 10, 13)
    worker.write_dead_letters(12)
    worker.commit(14)


def reorder(worker: WrongWorker) -> None:
    worker.judge(11, 10, 13)
    worker.write_dead_letters(12)
    worker.commit(14)


def take_a_tombstone_for_a_source(worker: WrongWorker) -> None:
    worker.judge(10, 11, 9, 13)
    worker.write_dead_letters(12)
    worker.commit(14)


def take_what_is_beyond_the_end_for_a_source(worker: WrongWorker) -> None:
    worker.judge(10, 11, 13, 1_000_000)
    worker.write_dead_letters(12)
    worker.commit(14)


def take_another_topic_for_a_source(worker: WrongWorker) -> None:
    worker.judge(10, 11, 13)
    worker.judge(3, topic="another")
    worker.write_dead_letters(12)
    worker.commit(14)


def forget_a_dead_letter(worker: WrongWorker) -> None:
    worker.judge(10, 11, 13)
    worker.commit(14)


@pytest.mark.parametrize(
    ("fault", "kind", "offset"),
    [
        (lose, MismatchKind.LOST, 10),
        (duplicate, MismatchKind.DUPLICATED, 10),
        (reorder, MismatchKind.REORDERED, 10),
        (take_a_tombstone_for_a_source, MismatchKind.WRONG_SOURCE, 9),
        (take_what_is_beyond_the_end_for_a_source, MismatchKind.WRONG_SOURCE, 1_000_000),
        (take_another_topic_for_a_source, MismatchKind.WRONG_SOURCE, None),
        (forget_a_dead_letter, MismatchKind.MISSING_DEAD_LETTER, 12),
    ],
)
def test_a_planted_mismatch_is_reported_within_ten_seconds_by_its_kind_and_place(
    place: Place,
    worker: WrongWorker,
    audit: CompanionProcess,
    tmp_path: Path,
    fault: Callable[[WrongWorker], None],
    kind: MismatchKind,
    offset: int | None,
) -> None:
    worker.feed(*[EVENT] * 9, None)
    worker.judge(*range(9))
    worker.commit(10)
    until(lambda: audit.metric(PROVEN) == 9, within=PATIENCE)
    worker.feed(EVENT, EVENT, b"not json", EVENT)

    fault(worker)
    planted = time.monotonic()
    until(lambda: mismatches(audit) != {}, within=FOUND_WITHIN)
    print(f"{kind} reported after {time.monotonic() - planted:.2f} s")  # noqa: T201 for whoever asks by -rP

    assert mismatches(audit) == {kind: 1}
    [line] = [json.loads(line) for line in audit.said().splitlines() if '"event": "mismatch"' in line]
    assert (line["kind"], line.get("offset")) == (kind, offset)
    assert "topic" not in line or (line["topic"], line["partition"]) == (place.input, 0)
    assert "+4477" not in audit.said()
    assert "win a prize" not in audit.said()
    shown = once(place, tmp_path, *from_the_start(place))
    assert shown.returncode == 1
    assert f"1 {kind}" in shown.stdout


@pytest.mark.long
def test_a_backlog_of_many_times_the_window_is_proven(place: Place, tmp_path: Path) -> None:
    with Publisher(place.link) as publisher, Reader(place.link, place.input) as reader:
        publisher.publish(place.input, [Outgoing(b"k-%d" % (number % 97), EVENT) for number in range(10_000)])
        records = sorted(reader.to_end(), key=lambda record: record.offset)
        answers = [verdict(each.partition, each.offset, place.input).value for each in records]
        keys = [record.key for record in records]
        publisher.publish(place.verdicts, map(Outgoing, keys, answers))
    with KafkaAdminClient(bootstrap_servers=place.link.brokers) as admin:
        ends = {TopicPartition(place.input, record.partition): record.offset + 1 for record in records}
        group = {partition: OffsetAndMetadata(end, "", -1) for partition, end in ends.items()}
        until(lambda: all(error is NoError for error in altered(admin, place.group, group)), within=PATIENCE)

    # As beside workers with small batches: the window that is allowed goes by what one transaction holds.
    small = "import sys; from worker.commands import auditing; auditing.MAX_MESSAGES = 64; "
    command = [sys.executable, "-c", f"{small}from worker.__main__ import main; sys.exit(main())"]
    done = once(place, tmp_path, "--json", "--audit-window", "2048", *from_the_start(place), command=command)

    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["proven"] == 10_000


def altered(admin: KafkaAdminClient, group: str, offsets: dict[TopicPartition, OffsetAndMetadata]) -> Iterable[object]:
    """Alter the group's offsets and return each result; a new broker has no coordinator for a moment."""
    try:
        return admin.alter_group_offsets(group, offsets).values()
    except RetriableError as error:
        return [error]


@pytest.mark.long
def test_a_broker_that_is_away_for_a_while_is_said_to_be_and_costs_nothing(
    worker: WrongWorker, audit: CompanionProcess, kafka: Node
) -> None:
    worker.feed(EVENT, EVENT)
    worker.judge(0)
    worker.commit(1)
    until(lambda: audit.metric(PROVEN) == 1, within=PATIENCE)

    kafka.kill()
    until(lambda: "brokers away" in audit.said(), within=PATIENCE)
    assert not audit.is_ready()
    time.sleep(3)
    kafka.start()
    until(audit.is_ready, within=120)
    worker.judge(1)
    worker.commit(2)

    until(lambda: audit.metric(PROVEN) == 2, within=PATIENCE)
    assert mismatches(audit) == {}
    lines = [json.loads(line)["event"] for line in audit.said().splitlines() if '"event": "brokers' in line]
    assert (lines[0], lines[-1]) == ("brokers away", "brokers back")
    assert lines[1:-1] == ["brokers still away"] * len(lines[1:-1])
    assert len(lines) < 5


def test_where_no_worker_has_been_there_is_nothing_to_prove(place: Place, tmp_path: Path) -> None:
    done = once(place, tmp_path, "--json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["offsets"] == {str(partition): [0, 0] for partition in range(place.partitions)}


@pytest.mark.long
def test_an_audit_that_can_prove_nothing_says_why(place: Place, tmp_path: Path) -> None:
    wrong = once(place, tmp_path, "--from-offset", "7:0")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "not proven: --from-offset 7:0: there is no such partition; there are [0, 1, 2, 3]" in wrong.stderr

    wrong = once(place, tmp_path, "--verdict-topic", "sms.vredicts")
    assert wrong.returncode == 1
    assert "topic sms.vredicts does not exist" in wrong.stderr

    wrong = once(place, tmp_path, "--from-time", "yesterday")
    assert wrong.returncode == 2
    wrong = once(place, tmp_path, "--delivery", "at-least-once")
    assert wrong.returncode == 2
    wrong = once(place, tmp_path, "--audit-window", "1000")
    assert wrong.returncode == 1
    assert "HAMGATE_AUDIT_WINDOW: 1000 is too few for 4 partitions" in wrong.stderr
