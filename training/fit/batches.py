"""Texts to padded batches, in an order that a seed gives; and what every training loop needs besides."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, nll_loss

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Iterator, Sequence

    from transformers import PreTrainedTokenizerBase

# Batches are cut from this many batches' worth of shuffled rows, sorted by length: little padding, much chance.
_WINDOW = 16
IGNORED: Final = -100
"""The label of a place whose label is not learnt, as PyTorch's losses know it."""
NOT_TAUGHT: Final = -1.0
"""The probability of spam of a message that has none."""
STATE_UNIT: Final = 1 / 32
"""What one is worth in a teacher's state, whose values are signed bytes."""


class ProgressCallback(Protocol):
    """Called after every step with how far training is."""

    def __call__(self, phase: str, step: int, steps: int, loss: float, tokens: int) -> None:
        """Show it; `tokens` is how many this step has learnt from."""


class DivergedError(ArithmeticError):
    """The loss is not a number any more; nothing is saved."""


@dataclass(frozen=True, slots=True)
class Example:
    """A message's token ids, as many as are kept, and its label's index or, of two labels, a probability of spam.

    One that is IGNORED, and has no probability, has no target. `state` is a row's.
    """

    ids: list[int]
    label: int
    spam: float | None = None
    state: bytes = b""

    @property
    def targets(self) -> tuple[int, float]:
        """The label and the probability as `loss` takes them: one of the two is learnt."""
        return (self.label, NOT_TAUGHT) if self.spam is None else (IGNORED, self.spam)


@dataclass(frozen=True, slots=True)
class PaddedBatch:
    """Padded on the right: ids and mask [n, longest]; labels and probabilities of spam [n], as `loss` takes them.

    `states` are the teacher's [n, values], NaN where it has none; of no values where it has none of the batch.
    """

    ids: Tensor
    mask: Tensor
    labels: Tensor
    spam: Tensor
    states: Tensor


def encode(  # noqa: PLR0913, PLR0917 texts, what is learnt of each, and how they are cut
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    labels: Sequence[str],
    names: Sequence[str],
    max_tokens: int,
    spam: Iterable[float | None] = itertools.repeat(None),
    states: Iterable[bytes] = itertools.repeat(b""),
) -> list[Example]:
    """Tokenise; a text of more than `max_tokens` keeps its first and its last half of them, as in serving.

    Nothing is learnt of a text without tokens, which is not judged in serving: it is a pad without a target.
    `spam` gives each text's probability of spam, None where its label is to be learnt; `states` the teacher's.
    """
    tail = max_tokens // 2
    # As in serving, a special token's name within a text is no special token.
    found: Any = tokenizer(list(texts), split_special_tokens=True)["input_ids"]
    cut = [ids if len(ids) <= max_tokens else ids[: max_tokens - tail] + ids[len(ids) - tail :] for ids in found]
    nothing = Example([tokenizer.pad_token_id or 0], IGNORED)
    return [
        Example(ids, names.index(label), share, state) if ids else nothing
        for ids, label, share, state in zip(cut, labels, spam, states, strict=False)
    ]


def shuffled(examples: Sequence[Example], size: int, dice: random.Random) -> list[list[Example]]:
    """Every example once, in runs of `size`, in a random order: what is packed needs no messages of one length."""
    order = list(examples)
    dice.shuffle(order)
    return [order[start : start + size] for start in range(0, len(order), size)]


def by_length(examples: Sequence[Example], size: int, dice: random.Random, *, pad: int) -> Iterator[PaddedBatch]:
    """Every example once, in batches of messages of about one length, in a random order."""
    order = list(range(len(examples)))
    dice.shuffle(order)
    cuts = []
    for at in range(0, len(order), size * _WINDOW):
        window = sorted(order[at : at + size * _WINDOW], key=lambda index: len(examples[index].ids))
        cuts += [window[start : start + size] for start in range(0, len(window), size)]
    dice.shuffle(cuts)
    for cut in cuts:
        yield collate([examples[index] for index in cut], pad=pad)


def collate(examples: Sequence[Example], *, pad: int) -> PaddedBatch:
    """Lay examples side by side."""
    longest = max(len(example.ids) for example in examples)
    ids = torch.full((len(examples), longest), pad)
    mask = torch.zeros((len(examples), longest), dtype=torch.long)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        mask[row, : len(example.ids)] = 1
    labels, spam = zip(*(example.targets for example in examples), strict=True)
    return PaddedBatch(ids, mask, torch.tensor(labels), torch.tensor(spam), _states(examples))


def _states(examples: Sequence[Example]) -> Tensor:
    values = max(len(example.state) for example in examples)
    found = torch.full((len(examples), values), math.nan)
    for row, example in enumerate(examples):
        if example.state:
            found[row] = torch.frombuffer(bytearray(example.state), dtype=torch.int8) * STATE_UNIT
    return found


def loss(logits: Tensor, labels: Tensor, spam: Tensor) -> Tensor:
    """Cross-entropy in nats, summed over messages: of labels [n], and of probabilities of spam [n] (soft targets).

    A message has one of the two: its label is IGNORED, or its probability NOT_TAUGHT, or both where there is none.
    Soft targets: Hinton et al., Distilling the Knowledge in a Neural Network, arXiv 1503.02531.
    """
    logs = log_softmax(logits.float(), dim=1)
    soft = -(spam * logs[:, 1] + (1 - spam) * logs[:, 0])
    return nll_loss(logs, labels, reduction="sum", ignore_index=IGNORED) + (soft * (spam >= 0)).sum()


def state_loss(guessed: Tensor, states: Tensor) -> Tensor:
    """Squared error of the teacher's states [n, values], each message's mean, summed over those that have one.

    FitNets: Hints for Thin Deep Nets, arXiv 1412.6550.
    """
    return ((guessed.float() - states.nan_to_num()) ** 2 * ~states.isnan()).mean(dim=1).sum()


def warm_then_fall(step: int, steps: int, warmup: int) -> float:
    """The learning rate's share: up over `warmup` steps, then down in a line to a fiftieth."""
    return min(1.0, (step + 1) / max(1, warmup)) * max(0.02, 1 - step / steps)


def require_finite(losses: Sequence[float], step: int) -> None:
    """Raise DivergedError when one of the losses that end with this step is not."""
    for before, loss in enumerate(reversed(losses)):
        if not math.isfinite(loss):
            message = f"the loss is {loss} at step {step - before}; lower the learning rate or look at the data"
            raise DivergedError(message)
