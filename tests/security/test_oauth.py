"""SASL OAUTHBEARER against a broker: by a command and by client credentials; let in, or refused by name."""

from __future__ import annotations

import json
import shlex
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from kafka.admin import ResourceType

from deploy.kafka import topics
from deploy.kafka.node import scratch
from tests.contracts.worlds import until
from tests.endpoint import Endpoint, jwt
from tests.security.secured import USER, Secured
from worker.broker import BrokerError, KafkaLink, KafkaSource, Publisher, Reader, SinkProcess, Terms, check
from worker.broker.tokens import provider
from worker.messages import Outgoing

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.broker
TOPICS = ("events", "verdicts", "dead-letters")
NAMES = {"input_topic": "events", "verdict_topic": "verdicts", "dead_letter_topic": "dead-letters"}
TERMS = Terms("verdicts", "dead-letters", "group.one", 5.0)


@pytest.fixture(scope="module")
def secured() -> Iterator[Secured]:
    with scratch("tests") as folder:
        folder.mkdir(parents=True)
        made = Secured(folder)
        with made.node:
            topics.create(made.node.bootstrap, TOPICS, 2)
            made.grant(ResourceType.TOPIC, "events", "READ", "DESCRIBE")
            made.grant(ResourceType.TOPIC, "verdicts", "WRITE", "DESCRIBE")
            made.grant(ResourceType.TOPIC, "dead-letters", "WRITE", "DESCRIBE")
            made.grant(ResourceType.GROUP, "group", "READ")
            made.grant(ResourceType.TRANSACTIONAL_ID, "group.one", "WRITE")
            yield made


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    provider.cache_clear()

    def grant() -> tuple[int, bytes, dict[str, str]]:
        return 200, json.dumps({"access_token": jwt(USER), "expires_in": 600}).encode(), {}

    with Endpoint(grant) as made:
        yield made


def command(printed: str) -> str:
    return shlex.join([sys.executable, "-c", f"print({printed!r})"])


def link(secured: Secured, **more: Any) -> KafkaLink:
    options = {"sasl_mechanism": "OAUTHBEARER", "sasl_username": None, "sasl_password": None, "patience": 20}
    return secured.link("SASL_SSL", **(options | more))


def by_credentials(secured: Secured, endpoint: Endpoint) -> KafkaLink:
    return link(secured, sasl_oauth_url=endpoint.url, sasl_username="id", sasl_password="secret")  # noqa: S106 a test's


def found(link: KafkaLink) -> list[str]:
    return [str(each) for each in check(link, **NAMES, group_id="group", transactional_id="group.one")]


@pytest.mark.parametrize("by", ["command", "credentials"])
@pytest.mark.parametrize("is_apart", [False, True])
def test_who_has_a_token_is_let_in_and_works(by: str, secured: Secured, endpoint: Endpoint, *, is_apart: bool) -> None:
    mine = (
        link(secured, sasl_oauth_command=command(jwt(USER))) if by == "command" else by_credentials(secured, endpoint)
    )
    assert found(mine) == []
    value = f"{by} {is_apart}".encode()
    with Publisher(secured.link("TLS")) as publisher:
        publisher.publish("events", [Outgoing(b"k", value)])
    writer = SinkProcess(mine, TERMS) if is_apart else TERMS.sink(mine)
    source = KafkaSource(mine, "events", "group", session_timeout=6, max_poll_interval=30)

    records: list[Any] = []
    until(lambda: bool(records.extend(source.poll(0.2)) or records), within=30)
    positions = {(record.topic, record.partition): record.offset + 1 for record in records}
    writer.write([Outgoing(b"k", record.value) for record in records], [], positions, source.group_metadata())
    source.close()
    writer.close()

    with Reader(secured.link("TLS"), "verdicts") as reader:
        assert value in [record.value for record in reader.to_end()]
    if by == "credentials":
        assert len(endpoint.asked) == (2 if is_apart else 1), "once a process"


@pytest.mark.long
def test_a_connection_outlives_its_token(secured: Secured) -> None:
    provider.cache_clear()
    life = 6.0

    with Endpoint(lambda: (200, json.dumps({"access_token": jwt(USER, life)}).encode(), {})) as endpoint:
        with Publisher(by_credentials(secured, endpoint)) as publisher:
            until_after = time.monotonic() + 2.5 * life
            while time.monotonic() < until_after:
                publisher.publish("verdicts", [Outgoing(b"k", b"still here")])
                time.sleep(0.2)

        assert 3 <= len(endpoint.asked) <= 5


def test_a_token_that_the_broker_does_not_take_is_refused_at_once_by_what_to_check(secured: Secured) -> None:
    began = time.monotonic()
    bad = link(secured, sasl_oauth_command=command('{"access_token": "not.a-jwt.", "expires_in": 60}'))

    [finding] = found(bad)
    with pytest.raises(BrokerError, match="check its audience, scope and subject"):
        TERMS.sink(bad)

    assert "they do not take the access token" in finding
    assert "not.a-jwt" not in finding
    assert time.monotonic() - began < 25


def test_a_token_of_another_user_has_that_user_s_rights(secured: Secured) -> None:
    assert any("topic events" in each for each in found(link(secured, sasl_oauth_command=command(jwt("poor")))))


def test_an_endpoint_that_refuses_us_is_named_by_the_check(secured: Secured) -> None:
    with Endpoint(lambda: (401, b'{"error": "invalid_client"}', {})) as endpoint:
        [finding] = found(by_credentials(secured, endpoint))

    assert finding.startswith("HAMGATE_SASL_OAUTH_URL answers 401 (invalid_client); check it, HAMGATE_SASL_USERNAME,")
