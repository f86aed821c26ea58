"""The writing teacher: a language model that learns the rows' texts under headings, and then writes new ones.

A heading is `language label kind sender`, between the base's own sign of a turn's begin and a line break; the text
follows, and the sign of a turn's end. What it writes under a heading is not labelled by it: half of it is nonsense.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import torch

from training.fit import batches

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from training.data.mixture import Sourced

BEGIN, END = "<|im_start|>", "<|im_end|>"
_CLIP: Final = 1.0
_WARMUP: Final = 50
_LOOK_EVERY: Final = 10
_RARE: Final = 0.7
"""Headings are drawn by their count to this power: rare kinds more often than they come."""
_LEARNT_TOKENS: Final = 120
_WRITTEN_TOKENS: Final = 64
_MIN_P: Final = 0.03
"""A token is drawn only if it has this share of the likeliest one's probability (arXiv 2407.01082)."""


class Writing(msgspec.Struct, frozen=True):
    """How the writer is fine-tuned."""

    epochs: int
    learning_rate: float
    batch: int


class Heading(NamedTuple):
    """What a message is asked to be."""

    language: str
    label: str
    kind: str
    sender: str

    def __str__(self) -> str:
        """As the model reads it."""
        return f"{BEGIN}{self.language} {self.label} {self.kind} {self.sender}\n"


def heading(row: Sourced) -> Heading:
    """A row's own heading; its collection stands for a kind that it has not."""
    return Heading(row.language, row.truth, row.kind.replace("-", " ") or row.source, row.sender)


class WritingTeacher:
    """A causal language model and its tokenizer, which knows the two signs."""

    def __init__(self, model: Any, tokenizer: Any) -> None:  # noqa: ANN401 transformers' classes
        self.model, self._tokenizer = model, tokenizer
        self._end = int(tokenizer.convert_tokens_to_ids(END))

    def learn(self, rows: Sequence[Sourced], how: Writing, seed: int, progress: batches.ProgressCallback) -> None:
        """Fine-tune all weights on the rows' texts, under their headings."""
        examples = [self._example(row) for row in rows]
        optimizer = torch.optim.AdamW(self.model.parameters(), how.learning_rate, (0.9, 0.98), weight_decay=0.01)
        dice, device = random.Random(f"{seed}-writer"), self.model.device
        steps, step, seen = how.epochs * math.ceil(len(examples) / how.batch), 0, 0.0
        torch.manual_seed(seed)
        self.model.train()
        for epoch in range(how.epochs):
            order = sorted(range(len(examples)), key=lambda at: len(examples[at][1]) + 12 * dice.random())
            chunks = [order[start : start + how.batch] for start in range(0, len(order), how.batch)]
            dice.shuffle(chunks)
            for chunk in chunks:
                for group in optimizer.param_groups:
                    group["lr"] = how.learning_rate * batches.warm_then_fall(step, steps, _WARMUP)
                ids, mask, labels = self._padded([examples[at] for at in chunk])
                with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                    loss = self.model(
                        input_ids=ids.to(device), attention_mask=mask.to(device), labels=labels.to(device)
                    ).loss
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), _CLIP)
                optimizer.step()
                if step % _LOOK_EVERY == 0:
                    seen = loss.item()
                    batches.require_finite([seen], step)
                step += 1
                progress(f"writer, epoch {epoch + 1}/{how.epochs}", step, steps, seen, int(mask.sum()))

    @torch.no_grad()
    def write(self, headings: Counter[Heading], count: int, seed: int) -> list[tuple[Heading, str]]:
        """Write `count` texts under headings drawn by the seed; those that did not come to an end are left out."""
        self.model.eval()
        names = sorted(headings)
        weights = [headings[name] ** _RARE for name in names]
        asked = random.Random(f"{seed}-headings").choices(names, weights, k=count)
        prompts = [self._ids(str(name)) for name in asked]
        longest, device = max(map(len, prompts)), self.model.device
        ids = torch.full((count, longest), self._end)
        mask = torch.zeros_like(ids)
        for row, each in enumerate(prompts):  # padded on the left, for all texts begin in the same place
            ids[row, longest - len(each) :] = torch.tensor(each)
            mask[row, longest - len(each) :] = 1
        torch.manual_seed(seed)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            written = self.model.generate(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                max_new_tokens=_WRITTEN_TOKENS,
                do_sample=True,
                temperature=1.0,
                top_p=1.0,
                top_k=0,
                min_p=_MIN_P,
                eos_token_id=self._end,
                pad_token_id=self._end,
            )[:, longest:]
        is_ended = (written == self._end).any(dim=1).tolist()
        texts = self._tokenizer.batch_decode(written, skip_special_tokens=True)
        return [(name, text) for name, text, ended in zip(asked, texts, is_ended, strict=True) if ended]

    def _example(self, row: Sourced) -> tuple[list[int], list[int]]:
        return self._ids(str(heading(row))), [*self._ids(row.text)[:_LEARNT_TOKENS], self._end]

    def _ids(self, text: str) -> list[int]:
        found: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    def _padded(
        self, examples: Sequence[tuple[list[int], list[int]]]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Ids, mask and labels [n, longest], padded on the right; the heading itself is not learnt."""
        longest = max(len(head) + len(text) for head, text in examples)
        ids = torch.full((len(examples), longest), self._end)
        mask, labels = torch.zeros_like(ids), torch.full_like(ids, batches.IGNORED)
        for row, (head, text) in enumerate(examples):
            size = len(head) + len(text)
            ids[row, :size] = torch.tensor(head + text)
            mask[row, :size] = 1
            labels[row, len(head) : size] = torch.tensor(text)
        return ids, mask, labels


def headings(rows: Iterable[Sourced]) -> Counter[Heading]:
    """How many rows each heading has."""
    return Counter(heading(row) for row in rows)
