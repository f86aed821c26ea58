"""The GPU's own figures: memory, and, where its management library is installed, load, power and temperature."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class GpuState:
    """Bytes of the device (used, total) and of this process (allocated, reserved); what is None is not known.

    `halvings` is how often the engine ran out of memory and halved its token budget.
    """

    used: int
    total: int
    allocated: int
    reserved: int
    utilization: float | None = None
    watts: float | None = None
    celsius: float | None = None
    halvings: int = 0


def state(halvings: int = 0) -> GpuState | None:
    """Ask the GPU that this process uses; None without one. Takes about a millisecond, from any thread."""
    if not torch.cuda.is_available():
        return None
    free, total = torch.cuda.mem_get_info()
    percent, milliwatts = _asked(torch.cuda.utilization), _asked(torch.cuda.power_draw)
    return GpuState(
        used=total - free,
        total=total,
        allocated=torch.cuda.memory_allocated(),
        reserved=torch.cuda.memory_reserved(),
        utilization=None if percent is None else percent / 100,
        watts=None if milliwatts is None else milliwatts / 1000,
        celsius=_asked(torch.cuda.temperature),
        halvings=halvings,
    )


def limit_memory(share: float) -> None:
    """Let this process allocate no more than a share of the GPU's memory, where there is a GPU."""
    if torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(share)


def _asked(question: Callable[[], int]) -> float | None:
    # The library, or a device's answer, may be missing (in a container, for a slice of a GPU): then it is not known.
    with contextlib.suppress(RuntimeError, ModuleNotFoundError, _management_error()):
        return float(question())
    return None


def _management_error() -> type[Exception]:
    try:
        import pynvml  # noqa: PLC0415 it may be missing
    except ModuleNotFoundError:
        return RuntimeError
    error: type[Exception] = pynvml.NVMLError
    return error
