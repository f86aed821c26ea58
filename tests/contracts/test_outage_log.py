"""A broker that goes away is one line in the log, whatever clients a process has; so is its return."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING

import pytest

from deploy.kafka.node import LOOPBACK, free_port, temporary
from tests.conftest import make_place
from worker.broker import BrokerError, ExactlyOnceSink, KafkaLink, KafkaSource, Publisher, Reader
from worker.messages import Outgoing
from worker.process import logs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploy.kafka.node import Node

pytestmark = pytest.mark.broker


@pytest.fixture
def node() -> Iterator[Node]:
    with temporary("outage") as node:
        yield node


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


@pytest.mark.long
def test_a_broker_that_goes_away_is_one_line_and_its_return_another(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    place = make_place(node.bootstrap)
    logs.configure("info", "json")
    source = KafkaSource(place.link, place.input, place.group, session_timeout=6, max_poll_interval=30)
    sink = ExactlyOnceSink(
        place.link,
        verdict_topic=place.verdicts,
        dead_letter_topic=place.dead_letters,
        transactional_id="outage",
        transaction_timeout=10,
    )
    with Publisher(place.link) as publisher, Reader(place.link, place.input, group_id="replay") as reader:

        def use(seconds: float) -> None:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                source.poll(0.2)
                reader.poll(0.1)
                sink.prepare(source.group_metadata())
                sink.write([Outgoing(b"k", b"v")], [], {}, source.group_metadata())

        while not source.assignment():
            source.poll(0.2)
        publisher.publish(place.input, [Outgoing(b"k", b"v")])
        use(1)
        before = lines(capsys)

        node.kill()
        until = time.monotonic() + 8
        while time.monotonic() < until:
            with contextlib.suppress(BrokerError):
                source.poll(0.2)
                reader.poll(0.1)
        away = lines(capsys)
        node.start()
        publisher.publish(place.input, [Outgoing(b"k", b"v")])
        until = time.monotonic() + 15
        while not source.poll(0.2) and time.monotonic() < until:
            pass
        back = lines(capsys)
        source.close()
        sink.close()

    assert before == [], before
    assert len(away) == 1, away
    assert len(back) == 1, back
    [gone] = away
    assert (gone["event"], gone["address"]) == ("broker away", node.bootstrap)
    assert "ECONNREFUSED" in str(gone["cause"])
    [returned] = back
    assert (returned["event"], returned["address"]) == ("broker back", node.bootstrap)
    assert int(str(returned["seconds"])) >= 7


@pytest.mark.long
def test_a_broker_that_was_never_there_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    link = KafkaLink(f"{LOOPBACK}:{free_port()}", patience=3)

    with pytest.raises(BrokerError, match=link.brokers):
        Publisher(link)

    [gone] = lines(capsys)
    assert (gone["event"], gone["address"]) == ("broker away", link.brokers)
