"""How the model is run: token ids in, logits out.

One protocol, four kinds behind it: `cpu` (float32, anywhere), `cuda-bf16`, `cuda-fp8` and `cuda-nf4` (least memory).
Importing this loads no torch; `load` does. Read next:

    loading   from a bundle and a kind to an engine
    files     a model's files, read with suspicion
    weights   from files to one merged model, whatever will run it
    cpu       the packed forward pass in float32
    gpu       batches into captured graphs; forward, the pass they capture; kernels, what it is made of
    fused     products with what follows them; rows: kernels a row at a time, and the fp8 product; programs: Triton code
    packing   messages into the fixed shapes of the graphs
    nf4       weights after NF4 quantisation, as training saw them
    device    the GPU's own figures: memory, load, power
    reference  each kernel in plain PyTorch, by which it is tested
    kinds     what all of them are
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import TYPE_CHECKING

from worker.engine.kinds import Begun, Done, Engine, Kind, Tokens, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenizers import Tokenizer

    from worker.engine.device import GpuState
    from worker.model.bundle import Bundle

__all__ = [
    "Begun",
    "Done",
    "Engine",
    "Kind",
    "Tokens",
    "UnsupportedModelError",
    "device_state",
    "limit_gpu",
    "load",
    "release",
    "resolve",
]


def load(
    bundle: Bundle,
    tokenizer: Tokenizer,
    kind: Kind | str = Kind.AUTO,
    *,
    threads: int = 0,
    token_budget: int | None = None,
) -> Engine:
    """Make the engine that runs this bundle, whose tokenizer this is. Takes seconds; it is warm when it returns.

    `threads` is torch's own number of CPU threads, 0 leaving it as it is; no `token_budget` leaves that to the engine.
    Raises UnsupportedModelError, naming what it is, for a model that this engine does not run as trained, and for a
    kind that this machine cannot run.
    """
    from worker.engine import loading  # noqa: PLC0415 # torch, and seconds, only for those who run a model

    return loading.load(bundle, tokenizer, Kind(kind), threads=threads, token_budget=token_budget)


def resolve(kind: Kind | str) -> Kind:
    """The kind that will run here, never `auto`. Loads torch only where there may be a GPU.

    Raises UnsupportedModelError for one that this machine has not.
    """
    kind = Kind(kind)
    if kind is Kind.CPU or (kind is Kind.AUTO and not _has_driver()):
        return Kind.CPU
    from worker.engine import loading  # noqa: PLC0415 # torch

    return loading.resolve(kind)


def _has_driver() -> bool:
    """Whether NVIDIA's driver is here, without which there is no GPU for torch."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def release() -> None:
    """Give the GPU back what models that are gone have left in the cache. Does nothing where torch is not loaded."""
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available():
        torch.cuda.empty_cache()


def limit_gpu(share: float) -> None:
    """Let this process have no more than a share of the GPU; a whole one changes nothing. To be called before `load`.

    Of its memory always: beyond it the engine runs out of memory, and halves its budget. Of its multiprocessors only
    under NVIDIA's MPS, which reads a variable as the process first speaks to the GPU; one that is set already stands.
    """
    if share < 1:
        os.environ.setdefault("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", str(max(1, round(100 * share))))
        from worker.engine import device  # noqa: PLC0415 # torch, only where there is something to limit

        device.limit_memory(share)


def device_state(engine: Callable[[], Engine]) -> Callable[[], GpuState | None]:
    """Return what asks the GPU how it is, for the engine in force then. Loads torch when it is asked."""

    def ask() -> GpuState | None:
        from worker.engine import device  # noqa: PLC0415 # torch, for those who have a GPU

        return device.state(engine().halvings)

    return ask
