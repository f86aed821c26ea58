"""A cluster for the tests of this folder, started when the first asks for it, gone with them however they end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from deploy.kafka.cluster import Cluster
from deploy.kafka.node import scratch
from tests.integration.tiny import build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with scratch("tests") as folder, Cluster(folder, proxied=True) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("bundle") / "tiny")
