"""The roof: what one large product reaches on this machine, measured in the same run as what is compared with it."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from training.results import Entry, record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

GPU_SIZE: Final = 8192
CPU_SIZE: Final = 2048
_TERA: Final = 1e12


@dataclass(frozen=True, slots=True)
class Rate:
    """Operations a second: in the best short burst, which is the roof, and kept up until heat sets the clock."""

    burst: float
    sustained: float


def rate(product: Callable[[], object], size: int, *, seconds: float) -> Rate:
    """Rate of a product of `size`^3, on random numbers."""
    on_gpu = torch.cuda.is_available()
    repeats = 20 if on_gpu else 2
    times: list[float] = []
    product()
    while sum(times) < seconds:
        if on_gpu:
            torch.cuda.synchronize()
        begun = time.perf_counter()
        for _ in range(repeats):
            product()
        if on_gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    operations = 2 * size**3 * repeats
    return Rate(operations / min(times), operations / statistics.median(times[len(times) // 3 :]))


def cpu() -> Rate:
    """float32 operations a second on this processor, with torch's present number of threads."""
    left, right = torch.randn(CPU_SIZE, CPU_SIZE), torch.randn(CPU_SIZE, CPU_SIZE)
    return rate(lambda: left @ right, CPU_SIZE, seconds=2)


def bf16() -> Rate:
    """bfloat16 operations a second on the GPU."""
    left, right = (torch.randn(GPU_SIZE, GPU_SIZE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return rate(lambda: left @ right.T, GPU_SIZE, seconds=2)


def fp8() -> Rate:
    """fp8 operations a second on the GPU: the better of one scale for all and one for each row."""
    left, right = (torch.randn(GPU_SIZE, GPU_SIZE, device="cuda").to(torch.float8_e4m3fn) for _ in range(2))
    one, each = torch.ones((), device="cuda"), torch.ones(GPU_SIZE, 1, device="cuda")

    def product(scale: Tensor) -> Tensor:
        made: Tensor = torch._scaled_mm(  # noqa: SLF001 # torch has no public name for it
            left,
            right.T,
            scale_a=scale,
            scale_b=scale.mT if scale.dim() else scale,
            out_dtype=torch.bfloat16,
            use_fast_accum=True,
        )
        return made

    rates = [rate(lambda: product(one), GPU_SIZE, seconds=2), rate(lambda: product(each), GPU_SIZE, seconds=2)]
    return max(rates, key=lambda rate: rate.burst)


def as_entries(rates: Mapping[str, Rate]) -> list[Entry]:
    """The roofs as results."""
    return [
        Entry(f"roof/{kind}/tflops", "TFLOP/s", round(rate.burst / _TERA, 3), f"sustained {rate.sustained / _TERA:.3f}")
        for kind, rate in rates.items()
    ]


def main() -> None:
    """Measure, print, record."""
    if torch.cuda.is_available():
        device, rates = torch.cuda.get_device_name(), {"bf16": bf16(), "fp8": fp8()}
    else:
        device, rates = None, {"cpu": cpu()}
    entries = as_entries(rates)
    for entry in entries:
        print(entry.name, entry.value)
    print(record("roof", entries, device=device))


if __name__ == "__main__":
    main()
