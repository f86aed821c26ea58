"""What an operator got wrong at the brokers is named, where it is met: a topic, an address, or a setting."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from deploy.kafka.node import free_port, temporary
from tests.contracts.worlds import InKafka, settled, until
from worker.broker import BrokerError, KafkaLink, KafkaSource, Member, Publisher, Reader, Selection, check, replay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.broker
NOBODY = "no-such-broker.invalid"


@pytest.fixture(scope="module")
def misadvertised() -> Iterator[KafkaLink]:
    """A broker that tells its clients a name that nobody can resolve."""
    port = free_port()
    controller = free_port()
    settings = {
        "listeners": f"PLAINTEXT://127.0.0.1:{port},INNER://127.0.0.1:{free_port()},CONTROLLER://127.0.0.1:{controller}",
        "inter.broker.listener.name": "INNER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,INNER:PLAINTEXT,CONTROLLER:PLAINTEXT",
    }
    inner = settings["listeners"].split(",")[1]
    settings["advertised.listeners"] = f"PLAINTEXT://{NOBODY}:{port},{inner}"
    with temporary("misadvertised", port=port, voters={1: controller}, settings=settings) as node:
        yield KafkaLink(node.bootstrap, patience=3)


@pytest.mark.parametrize("what", ["check", "publisher", "replay"])
def test_an_advertised_name_that_cannot_be_resolved_is_named(misadvertised: KafkaLink, what: str) -> None:
    topics = {"input_topic": "sms.events", "dead_letter_topic": "sms.dead-letters"}
    if what == "check":
        [finding] = check(
            misadvertised, **topics, verdict_topic="sms.verdicts", group_id="hamgate", transactional_id="t"
        )
        said = str(finding)
    else:
        act: Callable[[], object] = {
            "publisher": lambda: Publisher(misadvertised),
            "replay": lambda: replay(misadvertised, Selection(), **topics, name="hamgate.replay"),
        }[what]
        with pytest.raises(BrokerError) as raised:
            act()
        said = str(raised.value)

    assert NOBODY in said
    assert f"advertised.listeners of {misadvertised.brokers}" in said


def test_members_of_two_rebalance_protocols_name_the_setting(in_kafka: InKafka) -> None:
    source = in_kafka.source()
    settled(in_kafka, source)
    other = KafkaSource(
        in_kafka.place.as_client("other"),
        in_kafka.input,
        in_kafka.place.group,
        session_timeout=6,
        max_poll_interval=30,
        member=Member(rebalance="cooperative"),
    )

    with pytest.raises(BrokerError, match="HAMGATE_REBALANCE"):
        until(lambda: bool(other.poll(0.1)))

    other.close()


def test_a_reader_that_gets_no_further_names_where(in_kafka: InKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    with Reader(in_kafka.place.link, in_kafka.input) as reader:
        monkeypatch.setattr(type(reader), "_positions", lambda self: dict.fromkeys(self._partitions, -1))
        monkeypatch.setattr(reader, "poll", lambda _: time.sleep(0.01) or [])

        with pytest.raises(TimeoutError, match=rf"{in_kafka.input}:0.*{in_kafka.place.link.brokers}"):
            list(reader.to_end(within=0.1))
