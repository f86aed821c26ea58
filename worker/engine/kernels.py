"""The kernels: each does on an NVIDIA GPU what its namesake in `reference` does. `programs` has their code.

A row of the residual stream is normalised nowhere: a norm's weights are in the matrix that follows, its factor is a
number a row, which whoever reads the product applies as it loads. So a norm costs one read, and nothing is written.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import torch
import triton  # type: ignore[import-untyped]
from torch import Tensor

from worker.engine import programs
from worker.engine.fused import add_product_norm_fp8, gated, gated_fp8
from worker.engine.reference import FP8
from worker.engine.rows import norm_fp8, product_fp8, row_scale

if TYPE_CHECKING:
    from worker.engine.reference import Rope
    from worker.engine.weights import Shape

__all__ = [
    "add_product_norm_fp8",
    "attend",
    "attend_ends",
    "dequantise",
    "gated",
    "gated_fp8",
    "norm_fp8",
    "product_fp8",
    "row_scale",
]

# Measured on an H100: see docs/experiments.md.
ATTEND: Final = {"TILE": 16, "KEYS": 32, "num_warps": 4, "num_stages": 1}
ENDS: Final = {"KEYS": 32, "num_warps": 4, "num_stages": 1}
_LOG2_E: Final = math.log2(math.e)


def attend(  # noqa: PLR0913, PLR0917 # one kernel's worth of operands
    qkv: Tensor,
    scale: Tensor | None,
    starts: Tensor,
    rope: Rope,
    shape: Shape,
    factor: float | None = None,
    shared: Tensor | None = None,
) -> Tensor:
    """See `reference`. The number of rows must be a multiple of 32."""
    rows = len(qkv)
    out = torch.empty(rows, shape.heads * shape.head, device=qkv.device, dtype=FP8 if factor else qkv.dtype)
    programs.attend[(rows // ATTEND["TILE"], shape.key_heads)](
        qkv,
        qkv if scale is None else scale,
        starts,
        rope.cosine if shared is None else shared,
        rope.cosine,
        rope.sine,
        out,
        1.0 if factor is None else factor,
        _LOG2_E / math.sqrt(shape.head),
        rope.reach,
        HAS_SCALE=scale is not None,
        HAS_SHARED=shared is not None,
        IS_FP8=factor is not None,
        **_sizes(shape),
        **ATTEND,
    )
    return out


def attend_ends(  # noqa: PLR0913, PLR0917 # one kernel's worth of operands
    query: Tensor,
    key_value: Tensor,
    scale: Tensor,
    starts: Tensor,
    ends: Tensor,
    rope: Rope,
    shape: Shape,
    shared: Tensor | None = None,
) -> Tensor:
    """See `reference`."""
    out = torch.empty_like(query)
    sizes = _sizes(shape)
    programs.attend_ends[(len(query), shape.key_heads)](
        query,
        key_value,
        scale,
        starts,
        ends,
        rope.cosine if shared is None else shared,
        rope.cosine,
        rope.sine,
        out,
        _LOG2_E / math.sqrt(shape.head),
        rope.reach,
        ROWS=max(16, sizes["GROUP_BLOCK"]),
        HAS_SHARED=shared is not None,
        **sizes,
        **ENDS,
    )
    return out


def dequantise(codes: Tensor, scales: Tensor, levels: Tensor, gain: Tensor | None, out: Tensor) -> None:
    """See `reference`."""
    blocks = 32
    programs.dequantise[(triton.cdiv(len(scales), blocks),)](
        codes,
        scales,
        levels,
        levels if gain is None else gain,
        out,
        len(scales),
        WIDTH=out.shape[1],
        BLOCKS=blocks,
        HAS_GAIN=gain is not None,
        num_warps=4,
    )


def _sizes(shape: Shape) -> dict[str, int]:
    group, half = shape.heads // shape.key_heads, shape.head // 2
    return {
        "HEADS": shape.heads,
        "KEY_HEADS": shape.key_heads,
        "GROUP_BLOCK": triton.next_power_of_2(group),
        "HALF": half,
        "HALF_BLOCK": max(16, triton.next_power_of_2(half)),
    }
