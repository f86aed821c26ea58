"""Exactly once holds in whatever order hypothesis and chance can think of; and each planted bug is found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.simulation.machine import Protocol
from tests.simulation.plants import PLANTS
from tests.simulation.simulation import Simulation, ViolationError, wander

if TYPE_CHECKING:
    from tests.simulation.process import Parts

SEARCH = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def test_nothing_is_lost_doubled_or_disordered_in_any_history_that_hypothesis_finds() -> None:
    run_state_machine_as_test(Protocol, settings=SEARCH)


@pytest.mark.parametrize("first", range(0, 200, 100))
def test_nothing_is_lost_doubled_or_disordered_in_random_histories(first: int) -> None:
    for seed in range(first, first + 100):
        wander(seed)


@pytest.mark.parametrize("is_cooperative", [False, True])
def test_what_a_member_held_is_not_kept_through_a_generation_that_it_missed(*, is_cooperative: bool) -> None:
    with Simulation(is_cooperative=is_cooperative) as simulation:
        late, other = simulation.start("a"), simulation.start("b")
        simulation.flow(150, but=late, held_at=())
        assert late.consumer
        [mine] = late.consumer.assignment()
        for _ in range(4):
            simulation.feed(mine.partition, 2)
        assert simulation.let(late, "put")
        for rotation in (1, 0):  # to the other member, which judges all of it, and back
            simulation.cluster.group.shake(rotation)
            simulation.flow(60, but=late, held_at=("put", "join") if rotation else ("put",))

        simulation.heal()

    assert other.is_alive
    assert late.is_alive


@pytest.mark.parametrize("parts", PLANTS.values(), ids=PLANTS)
def test_a_planted_bug_is_found(parts: Parts) -> None:
    with pytest.raises(ViolationError):
        _wander_on(500, parts)


def _wander_on(histories: int, parts: Parts) -> None:
    for seed in range(histories):
        wander(seed, parts)
