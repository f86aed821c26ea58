"""The judging teacher: an encoder with one output on top, all of it fine-tuned but the pieces' vectors."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from training.data.split import LABELS
from training.fit import batches, epochs
from worker.model.normalise import normalise

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from training.data.split import Row
    from training.fit.encoder import Encoder
    from training.fit.recipe import Fit

_HEAD_RATE = 1e-3
_CLIP = 1.0
_LOOK_EVERY = 10
_TEXTS = 1024
"""Texts of a pass that only judges."""


class JudgingTeacher(torch.nn.Module):
    """Log-odds of spam by an encoder's vectors. `begin` makes it new, so that folds share one encoder."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = torch.nn.Linear(encoder.width, 1)
        encoder.bert.embeddings.word_embeddings.weight.requires_grad_(requires_grad=False)  # rare pieces stay in place
        self._fresh = {name: each.detach().clone() for name, each in self.learnt().items()}

    def begin(self, seed: int) -> None:
        """Forget what was learnt; the head starts from the seed."""
        torch.manual_seed(seed)
        self.take(self._fresh)
        self.head.reset_parameters()

    def learnt(self) -> dict[str, Tensor]:
        """The weights that learn, by name."""
        return {name: each for name, each in self.named_parameters() if each.requires_grad}

    @torch.no_grad()
    def take(self, weights: dict[str, Tensor]) -> None:
        """Put back what `learnt` gave. Raises KeyError, RuntimeError where they are of another model."""
        for name, each in self.learnt().items():
            each.copy_(weights[name])

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Log-odds [n], in float32."""
        found: Tensor = self.head(self.vectors(texts))[:, 0]
        return found

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """The encoder's [n, width], in float32. An empty text is read as a full stop."""
        device = self.head.weight.device
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            found: Tensor = self.encoder([text or "." for text in texts])
        return found.float()

    def log_odds(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Log-odds [n] of normalised texts."""
        return self._in_passes(texts, self)

    def states(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors [n, width] of normalised texts."""
        return self._in_passes(texts, self.vectors, self.encoder.width)

    @torch.no_grad()
    def _in_passes(
        self, texts: Sequence[str], of: Callable[[Sequence[str]], Tensor], *width: int
    ) -> NDArray[np.float32]:
        """What there is of each text, of about equal length in a pass."""
        self.eval()
        found = np.zeros((len(texts), *width), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
        for start in range(0, len(order), _TEXTS):
            places = order[start : start + _TEXTS]
            found[places] = of([texts[at] for at in places]).cpu().numpy()
        return found


def learn(  # noqa: PLR0913 what is learnt, how, and who is told
    teacher: JudgingTeacher, rows: Sequence[Row], fit: Fit, *, seed: int, name: str, progress: batches.ProgressCallback
) -> None:
    """Fine-tune on rows of two labels: in every epoch, each second text is disguised as `fit` says."""
    teacher.begin(seed)
    head = [*teacher.head.parameters()]
    others = [each for each in teacher.learnt().values() if not any(each is mine for mine in head)]
    groups: list[dict[str, Any]] = [
        {"params": others, "initial": fit.learning_rate},
        {"params": head, "initial": _HEAD_RATE},
    ]
    optimizer = torch.optim.AdamW(groups, fit.learning_rate, (0.9, 0.98), weight_decay=fit.weight_decay)
    device = teacher.head.weight.device
    plain = [normalise(row.text) for row in rows]
    per_epoch = max(1, len(rows) // fit.batch)
    steps, step, seen = fit.epochs * per_epoch, 0, 0.0
    teacher.train()
    for epoch, (_, texts) in enumerate(epochs.in_turn(rows, (), fit, seed, range(fit.epochs))):
        order = random.Random(f"{seed}-{epoch}-teacher").sample(range(len(rows)), len(rows))
        for start in range(0, per_epoch * fit.batch, fit.batch):
            places = order[start : start + fit.batch]
            falling = batches.warm_then_fall(step, steps, fit.warmup_steps)
            for group in optimizer.param_groups:
                group["lr"] = group["initial"] * falling
            shown = [texts[at] if (at + epoch) % 2 else plain[at] for at in places]
            spam = torch.tensor([float(rows[at].label != LABELS[0]) for at in places], device=device)
            loss = binary_cross_entropy_with_logits(teacher(shown), spam)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(teacher.learnt().values(), _CLIP)
            optimizer.step()
            if step % _LOOK_EVERY == 0:
                seen = loss.item()
                batches.require_finite([seen], step)
            step += 1
            progress(f"{name}, epoch {epoch + 1}/{fit.epochs}", step, steps, seen, sum(map(len, shown)) // 4)
