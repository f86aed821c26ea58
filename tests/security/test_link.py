"""A broker that asks who is there: the right answer is let in, each wrong one is refused naming the setting, once."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from kafka.admin import ResourceType

from deploy.kafka import topics
from deploy.kafka.node import scratch
from tests.security.secured import PASSWORD, WRONG_PASSWORD, Secured
from worker.audit.auditor import Topics
from worker.audit.brokers import AwayError
from worker.broker import BrokerError, ExactlyOnceSink, KafkaLink, KafkaSource, Publisher, Reader, check
from worker.broker.audit import AuditedTopics
from worker.messages import Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.broker
TOPICS = ("events", "verdicts", "dead-letters")


@pytest.fixture(scope="module")
def secured() -> Iterator[Secured]:
    with scratch("tests") as folder:
        folder.mkdir(parents=True)
        made = Secured(folder)
        with made.node:
            made.add_user()
            topics.create(made.node.bootstrap, TOPICS, 2)
            yield made


@pytest.fixture(scope="module")
def entitled(secured: Secured) -> Secured:
    """The user may do what a worker must, and no more."""
    secured.grant(ResourceType.TOPIC, "events", "READ", "DESCRIBE")
    secured.grant(ResourceType.TOPIC, "verdicts", "WRITE", "DESCRIBE")
    secured.grant(ResourceType.TOPIC, "dead-letters", "WRITE", "DESCRIBE")
    secured.grant(ResourceType.GROUP, "group", "READ")
    secured.grant(ResourceType.TRANSACTIONAL_ID, "group.one", "WRITE")
    return secured


def found(link: KafkaLink, **changed: Any) -> list[str]:
    names = {"input_topic": "events", "verdict_topic": "verdicts", "dead_letter_topic": "dead-letters"}
    options = names | {"group_id": "group", "transactional_id": "group.one"} | changed
    return [str(finding) for finding in check(link, **options)]


WRONG = {
    "password by PLAIN": (
        "SASL_SSL",
        {"sasl_mechanism": "PLAIN", "sasl_password": WRONG_PASSWORD},
        "HAMGATE_SASL_PASSWORD",
    ),
    "password by SCRAM": ("SASL_SSL", {"sasl_password": WRONG_PASSWORD}, "HAMGATE_SASL_PASSWORD"),
    "user, without TLS": ("SASL_PLAINTEXT", {"sasl_username": "nobody"}, "HAMGATE_SASL_USERNAME"),
    "mechanism": ("SASL_SSL", {"sasl_mechanism": "GSSAPI"}, "HAMGATE_SASL_MECHANISM"),
    "authority": ("TLS", {"tls_ca": "wrong_ca"}, "HAMGATE_TLS_CA"),
    "certificate, expired": ("EXPIRED", {}, "renew the broker's certificate"),
}


@pytest.mark.parametrize(("listener", "wrong", "named"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named_at_once_and_without_a_secret(
    secured: Secured, listener: str, wrong: dict[str, Any], named: str, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = {name: secured.wrong_ca if value == "wrong_ca" else value for name, value in wrong.items()}
    link = secured.link(listener, patience=30, **wrong)

    with caplog.at_level(logging.INFO, "kafka"):
        [finding] = found(link)

    assert named in finding
    attempts = [record for record in caplog.records if record.getMessage().startswith("Connection failed")]
    assert len(attempts) <= 2, "a refusal is final: no storm of attempts"
    for said in (finding, caplog.text, repr(link)):
        assert PASSWORD not in said
        assert WRONG_PASSWORD not in said


@pytest.mark.parametrize(("listener", "wrong"), [("TLS", "PLAINTEXT"), ("SASL_PLAINTEXT", "SSL")])
def test_a_listener_spoken_to_in_the_wrong_way_names_the_setting(secured: Secured, listener: str, wrong: str) -> None:
    link = secured.link(listener, security_protocol=wrong, tls_ca=secured.ca if wrong == "SSL" else None, patience=1)

    [finding] = found(link)

    assert f"HAMGATE_SECURITY_PROTOCOL={wrong}" in finding
    assert "HAMGATE_BROKERS" in finding


def test_a_client_that_is_refused_ends_its_start_as_the_check_does(secured: Secured) -> None:
    link = secured.link("SASL_SSL", sasl_password=WRONG_PASSWORD, patience=30)
    began = time.monotonic()

    with pytest.raises(BrokerError, match="HAMGATE_SASL_PASSWORD"):
        sink(link)
    with pytest.raises(BrokerError, match="HAMGATE_SASL_PASSWORD"):
        KafkaSource(link, "events", "group", session_timeout=6, max_poll_interval=30)

    assert time.monotonic() - began < 25


def sink(link: KafkaLink, transactional_id: str = "group.one") -> ExactlyOnceSink:
    return ExactlyOnceSink(
        link,
        verdict_topic="verdicts",
        dead_letter_topic="dead-letters",
        transactional_id=transactional_id,
        transaction_timeout=5,
    )


def test_each_missing_right_is_named_with_what_grants_it(secured: Secured) -> None:
    secured.add_user("poor")
    secured.grant(ResourceType.TOPIC, "events", "DESCRIBE", user="poor")
    secured.grant(ResourceType.TRANSACTIONAL_ID, "group.one", "DESCRIBE", user="poor")

    assert [line.partition(";")[0] for line in found(secured.link("SASL_SSL", sasl_username="poor"))] == [
        "no READ right on topic events",
        "no WRITE right on topic verdicts",
        "no WRITE right on topic dead-letters",
        "no right on consumer group group",
        "no WRITE right on transactional id group.one",
    ]


def test_a_transactional_id_that_is_anothers_is_refused_at_the_start_by_name(entitled: Secured) -> None:
    with pytest.raises(BrokerError, match="WRITE on the transactional id"):
        sink(entitled.link("SASL_SSL"), "another.one")


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_who_is_entitled_is_let_in_and_works(entitled: Secured, mechanism: str) -> None:
    link = entitled.link("SASL_SSL", sasl_mechanism=mechanism, client_id=mechanism, patience=20)
    assert found(link) == []
    with Publisher(entitled.link("TLS")) as publisher:
        publisher.publish("events", [Outgoing(b"k", mechanism.encode())])
    source, writer = KafkaSource(link, "events", "group", session_timeout=6, max_poll_interval=30), sink(link)

    records: list[Any] = []
    until = time.monotonic() + 30
    while not records and time.monotonic() < until:
        records = list(source.poll(0.2))
    positions = {(record.topic, record.partition): record.offset + 1 for record in records}
    writer.write([Outgoing(b"k", record.value) for record in records], [], positions, source.group_metadata())
    source.close()
    writer.close()

    with Reader(entitled.link("TLS"), "verdicts") as reader:
        assert mechanism.encode() in [record.value for record in reader.to_end()]


def test_a_throttled_writer_slows_and_recovers(entitled: Secured) -> None:
    def seconds() -> float:
        began = time.monotonic()
        with Publisher(entitled.link("SASL_SSL", patience=60)) as publisher:
            for _ in range(4):
                publisher.publish("verdicts", [Outgoing(b"k", os.urandom(30_000))])
        return time.monotonic() - began

    free = seconds()
    entitled.throttle(20_000)
    slowed = seconds()
    entitled.throttle(None)
    recovered = min(seconds() for _ in range(3))

    assert slowed > free + 2
    assert recovered < slowed - 1
    with Reader(entitled.link("TLS"), "verdicts") as reader:
        assert sum(len(record.value or b"") == 30_000 for record in reader.to_end()) == 20


def test_an_auditor_is_let_in_with_the_rights_of_the_runbook_and_told_which_one_is_missing(secured: Secured) -> None:
    secured.add_user("auditor")
    for topic in TOPICS:
        secured.grant(ResourceType.TOPIC, topic, "READ", user="auditor")
    secured.grant(ResourceType.GROUP, "group", "DESCRIBE", user="auditor")
    link, names = secured.link("SASL_SSL", sasl_username="auditor"), Topics(*TOPICS)

    with AuditedTopics(link, names, worker_group="group", audit_group="group.audit") as brokers:
        with pytest.raises(BrokerError, match="READ on the audit's group and DESCRIBE on the worker's"):
            brokers.progress()
        secured.grant(ResourceType.GROUP, "group.audit", "READ", user="auditor")
        _until(lambda: _is_answered(brokers.progress))

        assert len(brokers.partitions()) == len(TOPICS) * 2
        assert brokers.events.starts() == {("events", 0): 0, ("events", 1): 0}
        assert brokers.committed() == brokers.settled()
        assert brokers.written().keys() == brokers.answers.ends().keys()
        brokers.commit({("events", 0): (0, ""), ("verdicts", 1): (0, "7")})
        assert brokers.progress() == {("events", 0): (0, ""), ("verdicts", 1): (0, "7")}


def _is_answered(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except (AwayError, BrokerError):  # a grant takes a moment, and so has a group's first coordinator
        return False
    return True


def _until(what: Callable[[], bool], within: float = 30) -> None:
    deadline = time.monotonic() + within
    while not what():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.1)
