"""One step's messages to gradients: packed, cut into passes that fit the memory, replayed as CUDA graphs on a GPU.

The arithmetic of a step takes a GPU milliseconds, launching it one kernel at a time takes ten times as long. So a pass
(forward, loss, backward) is captured once for each shape of batch, and replayed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch

from training.fit import batches, model, packing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from accelerate import Accelerator
    from torch import Tensor

    from training.fit.batches import Example
    from training.fit.packing import PackedRows

GRAIN: Final = 128
"""On a GPU, tokens of a pass are rounded up to this many: some eight shapes make up a run."""
MOST_TOKENS: Final = 8192
"""Tokens of a pass at first; running out of memory halves it."""
_LEAST_TOKENS: Final = 256
_HEADROOM: Final = 8
"""One message more for so many in the step that warms up: later epochs are drawn, and augmented, anew."""


class NoRoomError(RuntimeError):
    """Not even the smallest pass fits the GPU; the text says what would help."""


class Learner:
    """Turns messages into gradients of the mean loss over all that a step has.

    Gradients gather in one flat tensor, `gradients`; each trainable parameter's is a view of it. Its last element is
    the step's loss, so that processes can add up both at once. `states` is the weight of guessing the teacher's states,
    by the head that `model.guess_states` put there. Without `graphs` every kernel is launched.
    """

    def __init__(
        self,
        adapted: Any,  # noqa: ANN401 peft is untyped
        accelerator: Accelerator,
        *,
        states: float = 0.0,
        graphs: bool = True,
    ) -> None:
        self._model, self._accelerator = adapted, accelerator
        self._states, self._values = states, adapted.get_base_model().states.out_features if states else 0
        self._most = MOST_TOKENS
        self._is_checkpointed = False
        is_gpu = accelerator.device.type == "cuda"
        self._grain = GRAIN if is_gpu else 1
        self._graphs: _Graphs | None = _Graphs() if is_gpu and graphs else None
        learning = [each for each in adapted.parameters() if each.requires_grad]
        sizes = [each.numel() for each in learning]
        self.gradients = torch.zeros(sum(sizes) + 1, device=accelerator.device)
        for each, view in zip(learning, self.gradients[:-1].split(sizes), strict=True):
            each.grad = view.view_as(each)

    def warm_up(self, largest: Sequence[Example], places: int) -> None:
        """Run a step that nothing is learnt from, an eighth larger than `largest`, launched and then captured.

        Kernels are loaded and workspaces made, which cannot be captured. Graphs share their memory, and a graph that
        needs larger pieces than there are takes all of them anew: with the largest one first, all others fit into its.
        What the launched one has had is given back: a graph cannot use it.
        """
        if self._graphs is not None:
            ample = [*largest, *largest[: -(-len(largest) // _HEADROOM)]]
            for _ in ("launched", "captured"):
                self.learn(ample, len(ample), places)
                torch.cuda.empty_cache()
            self.gradients.zero_()

    def learn(self, examples: Sequence[Example], total: int, places: int) -> None:
        """Fill `gradients` for these messages of a step of `total`; `places` is the most that a step can have.

        Running out of GPU memory makes the passes smaller and begins the step anew; when they cannot be smaller,
        activations are computed twice instead of kept. Raises NoRoomError.
        """
        while True:
            self.gradients.zero_()
            try:
                for part in cut(examples, self._most):
                    whole = len(part) == len(examples)
                    packed = packing.pack(part, places=places if whole else 0, grain=self._grain, values=self._values)
                    self.gradients[-1] += self._run(packed, total)
            except torch.cuda.OutOfMemoryError:
                pass  # release what the failed pass holds first: its traceback keeps it alive
            else:
                return
            self._make_room(max(len(example.ids) for example in examples))

    def _make_room(self, longest: int) -> None:
        if self._graphs is not None:
            self._graphs.forget()
            torch._C._cuda_clearCublasWorkspaces()  # noqa: SLF001 # 32 MiB a stream on Hopper, and nothing else frees them
        if self._most > max(_LEAST_TOKENS, longest):
            self._most //= 2
        elif not self._is_checkpointed:
            self._is_checkpointed = True
            self._model.get_base_model().gradient_checkpointing_enable({"use_reentrant": False})
        else:
            message = (
                f"out of GPU memory at {self._most} tokens a pass, with gradient checkpointing: a smaller base, "
                "quantisation nf4, fewer targets, or a larger GPU"
            )
            raise NoRoomError(message)
        torch.cuda.empty_cache()

    def _run(self, packed: PackedRows, total: int) -> Tensor:
        divisor = torch.tensor(float(total), device=self._accelerator.device)
        if self._graphs is None:
            return self._backward(packed.on(packed.flat.to(self._accelerator.device)), divisor)
        return self._graphs.run(packed, divisor, self._backward)

    def _backward(self, packed: PackedRows, divisor: Tensor) -> Tensor:
        classifier = self._model.get_base_model()
        with self._accelerator.autocast():
            ends = model.ends(self._model, packed)
        loss = batches.loss(classifier.score(ends), packed.labels, packed.spam)
        if self._states:
            loss = loss + self._states * batches.state_loss(classifier.states(ends), packed.states)
        loss = loss / divisor
        self._accelerator.backward(loss)
        return loss.detach()


def cut(examples: Sequence[Example], most: int) -> list[list[Example]]:
    """Runs of messages of at most `most` tokens each; a longer message is a run of its own."""
    parts: list[list[Example]] = []
    room = 0
    for example in examples:
        if not parts or len(example.ids) > room:
            parts.append([])
            room = most
        parts[-1].append(example)
        room -= len(example.ids)
    return parts


class _Graphs:
    """Captured passes by shape. They share their memory: one runs at a time, and its answer is copied out."""

    def __init__(self) -> None:
        self._captured: dict[tuple[int, ...], tuple[Any, Tensor, Tensor, Tensor]] = {}
        self._pool: Any = None
        self._stream: Any = None
        self._is_warm = False

    def forget(self) -> None:
        """Begin anew, on the same stream: cuBLAS keeps memory of its own for each stream that it has ever seen."""
        self._captured.clear()
        self._pool, self._is_warm = None, False

    def run(self, packed: PackedRows, divisor: Tensor, passed: Any) -> Tensor:  # noqa: ANN401 a bound method
        """The pass's loss; gradients are added to."""
        if not self._is_warm:
            # The first one is launched, on the stream that captures: what is made on the way is made for it.
            self._stream = self._stream or torch.cuda.Stream()
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                loss: Tensor = passed(packed.on(packed.flat.cuda()), divisor)
            torch.cuda.current_stream().wait_stream(self._stream)
            self._is_warm = True
            return loss
        if packed.shape not in self._captured:
            self._capture(packed, divisor, passed)
        graph, flat, kept, loss = self._captured[packed.shape]
        flat.copy_(packed.flat, non_blocking=True)
        kept.copy_(divisor)
        graph.replay()
        return loss

    def _capture(self, packed: PackedRows, divisor: Tensor, passed: Any) -> None:  # noqa: ANN401
        flat, kept = packed.flat.cuda(), divisor.clone()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                loss = passed(packed.on(flat), kept)
        except RuntimeError as error:
            if isinstance(error.__context__, torch.cuda.OutOfMemoryError):  # what ended the capture hides why
                raise error.__context__ from None
            raise
        self._pool = graph.pool()
        self._captured[packed.shape] = graph, flat, kept, loss
