"""Reference implementations of the kernels, in plain PyTorch: the definition that the kernels are tested against.

Runs on any device and in any type, slowly. Attention is worked out for one message at a time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from worker.engine.weights import Shape

FP8: Final = torch.float8_e4m3fn
FP8_MAX: Final = 448.0
TILE: Final = 64
"""The most tokens that one program of an attention kernel may take."""


def row_scale(hidden: Tensor, epsilon: float) -> Tensor:
    """RMSNorm's factor for each row, float32 [n]: the rest of the norm is in the weights, and in who reads this."""
    return hidden.float().square().mean(dim=1).add(epsilon).rsqrt()


def gated(hidden: Tensor, scale: Tensor, gate_up: Tensor, stripe: int, bias: Tensor | None = None) -> Tensor:
    """silu(gate) * up of rows [n, width] that still lack their `scale`: [n, inner], by the matrix [2 * inner, width].

    In the matrix `stripe` gates lie together, then the ups that they open, and so on; in the `bias` [2 * inner] too.
    """
    product = (hidden @ gate_up.T).float() * scale[:, None]
    gate, up = _unstriped(product if bias is None else product + bias, stripe)
    return (functional.silu(gate) * up).to(hidden.dtype)


def gated_fp8(normed: Tensor, gate_up: Tensor, scale: Tensor, stripe: int) -> tuple[Tensor, Tensor]:
    """The same of fp8 rows that lack nothing but `scale`: in fp8, and what each row was divided by, float32 [n]."""
    gate, up = _unstriped(normed.float() @ gate_up.float().T * scale, stripe)
    inner = functional.silu(gate) * up
    divisors = inner.abs().amax(dim=1).clamp(min=1e-12) / FP8_MAX
    return to_fp8(inner / divisors[:, None]), divisors


def _unstriped(gate_up: Tensor, stripe: int) -> tuple[Tensor, Tensor]:
    both = gate_up.view(len(gate_up), -1, 2, stripe)
    return both[:, :, 0].flatten(1), both[:, :, 1].flatten(1)


def norm_fp8(hidden: Tensor, epsilon: float, factor: float) -> Tensor:
    """RMSNorm times `factor`, in fp8."""
    return to_fp8(hidden.float() * row_scale(hidden, epsilon)[:, None] * factor)


def add_product_norm_fp8(  # noqa: PLR0913, PLR0917 # one kernel's worth of operands
    hidden: Tensor, left: Tensor, right: Tensor, scale: Tensor, scales: Tensor | None, epsilon: float, factor: float
) -> Tensor:
    """Add `left` by the rows of `right`, both fp8, times `scale` and its rows' own `scales`, to `hidden` in place.

    Gives `norm_fp8` of that.
    """
    update = left.float() @ right.float().T * scale
    hidden.copy_(hidden.float() + (update if scales is None else update * scales[:, None]))
    return norm_fp8(hidden, epsilon, factor)


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary embedding. `cosine` and `sine` [reach + 1 + tile, head / 2] begin at position -reach.

    Only the distance between two tokens matters, so a kernel may count positions from wherever it stands.
    """

    frequencies: Tensor
    cosine: Tensor
    sine: Tensor
    reach: int


def rope(frequencies: Tensor, reach: int, device: torch.device) -> Rope:
    """Tables for messages of at most `reach` tokens."""
    angles = torch.arange(-reach, TILE + 1, dtype=torch.float64)[:, None] * frequencies.double().cpu()
    cosine, sine = (table.float().to(device) for table in (angles.cos(), angles.sin()))
    return Rope(frequencies.to(device), cosine, sine, reach)


def attend(  # noqa: PLR0913, PLR0917 # one kernel's worth of operands
    qkv: Tensor,
    scale: Tensor | None,
    starts: Tensor,
    rope: Rope,
    shape: Shape,
    factor: float | None = None,
    shared: Tensor | None = None,
) -> Tensor:
    """Causal attention of each message over itself: [n, (heads + 2 * key heads) * head] to [n, heads * head].

    `scale` is what the rows still lack. With a `factor` the answer is multiplied by it and given in fp8. `shared` is
    the key and value [2, key heads, head] of a token that stands before every message's first; the key not rotated.
    """
    rows = qkv.float() if scale is None else qkv.float() * scale[:, None]
    heads = rows.view(len(rows), -1, shape.head)
    query, key, value = torch.split(heads, [shape.heads, shape.key_heads, shape.key_heads], dim=1)
    positions = torch.arange(len(rows), device=qkv.device) - starts + (shared is not None)
    query, key = (rotate(part, positions, rope.frequencies) for part in (query, key))
    mixed = torch.empty(len(rows), shape.heads * shape.head, device=qkv.device)
    firsts, counts = torch.unique_consecutive(starts, return_counts=True)
    for first, count in zip(firsts.tolist(), counts.tolist(), strict=True):
        one = slice(first, first + count)
        mixed[one] = _mix(query[one], *_after(shared, key[one], value[one]), is_causal=True)
    return mixed.to(qkv.dtype) if factor is None else to_fp8(mixed * factor)


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
    """Attention of each message's last token over its message: [m, heads * head] over [n, 2 * key heads * head].

    Both still lack their rows' `scale` [n]. `shared` as in `attend`.
    """
    rows = key_value.float() * scale[:, None]
    key, value = rows.view(len(rows), 2, shape.key_heads, shape.head).unbind(1)
    before = int(shared is not None)
    key = rotate(key, torch.arange(len(rows), device=key.device) - starts + before, rope.frequencies)
    query = (query.float() * scale[ends][:, None]).view(len(query), shape.heads, shape.head)
    query = rotate(query, ends - starts[ends] + before, rope.frequencies)
    mixed = torch.empty(len(query), shape.heads * shape.head, device=key.device)
    for row, (first, end) in enumerate(zip(starts[ends].tolist(), ends.tolist(), strict=True)):
        one = slice(first, end + 1)
        mixed[row] = _mix(query[row : row + 1], *_after(shared, key[one], value[one]), is_causal=False)
    return mixed.to(key_value.dtype)


def dequantise(codes: Tensor, scales: Tensor, levels: Tensor, gain: Tensor | None, out: Tensor) -> None:
    """NF4 to numbers, each column times its `gain`: two codes a byte, the first in the high half; 64 share a scale."""
    pairs = torch.stack([codes >> 4, codes & 15], dim=-1).view(-1, 64)
    values = (levels[pairs.int()] * scales[:, None]).view(out.shape)
    out.copy_(values if gain is None else values * gain)


def rotate(values: Tensor, positions: Tensor, frequencies: Tensor) -> Tensor:
    """Rotary embedding of [n, heads, head] at positions [n]."""
    angles = positions[:, None].float() * frequencies
    cosine, sine = angles.cos()[:, None], angles.sin()[:, None]
    left, right = values.chunk(2, dim=-1)
    return torch.cat([left * cosine - right * sine, right * cosine + left * sine], dim=-1)


def to_fp8(values: Tensor) -> Tensor:
    """To fp8, what lies beyond its range at its end: a plain cast would make that NaN."""
    return values.clamp(-FP8_MAX, FP8_MAX).to(FP8)


def product_fp8(left: Tensor, right: Tensor, scale: Tensor) -> Tensor:
    """`left` [n, k] by the rows of `right` [m, k], both fp8, times one `scale` for all: in bfloat16 [n, m]."""
    return (left.float() @ right.float().T * scale).bfloat16()


def _after(shared: Tensor | None, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values of a message, those of the token that stands before it put first; at position 0 nothing turns."""
    if shared is None:
        return key, value
    return torch.cat([shared[:1], key]), torch.cat([shared[1:], value])


def _mix(query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool) -> Tensor:
    """Attention of [q, heads, head] over [k, key heads, head]: [q, heads * head]."""
    group = query.shape[1] // key.shape[1]
    key, value = (part.repeat_interleave(group, dim=1).transpose(0, 1) for part in (key, value))
    weights = query.transpose(0, 1) @ key.transpose(1, 2) / math.sqrt(query.shape[2])
    if is_causal:
        ahead = 1 + len(key[0]) - len(query)
        weights = weights.masked_fill(torch.ones_like(weights[0], dtype=torch.bool).triu(ahead), -math.inf)
    return (weights.softmax(dim=-1) @ value).transpose(0, 1).flatten(1)
