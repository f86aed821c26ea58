"""Growth is told from noise, from a level, and from what never changes."""

from __future__ import annotations

import random

from tests.delivery.trend import trend

SECONDS = [5.0 * n for n in range(600)]


def wavering(slope_per_hour: float, noise: float) -> list[float]:
    chance = random.Random(1)
    return [100 + slope_per_hour * at / 3600 + chance.gauss(0, noise) for at in SECONDS]


def test_a_leak_is_growth() -> None:
    assert trend(SECONDS, wavering(20, 2)).is_growth


def test_noise_about_a_level_is_none() -> None:
    assert not trend(SECONDS, wavering(0, 2)).is_growth


def test_what_never_changes_is_none() -> None:
    assert not trend(SECONDS, [11.0] * len(SECONDS)).is_growth


def test_a_slope_smaller_than_the_noise_is_none() -> None:
    assert not trend(SECONDS, wavering(1, 5)).is_growth
