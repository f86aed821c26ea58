"""A Kafka broker of the suite's own, started when the first test asks for it, gone with the suite however it ends."""

from __future__ import annotations

import logging
import os
import shutil
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
import structlog

from deploy.kafka.node import temporary

# Kernels are interpreted where there is no GPU. Triton looks once, when it is first imported, by whichever test.
if shutil.which("nvidia-smi") is None:
    os.environ["TRITON_INTERPRET"] = "1"

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploy.kafka.node import Node
    from worker.broker import KafkaLink


@dataclass(frozen=True)
class Place:
    """Topics and a group that no other test knows of."""

    link: KafkaLink
    group: str
    input: str
    verdicts: str
    dead_letters: str
    partitions: int

    def as_client(self, name: str) -> KafkaLink:
        return replace(self.link, client_id=f"{self.group}.{name}")


@pytest.fixture(autouse=True)
def _logs_as_they_were(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test that runs a command in this process must leave no logger bound to an output that is closed after it."""
    configure = structlog.configure
    monkeypatch.setattr(
        structlog, "configure", lambda **given: configure(**(given | {"cache_logger_on_first_use": False}))
    )
    levels = {logger: logger.level for logger in (logging.getLogger(), logging.getLogger("kafka"))}
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
    for logger, level in levels.items():
        logger.setLevel(level)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "kafka" in getattr(item, "fixturenames", ()):
            item.add_marker("broker")


@pytest.fixture(scope="session")
def kafka() -> Iterator[Node]:
    with temporary("tests") as node:
        yield node


@pytest.fixture
def place(kafka: Node) -> Place:
    return make_place(kafka.bootstrap)


def make_place(bootstrap: str, partitions: int = 4) -> Place:
    # Here, so that unit tests load no client.
    from deploy.kafka import topics  # noqa: PLC0415
    from worker.broker import KafkaLink  # noqa: PLC0415

    name = f"t{uuid.uuid4().hex[:8]}"
    link = KafkaLink(bootstrap, client_id=name, patience=20)
    made = Place(link, f"{name}.group", f"{name}.events", f"{name}.verdicts", f"{name}.dead-letters", partitions)
    topics.create(bootstrap, (made.input, made.verdicts, made.dead_letters), partitions)
    return made
