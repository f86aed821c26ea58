"""Campaigns with real workers on a real broker: found, shared, added up, and no reason to stop."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from deploy.kafka import topics
from tests.integration.harness import WorkerProcess, environment, until
from worker.broker import Publisher, Reader
from worker.messages import Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Place
    from tests.integration.harness import Watch

TEXT = "Your parcel is held at our depot. Pay the fee of £{}.99 at https://{}.example/x7 to avoid return"
SECRETS = ("parcel", "depot", "4477", ".example", "return")


@pytest.fixture
def topic(place: Place) -> str:
    name = f"{place.input}.campaigns"
    topics.create_compacted(place.link.brokers, name)
    return name


def feed(place: Place, numbers: range) -> None:
    records = [
        Outgoing(
            b"+4477009%05d" % (number % 37),
            json.dumps({
                "id": f"c-{number}", "text": TEXT.format(number, f"host{number}"), "sender": f"+44770{number:06}",
                "recipient": "+447700900123",
            }).encode(),
        )
        for number in numbers
    ]  # fmt: skip
    with Publisher(place.link) as publisher:
        publisher.publish(place.input, records)


def told(place: Place, bundle: Path, topic: str) -> list[dict[str, Any]]:
    """What `hamgate campaigns` says; nothing while there is nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "worker", "campaigns", "--json"],
        env=environment(place, bundle, campaigns_topic=topic),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    assert not any(secret in done.stdout for secret in SECRETS)
    return found


@pytest.mark.long
def test_two_workers_count_one_campaign_together_also_when_one_is_started_anew(
    place: Place, start: Callable[..., WorkerProcess], watch: Watch, bundle: Path, topic: str
) -> None:
    workers = [start(name, campaigns_topic=topic) for name in ("one", "two")]

    feed(place, range(120))
    until(lambda: len(watch.verdicts) == 120, within=60)
    until(lambda: sum(each["size"] for each in told(place, bundle, topic)) >= 120, within=90)

    [campaign] = told(place, bundle, topic)
    assert {verdict.campaign for verdict in watch.verdicts if verdict.campaign_size} == {campaign["campaign"]}
    assert sum(isinstance(verdict.campaign_size, int) for verdict in watch.verdicts) >= 100
    assert campaign["senders"] == pytest.approx(118, rel=0.4)

    workers[0].send(signal.SIGTERM)
    assert workers[0].ended() == 0
    start("one", campaigns_topic=topic)
    feed(place, range(120, 180))
    until(lambda: len(watch.verdicts) == 180, within=60)
    until(lambda: sum(each["size"] for each in told(place, bundle, topic)) >= 180, within=90)
    # What two decided, for it changed hands in between, counts with both.
    assert sum(each["size"] for each in told(place, bundle, topic)) <= 200

    with Reader(place.link, topic) as reader:
        raw = b"".join((record.key or b"") + (record.value or b"") for record in reader.to_end())
    assert not any(secret.encode() in raw for secret in SECRETS)


def test_a_topic_that_is_not_there_refuses_the_start_and_says_how_to_create_it(
    place: Place, start: Callable[..., WorkerProcess]
) -> None:
    worker = start(ready=False, campaigns_topic=f"{place.input}.nowhere")

    assert worker.ended(60) == 1
    assert f"topic {place.input}.nowhere does not exist" in worker.said()
    assert "--config cleanup.policy=compact,delete" in worker.said()


@pytest.mark.long
def test_a_topic_that_is_deleted_stops_no_verdict_and_is_told_once(
    place: Place, start: Callable[..., WorkerProcess], watch: Watch, topic: str
) -> None:
    worker = start(campaigns_topic=topic)
    topics.delete(place.link.brokers, topic)

    feed(place, range(40))
    until(lambda: len(watch.verdicts) == 40, within=60)
    until(lambda: worker.metric("hamgate_campaign_topic_failures_total") >= 2, within=60)

    assert max(verdict.campaign_size or 0 for verdict in watch.verdicts) == 40
    assert worker.metric("hamgate_campaigns") == 1
    assert worker.metric("hamgate_campaign_messages_total") == 39
    assert worker.said().count("campaigns' topic away") == 1
    assert "does not exist" in worker.said()
    assert worker.is_ready()


def test_without_a_topic_verdicts_know_of_no_campaign(
    place: Place, start: Callable[..., WorkerProcess], watch: Watch
) -> None:
    worker = start()

    feed(place, range(20))
    until(lambda: len(watch.verdicts) == 20, within=60)

    assert not any(isinstance(verdict.campaign, str) for verdict in watch.verdicts)
    assert worker.metric("hamgate_campaigns") == 0
