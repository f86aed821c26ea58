"""The kernels: each does what its twin of the same name does, on an NVIDIA GPU and fast. `programs` has their code.

A row of the residual stream is normalised nowhere: a norm's weights are in the matrix that follows, its factor is a
number a row, which whoever reads the product applies as it loads. So a norm costs one read, and nothing is written.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import torch
import triton  # type: ignore[import-untyped]
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor  # type: ignore[import-untyped]

from worker.engine import programs
from worker.engine.twins import FP8

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.engine.twins import Rope
    from worker.engine.weights import Shape

# Measured on an H100: see docs/decisions.md.
ATTEND: Final = {"TILE": 16, "KEYS": 32, "num_warps": 4, "num_stages": 1}
ENDS: Final = {"KEYS": 32, "num_warps": 4, "num_stages": 1}
_HOPPER: Final = 9
_FUSED_STRIPE: Final = 128
_DEPTH: Final = 64
_IN_A_ROW: Final = 4
_ROUNDING: Final = 0.02
_LOG2_E: Final = math.log2(math.e)


def row_scale(hidden: Tensor, epsilon: float) -> Tensor:
    """See the twin."""
    rows, width = hidden.shape
    scale = torch.empty(rows, device=hidden.device, dtype=torch.float32)
    programs.row_scale[(rows,)](hidden, scale, epsilon, WIDTH=width, BLOCK=triton.next_power_of_2(width), num_warps=4)
    return scale


def gated(hidden: Tensor, scale: Tensor, gate_up: Tensor, stripe: int) -> Tensor:
    """See the twin. How it is done is chosen by measuring, the first time that a number of rows comes by."""
    key = len(hidden), *gate_up.shape, hidden.device
    if key not in _CHOSEN:
        _CHOSEN[key] = _quickest(hidden, scale, gate_up, stripe)
    return _gated(hidden, scale, gate_up, stripe, _CHOSEN[key])


_CHOSEN: Final[dict[tuple[Any, ...], Fused | int]] = {}


@dataclass(frozen=True, slots=True)
class Fused:
    """One kernel for product and SwiGLU: its tile's rows, its stages, its threads in warps."""

    tile: int
    stages: int
    warps: int


_WHOLE: Final = 1 << 30
_WAYS: Final = (Fused(128, 4, 8), Fused(128, 3, 8), Fused(64, 4, 4), 1536, _WHOLE)
"""Ways of doing the MLP's first half: fused; or a library's product and a kernel after it, so many rows at a time."""


def _gated(hidden: Tensor, scale: Tensor, gate_up: Tensor, stripe: int, way: Fused | int) -> Tensor:
    rows, inner = len(hidden), len(gate_up) // 2
    out = torch.empty(rows, inner, device=hidden.device, dtype=hidden.dtype)
    if isinstance(way, Fused):
        _fused(hidden, scale, gate_up, out, stripe, way)
    else:
        for some, factors, into in zip(*(torch.split(part, way) for part in (hidden, scale, out)), strict=True):
            swiglu(some @ gate_up.T, factors, into, stripe)
    return out


def _fused(hidden: Tensor, scale: Tensor, gate_up: Tensor, out: Tensor, stripe: int, way: Fused) -> None:  # noqa: PLR0913, PLR0917 # one kernel's worth of operands
    rows, width = hidden.shape
    inner = out.shape[1]
    tiles = triton.cdiv(rows, way.tile) * (inner // stripe)
    programs.gated[(min(tiles, _multiprocessors(hidden.device)),)](
        TensorDescriptor.from_tensor(hidden, [way.tile, _DEPTH]),
        TensorDescriptor.from_tensor(gate_up, [2 * stripe, _DEPTH]),
        scale,
        TensorDescriptor.from_tensor(out, [way.tile, stripe]),
        rows,
        INNER=inner,
        WIDTH=width,
        TILE=way.tile,
        STRIPE=stripe,
        DEPTH=_DEPTH,
        GROUP=8,
        num_warps=way.warps,
        num_stages=way.stages,
    )


def _quickest(hidden: Tensor, scale: Tensor, gate_up: Tensor, stripe: int) -> Fused | int:
    """The way that takes the least time here, by a few runs of each; fused where the GPU and the shape bear it."""
    can_fuse = torch.cuda.get_device_capability(hidden.device)[0] == _HOPPER and stripe == _FUSED_STRIPE
    times: dict[Fused | int, float] = {}
    for way in _WAYS:
        if not can_fuse and isinstance(way, Fused):
            continue
        try:
            is_right = not isinstance(way, Fused) or _agrees(hidden, scale, gate_up, stripe, way)
            if is_right:
                times[way] = _seconds(lambda way=way: _gated(hidden, scale, gate_up, stripe, way))  # type: ignore[misc]
        except triton.OutOfResources:  # a GPU of less shared memory
            continue
    return min(times, key=times.__getitem__)


def _agrees(hidden: Tensor, scale: Tensor, gate_up: Tensor, stripe: int, way: Fused) -> bool:
    """Whether a fused way gives here what the library and a kernel after it give, but for rounding."""
    plain = _gated(hidden, scale, gate_up, stripe, _WHOLE).float()
    fused = _gated(hidden, scale, gate_up, stripe, way).float()
    return bool((fused - plain).norm() <= _ROUNDING * plain.norm())


def _seconds(run: Callable[[], object], rounds: int = 8) -> float:
    """The best of some runs of one after another, as a graph: so that launches cost what they will cost."""
    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # another model may be judging meanwhile
        for _ in range(_IN_A_ROW):
            run()
    begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    best = math.inf
    for _ in range(rounds):
        begun.record()
        graph.replay()
        ended.record()
        ended.synchronize()
        best = min(best, begun.elapsed_time(ended))
    return best


@cache
def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":
        return 4  # interpreted
    return torch.cuda.get_device_properties(device).multi_processor_count


def swiglu(gate_up: Tensor, scale: Tensor, out: Tensor, stripe: int) -> None:
    """silu(gate) * up of a product that is there: [n, 2 * inner] into `out` [n, inner]."""
    rows, inner = out.shape
    programs.swiglu[(rows, triton.cdiv(inner, 1024))](
        gate_up, scale, out, INNER=inner, STRIPE=stripe, BLOCK=1024, num_warps=4
    )


def swiglu_fp8(gate_up: Tensor, stripe: int) -> tuple[Tensor, Tensor]:
    """See the twin."""
    rows, inner = gate_up.shape[0], gate_up.shape[1] // 2
    out = torch.empty(rows, inner, device=gate_up.device, dtype=FP8)
    scale = torch.empty(rows, device=gate_up.device, dtype=torch.float32)
    block = triton.next_power_of_2(inner)
    programs.swiglu_fp8[(rows,)](gate_up, out, scale, INNER=inner, STRIPE=stripe, BLOCK=block, num_warps=8)
    return out, scale


def add_norm_fp8(hidden: Tensor, update: Tensor | None, scale: Tensor | None, epsilon: float, factor: float) -> Tensor:
    """See the twin."""
    rows, width = hidden.shape
    out = torch.empty(rows, width, device=hidden.device, dtype=FP8)
    options = {"HAS_UPDATE": update is not None, "HAS_SCALE": scale is not None, "num_warps": 4}
    block = triton.next_power_of_2(width)
    update, scale = (hidden if one is None else one for one in (update, scale))  # not read
    programs.add_norm_fp8[(rows,)](hidden, update, scale, out, epsilon, factor, WIDTH=width, BLOCK=block, **options)
    return out


def product_fp8(left: Tensor, right: Tensor, scale: Tensor) -> Tensor:
    """See the twin. cuBLASLt's own: one scale for all is what it does fastest."""
    product: Tensor = torch._scaled_mm(  # noqa: SLF001 # torch has no public name for it
        left, right.T, scale_a=scale, scale_b=_one(scale.device), out_dtype=torch.bfloat16, use_fast_accum=True
    )
    return product


@cache
def _one(device: torch.device) -> Tensor:
    return torch.ones((), device=device)


def attend(  # noqa: PLR0913, PLR0917 # one kernel's worth of operands
    qkv: Tensor,
    scale: Tensor | None,
    starts: Tensor,
    rope: Rope,
    shape: Shape,
    factor: float | None = None,
    shared: Tensor | None = None,
) -> Tensor:
    """See the twin. The number of rows must be a multiple of 32."""
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
    """See the twin."""
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
    """See the twin."""
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
