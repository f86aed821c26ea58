"""Products with what follows them, in one kernel or in two: which is quicker is found by measuring.

A library's product may be the faster one, but what it writes must be read again. Each kind of work has its ways; the
first time that a number of rows comes by, all are tried, and one whose answer differs from the library's is left out.
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
from worker.engine.rows import add_norm_fp8, norm_fp8, product_fp8, quantise, swiglu, swiglu_fp8

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True)
class Fused:
    """One kernel for a product and what follows: its tile [rows, columns] and depth, its stages, its threads in warps.

    `group` tiles of rows take turns at the same columns, which then stay in the cache.
    """

    tile: int
    wide: int
    depth: int
    stages: int
    warps: int
    group: int


@dataclass(frozen=True, slots=True)
class Library:
    """A library's product and a kernel after it, so many rows at a time."""

    rows: int = 1 << 30


Way = Fused | Library

# Measured on an H100: see docs/experiments.md.
GATED: Final[Sequence[Way]] = (
    Library(),
    Library(1536),
    Fused(128, 256, 64, 4, 8, 16),
)
GATED_FP8: Final[Sequence[Way]] = (Library(), Fused(128, 256, 128, 4, 8, 8))
ADDED_FP8: Final[Sequence[Way]] = (
    Library(),
    Fused(128, 256, 128, 3, 8, 8),
    Fused(128, 128, 128, 3, 4, 8),
    Fused(64, 256, 128, 3, 4, 8),
)

_HOPPER: Final = 9
_IN_A_ROW: Final = 4
_ROUNDING: Final = 0.02
_ROUNDING_FP8: Final = 0.05
_CHOSEN: Final[dict[tuple[Any, ...], Way]] = {}


def gated(hidden: Tensor, scale: Tensor, gate_up: Tensor, stripe: int) -> Tensor:
    """See `reference`."""

    def run(way: Way) -> Tensor:
        return gated_by(way, hidden, scale, gate_up, stripe)

    return run(_chosen(("gated", stripe), GATED, run, hidden, gate_up, _ROUNDING, can_fuse=_is_tile(stripe)))


def gated_by(way: Way, hidden: Tensor, scale: Tensor, gate_up: Tensor, stripe: int) -> Tensor:
    """`gated`, in one of its ways."""
    out = torch.empty(len(hidden), len(gate_up) // 2, device=hidden.device, dtype=hidden.dtype)
    if isinstance(way, Fused):
        _fuse_gated(way, hidden, scale, None, gate_up, out)
    else:
        for some, factors, into in zip(*(torch.split(part, way.rows) for part in (hidden, scale, out)), strict=True):
            swiglu(some @ gate_up.T, factors, into, stripe)
    return out


def gated_fp8(normed: Tensor, gate_up: Tensor, scale: Tensor, stripe: int) -> tuple[Tensor, Tensor]:
    """See `reference`."""

    def run(way: Way) -> tuple[Tensor, Tensor]:
        return gated_fp8_by(way, normed, gate_up, scale, stripe)

    def plain(answer: tuple[Tensor, Tensor]) -> Tensor:
        return answer[0].float() * answer[1][:, None]

    can_fuse = _is_tile(stripe)
    return run(
        _chosen(("gated_fp8", stripe), GATED_FP8, run, normed, gate_up, _ROUNDING_FP8, can_fuse=can_fuse, plain=plain)
    )


def gated_fp8_by(way: Way, normed: Tensor, gate_up: Tensor, scale: Tensor, stripe: int) -> tuple[Tensor, Tensor]:
    """`gated_fp8`, in one of its ways."""
    if not isinstance(way, Fused):
        return swiglu_fp8(product_fp8(normed, gate_up, scale), stripe)
    most = torch.zeros(len(normed), device=normed.device)
    inner = torch.empty(len(normed), len(gate_up) // 2, device=normed.device, dtype=torch.bfloat16)
    _fuse_gated(way, normed, scale, most, gate_up, inner)
    return quantise(inner, most)


def add_product_norm_fp8(  # noqa: PLR0913, PLR0917 # one kernel's worth of operands
    hidden: Tensor, left: Tensor, right: Tensor, scale: Tensor, scales: Tensor | None, epsilon: float, factor: float
) -> Tensor:
    """See `reference`."""

    def run(way: Way) -> Tensor:
        return add_product_norm_fp8_by(way, hidden, left, right, scale, scales, epsilon, factor)

    def on_another(way: Way) -> Tensor:
        return add_product_norm_fp8_by(way, hidden.clone(), left, right, scale, scales, epsilon, factor)

    can_fuse = right.shape[0] % 256 == 0 and right.shape[1] % 128 == 0
    return run(_chosen(("add_product_norm_fp8",), ADDED_FP8, on_another, left, right, _ROUNDING_FP8, can_fuse=can_fuse))


def add_product_norm_fp8_by(  # noqa: PLR0913, PLR0917 # one kernel's worth of operands
    way: Way,
    hidden: Tensor,
    left: Tensor,
    right: Tensor,
    scale: Tensor,
    scales: Tensor | None,
    epsilon: float,
    factor: float,
) -> Tensor:
    """`add_product_norm_fp8`, in one of its ways."""
    if not isinstance(way, Fused):
        return add_norm_fp8(hidden, product_fp8(left, right, scale), scales, epsilon, factor)
    (rows, deep), width = left.shape, len(right)
    tiles = triton.cdiv(rows, way.tile) * (width // way.wide)
    programs.add_product_fp8[(min(tiles, _multiprocessors(left.device)),)](
        TensorDescriptor.from_tensor(left, [way.tile, way.depth]),
        TensorDescriptor.from_tensor(right, [way.wide, way.depth]),
        scale,
        scale if scales is None else scales,
        hidden,
        rows,
        WIDTH=width,
        DEEP=deep,
        TILE=way.tile,
        WIDE=way.wide,
        DEPTH=way.depth,
        GROUP=way.group,
        HAS_SCALES=scales is not None,
        num_warps=way.warps,
        num_stages=way.stages,
    )
    return norm_fp8(hidden, epsilon, factor)


def _fuse_gated(  # noqa: PLR0913, PLR0917 # one kernel's worth of operands
    way: Fused, rows: Tensor, scale: Tensor, most: Tensor | None, gate_up: Tensor, out: Tensor
) -> None:
    (count, width), inner, stripe = rows.shape, out.shape[1], way.wide // 2
    tiles = triton.cdiv(count, way.tile) * (inner // stripe)
    programs.gated[(min(tiles, _multiprocessors(rows.device)),)](
        TensorDescriptor.from_tensor(rows, [way.tile, way.depth]),
        TensorDescriptor.from_tensor(gate_up, [way.wide, way.depth]),
        scale,
        scale if most is None else most,
        TensorDescriptor.from_tensor(out, [way.tile, stripe]),
        count,
        INNER=inner,
        WIDTH=width,
        TILE=way.tile,
        STRIPE=stripe,
        DEPTH=way.depth,
        GROUP=way.group,
        IS_FP8=most is not None,
        num_warps=way.warps,
        num_stages=way.stages,
    )


def _is_tile(stripe: int) -> bool:
    return all(2 * stripe == way.wide for way in GATED if isinstance(way, Fused))


def _chosen(  # noqa: PLR0913, PLR0917 # plain values, each of its own
    kind: tuple[Any, ...],
    ways: Sequence[Way],
    run: Callable[[Way], Any],
    left: Tensor,
    right: Tensor,
    rounding: float,
    *,
    can_fuse: bool,
    plain: Callable[[Any], Tensor] = Tensor.float,
) -> Way:
    """The quickest way for a product of these sizes here; the choice is kept."""
    key = (*kind, len(left), *right.shape, left.device)
    if key not in _CHOSEN:
        can_fuse = can_fuse and torch.cuda.get_device_capability(left.device)[0] == _HOPPER
        _CHOSEN[key] = _quickest([way for way in ways if can_fuse or isinstance(way, Library)], run, rounding, plain)
    return _CHOSEN[key]


def _quickest(ways: Sequence[Way], run: Callable[[Way], Any], rounding: float, plain: Callable[[Any], Tensor]) -> Way:
    """The way that takes the least time, by a few runs of each. The first is the library's, and is what is right."""
    if len(ways) == 1:
        return ways[0]
    right = plain(run(ways[0]))
    times = {}
    for way in ways:
        try:
            error = (plain(run(way)) - right).norm()
            if bool(error <= rounding * right.norm()):
                times[way] = _milliseconds(lambda way=way: run(way))  # type: ignore[misc]
        except triton.OutOfResources:  # a GPU of less shared memory
            continue
    return min(times, key=times.__getitem__)


def _milliseconds(run: Callable[[], object], rounds: int = 8) -> float:
    """The best of some runs of a few after one another, as a graph: so that launches cost what they will cost."""
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
