"""Messages laid end to end, with no padding between them: what a pass of training takes, and how it attends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from training.fit.batches import IGNORED, NOT_TAUGHT, STATE_UNIT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.fit.batches import Example

ATTENTION: Final = "hamgate-packed"
"""The name under which transformers finds `attend`."""
_ONE: Final = 1 << 24
"""A probability of 1, in the whole numbers that a layout is made of."""
_UNKNOWN: Final = 128
"""A value of no state, whose values are signed bytes."""

_FLASH: Final = (8, 0)  # the first compute capability with variable-length flash attention


@dataclass(frozen=True, slots=True)
class PackedRows:
    """Messages end to end, all in one tensor, so that one copy moves it.

    `ids` and `positions` [total], positions restarting with each message; `bounds` [sequences + 1], where messages
    begin; `ends` and `labels` [places], each message's last token and its label, IGNORED where a place is empty or its
    message has a probability of spam, which `spam` [places] holds, NOT_TAUGHT elsewhere; `states` [places, values] is
    what the teacher made of each message, NaN where it has none.
    Attention that needs a rectangle finds in `rectangle` [sequences, longest] which token stands where, and in `back`
    [total] where each token stands in it.
    """

    flat: Tensor
    total: int
    places: int
    sequences: int
    longest: int
    values: int = 0

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """(total, places, sequences, longest, values): equal for rows that one captured graph can run."""
        return self.total, self.places, self.sequences, self.longest, self.values

    def on(self, flat: Tensor) -> PackedRows:
        """The same layout over another tensor."""
        return PackedRows(flat, *self.shape)

    @property
    def ids(self) -> Tensor:
        """Token ids [total]."""
        return self._part(0)

    @property
    def positions(self) -> Tensor:
        """Each token's place in its message [total]."""
        return self._part(1)

    @property
    def back(self) -> Tensor:
        """Each token's index in the flattened rectangle [total]."""
        return self._part(2)

    @property
    def ends(self) -> Tensor:
        """Each message's last token [places]."""
        return self._part(3)

    @property
    def labels(self) -> Tensor:
        """Each message's label, or IGNORED [places]."""
        return self._part(4)

    @property
    def spam(self) -> Tensor:
        """Each message's probability of spam, or NOT_TAUGHT [places]."""
        return self._part(5) / _ONE

    @property
    def bounds(self) -> Tensor:
        """Start of each sequence and end of the last [sequences + 1]."""
        return self._part(6)

    @property
    def rectangle(self) -> Tensor:
        """Token indexes with a row for each sequence [sequences, longest]."""
        return self._part(7).view(self.sequences, self.longest)

    @property
    def states(self) -> Tensor:
        """Each message's state, or NaN [places, values]."""
        found = self._part(8).view(self.places, self.values)
        return (found * STATE_UNIT).masked_fill(found == _UNKNOWN, math.nan)

    def _part(self, number: int) -> Tensor:
        return torch.split(self.flat, _sizes(*self.shape))[number]


def _sizes(total: int, places: int, sequences: int, longest: int, values: int) -> list[int]:
    return [total, total, total, places, places, places, sequences + 1, sequences * longest, places * values]


def pack(examples: Sequence[Example], *, places: int = 0, grain: int = 1, values: int = 0) -> PackedRows:
    """Lay messages end to end in their order.

    `places` is how many messages the layout has room for, `values` how long a state is, 0 to leave states out; `grain`
    rounds the number of tokens up, by a sequence that no place reads, and the longest message too: then few shapes come
    up, and each is captured once.
    Raises ValueError on a message without tokens.
    """
    lengths = np.array([len(example.ids) for example in examples], dtype=np.int64)
    if not len(lengths) or not lengths.min():
        message = "nothing to pack, or a message without tokens"
        raise ValueError(message)
    real, places = int(lengths.sum()), max(places, len(lengths))
    total = -(-real // grain) * grain
    sequences = places + (grain > 1)
    spread = np.zeros(sequences, dtype=np.int64)
    spread[: len(lengths)] = lengths
    spread[-1] += total - real
    bounds = np.concatenate([[0], spread.cumsum()])
    longest = -(-int(spread.max()) // grain) * grain
    positions = np.arange(total) - np.repeat(bounds[:-1], spread)
    ids = np.zeros(total, dtype=np.int64)
    ids[:real] = np.concatenate([example.ids for example in examples])
    ends, labels = np.zeros(places, dtype=np.int64), np.full(places, IGNORED)
    spam, states = np.full(places, round(NOT_TAUGHT * _ONE)), np.full((places, values), _UNKNOWN)
    ends[: len(lengths)] = bounds[1 : len(lengths) + 1] - 1
    for place, example in enumerate(examples):
        labels[place], share = example.targets
        spam[place] = round(share * _ONE)
        if values and example.state:
            states[place] = np.frombuffer(example.state, np.int8)
    back = np.repeat(np.arange(sequences) * longest, spread) + positions
    # What stands behind a message's end is its own last token: causal attention never looks there.
    rectangle = np.minimum(bounds[:-1, None] + np.arange(longest), np.maximum(bounds[1:, None] - 1, 0))
    flat = np.concatenate([ids, positions, back, ends, labels, spam, bounds, rectangle.ravel(), states.ravel()])
    return PackedRows(torch.from_numpy(flat), total, places, sequences, longest, values)


def attend(  # noqa: PLR0913 transformers' own signature
    module: Any,  # noqa: ANN401 any layer's attention
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,  # noqa: ARG001 the layout says who sees whom
    *,
    scaling: float | None = None,
    layout: PackedRows,
    **_: Any,  # noqa: ANN401 what other kinds of attention take
) -> tuple[Tensor, None]:
    """Causal attention of each message over itself: [1, heads, total, head] to [1, total, heads, head].

    Variable-length flash attention where there is one; elsewhere (a CPU, a T4) a rectangle with a row a message.
    """
    window = getattr(module, "sliding_window", None)
    if window is not None and window < layout.longest:
        message = f"messages of {layout.longest} tokens under a sliding window of {window}"
        raise ValueError(message)
    if query.is_cuda and query.dtype != torch.float32 and torch.cuda.get_device_capability(query.device) >= _FLASH:
        return _flash(query, key, value, layout, scaling), None
    queries, keys, values = (part[0].transpose(0, 1)[layout.rectangle].transpose(1, 2) for part in (query, key, value))
    mixed = scaled_dot_product_attention(queries, keys, values, is_causal=True, scale=scaling, enable_gqa=True)
    return mixed.transpose(1, 2).flatten(0, 1)[layout.back][None], None


def _flash(query: Tensor, key: Tensor, value: Tensor, layout: PackedRows, scaling: float | None) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn  # noqa: PLC0415 -- only where there is a GPU that has it

    bounds, longest = layout.bounds.int(), layout.longest
    queries, keys, values = (part[0].transpose(0, 1) for part in (query, key, value))
    mixed: Any = varlen_attn(
        queries, keys, values, bounds, bounds, longest, longest, scale=scaling, window_size=(-1, 0)
    )
    return mixed[None]  # type: ignore[no-any-return]


AttentionInterface.register(ATTENTION, attend)
