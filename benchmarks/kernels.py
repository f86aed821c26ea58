"""Each kernel beside what stock PyTorch offers for the same work, at TinyLlama's shape and real messages' lengths.

`--sweep` also times the attention kernel's sizes. Times are medians of CUDA events, in microseconds for one layer.
"""

from __future__ import annotations

import argparse
import itertools
from typing import TYPE_CHECKING, Any, Final

import torch
from torch.nn import functional
from triton.testing import do_bench  # type: ignore[import-untyped]

from benchmarks.tinyllama import SHAPE, tokens
from training.results import Entry, record
from worker.engine import kernels, reference
from worker.engine.packing import pack

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

SIZES: Final = (1024, 8448)
DEVICE: Final = torch.device("cuda")


def micro(run: Callable[[], Any]) -> float:
    """Median time of a call on the GPU, launches hidden by a graph."""
    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(10):
            run()
    return float(do_bench(graph.replay, warmup=20, rep=60, return_mode="median")) * 100


def laid(size: int) -> tuple[Tensor, Tensor, int]:
    """Real messages in one size: starts, ends, and how many messages they are."""
    packed = next(pack(tokens(), (size,)))
    return torch.from_numpy(packed.starts).cuda(), torch.from_numpy(packed.ends).cuda(), len(packed.rows)


def random(*sizes: int) -> Tensor:
    """Never zeros: they run faster than data."""
    return torch.randn(*sizes, device=DEVICE, dtype=torch.bfloat16)


def attention(size: int) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Ours, and rotation with stock operations followed by stock flash attention over cumulative lengths."""
    starts, ends, count = laid(size)
    heads, keys, head = SHAPE.heads, SHAPE.key_heads, SHAPE.head
    qkv, scale = random(size, (heads + 2 * keys) * head), torch.rand(size, device=DEVICE) + 0.5
    rope = reference.rope(10_000 ** -(torch.arange(0, head, 2) / head), SHAPE.positions, DEVICE)
    lengths = (ends[:count] - starts[ends[:count].long()] + 1).int()
    filled = int(lengths.sum())
    edges = torch.cat([torch.zeros(1, device=DEVICE), lengths.cumsum(0), torch.tensor([size], device=DEVICE)]).int()
    longest = max(int(lengths.max()), size - filled)
    angles = (torch.arange(size, device=DEVICE) - starts)[:, None].float() * rope.frequencies
    cosine, sine = (torch.cat([part, part], dim=1).bfloat16()[:, None] for part in (angles.cos(), angles.sin()))

    def turned(part: Tensor) -> Tensor:
        left, right = part.chunk(2, dim=-1)
        return part * cosine + torch.cat([-right, left], dim=-1) * sine

    def stock() -> Tensor:
        query, key, value = qkv.view(size, -1, head).split([heads, keys, keys], dim=1)
        mixed: Tensor = torch.ops.aten._flash_attention_forward(  # noqa: SLF001
            turned(query),
            turned(key),
            value,
            edges,
            edges,
            longest,
            longest,
            0.0,
            is_causal=True,
            return_debug_mask=False,
        )[0]
        return mixed

    return lambda: kernels.attend(qkv, scale, starts, rope, SHAPE), stock


def compare(size: int) -> dict[str, tuple[float, float]]:
    """Microseconds of ours and of stock, by kernel."""
    hidden, matrix = random(size, SHAPE.width), random(2 * SHAPE.inner, SHAPE.width)
    scale, one = torch.rand(size, device=DEVICE) + 0.5, torch.ones((), device=DEVICE)
    small, small_matrix = hidden.to(reference.FP8), matrix.to(reference.FP8)
    small_inner, small_down = (
        random(size, SHAPE.inner).to(reference.FP8),
        random(SHAPE.width, SHAPE.inner).to(reference.FP8),
    )
    weight = torch.ones(SHAPE.width, device=DEVICE, dtype=torch.bfloat16)

    def stock_gated() -> Tensor:
        gate, up = (hidden @ matrix.T).chunk(2, dim=1)
        return functional.silu(gate) * up

    def stock_gated_fp8() -> tuple[Tensor, Tensor]:
        gate, up = kernels.product_fp8(small, small_matrix, one).chunk(2, dim=1)
        inner = functional.silu(gate) * up
        factor = inner.abs().amax(dim=1, keepdim=True).float() / reference.FP8_MAX
        return (inner / factor).clamp(-reference.FP8_MAX, reference.FP8_MAX).to(reference.FP8), factor

    def stock_add_product_norm_fp8() -> Tensor:
        added = hidden + kernels.product_fp8(small_inner, small_down, one)
        normed = functional.rms_norm(added, (SHAPE.width,), weight, SHAPE.epsilon)
        return (normed * 8.0).clamp(-reference.FP8_MAX, reference.FP8_MAX).to(reference.FP8)

    pairs = {
        "row-scale": (
            lambda: kernels.row_scale(hidden, SHAPE.epsilon),
            lambda: functional.rms_norm(hidden, (SHAPE.width,), weight, SHAPE.epsilon),
        ),
        "gated": (lambda: kernels.gated(hidden, scale, matrix, 128), stock_gated),
        "gated-fp8": (lambda: kernels.gated_fp8(small, small_matrix, one, 128), stock_gated_fp8),
        "add-product-norm-fp8": (
            lambda: kernels.add_product_norm_fp8(hidden, small_inner, small_down, one, scale, SHAPE.epsilon, 8.0),
            stock_add_product_norm_fp8,
        ),
        "attend": attention(size),
    }
    return {name: (micro(ours), micro(stock)) for name, (ours, stock) in pairs.items()}


def products(size: int) -> dict[str, tuple[float, float]]:
    """TFLOP/s of each product of a layer, bf16 and fp8."""
    shapes = {
        "qkv": ((SHAPE.heads + 2 * SHAPE.key_heads) * SHAPE.head, SHAPE.width),
        "out": (SHAPE.width, SHAPE.heads * SHAPE.head),
        "gate-up": (2 * SHAPE.inner, SHAPE.width),
        "down": (SHAPE.width, SHAPE.inner),
    }
    rates = {}
    for name, (rows, columns) in shapes.items():
        left, right = random(size, columns), random(rows, columns)
        total = random(size, rows)
        small_left, small_right = left.to(reference.FP8), right.to(reference.FP8)
        one = torch.ones((), device=DEVICE)
        plain = (lambda: total.addmm_(left, right.T)) if rows == SHAPE.width else (lambda: left @ right.T)  # noqa: B023
        times = micro(plain), micro(lambda: kernels.product_fp8(small_left, small_right, one))  # noqa: B023
        rates[name] = tuple(2e-6 * size * rows * columns / time for time in times)
    return rates


def sweep(size: int) -> None:
    """The attention kernel at every sensible choice of its sizes."""
    ours, _ = attention(size)
    kept = dict(kernels.ATTEND)
    times = {}
    for tile, keys, warps, stages in itertools.product((8, 16, 32), (16, 32, 64), (4, 8), (1, 2, 3)):
        kernels.ATTEND.update(TILE=tile, KEYS=keys, num_warps=warps, num_stages=stages)
        try:
            times[tile, keys, warps, stages] = micro(ours)
        except Exception as error:  # noqa: BLE001 # a choice that does not fit the GPU is not an error here
            print("  does not fit:", tile, keys, warps, stages, type(error).__name__)
    kernels.ATTEND.update(kept)
    for choice, time in sorted(times.items(), key=lambda item: item[1])[:6]:
        print(f"  attend at {size}: tile, keys, warps, stages = {choice}: {time:.1f} us")


def main() -> None:
    """Time, print, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweep", action="store_true", help="also time the attention kernel's sizes")
    arguments = parser.parse_args()
    entries = []
    for size in SIZES:
        if arguments.sweep:
            sweep(size)
        for name, (ours, stock) in compare(size).items():
            print(f"{name:14} {size:6} tokens: {ours:8.1f} us, stock {stock:8.1f} us ({stock / ours:.1f}x)")
            extra = {"tokens": size, "stock_microseconds": round(stock, 2), "choice": dict(kernels.ATTEND)}
            entries.append(Entry(f"kernel/{name}/{size}/microseconds", "us", round(ours, 2), extra=extra))
        for name, (plain, small) in products(size).items():
            print(f"product {name:8} {size:6} tokens: {plain:6.0f} TFLOP/s bf16, {small:6.0f} fp8")
            for kind, rate in (("bf16", plain), ("fp8", small)):
                entries.append(Entry(f"product/{kind}/{name}/{size}/tflops", "TFLOP/s", round(rate, 1)))
    print(record("kernels", entries, device=torch.cuda.get_device_name()))


if __name__ == "__main__":
    main()
