"""The kill matrix in short: a few faults on three brokers, each reader agreeing that nothing was lost or doubled."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.delivery import matrix
from tests.delivery.faults import catalogue
from tests.delivery.matrix import Cell
from tests.delivery.stage import Load

if TYPE_CHECKING:
    from pathlib import Path

    from deploy.kafka.cluster import Cluster

pytestmark = pytest.mark.broker


@pytest.mark.parametrize(
    "cell",
    [
        Cell("worker-sigkill", "cooperative", "steady"),
        pytest.param(Cell("coordinator-killed", "eager", "burst"), marks=pytest.mark.long),
        pytest.param(Cell("network-cut", "cooperative", "burst"), marks=pytest.mark.long),
    ],
    ids=lambda cell: cell.name,
)
def test_nothing_is_lost_or_doubled_and_order_is_kept(
    cluster: Cluster, bundle: Path, tmp_path: Path, cell: Cell
) -> None:
    short = replace(catalogue()[cell.fault], times=1)

    found = matrix.play(cluster, bundle, tmp_path, cell, Load(total=1000, rate=300), short)

    assert found["exactly_once"], found
    assert found["poison"] == found["dead_letters"] > 0
