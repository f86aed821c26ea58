"""Weights after rounding to NF4: the base that QLoRA training saw, without the library that made it.

Four bits a value, in blocks of 64 that share one scale; with double quantisation the scales are themselves 8-bit, in
blocks of 256. A test holds this against bitsandbytes: equal to the bit, but that its CPU build (not its CUDA one) gives
about two scales in a thousand a neighbour of the nearest 8-bit level.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Final

import torch
from torch import Tensor

BLOCK: Final = 64
"""Values that share a scale."""
_SCALES: Final = 256
"""Scales that share a scale of their own."""
_CELLS: Final = 32
"""Cells of a unit: the levels' middles lie further from each other than that."""
_AT_ONCE: Final = 1 << 14
"""On a CPU. They stay in the caches from one step to the next, and are few enough that PyTorch lets one thread do each
step: threads that share one wait for one another, and for whoever else wants the cores."""
_TINY: Final = 1e-38  # a block of zeros divides by this, not by zero

# The quantiles of a normal distribution, as the QLoRA paper fixes them.
LEVELS: Final = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)


def round_trip(weight: Tensor, *, double: bool) -> Tensor:
    """Quantise to NF4 and back, in the weight's own type. `double` is whether the scales were quantised too."""
    codes, scales = quantise(weight, double=double)
    levels, made = torch.tensor(LEVELS, device=weight.device), torch.empty(codes.shape, device=weight.device)
    size = _at_once(codes)
    parts = (torch.split(codes, size), torch.split(scales, size // BLOCK), torch.split(made, size))
    for code, scale, part in zip(*parts, strict=True):
        torch.mul(levels.index_select(0, code.int()).view(-1, BLOCK), scale[:, None], out=part.view(-1, BLOCK))
    return made[: weight.numel()].view(weight.shape).to(weight.dtype)


def quantise(weight: Tensor, *, double: bool) -> tuple[Tensor, Tensor]:
    """The level of each value (uint8, padded to whole blocks) and the scale of each block, in float32."""
    flat = _whole(weight, BLOCK)
    codes = torch.empty(flat.numel(), dtype=torch.uint8, device=weight.device)
    scales = torch.empty(len(flat), device=weight.device)
    size = _at_once(codes)
    parts = (torch.split(flat, size // BLOCK), torch.split(scales, size // BLOCK), torch.split(codes, size))
    for values, scale, code in zip(*parts, strict=True):
        code[:] = _level(_scaled(values, scale.copy_(values.abs().amax(dim=1))).view(-1))
    if double:
        mean = scales.mean()
        levels = _scale_levels().to(weight.device)
        inner, outer = _nearest(scales - mean, levels, _SCALES)
        scales = (levels[inner.int()].view(-1, _SCALES) * outer[:, None]).view(-1)[: scales.numel()] + mean
    return codes, scales


def _nearest(values: Tensor, levels: Tensor, block: int) -> tuple[Tensor, Tensor]:
    flat = _whole(values, block)
    scales = flat.abs().amax(dim=1)
    codes = torch.bucketize(_scaled(flat, scales).view(-1), (levels[:-1] + levels[1:]) / 2, out_int32=True)
    return codes.to(torch.uint8), scales


def _at_once(codes: Tensor) -> int:
    return _AT_ONCE if codes.device.type == "cpu" else max(codes.numel(), BLOCK)


def _whole(values: Tensor, block: int) -> Tensor:
    flat = values.reshape(-1).float()
    return torch.nn.functional.pad(flat, (0, -flat.numel() % block)).view(-1, block)


def _scaled(blocks: Tensor, scales: Tensor) -> Tensor:
    return (blocks * (1.0 / scales.clamp(min=_TINY))[:, None]).clamp_(-1, 1)


def _level(scaled: Tensor) -> Tensor:
    """The nearest level's number, as `bucketize` over the middles gives it, without its search.

    No cell of a 32nd has more than one middle in it, nor one at its edge: so a table and one comparison do.
    """
    below, middle = (table.to(scaled.device) for table in _cells())
    cell = ((scaled + 1) * _CELLS).int()
    return below.index_select(0, cell) + (scaled > middle.index_select(0, cell))


@cache
def _cells() -> tuple[Tensor, Tensor]:
    """For each cell, how many middles lie below it, and the one within it, or none."""
    levels = torch.tensor(LEVELS)
    middles = (levels[:-1] + levels[1:]) / 2
    at = ((middles + 1) * _CELLS).int()
    cells = torch.arange(2 * _CELLS + 1)
    within = torch.full((len(cells),), math.inf)
    within[at] = middles
    return (at[None] < cells[:, None]).sum(dim=1, dtype=torch.uint8), within


@cache
def _scale_levels() -> Tensor:
    """The 256 levels of the 8-bit dynamic type: sign, an exponent of tens, and what is left as fraction."""
    levels = [0.0, 1.0]
    for exponent in range(7):
        edges = torch.linspace(0.1, 1, 2**exponent + 1, dtype=torch.float32)
        middles = (edges[:-1] + edges[1:]) / 2
        scaled = (10.0 ** (exponent - 6) * middles).tolist()
        levels += scaled + [-level for level in scaled]
    return torch.tensor(sorted(levels), dtype=torch.float32)
