"""Each bug that others shipped in this place is found on the real cluster when it is planted; without it, all holds."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.delivery import plants
from tests.delivery.observed import SlowJudge, Tripwires
from tests.delivery.stage import Load, Stage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from deploy.kafka.cluster import Cluster

pytestmark = [pytest.mark.broker, pytest.mark.long]
LOAD = Load(total=4000, rate=300)
# A transaction must outlive the time for which it is held (observed.HOLD), or it is rolled back for being late.
TIMEOUTS = {"transaction_timeout": "15", "session_timeout": "16"}
_NEVER = SlowJudge(every=1, seconds=300)
_OFTEN = SlowJudge(every=5, seconds=6)


def _tripwires(stage: Stage) -> Tripwires:
    return Tripwires(stage.folder / "places", stage.folder / "armed")


def _hold_in_a_transaction(stage: Stage, plant: tuple[Callable[[], None], ...]) -> None:
    tripwires = _tripwires(stage)
    stage.start("one", changes=(*plant, tripwires))
    stage.feed.start()
    stage.flowing()
    tripwires.arm("hold send entered")
    stage.until(tripwires.has_sprung, 20, "held")


def killed_while_it_publishes(stage: Stage, *plant: Callable[[], None]) -> None:
    tripwires = _tripwires(stage)
    stage.start("one", changes=(*plant, tripwires))
    stage.feed.start()
    stage.flowing()
    tripwires.arm("kill ProduceRequest sent")
    stage.until(lambda: not stage.workers["one"].is_running(), 20, "killed as it publishes")
    stage.start("one", changes=(), ready=False)
    stage.flowing()


def killed_and_started_again(stage: Stage, *plant: Callable[[], None]) -> None:
    stage.start("one", changes=plant)
    stage.feed.start()
    stage.flowing()
    stage.end("one", signal.SIGTERM)
    stage.start("one", changes=())
    stage.flowing()


def held_in_a_transaction_while_another_joins(stage: Stage, *plant: Callable[[], None]) -> None:
    _hold_in_a_transaction(stage, plant)
    stage.start("two", changes=())
    stage.wait(8)
    stage.flowing()


def refused_while_another_is_slow_and_dies(stage: Stage, *plant: Callable[[], None]) -> None:
    _hold_in_a_transaction(stage, plant)
    stage.start("two", changes=(_NEVER,))  # it takes partitions, and commits nothing of them
    stage.wait(10)
    stage.end("two", signal.SIGKILL)
    stage.flowing()


def judging_while_another_joins(stage: Stage, *plant: Callable[[], None]) -> None:
    stage.start("one", changes=(*plant, _OFTEN))
    stage.feed.start()
    stage.wait(3)
    stage.start("two", changes=())
    stage.wait(12)


SCENES = {
    "commit before publish": (killed_while_it_publishes, plants.commits_before_it_publishes),
    "offset off by one": (killed_and_started_again, plants.commits_the_last_offset_read),
    "metadata taken at commit time": (held_in_a_transaction_while_another_joins, plants.claims_at_commit_time),
    "stale offsets after an abort": (
        refused_while_another_is_slow_and_dies,
        plants.keeps_the_offsets_of_an_aborted_transaction,
    ),
    "in-flight batch of a revoked partition committed": (
        judging_while_another_joins,
        plants.commits_what_is_in_flight_of_a_revoked_partition,
    ),
}


@pytest.mark.parametrize("how", ["planted", "as it is"])
@pytest.mark.parametrize("bug", SCENES)
def test_a_bug_is_found_where_it_is_planted_and_only_there(
    cluster: Cluster, bundle: Path, tmp_path: Path, bug: str, how: str
) -> None:
    scene, plant = SCENES[bug]

    with Stage(cluster, bundle, tmp_path, LOAD, settings=TIMEOUTS) as stage:
        scene(stage, *([plant] if how == "planted" else []))
        found = stage.finish()

    assert found["exactly_once"] is (how == "as it is"), found
