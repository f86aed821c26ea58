"""The GPU's readings, and those that are missing. A real one answers in tests/gpu only."""

from __future__ import annotations

import pytest
import torch

from worker.engine import device


def raises(error: Exception) -> object:
    def ask() -> int:
        raise error

    return ask


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    answers = {
        "is_available": True, "mem_get_info": (30, 80), "memory_allocated": 20, "memory_reserved": 25,
        "utilization": 93, "power_draw": 650_500, "temperature": 71,
    }  # fmt: skip
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda answer=answer: answer)
    return monkeypatch


def test_its_answers_are_told_in_base_units(gpu: pytest.MonkeyPatch) -> None:
    del gpu

    assert device.state(halvings=2) == device.GpuState(
        used=50, total=80, allocated=20, reserved=25, utilization=0.93, watts=650.5, celsius=71.0, halvings=2
    )


@pytest.mark.parametrize(
    "error", [ModuleNotFoundError("pynvml"), RuntimeError("no driver"), device._management_error()(3)]
)
def test_what_its_driver_does_not_tell_is_not_known(gpu: pytest.MonkeyPatch, error: Exception) -> None:
    for name in ("utilization", "power_draw", "temperature"):
        gpu.setattr(torch.cuda, name, raises(error))

    state = device.state()

    assert state is not None
    assert (state.used, state.utilization, state.watts, state.celsius) == (50, None, None, None)


def test_without_one_there_is_nothing_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert device.state() is None
