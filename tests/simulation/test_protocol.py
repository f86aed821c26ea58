"""Exactly once holds in whatever order hypothesis and chance can think of; and each planted bug is found."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.simulation.machine import Protocol
from tests.simulation.plants import PLANTS
from tests.simulation.simulation import Simulation, ViolationError, wander

if TYPE_CHECKING:
    from tests.simulation.process import Parts

SEARCH = settings(
    max_examples=150,
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
        with Simulation() as simulation:
            wander(simulation, random.Random(seed), 400)


@pytest.mark.parametrize("parts", PLANTS.values(), ids=PLANTS)
def test_a_planted_bug_is_found(parts: Parts) -> None:
    machine = type("Planted", (Protocol,), {"parts": parts})
    search = settings(SEARCH, max_examples=2000, phases=[Phase.generate])

    with pytest.raises(ViolationError):
        run_state_machine_as_test(machine, settings=search)
