"""Batches on an NVIDIA GPU: packed into a few fixed sizes, each captured once as a graph and replayed.

A replay costs the GPU's own time and next to none of the processor's: a batch larger than one graph is packed while the
one before it runs. All work is on a stream of the engine's own; the calling thread waits once, at the end.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor

from worker.engine.packing import Packed, pack, places, sizes_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from worker.engine import Kind, Tokens
    from worker.engine.forward import Forward

TOKEN_BUDGET: Final = 8448
"""Tokens in one graph at most: see `packing.SIZES`."""

_LEAST_BUDGET: Final = 256
"""Below this many tokens, running out of memory is not a batch too large but a GPU too small."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One size: what it reads, what it writes, and the graph between."""

    inputs: Tensor
    outputs: Tensor
    graph: torch.cuda.CUDAGraph


class CudaEngine:
    """Runs a forward pass by graphs. `longest` is the most tokens that a message may have."""

    def __init__(self, forward: Forward, kind: Kind, *, longest: int, token_budget: int | None = None) -> None:
        self.kind = kind
        self.labels = forward.shape.labels
        self.token_budget = token_budget or TOKEN_BUDGET
        self.halvings = 0
        self._forward = forward
        self._longest = longest
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()
        self._slots: dict[int, Slot] = {}
        while not self._captured():
            pass

    @property
    def sizes(self) -> tuple[int, ...]:
        """The token sizes that have a graph."""
        return sizes_for(self._longest, self.token_budget)

    def logits(self, tokens: Sequence[Tokens]) -> NDArray[np.float32]:
        """Logits [messages, labels], in the order given.

        Out of memory halves the token budget and judges the batch again; any other failure of the GPU is raised.
        """
        while True:
            try:
                logits = self._run(tokens)
            except torch.OutOfMemoryError:
                self._halve()
                while not self._captured():
                    pass
            else:
                return self._isolated(tokens, logits)

    def _run(self, tokens: Sequence[Tokens]) -> NDArray[np.float32]:
        logits = np.empty((len(tokens), self.labels), dtype=np.float32)
        waiting = []
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            for packed in pack(tokens, self.sizes):
                self._check(packed)
                waiting.append((packed.rows, self._launch(packed)))
            self._stream.synchronize()
        for rows, answer in waiting:
            logits[rows] = answer[: len(rows)].numpy()
        return logits

    def _launch(self, packed: Packed) -> Tensor:
        """Queue one graph; its answer is in pinned memory once the stream is done."""
        slot = self._slots[len(packed.tokens)]
        host = torch.empty(len(slot.inputs), dtype=torch.int32, pin_memory=True)
        np.concatenate([packed.tokens, packed.starts, packed.ends], out=host.numpy())
        slot.inputs.copy_(host, non_blocking=True)
        slot.graph.replay()
        answer = torch.empty(slot.outputs.shape, dtype=torch.float32, pin_memory=True)
        return answer.copy_(slot.outputs, non_blocking=True)

    def _check(self, packed: Packed) -> None:
        # An id beyond the embedding would not raise here: it would break the GPU's context, and end the process.
        if packed.tokens.min() < 0 or packed.tokens.max() >= self._forward.shape.vocabulary:
            message = f"a token id outside 0 to {self._forward.shape.vocabulary - 1}"
            raise ValueError(message)

    def _isolated(self, tokens: Sequence[Tokens], logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Judge what is not finite again, each message alone: one that overflows may have spoilt its neighbours."""
        broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        if len(tokens) > 1:
            for row in broken.tolist():
                logits[row] = self._run([tokens[row]])[0]
        return logits

    def _captured(self) -> bool:
        """Capture every size that has no graph yet, the largest first; False, and half the budget, without memory."""
        try:
            with torch.inference_mode():
                for size in reversed(self.sizes):
                    if size not in self._slots:
                        self._slots[size] = self._capture(size)
        except torch.OutOfMemoryError:
            self._halve()
            return False
        return True

    def _capture(self, size: int) -> Slot:
        inputs = torch.zeros(2 * size + places(size), dtype=torch.int32, device="cuda")
        inputs[size : 2 * size] = torch.arange(size)
        tokens, starts, ends = torch.split(inputs, [size, size, places(size)])
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            self._forward(tokens, starts, ends)  # compiles kernels, chooses products: neither can be captured
        self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            outputs = self._forward(tokens, starts, ends)
        return Slot(inputs, outputs, graph)

    def _halve(self) -> None:
        if self.token_budget // 2 < max(_LEAST_BUDGET, self._longest):
            raise  # noqa: PLE0704 # called while handling the out-of-memory error itself
        self.token_budget //= 2
        self.halvings += 1
        self._slots = {size: slot for size, slot in self._slots.items() if size in self.sizes}
        gc.collect()
        torch.cuda.empty_cache()
