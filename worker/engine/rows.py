"""Kernels that take a row at a time, and the library's product in fp8."""

from __future__ import annotations

from functools import cache

import torch
import triton  # type: ignore[import-untyped]
from torch import Tensor

from worker.engine import programs
from worker.engine.reference import FP8


def row_scale(hidden: Tensor, epsilon: float) -> Tensor:
    """See `reference`."""
    rows, width = hidden.shape
    scale = torch.empty(rows, device=hidden.device, dtype=torch.float32)
    programs.row_scale[(rows,)](hidden, scale, epsilon, WIDTH=width, BLOCK=triton.next_power_of_2(width), num_warps=4)
    return scale


def swiglu(gate_up: Tensor, scale: Tensor, out: Tensor, stripe: int) -> None:
    """silu(gate) * up of a product that is there: [n, 2 * inner] into `out` [n, inner]."""
    rows, inner = out.shape
    programs.swiglu[(rows, triton.cdiv(inner, 1024))](
        gate_up, scale, out, INNER=inner, STRIPE=stripe, BLOCK=1024, num_warps=4
    )


def swiglu_fp8(gate_up: Tensor, stripe: int) -> tuple[Tensor, Tensor]:
    """silu(gate) * up of a product that is there, in fp8, and what each row was divided by, float32 [n]."""
    rows, inner = gate_up.shape[0], gate_up.shape[1] // 2
    out = torch.empty(rows, inner, device=gate_up.device, dtype=FP8)
    scale = torch.empty(rows, device=gate_up.device, dtype=torch.float32)
    block = triton.next_power_of_2(inner)
    programs.swiglu_fp8[(rows,)](gate_up, out, scale, INNER=inner, STRIPE=stripe, BLOCK=block, num_warps=8)
    return out, scale


def quantise(values: Tensor, most: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [n, width] in fp8 by the largest value of each, and what each was divided by, float32 [n]."""
    rows, width = values.shape
    out = torch.empty(rows, width, device=values.device, dtype=FP8)
    scale = torch.empty(rows, device=values.device, dtype=torch.float32)
    programs.quantise[(rows, triton.cdiv(width, 2048))](values, most, out, scale, WIDTH=width, BLOCK=2048, num_warps=4)
    return out, scale


def norm_fp8(hidden: Tensor, epsilon: float, factor: float) -> Tensor:
    """See `reference`."""
    return add_norm_fp8(hidden, None, None, epsilon, factor)


def add_norm_fp8(hidden: Tensor, update: Tensor | None, scale: Tensor | None, epsilon: float, factor: float) -> Tensor:
    """Add an update (times its rows' `scale`) to `hidden` in place, and give its RMSNorm in fp8, times `factor`."""
    rows, width = hidden.shape
    out = torch.empty(rows, width, device=hidden.device, dtype=FP8)
    options = {"HAS_UPDATE": update is not None, "HAS_SCALE": scale is not None, "num_warps": 4}
    block = triton.next_power_of_2(width)
    update, scale = (hidden if one is None else one for one in (update, scale))  # not read
    programs.add_norm_fp8[(rows,)](hidden, update, scale, out, epsilon, factor, WIDTH=width, BLOCK=block, **options)
    return out


def product_fp8(left: Tensor, right: Tensor, scale: Tensor) -> Tensor:
    """See `reference`. cuBLASLt's own: one scale for all is what it does fastest."""
    product: Tensor = torch._scaled_mm(  # noqa: SLF001 # torch has no public name for it
        left, right.T, scale_a=scale, scale_b=_one(scale.device), out_dtype=torch.bfloat16, use_fast_accum=True
    )
    return product


@cache
def _one(device: torch.device) -> Tensor:
    return torch.ones((), device=device)
