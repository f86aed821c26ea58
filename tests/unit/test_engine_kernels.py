"""Each kernel against its reference implementation: on a GPU where there is one, else through Triton's interpreter."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
if DEVICE.type == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # before the kernels are imported

    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def patch_with_item(tensor: type, scope: interpreter._LangPatchScope) -> None:
        patch(tensor, scope)  # its own int() of an array of one is an error to numpy since 2.4
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    interpreter._patch_lang_tensor = patch_with_item

from worker.engine import fused, kernels, reference, rows  # noqa: E402
from worker.engine.nf4 import LEVELS  # noqa: E402
from worker.engine.weights import Shape  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

# numpy, which interprets, warns where a GPU goes to infinity as it should.
pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")

EPSILON = 1e-5
DTYPE = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32  # the interpreter's dot takes bfloat16 for integers
ROUNDING = {"rtol": 0.02, "atol": 0.02}  # bfloat16 keeps 8 bits
FP8_STEP = 0.13  # e4m3 keeps 3
MISROUNDED = 0.001 if DEVICE.type == "cuda" else 0.04  # the interpreter loses the carry


def shape(heads: int, key_heads: int, head: int) -> Shape:
    return Shape(100, heads * head, 2, heads, key_heads, head, 128, 2, 512, EPSILON)


SHAPES = [shape(8, 1, 64), shape(4, 2, 48), shape(6, 2, 16)]
LENGTHS = [1, 1, 30, 5, 40, 16, 3]  # 96 tokens
SHORT = [1, 7, 20, 4]  # 32
LAID = [
    pytest.param(LENGTHS, False, id="mixed"),
    pytest.param(LENGTHS, True, id="mixed, after a shared token"),
    pytest.param(SHORT, True, id="short, after a shared token"),
    pytest.param([96], False, id="one"),
    pytest.param([1] * 32, True, id="single tokens, after a shared token"),
]


def random(*sizes: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(sum(sizes))
    return (torch.randn(*sizes, generator=generator) * scale).to(DEVICE, DTYPE)


def laid(lengths: list[int]) -> tuple[Tensor, Tensor]:
    ends = torch.tensor(lengths).cumsum(0) - 1
    starts = (ends + 1 - torch.tensor(lengths)).repeat_interleave(torch.tensor(lengths))
    return starts.int().to(DEVICE), ends.int().to(DEVICE)


def close(ours: Tensor, theirs: Tensor, **tolerance: float) -> None:
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    torch.testing.assert_close(ours.float(), theirs.float(), **tolerance)


def close_fp8(ours: Tensor, theirs: Tensor) -> None:
    assert ours.dtype == theirs.dtype == reference.FP8
    far = ~torch.isclose(ours.float(), theirs.float(), rtol=FP8_STEP, atol=0.05)
    assert far.float().mean() <= MISROUNDED


@pytest.mark.parametrize("width", [64, 192, 2048])
def test_row_scale(width: int) -> None:
    hidden = random(5, width, scale=3)

    close(kernels.row_scale(hidden, EPSILON), reference.row_scale(hidden, EPSILON), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("inner", "stripe"), [(80, 80), (512, 128), (5632, 128)])
def test_swiglu(inner: int, stripe: int) -> None:
    hidden, gate_up = random(3, 32), random(2 * inner, 32, scale=0.3)
    scale = torch.tensor([0.5, 1.0, 2.0], device=DEVICE)
    ours = torch.full((3, inner), float("nan"), device=DEVICE, dtype=DTYPE)

    rows.swiglu(hidden @ gate_up.T, scale, ours, stripe)

    close(ours, reference.gated(hidden, scale, gate_up, stripe), **ROUNDING)


def fused_ways(ways: Sequence[fused.Way]) -> list[fused.Fused]:
    """Each way of one kernel; as the interpreter's dot is exact, there its smallest tile says all."""
    found = [way for way in ways if isinstance(way, fused.Fused)]
    return found if DEVICE.type == "cuda" else [replace(found[0], tile=64, depth=32)]


@pytest.mark.parametrize("way", fused_ways(fused.GATED), ids=str)
@pytest.mark.parametrize(("count", "inner", "width"), [(200, 256, 128), (64, 384, 64)])
def test_gated_in_one_kernel(count: int, inner: int, width: int, way: fused.Fused) -> None:
    hidden, gate_up = random(count, width), random(2 * inner, width, scale=0.3)
    scale = torch.linspace(0.5, 1.5, count, device=DEVICE)

    ours = fused.gated_by(way, hidden, scale, gate_up, 128)

    close(ours, reference.gated(hidden, scale, gate_up, 128), **ROUNDING)


LIBRARY = pytest.param(
    fused.Library(), id="library", marks=pytest.mark.skipif(DEVICE.type == "cpu", reason="its product needs a GPU")
)


@pytest.mark.parametrize("way", [LIBRARY, *fused_ways(fused.GATED_FP8)], ids=str)
def test_gated_fp8(way: fused.Way) -> None:
    normed, gate_up = reference.to_fp8(random(200, 128, scale=8)), reference.to_fp8(random(512, 128, scale=30))
    scale = torch.tensor(0.01, device=DEVICE)
    normed[1] = 0  # a row with nothing to divide by

    ours, divisors = fused.gated_fp8_by(way, normed, gate_up, scale, 128)
    theirs, expected = reference.gated_fp8(normed, gate_up, scale, 128)

    close(divisors, expected, rtol=0.01, atol=1e-9)
    close_fp8(ours, theirs)


@pytest.mark.parametrize(("inner", "stripe"), [(80, 80), (5632, 128)])
def test_swiglu_fp8_is_gated_fp8_of_a_product_that_is_there(inner: int, stripe: int) -> None:
    normed, gate_up = reference.to_fp8(random(3, 32)), reference.to_fp8(random(2 * inner, 32))
    normed[1] = 0  # a row with nothing to divide by
    product = normed.float() @ gate_up.float().T

    ours, divisors = rows.swiglu_fp8(product.to(DTYPE), stripe)
    theirs, expected = reference.gated_fp8(normed, gate_up, torch.ones((), device=DEVICE), stripe)

    close(divisors, expected, rtol=0.01, atol=1e-9)
    close_fp8(ours, theirs)


@pytest.mark.parametrize("has_scales", [True, False])
@pytest.mark.parametrize("way", [LIBRARY, *fused_ways(fused.ADDED_FP8)], ids=str)
@pytest.mark.parametrize(("count", "width", "deep"), [(200, 512, 128), (64, 256, 384)])
def test_add_product_norm_fp8(count: int, width: int, deep: int, way: fused.Way, *, has_scales: bool) -> None:
    hidden, other = random(count, width), random(count, width)
    left, right = reference.to_fp8(random(count, deep, scale=8)), reference.to_fp8(random(width, deep, scale=30))
    scales = torch.linspace(0.1, 5.0, count, device=DEVICE) if has_scales else None
    operands = left, right, torch.tensor(1e-3, device=DEVICE), scales, EPSILON, 8.0
    other = hidden.clone()

    ours = fused.add_product_norm_fp8_by(way, hidden, *operands)
    theirs = reference.add_product_norm_fp8(other, *operands)

    close(hidden, other, **ROUNDING)
    close_fp8(ours, theirs)


@pytest.mark.parametrize("has_scale", [True, False])
@pytest.mark.parametrize("width", [192, 2048])
def test_add_norm_fp8(width: int, *, has_scale: bool) -> None:
    hidden, update = random(3, width), random(3, width)
    scale = torch.tensor([0.1, 1.0, 5.0], device=DEVICE) if has_scale else None
    added = hidden.float() + update.float() * (1.0 if scale is None else scale[:, None])

    ours = rows.add_norm_fp8(hidden, update, scale, EPSILON, 8.0)

    close(hidden, added.to(DTYPE), **ROUNDING)
    close_fp8(ours, reference.norm_fp8(added.to(DTYPE), EPSILON, 8.0))


def test_norm_fp8_leaves_the_hidden_state_alone() -> None:
    hidden = random(3, 192)
    before = hidden.clone()

    close_fp8(kernels.norm_fp8(hidden, EPSILON, 8.0), reference.norm_fp8(before, EPSILON, 8.0))
    close(hidden, before, rtol=0, atol=0)


@pytest.mark.parametrize(("lengths", "is_shared"), LAID)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.heads}/{shape.key_heads}x{shape.head}")
def test_attend(shape: Shape, lengths: list[int], is_shared: bool) -> None:  # noqa: FBT001 # from LAID
    starts, _ = laid(lengths)
    qkv = random(len(starts), (shape.heads + 2 * shape.key_heads) * shape.head)
    scale = torch.linspace(0.5, 1.5, len(starts), device=DEVICE)
    rope = reference.rope(10000 ** -(torch.arange(0, shape.head, 2) / shape.head), 512, DEVICE)

    shared = random(2, shape.key_heads, shape.head).float() if is_shared else None

    close(
        kernels.attend(qkv, scale, starts, rope, shape, None, shared),
        reference.attend(qkv, scale, starts, rope, shape, None, shared),
        **ROUNDING,
    )
    close_fp8(
        kernels.attend(qkv, None, starts, rope, shape, 16.0, shared),
        reference.attend(qkv, None, starts, rope, shape, 16.0, shared),
    )


@pytest.mark.parametrize(("lengths", "is_shared"), LAID)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.heads}/{shape.key_heads}x{shape.head}")
def test_attend_ends(shape: Shape, lengths: list[int], is_shared: bool) -> None:  # noqa: FBT001 # from LAID
    starts, ends = laid(lengths)
    key_value = random(len(starts), 2 * shape.key_heads * shape.head)
    query = random(len(ends), shape.heads * shape.head)
    scale = torch.linspace(0.5, 1.5, len(starts), device=DEVICE)
    rope = reference.rope(10000 ** -(torch.arange(0, shape.head, 2) / shape.head), 512, DEVICE)

    shared = random(2, shape.key_heads, shape.head).float() if is_shared else None

    close(
        kernels.attend_ends(query, key_value, scale, starts, ends, rope, shape, shared),
        reference.attend_ends(query, key_value, scale, starts, ends, rope, shape, shared),
        **ROUNDING,
    )


@pytest.mark.parametrize("has_gain", [True, False])
def test_dequantise(*, has_gain: bool) -> None:
    rows, width = 6, 192
    codes = torch.arange(rows * width // 2, device=DEVICE).remainder(256).to(torch.uint8)
    scales = torch.linspace(0.1, 2.0, rows * width // 64, device=DEVICE)
    levels = torch.tensor(LEVELS, device=DEVICE)
    gain = torch.linspace(0.5, 1.5, width, device=DEVICE) if has_gain else None
    ours, theirs = (torch.full((rows, width), float("nan"), device=DEVICE, dtype=torch.bfloat16) for _ in range(2))

    kernels.dequantise(codes, scales, levels, gain, ours)
    reference.dequantise(codes, scales, levels, gain, theirs)

    close(ours, theirs, rtol=0.01, atol=0)
