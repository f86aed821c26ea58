"""The packed forward pass in float32 on the CPU: anywhere, no padding, no model class.

Messages are sorted by length and cut into chunks small enough for the caches, each one thread's work. In a chunk the
tokens lie end to end for every product; only attention sees them as a rectangle, which sorting keeps nearly full and a
causal mask keeps honest, since what is added stands behind a message's end. The last layer is computed where messages
end, nowhere else.

What is done once, at load, and changes nothing but rounding:
- a norm's weights are multiplied into the matrix that follows it;
- the first layer's query, key and value depend on the token alone: they are a table, looked up;
- query and key rows are reordered so that the two halves that rotary embedding turns together are neighbours: then a
  rotation is one product of complex numbers, in place. Queries and keys are reordered alike, so their products are not.
"""

from __future__ import annotations

import contextlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.kinds import Done, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from worker.engine.kinds import Tokens
    from worker.engine.weights import Layer, Shape, Weights

TOKEN_BUDGET: Final = 16_384
"""Tokens a call is best given: more no longer sorts better."""

_CACHE_BYTES: Final = 6 << 20
"""Bytes of a chunk's widest activation: measured best at 1,024 to 2,048 tokens of an MLP 1,024 wide."""

_SMALL_CHUNK: Final = 1e10
"""Operations below which a chunk is one thread's work, a tenth of a second: threads that share it spend their time
waiting for one another, most of all where other processes want the cores too."""

_ALL: Final = slice(None)

_TABLE_BYTES: Final = 64 << 20
"""Most bytes of the first layer's table: with a vocabulary and a depth for which it is larger, it saves nothing."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Messages laid end to end, and how to see them as a rectangle [messages, longest].

    `into` is for each place of the rectangle the token that stands there, `back` for each token its place; both None
    when all are equally long, since then the rectangle is the tokens as they lie. Behind an end stands the message's
    own last token: another's could be infinite, and zero times that is not nothing.
    """

    tokens: Tensor
    ends: Tensor
    lengths: Tensor
    longest: int
    into: Tensor | None
    back: Tensor | None
    is_real: Tensor | None


class CpuEngine:
    """Runs merged weights in float32. `threads` is torch's number of CPU threads; 0 leaves it as it is."""

    kind = Kind.CPU
    halvings = 0
    shared_tokens = 0
    pid = None
    has_ended = False

    def __init__(self, weights: Weights, *, threads: int = 0, token_budget: int | None = None) -> None:
        if threads:
            torch.set_num_threads(threads)
        self.token_budget = token_budget or TOKEN_BUDGET
        self.labels = weights.shape.labels
        self._shape = weights.shape
        self._chunk_tokens = max(128, _CACHE_BYTES // (4 * 2 * weights.shape.inner))
        self._pool = None
        if 2 * weights.shape.products_a_token * self._chunk_tokens < _SMALL_CHUNK:
            self._pool = ThreadPoolExecutor(threads or torch.get_num_threads(), "engine", torch.set_num_threads, (1,))
        self._embedding = weights.embedding
        self._layers = [_folded(layer, weights.shape) for layer in weights.layers]
        self._first = self._first_table()
        self._score = (weights.score * weights.norm).T.contiguous()
        angles = torch.outer(torch.arange(weights.shape.positions, dtype=torch.float32), weights.frequencies)
        self._turns = torch.polar(torch.ones_like(angles), angles)
        self.logits([[1], [1, 1]])  # the first call is slow

    def logits(self, tokens: Sequence[Tokens]) -> NDArray[np.float32]:
        """Logits [messages, labels], in the order given."""
        lengths = np.fromiter(map(len, tokens), dtype=np.int64, count=len(tokens))
        if not lengths.all():
            message = "a message without tokens"
            raise ValueError(message)
        if lengths.max(initial=0) > self._shape.positions:
            message = f"a message of {lengths.max()} tokens; the model has {self._shape.positions} positions"
            raise ValueError(message)
        logits = np.empty((len(tokens), self.labels), dtype=np.float32)
        order = np.argsort(lengths, kind="stable")

        def fill(rows: NDArray[np.int64]) -> None:
            with torch.inference_mode():
                logits[rows] = self._run(_pack([tokens[row] for row in rows], lengths[rows])).numpy()

        chunks = list(_cut(order, lengths, self._chunk_tokens))
        if self._pool and len(chunks) > 1:
            deque(self._pool.map(fill, chunks), maxlen=0)
        elif self._pool:
            with _one_threaded():
                deque(map(fill, chunks), maxlen=0)
        else:
            deque(map(fill, chunks), maxlen=0)
        return logits

    def begin(self, tokens: Sequence[Tokens]) -> Done:
        """Judge messages as `logits` does, at once: the processor has nothing else to overlap it with."""
        return Done(self.logits(tokens))

    def _run(self, chunk: Chunk) -> Tensor:
        hidden = self._embedding.index_select(0, chunk.tokens)
        for index, layer in enumerate(self._layers[:-1]):
            is_known = index == 0 and self._first is not None
            qkv = self._looked_up(chunk) if is_known else self._qkv(hidden, layer, chunk)
            _add_product(hidden, self._attend(qkv, chunk), layer, "out")
            self._mlp(hidden, layer)
        return _normed(self._ends(hidden, self._layers[-1], chunk), self._shape.epsilon) @ self._score

    def _first_table(self) -> Tensor | None:
        if 4 * len(self._embedding) * len(self._layers[0].qkv) > _TABLE_BYTES:
            return None
        return _product(_normed(self._embedding, self._shape.epsilon), self._layers[0], "qkv")

    def _looked_up(self, chunk: Chunk) -> Tensor:
        return cast("Tensor", self._first).index_select(0, _rectangle(chunk.tokens, chunk))

    def _qkv(self, hidden: Tensor, layer: Layer, chunk: Chunk) -> Tensor:
        return _rectangle(_product(_normed(hidden, self._shape.epsilon), layer, "qkv"), chunk)

    def _attend(self, qkv: Tensor, chunk: Chunk) -> Tensor:
        shape = self._shape
        qkv = qkv.view(-1, chunk.longest, shape.heads + 2 * shape.key_heads, shape.head)
        _turn(qkv[:, :, : shape.heads + shape.key_heads], self._turns[: chunk.longest, None])
        query, key, value = torch.split(qkv.transpose(1, 2), [shape.heads, shape.key_heads, shape.key_heads], dim=1)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        flat = mixed.transpose(1, 2).reshape(-1, shape.heads * shape.head)
        return flat if chunk.back is None else flat.index_select(0, chunk.back)

    def _mlp(self, hidden: Tensor, layer: Layer) -> None:
        inner = _product(_normed(hidden, self._shape.epsilon), layer, "gate_up")
        gate, up = inner.chunk(2, dim=1)
        _add_product(hidden, functional.silu(gate, inplace=True).mul_(up), layer, "down")

    def _ends(self, hidden: Tensor, layer: Layer, chunk: Chunk) -> Tensor:
        """The last layer: keys and values everywhere, the rest only where a message ends."""
        shape = self._shape
        normed = _normed(hidden, shape.epsilon)
        queries = shape.heads * shape.head
        key_value = _product(_rectangle(normed, chunk), layer, "qkv", slice(queries, None)).view(
            -1, chunk.longest, 2, shape.key_heads, shape.head
        )
        key, value = key_value.unbind(2)
        query = _product(normed.index_select(0, chunk.ends), layer, "qkv", slice(queries))
        query = query.view(-1, 1, shape.heads, shape.head)
        _turn(key, self._turns[: chunk.longest, None])
        _turn(query, self._turns.index_select(0, chunk.lengths - 1)[:, None, None])
        mixed = functional.scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), attn_mask=chunk.is_real, enable_gqa=True
        )
        ends = hidden.index_select(0, chunk.ends)
        _add_product(ends, mixed.reshape(-1, queries), layer, "out")
        self._mlp(ends, layer)
        return ends


@contextlib.contextmanager
def _one_threaded() -> Iterator[None]:
    """A message alone is over before a second thread has woken."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _folded(layer: Layer, shape: Shape) -> Layer:
    """The layer with its norms multiplied in, and its queries and keys in the order that `_turn` takes."""
    rows = torch.arange((shape.heads + 2 * shape.key_heads) * shape.head)
    turned = rows[: (shape.heads + shape.key_heads) * shape.head].view(-1, 2, shape.head // 2)
    rows[: turned.numel()] = turned.transpose(1, 2).reshape(-1)
    return type(layer)(
        before_attention=layer.before_attention,
        qkv=(layer.qkv * layer.before_attention)[rows],
        out=layer.out,
        before_mlp=layer.before_mlp,
        gate_up=layer.gate_up * layer.before_mlp,
        down=layer.down,
        biases={name: bias[rows] if name == "qkv" else bias for name, bias in layer.biases.items()},
    )


def _cut(order: NDArray[np.int64], lengths: NDArray[np.int64], most: int) -> Iterator[NDArray[np.int64]]:
    """Rows in the order given, in runs of about `most` tokens and at least one row."""
    if len(order) == 0:
        return
    run = (lengths[order].cumsum() - 1) // most
    yield from np.split(order, np.flatnonzero(np.diff(run)) + 1)


def _pack(rows: Sequence[Tokens], lengths: NDArray[np.int64]) -> Chunk:
    flat = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows])
    longest = int(lengths.max())
    ends = lengths.cumsum() - 1
    into = back = is_real = None
    if len(flat) < len(rows) * longest:
        places = np.arange(longest)
        real = places < lengths[:, None]
        back = torch.from_numpy(np.flatnonzero(real))
        into = torch.from_numpy(np.minimum((ends + 1 - lengths)[:, None] + places, ends[:, None]).reshape(-1))
        is_real = torch.from_numpy(real)[:, None, None]
    return Chunk(
        torch.from_numpy(flat), torch.from_numpy(ends), torch.from_numpy(lengths), longest, into, back, is_real
    )


def _product(values: Tensor, layer: Layer, name: str, rows: slice = _ALL) -> Tensor:
    """The product of values with a layer's matrix, or some of its rows, and its bias where it has one."""
    found: Tensor = values @ getattr(layer, name)[rows].T
    return found.add_(layer.biases[name][rows]) if name in layer.biases else found


def _add_product(hidden: Tensor, values: Tensor, layer: Layer, name: str) -> None:
    """Add a product, and its bias where it has one, in place."""
    hidden.addmm_(values, getattr(layer, name).T)
    if name in layer.biases:
        hidden.add_(layer.biases[name])


def _rectangle(values: Tensor, chunk: Chunk) -> Tensor:
    return values if chunk.into is None else values.index_select(0, chunk.into)


def _normed(values: Tensor, epsilon: float) -> Tensor:
    """RMSNorm without its weights, which are in the next matrix."""
    norm = torch.linalg.vector_norm(values, dim=1, keepdim=True)
    scale: Tensor = norm.square_().mul_(1 / values.shape[1]).add_(epsilon).rsqrt_()
    return values * scale


def _turn(values: Tensor, turns: Tensor) -> None:
    """Rotary embedding in place: neighbouring values are one complex number."""
    torch.view_as_complex(values.view(*values.shape[:-1], -1, 2)).mul_(turns)
