"""The forward pass that a graph captures: tokens laid end to end in, logits of each message's end out.

`operations` is `kernels` on a GPU and `reference` elsewhere: the same pass, which is how it is tested without a GPU.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import torch
from torch import Tensor

from worker.engine import nf4
from worker.engine.kinds import Kind, UnsupportedModelError
from worker.engine.reference import FP8, FP8_MAX, gated, rope

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from worker.engine.weights import Layer, Shape, Weights


_ALL: Final = slice(None)
_STRIPE: Final = 128
"""Gates that lie together in the gate and up matrix, the ups that they open after them: one tile then holds both."""

_TABLE_BYTES: Final = 256 << 20
"""Most bytes of the first layer's table: TinyLlama's takes 164 MB."""

_LEAST_ROWS: Final = 32  # what an attention kernel takes at a time
_MOST_POSITIONS: Final = 8192  # the tables' length: no message is longer


class Forward(Protocol):
    """A model on its device. `tokens` and `starts` [n], `ends` [m], int32; logits [m, labels], float32.

    After `share(first)` every message is taken to have had that token before what it is given with; `share` returns
    the logits [labels] of a message that is nothing else.
    """

    shape: Shape

    def share(self, first: int) -> Tensor:
        """Work out, once, what a token gives to all that come after it."""

    def __call__(self, tokens: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
        """Run the model."""


class Plain:
    """Merged weights in one type (bfloat16 on a GPU), every product a plain one."""

    def __init__(
        self, weights: Weights, device: torch.device, operations: ModuleType, dtype: torch.dtype = torch.bfloat16
    ) -> None:
        self.shape = weights.shape
        self._operations = operations
        self._device, self._dtype = device, dtype
        self._rope = rope(weights.frequencies, min(weights.shape.positions, _MOST_POSITIONS), device)
        self._embedding = self._placed(weights.embedding)
        self._stripe = self._stripe_of(weights.shape.inner)
        self._layers = [self._matrices(layer) for layer in weights.layers]
        self._biases = [self._placed_biases(layer) for layer in weights.layers]
        self._score = (weights.score.float() * weights.norm.float()).to(device).T.contiguous()
        self._first = self._first_table(weights)
        self._shared: list[Tensor | None] = [None] * weights.shape.layers
        self._is_learning = False

    def __call__(self, tokens: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
        """Run the model."""
        hidden = self._embedding.index_select(0, tokens)
        for index, layer in enumerate(self._layers[:-1]):
            if index == 0 and self._first is not None:
                qkv, scale = self._first.index_select(0, tokens), None
            else:
                qkv, scale = self._qkv(hidden @ layer["qkv"].T, self._scale(hidden), index)
            self._add_product(hidden, self._attend(index, qkv, scale, starts), layer, "out", index)
            self._mlp(hidden, layer, index)
        return self._ends(hidden, starts, ends)

    def share(self, first: int) -> Tensor:
        """Work out, once, what a token gives to all that come after it: its keys and values, layer by layer."""
        tokens = torch.full((_LEAST_ROWS,), first, dtype=torch.int32, device=self._device)
        alone = torch.arange(_LEAST_ROWS, dtype=torch.int32, device=self._device)
        self._is_learning = True
        logits = self(tokens, alone, alone)
        self._is_learning = False
        return logits[0]

    def _attend(
        self, index: int, qkv: Tensor, scale: Tensor | None, starts: Tensor, factor: float | None = None
    ) -> Tensor:
        shape = self.shape
        self._learn(index, qkv[0, shape.heads * shape.head :], scale)
        mixed: Tensor = self._operations.attend(qkv, scale, starts, self._rope, shape, factor, self._shared_by(index))
        return mixed

    def _learn(self, index: int, key_value: Tensor, scale: Tensor | None) -> None:
        if self._is_learning:
            true = key_value.float() if scale is None else key_value.float() * scale[0]
            self._shared[index] = true.view(2, self.shape.key_heads, self.shape.head).clone()

    def _shared_by(self, index: int) -> Tensor | None:
        return None if self._is_learning else self._shared[index]

    def _ends(self, hidden: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
        """The last layer: keys and values everywhere, the rest only where a message ends."""
        layer, last = self._layers[-1], self.shape.layers - 1
        queries = self.shape.heads * self.shape.head
        own = self._scale(hidden)
        qkv = layer["qkv"]
        key_value, scale = self._qkv(hidden @ qkv[queries:].T, own, last, slice(queries, None))
        scale = torch.ones_like(own) if scale is None else scale
        self._learn(last, key_value[0], scale)
        hidden = hidden.index_select(0, ends)
        query, _ = self._qkv(hidden @ qkv[:queries].T, own.index_select(0, ends), last, slice(queries))
        mixed = self._operations.attend_ends(
            query, key_value, scale, starts, ends, self._rope, self.shape, self._shared_by(last)
        )
        self._add_product(hidden, mixed, layer, "out", last)
        self._mlp(hidden, layer, last)
        return (hidden.float() * self._scale(hidden)[:, None]) @ self._score

    def _qkv(self, product: Tensor, scale: Tensor, index: int, rows: slice = _ALL) -> tuple[Tensor, Tensor | None]:
        """Queries, keys and values, and the scale that they still lack; none where a bias had to be added to them."""
        bias = self._biases[index].get("qkv")
        if bias is None:
            return product, scale
        return (product.float() * scale[:, None] + bias[rows]).to(self._dtype), None

    def _add_product(self, hidden: Tensor, values: Tensor, layer: Matrices, name: str, index: int) -> None:
        hidden.addmm_(values, layer[name].T)
        if (bias := self._biases[index].get(name)) is not None:
            hidden.add_(bias)

    def _mlp(self, hidden: Tensor, layer: Matrices, index: int) -> None:
        bias, scale = self._biases[index].get("gate_up"), self._scale(hidden)
        if bias is None:
            inner = self._operations.gated(hidden, scale, layer["gate_up"], self._stripe)
        else:
            inner = gated(hidden, scale, layer["gate_up"], self._stripe, bias)
        self._add_product(hidden, inner, layer, "down", index)

    def _scale(self, hidden: Tensor) -> Tensor:
        scale: Tensor = self._operations.row_scale(hidden, self.shape.epsilon)
        return scale

    def _matrices(self, layer: Layer) -> Matrices:
        folded = {
            "qkv": layer.qkv * layer.before_attention,
            "out": layer.out,
            "gate_up": _striped(layer.gate_up * layer.before_mlp, self._stripe),
            "down": layer.down,
        }
        return {name: self._placed(matrix) for name, matrix in folded.items()}

    def _placed_biases(self, layer: Layer) -> dict[str, Tensor]:
        """In float32: what they are added to has just been multiplied in it."""
        placed = {name: bias.to(self._device).float() for name, bias in layer.biases.items()}
        if "gate_up" in placed:
            placed["gate_up"] = _striped(placed["gate_up"][:, None], self._stripe)[:, 0]
        return placed

    def _first_table(self, weights: Weights) -> Tensor | None:
        """The first layer's query, key and value, which depend on the token alone; none where it would be large."""
        rows = (weights.shape.heads + 2 * weights.shape.key_heads) * weights.shape.head
        if weights.shape.layers == 1 or weights.shape.vocabulary * rows * self._dtype.itemsize > _TABLE_BYTES:
            return None
        embedding = self._embedding
        table = (embedding @ self._layers[0]["qkv"].T).float() * self._scale(embedding)[:, None]
        return table.add_(self._biases[0].get("qkv", 0.0)).to(self._dtype)

    def _stripe_of(self, inner: int) -> int:
        return inner if inner % _STRIPE else _STRIPE

    def _placed(self, matrix: Tensor) -> Tensor:
        return matrix.to(self._device, self._dtype)


Matrices: TypeAlias = dict[str, Tensor]
"""A layer's four products by name; norms are multiplied in."""


def _striped(gate_up: Tensor, stripe: int) -> Tensor:
    """Gates in stripes, each with its ups after it: [2 * inner, width], reordered."""
    return gate_up.view(2, -1, stripe, gate_up.shape[1]).transpose(0, 1).reshape(gate_up.shape)


class Fp8(Plain):
    """Every layer's products in fp8 but the last's, which is short and feeds the answer.

    Nothing needs to be calibrated. A normalised row of width w has no value beyond sqrt(w), so one factor serves all of
    them; what attention mixes is bounded by the longest row of the value matrix times the same; and the MLP's inner
    rows, which no such bound holds, are scaled each by its own largest value.
    """

    def __init__(self, weights: Weights, device: torch.device, operations: ModuleType) -> None:
        if any(layer.biases for layer in weights.layers):
            message = f"{Kind.CUDA_FP8} has no place for a model's biases (attention_bias, mlp_bias); try auto"
            raise UnsupportedModelError(message)
        super().__init__(weights, device, operations)
        self._factor = _power_below(FP8_MAX / math.sqrt(self.shape.width))
        self._small = [self._eighths(layer) for layer in self._layers[:-1]]
        del self._layers[:-1]

    def __call__(self, tokens: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
        """Run the model."""
        run, epsilon, factor = self._operations, self.shape.epsilon, self._factor
        hidden = self._embedding.index_select(0, tokens)
        normed = None
        for index, layer in enumerate(self._small):
            if index == 0 and self._first is not None:
                qkv = self._first.index_select(0, tokens)
            else:
                normed = run.norm_fp8(hidden, epsilon, factor) if normed is None else normed
                qkv = run.product_fp8(normed, *layer["qkv"])
            mixed = self._attend(index, qkv, None, starts, layer["factor"])
            normed = run.add_product_norm_fp8(hidden, mixed, *layer["out"], None, epsilon, factor)
            inner, scales = run.gated_fp8(normed, *layer["gate_up"], self._stripe)
            normed = run.add_product_norm_fp8(hidden, inner, *layer["down"], scales, epsilon, factor)
        return self._ends(hidden, starts, ends)

    def _eighths(self, layer: Matrices) -> dict[str, Any]:
        """A layer in fp8: matrices with the factor that makes their products true, and attention's own factor."""
        value = layer["qkv"][-self.shape.key_heads * self.shape.head :].float()
        most = torch.linalg.vector_norm(value, dim=1).max().item() * math.sqrt(self.shape.width)
        factor = _power_below(FP8_MAX / most)
        divisors = {"qkv": self._factor, "out": factor, "gate_up": self._factor, "down": 1.0}
        return {name: _small(layer[name], divisor) for name, divisor in divisors.items()} | {"factor": factor}


def _small(matrix: Tensor, divisor: float) -> tuple[Tensor, Tensor]:
    """A matrix in fp8, and what its product with what was multiplied by `divisor` must be multiplied by."""
    scale = matrix.float().abs().amax() / FP8_MAX
    return (matrix.float() / scale).to(FP8), (scale / divisor).float()


def _power_below(value: float) -> float:
    return 2.0 ** math.floor(math.log2(value))


class Nf4(Plain):
    """Weights kept in NF4, as training keeps them, and made bfloat16 one matrix at a time: least memory.

    The weights must be read with a separate adapter: merged, they are no longer NF4; it is added as its matrix is
    made. `double` is whether training quantised the scales too.
    """

    def __init__(
        self,
        weights: Weights,
        device: torch.device,
        operations: ModuleType,
        dtype: torch.dtype = torch.bfloat16,
        *,
        double: bool = False,
    ) -> None:
        self._double = double
        self._levels = torch.tensor(nf4.LEVELS, device=device)
        super().__init__(weights, device, operations, dtype)

    def _stripe_of(self, inner: int) -> int:
        return inner  # the order in which training saw the rows decides how they are quantised

    def _first_table(self, weights: Weights) -> Tensor | None:
        del weights  # least memory
        return None

    def _matrices(self, layer: Layer) -> Matrices:
        gains = {"qkv": layer.before_attention, "gate_up": layer.before_mlp}
        return _Matrices(
            {
                name: self._packed(getattr(layer, name), gains.get(name), layer.updates.get(name))
                for name in ("qkv", "out", "gate_up", "down")
            }
        )

    def _packed(
        self, matrix: Tensor, gain: Tensor | None, update: tuple[Tensor, Tensor] | None
    ) -> Callable[[], Tensor]:
        codes, scales = nf4.quantise(matrix.to(self._device), double=self._double)
        codes = (codes.view(-1)[::2] << 4) | codes.view(-1)[1::2]
        gain = None if gain is None else gain.to(self._device).float()
        low, high = update or (None, None)
        if low is not None and high is not None:
            low = self._placed(low if gain is None else low.to(self._device) * gain)
            high = self._placed(high)
        shape = matrix.shape

        def make() -> Tensor:
            made = torch.empty(shape, device=self._device, dtype=self._dtype)
            self._operations.dequantise(codes, scales, self._levels, gain, made)
            return made if low is None or high is None else made.addmm_(high, low)

        return make


class _Matrices(dict[str, Tensor]):
    """Matrices that are made when asked for, and gone after."""

    def __init__(self, makers: dict[str, Callable[[], Tensor]]) -> None:
        super().__init__()
        self._makers = makers

    def __getitem__(self, name: str) -> Tensor:
        return self._makers[name]()
