"""Batches on an NVIDIA GPU: packed into a few fixed sizes, each captured once as a graph and replayed.

A replay costs the GPU's own time and next to none of the processor's: a batch larger than one graph is packed while the
one before it runs, and so is the next batch. All work is on a stream of the engine's own.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor

from worker.engine.packing import Packed, pack, places, sizes_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from worker.engine.forward import Forward
    from worker.engine.kinds import Kind, Tokens

TOKEN_BUDGET: Final = 8448
"""Tokens in one graph at most: see `packing.SIZES`."""

CAPTURE: Final = "thread_local"
"""Another model may be judging meanwhile, on a thread of its own: what it does must not spoil a capture."""

_EITHER_WAY: Final = 4
"""cudaMemcpyDefault: the addresses say which is whose."""

_OUT_OF_MEMORY: Final = 2
"""cudaErrorMemoryAllocation."""

_ARGUMENTS: Final = {
    "cudaMemcpyAsync": (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p),
    "cudaGraphLaunch": (ctypes.c_void_p, ctypes.c_void_p),
    "cudaEventRecord": (ctypes.c_void_p, ctypes.c_void_p),
}
"""Of the CUDA runtime's calls that a run is queued by."""

_LEAST_BUDGET: Final = 256
"""Below this many tokens, running out of memory is not a batch too large but a GPU too small."""


@dataclass(slots=True)
class Pinned:
    """Memory that the GPU copies from and to, for one run of a size; `over` is when it has done with it.

    torch's allocator does not know of these copies: an engine must outlive the batches it has begun.
    """

    inputs: NDArray[np.int32]
    answer: NDArray[np.float32]
    over: torch.cuda.Event
    is_free: bool = False
    is_over: bool = True


@dataclass(frozen=True, slots=True)
class QueuedBatches:
    """A batch that was queued: `waiting` are its rows, run by run, with where their logits will be."""

    engine: CudaEngine
    tokens: Sequence[Tokens]
    waiting: Sequence[tuple[NDArray[np.int64], Pinned]]

    def __del__(self) -> None:
        """Let others have its memory, whether or not anybody waited for the answer."""
        for _, pinned in self.waiting:
            pinned.is_free = True

    @property
    def is_done(self) -> bool:
        """Whether its logits can be had without waiting."""
        return not self.waiting or bool(self.waiting[-1][1].over.query())  # type: ignore[no-untyped-call]

    def logits(self) -> NDArray[np.float32]:
        """Wait for the GPU; the logits [messages, labels], in the order given."""
        try:
            if self.waiting:
                self.waiting[-1][1].over.synchronize()  # the last is over last
        except RuntimeError:
            self.engine.keep_memory()
            raise
        for _, pinned in self.waiting:
            pinned.is_over = True
        return self.engine.finish(self.tokens, self.waiting)


@dataclass(frozen=True, slots=True)
class Slot:
    """One size: what it reads, what it writes, the graph between, and pinned memory for as many runs as there were.

    `launched` is the graph as the runtime knows it; torch releases the interpreter lock when it is asked.
    """

    inputs: Tensor
    outputs: Tensor
    graph: torch.cuda.CUDAGraph
    launched: int
    pinned: list[Pinned] = field(default_factory=list)

    def take(self) -> Pinned:
        """Pinned memory that no run has now."""
        for pinned in self.pinned:
            if pinned.is_free:
                if not pinned.is_over:
                    pinned.over.synchronize()  # of a batch that nobody waited for
                pinned.is_free = False
                return pinned
        inputs = torch.empty(self.inputs.shape, dtype=torch.int32, pin_memory=True)
        answer = torch.empty(self.outputs.shape, dtype=torch.float32, pin_memory=True)
        over = torch.cuda.Event()  # type: ignore[no-untyped-call]
        over.record()  # so that there is one
        self.pinned.append(pinned := Pinned(inputs.numpy(), answer.numpy(), over))
        return pinned

    def run(self, pinned: Pinned, stream: int) -> None:
        """Queue all of it: in, the graph, out. None of the four calls releases the interpreter lock."""
        given, answer, over = pinned.inputs, pinned.answer, pinned.over.cuda_event
        pinned.is_over = False
        _call("cudaMemcpyAsync", self.inputs.data_ptr(), given.ctypes.data, given.nbytes, _EITHER_WAY, stream)
        _call("cudaGraphLaunch", self.launched, stream)
        _call("cudaMemcpyAsync", answer.ctypes.data, self.outputs.data_ptr(), answer.nbytes, _EITHER_WAY, stream)
        _call("cudaEventRecord", over, stream)


class CudaEngine:
    """Runs a forward pass by graphs. `longest` is the most tokens that a message may have.

    `first` is the token that every message begins with, where there is one: what it gives to those after it is worked
    out here, once, and no batch contains it.
    """

    pid = None
    has_ended = False

    def __init__(
        self,
        forward: Forward,
        kind: Kind,
        *,
        longest: int,
        token_budget: int | None = None,
        first: int | None = None,
    ) -> None:
        self.kind = kind
        self.labels = forward.shape.labels
        self.token_budget = token_budget or TOKEN_BUDGET
        self.halvings = 0
        self.shared_tokens = 0 if first is None else 1
        self._forward = forward
        self._longest = longest
        self._first = first
        self._turn = threading.RLock()
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()
        self._slots: dict[int, Slot] = {}
        self._alone = np.empty(0, dtype=np.float32)
        if first is not None:
            with torch.inference_mode():
                self._alone = forward.share(first).cpu().numpy()
        while not self._captured():
            pass

    @property
    def sizes(self) -> tuple[int, ...]:
        """The token sizes that have a graph."""
        return sizes_for(self._longest, self.token_budget)

    def logits(self, tokens: Sequence[Tokens]) -> NDArray[np.float32]:
        """Logits [messages, labels], in the order given."""
        return self.begin(tokens).logits()

    def begin(self, tokens: Sequence[Tokens]) -> QueuedBatches:
        """Queue a batch behind what runs; its answer is to be waited for.

        Out of memory halves the token budget and queues the batch again; any other failure of the GPU is raised.
        """
        with self._turn:  # a thread that finds a spoilt batch begins its messages again while another begins its own
            return self._begin(tokens)

    def _begin(self, tokens: Sequence[Tokens]) -> QueuedBatches:
        while True:
            try:
                return self._queue(tokens)
            except torch.OutOfMemoryError:
                self._halve()
                while not self._captured():
                    pass
            except RuntimeError:
                self.keep_memory()
                raise

    def keep_memory(self) -> None:
        """Never free pinned memory: the GPU is broken, and freeing asks it, whereupon it ends the process at once.

        The process is to end, but by its own hand: unready first, its failure named.
        """
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._slots))

    def _queue(self, tokens: Sequence[Tokens]) -> QueuedBatches:
        self._check_first(tokens)
        begun = QueuedBatches(self, tokens, waiting := [])
        for packed in pack(tokens, self.sizes, shared=self.shared_tokens):
            self._check(packed)
            waiting.append((packed.rows, self._launch(packed)))
        return begun

    def _launch(self, packed: Packed) -> Pinned:
        """Queue one graph; its answer is in pinned memory once the stream is done."""
        slot = self._slots[len(packed.tokens)]
        pinned = slot.take()
        np.concatenate([packed.tokens, packed.starts, packed.ends], out=pinned.inputs)
        slot.run(pinned, self._stream.cuda_stream)
        return pinned

    def _check_first(self, tokens: Sequence[Tokens]) -> None:
        if self._first is not None and any(len(row) and row[0] != self._first for row in tokens):
            message = f"a message that does not begin with token {self._first}, as all of this tokenizer's do"
            raise ValueError(message)

    def _check(self, packed: Packed) -> None:
        # An id beyond the embedding would not raise here: it would break the GPU's context, and end the process.
        if packed.tokens.min() < 0 or packed.tokens.max() >= self._forward.shape.vocabulary:
            message = f"a token id outside 0 to {self._forward.shape.vocabulary - 1}"
            raise ValueError(message)

    def finish(
        self, tokens: Sequence[Tokens], waiting: Sequence[tuple[NDArray[np.int64], Pinned]]
    ) -> NDArray[np.float32]:
        """The logits of a batch that the GPU is done with; those of what is not finite found again, each alone.

        A message that overflows may have spoilt its neighbours.
        """
        logits = np.empty((len(tokens), self.labels), dtype=np.float32)
        logits[:] = self._alone if self.shared_tokens else np.nan
        for rows, pinned in waiting:
            logits[rows] = pinned.answer[: len(rows)]
        broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        if len(tokens) > 1:
            for row in broken.tolist():
                logits[row] = self.logits([tokens[row]])[0]
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
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode=CAPTURE):
            outputs = self._forward(tokens, starts, ends)
        return Slot(inputs, outputs, graph, graph.raw_cuda_graph_exec())

    def _halve(self) -> None:
        if self.token_budget // 2 < max(_LEAST_BUDGET, self._longest):
            raise  # noqa: PLE0704 # called while handling the out-of-memory error itself
        self._stream.synchronize()  # a batch may be on its way still
        self.token_budget //= 2
        self.halvings += 1
        self._slots = {size: slot for size, slot in self._slots.items() if size in self.sizes}
        gc.collect()
        torch.cuda.empty_cache()


@functools.cache
def _runtime() -> ctypes.PyDLL:
    """The CUDA runtime that torch has loaded; calls do not release the interpreter lock."""
    runtime = ctypes.PyDLL(None)
    for name, arguments in _ARGUMENTS.items():
        getattr(runtime, name).argtypes = arguments
    runtime.cudaGetErrorString.restype = ctypes.c_char_p
    return runtime


def _call(name: str, *arguments: int) -> None:
    """Call the runtime, which only queues. Each of torch's own calls releases the interpreter lock.

    With three threads at work each had to be had back from another: on an H100's host, a batch of 50 messages took
    3 ms to queue, and less than that to judge. Raises OutOfMemoryError, RuntimeError.
    """
    if failure := getattr(_runtime(), name)(*arguments):
        _runtime().cudaGetLastError()  # or torch would find it at its next call, and take it for that one's
        message = f"{name}: {_runtime().cudaGetErrorString(failure).decode()}"
        raise torch.OutOfMemoryError(message) if failure == _OUT_OF_MEMORY else RuntimeError(message)
