"""What NF4 leaves of a weight: the base that QLoRA training saw, without the library that made it.

Four bits a value, in blocks of 64 that share one scale; with double quantisation the scales are themselves 8-bit, in
blocks of 256. A test holds this against bitsandbytes: equal to the bit, but that its CPU build (not its CUDA one) gives
about two scales in a thousand a neighbour of the nearest 8-bit level.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import torch
from torch import Tensor

BLOCK: Final = 64
"""Values that share a scale."""
_SCALES: Final = 256
"""Scales that share a scale of their own."""
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
    values = torch.tensor(LEVELS, device=weight.device)[codes.int()].view(-1, BLOCK)
    return (values * scales[:, None]).view(-1)[: weight.numel()].view(weight.shape).to(weight.dtype)


def quantise(weight: Tensor, *, double: bool) -> tuple[Tensor, Tensor]:
    """The level of each value (uint8, padded to whole blocks) and the scale of each block, in float32."""
    codes, scales = _nearest(weight, torch.tensor(LEVELS, device=weight.device), BLOCK)
    if double:
        mean = scales.mean()
        levels = _scale_levels().to(weight.device)
        inner, outer = _nearest(scales - mean, levels, _SCALES)
        scales = (levels[inner.int()].view(-1, _SCALES) * outer[:, None]).view(-1)[: scales.numel()] + mean
    return codes, scales


def _nearest(values: Tensor, levels: Tensor, block: int) -> tuple[Tensor, Tensor]:
    flat = values.reshape(-1).float()
    flat = torch.nn.functional.pad(flat, (0, -flat.numel() % block)).view(-1, block)
    scales = flat.abs().amax(dim=1)
    scaled = (flat * (1.0 / scales.clamp(min=_TINY))[:, None]).clamp_(-1, 1)
    codes = torch.bucketize(scaled.view(-1), (levels[:-1] + levels[1:]) / 2, out_int32=True)
    return codes.to(torch.uint8), scales


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
