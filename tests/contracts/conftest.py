"""A world for each test: in lists and in Kafka, or in Kafka alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contracts.worlds import InKafka, InKafkaBySinkProcess, InLists, World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Place


@pytest.fixture(
    params=["lists", *(pytest.param(kind, marks=pytest.mark.broker) for kind in ("kafka", "kafka, sink process"))]
)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "lists":
        yield InLists()
        return
    kind = InKafkaBySinkProcess if request.param == "kafka, sink process" else InKafka
    world = kind(request.getfixturevalue("place"))
    try:
        yield world
    finally:
        world.close()


@pytest.fixture
def in_kafka(place: Place) -> Iterator[InKafka]:
    world = InKafka(place)
    try:
        yield world
    finally:
        world.close()
