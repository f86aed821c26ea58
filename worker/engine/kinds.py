"""Engines: their kinds, their protocol, and the error that names a model which none here can run."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, Union

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Tokens: TypeAlias = Union[Sequence[int], "NDArray[np.int32]"]
"""One message's token ids; an array costs the engine less."""


class Kind(enum.StrEnum):
    """Device and arithmetic. `auto` is the fastest that this machine bears without changing the model's answers."""

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
    """A loaded model. Batches are begun by one thread at a time; answers may be awaited by several."""

    @property
    def kind(self) -> Kind:
        """The kind it was resolved to: never `auto`."""

    @property
    def labels(self) -> int:
        """Number of logits of a message."""

    @property
    def token_budget(self) -> int:
        """Most tokens of one pass; more are cut into several. Out of memory halves it."""

    @property
    def shared_tokens(self) -> int:
        """Number of tokens at the start of every message that are computed only once."""

    @property
    def halvings(self) -> int:
        """Number of times it ran out of memory and halved its token budget."""

    @property
    def pid(self) -> int | None:
        """The id of the process that runs it; None: this one does."""

    @property
    def has_ended(self) -> bool:
        """Whether that process is gone, so that the next batch will fail. May be asked by any thread."""

    def logits(self, tokens: Sequence[Tokens]) -> NDArray[np.float32]:
        """Judge messages, each given as its token ids: [n, labels], in the order given.

        A message's logits do not depend on its neighbours, but for rounding. Raises ValueError on a message
        without tokens. What is not finite is returned as it is: the caller decides what that means.
        """

    def begin(self, tokens: Sequence[Tokens]) -> Begun:
        """Begin to judge messages as `logits` does; another batch may be begun before this one is done."""
