"""Senders watched by real workers: flags in verdicts, what the next owner of a partition knows, a topic that fails."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from deploy.kafka import topics
from tests.integration.harness import Watch, WorkerProcess, until
from worker.broker import Publisher, Reader
from worker.messages import Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Place
    from worker.messages import Verdict

SPAMMER, OTHER = "+447700900001", "+447700900002"
WARM = 45


def warm_at_once() -> None:
    """Have a worker know strangers from its first second."""
    from worker.senders import behaviour  # noqa: PLC0415 in the worker's process

    behaviour.WINDOW = 0.0


def send(place: Place, name: str, sender: str, recipient: str) -> None:
    value = json.dumps({"id": name, "text": "win a prize", "sender": sender, "recipient": recipient}).encode()
    with Publisher(place.link) as publisher:
        publisher.publish(place.input, [Outgoing(sender.encode(), value)])


def spam(place: Place, count: int) -> None:
    made = [
        {"id": f"spam-{each}", "text": "win a prize", "sender": SPAMMER, "recipient": f"+44770091{each:04}"}
        for each in range(count)
    ]
    with Publisher(place.link) as publisher:
        publisher.publish(place.input, [Outgoing(SPAMMER.encode(), json.dumps(each).encode()) for each in made])


def of(watch: Watch, name: str) -> Verdict:
    until(lambda: any(each.id == name for each in watch.verdicts), within=60)
    return next(each for each in watch.verdicts if each.id == name)


def settings(tmp_path: Path, topic: str) -> dict[str, str]:
    key = tmp_path / "key"
    key.write_text("a key for these tests\n")
    return {"senders_topic": topic, "hash_key_file": str(key)}


def test_the_next_owner_of_a_partition_knows_who_writes_to_strangers(
    place: Place, start: Callable[..., WorkerProcess], watch: Watch, tmp_path: Path
) -> None:
    topic = f"{place.group}.senders"
    topics.create_compacted(place.link.brokers, topic)
    chosen = settings(tmp_path, topic)
    first = start("one", prepare=warm_at_once, **chosen)

    spam(place, WARM)
    last = of(watch, f"spam-{WARM - 1}")
    # Snapshots are published once a minute of events: the first says that he is half-way to a limit.
    until(lambda: first.metric("hamgate_sender_snapshots_total", outcome="published") >= 1, within=60)
    first.send(signal.SIGTERM)
    assert first.ended() == 0
    second = start("two", **chosen)
    until(lambda: second.metric("hamgate_sender_snapshots_total", outcome="read") >= 1, within=60)
    for each in range(WARM):
        send(place, f"again-{each}", SPAMMER, f"+44770092{each:04}")
    send(place, "unknown", OTHER, "+447700930000")

    assert {"fan-out", "first-contact"} <= set(last.flags)
    assert [each.rule for each in last.dry_run or ()] == ["sender:behaviour"]
    again = of(watch, f"again-{WARM - 1}")
    assert {"fan-out", "first-contact"} <= set(again.flags)
    assert "cold" not in again.flags
    assert "cold" in of(watch, "unknown").flags
    with Reader(place.link, topic) as reader:
        published = b"".join((record.key or b"") + (record.value or b"") for record in reader.to_end())
    assert published
    assert b"4477009" not in published
    assert "4477009" not in first.said() + second.said()


@pytest.mark.long
def test_a_topic_that_is_deleted_stops_no_verdict_but_the_next_start(
    place: Place, start: Callable[..., WorkerProcess], watch: Watch, tmp_path: Path
) -> None:
    topic = f"{place.group}.senders"
    topics.create_compacted(place.link.brokers, topic)
    worker = start("one", **settings(tmp_path, topic))
    topics.delete(place.link.brokers, topic)

    spam(place, WARM)

    assert {"fan-out", "cold"} <= set(of(watch, f"spam-{WARM - 1}").flags)
    until(lambda: worker.metric("hamgate_sender_snapshots_total", outcome="dropped") >= 1, within=60)
    assert worker.said().count("sender snapshots for writing away") == 1
    assert worker.is_ready()
    next_one = start("two", ready=False, **settings(tmp_path, topic))
    assert next_one.ended(60) == 1
    assert f"topic {topic} does not exist" in next_one.said()
    assert f"--create --topic {topic}" in next_one.said()


def test_senders_without_a_key_to_hash_by_refuse_the_start(start: Callable[..., WorkerProcess]) -> None:
    worker = start(ready=False, senders_topic="sms.senders")

    assert worker.ended(60) != 0
    assert "senders_topic" in worker.said().lower()
    assert "hash_key_file" in worker.said().lower()
