"""Where a start with TinyLlama's true shape (random weights) spends its time, and what fp8 in the bundle would save.

python -m benchmarks.loading    about 10 GB of memory, 4 GB of disk; a GPU where there is one
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors.torch import load_file, save_file

from benchmarks.tinyllama import random_weights, save_base
from training.results import Entry, record
from worker.engine import files, forward, nf4, reference, weights

if TYPE_CHECKING:
    from collections.abc import Callable

GIB: Final = 2**30


def main() -> None:
    """Measure each step by itself, once: they take seconds, and what is compared differs by more than its noise."""
    took: dict[str, float] = {}

    def timed(step: str, do: Callable[..., Any], *given: object) -> Any:  # noqa: ANN401 whatever the step gives
        before = time.perf_counter()
        done = do(*given)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        took[step] = time.perf_counter() - before
        print(f"{step:<24} {took[step]:6.1f} s", flush=True)
        return done

    device, operations = torch.device("cpu"), reference
    if torch.cuda.is_available():
        from worker.engine import kernels  # noqa: PLC0415 # a compiler comes with them

        device, operations = torch.device("cuda"), kernels
    with tempfile.TemporaryDirectory() as made, torch.inference_mode():
        folder = Path(made)
        random = random_weights(device.type)
        save_base(random, folder)
        whole = load_file(folder / files.WHOLE) | {"score.weight": random.score.float().cpu()}
        save_file(whole, folder / files.WHOLE)
        del whole
        del random
        stored = (folder / "model.safetensors").stat().st_size
        tensors = timed("read", files.tensors, folder / "model.safetensors")
        timed("nf4-round-trip", through_nf4, tensors)
        del tensors
        read = weights.read(folder)
        plain = timed("bf16-engine", forward.Plain, read, device, operations)
        del plain
        engine = timed("fp8-engine", forward.Fp8, read, device, operations)
        del read
        small = kept(engine)
        save_file(small, folder / "fp8.safetensors")
        after = (folder / "fp8.safetensors").stat().st_size
        timed("read-fp8", again, folder / "fp8.safetensors", device)
    took["fp8-quantising"] = took["fp8-engine"] - took["bf16-engine"]
    extra = {"shape": "TinyLlama-1.1B, random weights", "engine-on": device.type}
    entries = [Entry(f"loading/{step}/seconds", "s", round(value, 2), extra=extra) for step, value in took.items()]
    sizes = {"bf16": stored, "fp8": after}
    entries += [Entry(f"loading/{kind}/gib", "GiB", round(size / GIB, 3), extra=extra) for kind, size in sizes.items()]
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    print(json.dumps(sizes), record("loading", entries, device=name))


def through_nf4(tensors: dict[str, torch.Tensor]) -> None:
    """Round every linear matrix through NF4, as each start does for a bundle that was trained so."""
    for name in filter(weights.is_linear, tensors):
        nf4.round_trip(tensors[name], double=True)


def again(file: Path, device: torch.device) -> None:
    """Load the rounded weights from a file, as a start would do if they were in the bundle."""
    for tensor in load_file(file).values():
        tensor.to(device, copy=True)  # what is mapped from a file is not read before it is wanted


def kept(engine: forward.Fp8) -> dict[str, torch.Tensor]:
    """All that the fp8 engine holds, as a bundle would have to: norms multiplied in, gates in stripes."""
    tensors = {}
    for index, layer in enumerate(engine._small):  # noqa: SLF001 # what is measured is what it holds
        for name in ("qkv", "out", "gate_up", "down"):
            tensors[f"{index}.{name}"], tensors[f"{index}.{name}.scale"] = layer[name]
    tensors |= {f"last.{name}": matrix for name, matrix in engine._layers[-1].items()}  # noqa: SLF001
    tensors |= {"embedding": engine._embedding, "score": engine._score}  # noqa: SLF001
    if engine._first is not None:  # noqa: SLF001
        tensors["first"] = engine._first  # noqa: SLF001 # or the first layer's matrix in bf16, and the time to make it
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}


if __name__ == "__main__":
    main()
