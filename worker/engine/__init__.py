"""How the model is run: token ids in, logits out.

One protocol, four kinds behind it: `cpu` (float32, anywhere), `cuda-bf16`, `cuda-fp8` and `cuda-nf4` (least memory).
Importing this loads no torch; `load` does. Read next:

    loading   from a bundle and a kind to an engine
    files     a model's files, read with suspicion
    weights   from files to one merged model, whatever will run it
    cpu       the packed forward pass in float32
    gpu       batches into captured graphs; forward, the pass they capture; kernels, what it is made of
    device    what the GPU says of itself
    twins     each kernel in plain PyTorch, by which it is tested
"""

from __future__ import annotations

import enum
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, Union

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from worker.engine.device import GpuState
    from worker.model.bundle import Bundle

Tokens: TypeAlias = Union[Sequence[int], "NDArray[np.int32]"]
"""One message's token ids; an array costs the engine less."""


class Kind(enum.StrEnum):
    """How a model is run. `auto` is the fastest that this machine bears without changing the model's answers."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA_BF16 = "cuda-bf16"
    CUDA_FP8 = "cuda-fp8"
    CUDA_NF4 = "cuda-nf4"


class UnsupportedModelError(Exception):
    """A model that no engine here runs as it was trained, or an engine that this machine cannot run; says which."""


class Begun(Protocol):
    """A batch on its way through an engine."""

    @property
    def is_done(self) -> bool:
        """Whether its logits can be had without waiting."""

    def logits(self) -> NDArray[np.float32]:
        """Wait for it; its logits [n, labels], in the order given."""


@dataclass(frozen=True, slots=True)
class Done:
    """A batch that was judged as it was begun."""

    answer: NDArray[np.float32]
    is_done = True

    def logits(self) -> NDArray[np.float32]:
        """Return its logits [n, labels], in the order given."""
        return self.answer


class Engine(Protocol):
    """A loaded model. It is used from one thread at a time."""

    @property
    def kind(self) -> Kind:
        """What it was resolved to: never `auto`."""

    @property
    def labels(self) -> int:
        """How many logits a message gets."""

    @property
    def token_budget(self) -> int:
        """How many tokens it takes in one pass; more are cut into several. Out of memory halves it."""

    @property
    def shared_tokens(self) -> int:
        """How many tokens, the same at the start of every message, cost nothing: they are worked out once."""

    @property
    def halvings(self) -> int:
        """How often it ran out of memory and halved its token budget."""

    def logits(self, tokens: Sequence[Tokens]) -> NDArray[np.float32]:
        """Judge messages, each given as its token ids: [n, labels], in the order given.

        A message's logits do not depend on its neighbours, but for rounding. Raises ValueError on a message
        without tokens. What is not finite is returned as it is: the caller decides what that means.
        """

    def begin(self, tokens: Sequence[Tokens]) -> Begun:
        """Begin to judge messages as `logits` does; another batch may be begun before this one is done."""


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
