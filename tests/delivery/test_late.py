"""A commit that comes late, in short: nothing is lost or doubled, and a worker that sends its commit again is found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from deploy.kafka.cluster import Cluster
from deploy.kafka.node import scratch
from tests.delivery import late, plants
from tests.delivery.frames import FrameProxy
from tests.delivery.late import LateCopies
from tests.delivery.stage import Load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any

    Play = Callable[..., dict[str, Any]]

pytestmark = pytest.mark.broker
# Every third commit comes late, and every second transaction is held open meanwhile.
OFTEN = LateCopies(every=3, delay=(0.05, 0.3), jitter=0.3)
LOAD = Load(total=1200, rate=100)


@pytest.fixture
def play(bundle: Path, tmp_path: Path) -> Iterator[Play]:
    """On one broker of transaction version 1: version 2 refuses a late commit by itself."""
    with (
        scratch("late") as folder,
        FrameProxy(seed=3) as frames,
        Cluster(folder, proxied=True, brokers=1, transaction_version=1, in_front=frames.between) as cluster,
    ):
        yield lambda *changes: late.play(cluster, frames, bundle, tmp_path, LOAD, OFTEN, changes)


def test_nothing_is_lost_or_doubled_when_commits_come_late(play: Play) -> None:
    found = play()

    assert found["faults"]["struck"]["END_TXN late copy"] >= 5
    assert (found["lost"], found["duplicated"], found["reordered"]) == (0, 0, 0), found


@pytest.mark.long
def test_a_worker_that_sends_its_commit_again_under_the_same_epoch_is_found(play: Play) -> None:
    found = play(plants.sends_the_end_again)

    assert found["lost"] or found["duplicated"], found
