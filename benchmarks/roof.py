"""The roof: what one large product reaches on this machine, measured in the same run as what is compared with it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import torch

from benchmarks.results import Entry, record

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

GPU_SIZE: Final = 8192
CPU_SIZE: Final = 2048
_ROUNDS: Final = 5
_TERA: Final = 1e12


def rate(product: Callable[[], object], size: int, *, repeats: int) -> float:
    """Operations a second of a product of `size`^3: the best of a few rounds, on random numbers."""
    on_gpu = torch.cuda.is_available()
    best = float("inf")
    for _ in range(_ROUNDS + 1):  # the first also warms up
        if on_gpu:
            torch.cuda.synchronize()
        begun = time.perf_counter()
        for _ in range(repeats):
            product()
        if on_gpu:
            torch.cuda.synchronize()
        best = min(best, (time.perf_counter() - begun) / repeats)
    return 2 * size**3 / best


def cpu() -> float:
    """float32 operations a second on this processor, with torch's present number of threads."""
    left, right = torch.randn(CPU_SIZE, CPU_SIZE), torch.randn(CPU_SIZE, CPU_SIZE)
    return rate(lambda: left @ right, CPU_SIZE, repeats=4)


def bf16() -> float:
    """bfloat16 operations a second on the GPU."""
    left, right = (torch.randn(GPU_SIZE, GPU_SIZE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return rate(lambda: left @ right.T, GPU_SIZE, repeats=20)


def fp8() -> float:
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

    return max(
        rate(lambda: product(one), GPU_SIZE, repeats=20),
        rate(lambda: product(each), GPU_SIZE, repeats=20),
    )


def main() -> None:
    """Measure, print, record."""
    if torch.cuda.is_available():
        device, rates = torch.cuda.get_device_name(), {"bf16": bf16(), "fp8": fp8()}
    else:
        device, rates = None, {"cpu": cpu()}
    entries = [Entry(f"roof/{kind}/tflops", "TFLOP/s", round(rate / _TERA, 3)) for kind, rate in rates.items()]
    for entry in entries:
        print(entry.name, entry.value)
    print(record("roof", entries, device=device))


if __name__ == "__main__":
    main()
