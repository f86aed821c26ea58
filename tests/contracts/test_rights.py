"""A right that is taken away while the worker runs stops it by name, and soon."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    KafkaAdminClient,
    ResourcePattern,
    ResourceType,
)

from deploy.kafka.node import temporary
from tests.conftest import make_place
from tests.contracts.worlds import InKafka, events, positions, settled, take
from worker.broker import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deploy.kafka.node import Node

pytestmark = pytest.mark.broker
AUTHORIZER = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
    # Nobody is anonymous to the controller: else no broker could register. A denial is stronger than this.
    "early.start.listeners": "CONTROLLER",
    "super.users": "User:controller",
}


@pytest.fixture(scope="module")
def guarded() -> Iterator[Node]:
    """A broker that asks for rights, and grants all that nobody has denied."""
    with temporary("tests", settings=AUTHORIZER, heap="256m") as node:
        yield node


@pytest.fixture
def world(guarded: Node) -> Iterator[InKafka]:
    world = InKafka(make_place(guarded.bootstrap))
    try:
        yield world
    finally:
        with suppress(Exception):
            world.close()


def denial(kind: ResourceType, name: str, operation: ACLOperation) -> ACL:
    return ACL(
        principal="User:ANONYMOUS",
        host="*",
        operation=operation,
        permission_type=ACLPermissionType.DENY,
        resource_pattern=ResourcePattern(kind, name),
    )


def deny(world: InKafka, *what: Any) -> None:
    with KafkaAdminClient(**world.place.link.options()) as admin:
        admin.create_acls([denial(*what)])


def read_with_rights(world: InKafka, *what: Any) -> list[bytes | None]:
    """Return the values in the verdict topic, once the denial is removed: only an ACL shows a topic that has one."""
    with KafkaAdminClient(**world.place.link.options()) as admin:
        admin.delete_acls([denial(*what)])
    until = time.monotonic() + 10
    while True:
        try:
            return [record.value for record in world.read(world.verdicts)]
        except BrokerError:
            if time.monotonic() > until:
                raise


def stops(step: Callable[[], object]) -> str:
    """Repeat the step until it raises BrokerError; return its text."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            step()
        except BrokerError as stopped:
            return str(stopped)
    pytest.fail("it went on")


def test_reading_that_is_forbidden_stops_the_source_by_name(world: InKafka) -> None:
    source = world.source()
    settled(world, source)

    deny(world, ResourceType.TOPIC, world.input, ACLOperation.READ)
    said = stops(lambda: source.poll(0.1))

    assert "TopicAuthorizationFailed" in said
    assert world.input in said
    assert "grant this user READ" in said


@pytest.mark.parametrize("what", ["topic", "group", "transactional id"])
def test_writing_that_is_forbidden_stops_the_sink_by_name(world: InKafka, what: str) -> None:
    source, sink = world.source(), world.sink()
    settled(world, source)
    world.feed(*events(1))
    taken = take(source, 1)
    place = world.place
    denials = {
        "topic": (ResourceType.TOPIC, world.verdicts, ACLOperation.WRITE),
        "group": (ResourceType.GROUP, place.group, ACLOperation.READ),
        "transactional id": (ResourceType.TRANSACTIONAL_ID, f"{place.group}.writer", ACLOperation.WRITE),
    }

    deny(world, *denials[what])
    said = stops(lambda: sink.write(events(1), [], positions(taken), source.group_metadata()))

    assert "AuthorizationFailed" in said
    assert "grant this user" in said
    assert read_with_rights(world, *denials[what]) in ([], [b"1"])
