"""Workers, traffic and a watch for a test; with a model of no sense but the real shape."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from tests.integration.harness import READY_WITHIN, Traffic, Watch, WorkerProcess, until
from tests.integration.parts import Parts
from tests.integration.tiny import build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Place

PARTS = Parts()


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture
def start(place: Place, bundle: Path, tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Start workers; all are gone after the test."""
    started: list[WorkerProcess] = []
    numbers = itertools.count()

    def start_one(
        instance: str = "one",
        *,
        ready: bool = True,
        parts: Parts = PARTS,
        prepare: Callable[[], None] | None = None,
        **settings: str,
    ) -> WorkerProcess:
        log = tmp_path / f"worker-{next(numbers)}.log"
        worker = WorkerProcess(place, bundle, log, instance, settings, parts, *([prepare] if prepare else []))
        started.append(worker)
        if ready:
            until(worker.is_ready, within=READY_WITHIN)
        return worker

    try:
        yield start_one
    finally:
        for worker in started:
            worker.kill()
            print(f"{worker.log.name}:\n{worker.said()[-4000:]}")  # noqa: T201 pytest shows it where the test has failed


@pytest.fixture
def watch(place: Place) -> Iterator[Watch]:
    watch = Watch(place)
    try:
        yield watch
    finally:
        watch.close()


@pytest.fixture
def traffic(place: Place) -> Traffic:
    return Traffic(place)
