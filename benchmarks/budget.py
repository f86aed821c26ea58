"""Break down a batch's time on the GPU: microseconds by kind of kernel, as the profiler sees one batch."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import torch
from torch.profiler import ProfilerActivity, profile

from training.results import Entry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.engine import Engine, Tokens

_OURS: Final = (
    "gated",
    "swiglu_fp8",
    "swiglu",
    "add_norm_fp8",
    "add_product_fp8",
    "row_scale",
    "attend_ends",
    "attend",
    "dequantise",
    "quantise",
)
_PRODUCTS: Final = ("nvjet", "gemm", "cutlass", "xmma", "splitk")


def entries(kind: str, engine: Engine, batch: Sequence[Tokens], size: int) -> list[Entry]:
    """The budget of one batch that fills `size` tokens: what its kernels take, and how long it lasts."""
    engine.logits(batch)
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        engine.logits(batch)
        torch.cuda.synchronize()
    kernels: list[Any] = [event for event in seen.events() if event.self_device_time_total > 0]
    if not kernels:
        return []
    spent: Counter[str] = Counter()
    launches: Counter[str] = Counter()
    for event in kernels:
        family = _family(event.name)
        spent[family] += event.self_device_time_total
        launches[family] += 1
    span = max(event.time_range.end for event in kernels) - min(event.time_range.start for event in kernels)
    extra = {
        "messages": len(batch),
        "kernels": len(kernels),
        "microseconds": {family: round(total, 1) for family, total in spent.most_common()},
        "launches": dict(launches),
        "gaps_microseconds": round(span - sum(spent.values()), 1),
    }
    return [Entry(f"engine/{kind}/{size}-tokens/batch-microseconds", "us", round(span, 1), extra=extra)]


def _family(name: str) -> str:
    lower = name.lower()
    for ours in _OURS:
        if lower.startswith(ours):
            return ours
    if any(part in lower for part in _PRODUCTS):
        return "products"
    return "copies" if "memcpy" in lower or "memset" in lower else "other"
