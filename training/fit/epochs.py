"""A run's examples: each epoch's messages, augmented if the recipe says so, in an order of their own."""

from __future__ import annotations

import random
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from training.data.disguises import DISGUISES, LEARNT, augment, cased, cut, punctuated
from training.data.split import LABELS
from training.fit import batches
from worker.model.normalise import normalise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from training.data.split import Row
    from training.fit.batches import Example
    from training.fit.recipe import Fit, Recipe


class Epochs:
    """The steps of each epoch, by its number.

    All of an epoch comes from the seed and its number, so that a resumed run sees what it would have seen.
    """

    def __init__(
        self, fit: Fit, rows: Sequence[Row], labels: Sequence[str], tokenizer: PreTrainedTokenizerBase, seed: int
    ) -> None:
        self._fit, self._rows, self._labels, self._tokenizer, self._seed = fit, rows, labels, tokenizer, seed
        self._ham = [normalise(row.text) for row in rows if row.label == LABELS[0]]
        self._examples: list[Example] = []
        self._made: tuple[int, list[list[Example]]] = (-1, [])
        self._aside = ThreadPoolExecutor(max_workers=1)
        self._next: tuple[int, Future[list[list[Example]]]] | None = None

    def __getitem__(self, epoch: int) -> list[list[Example]]:
        """Each step's messages. The epoch after is made meanwhile."""
        if self._made[0] != epoch:
            is_ready = self._next is not None and self._next[0] == epoch
            self._made = epoch, self._next[1].result() if self._next and is_ready else self._make(epoch)
            following = epoch + 1
            self._next = (
                (following, self._aside.submit(self._make, following)) if following < self._fit.epochs else None
            )
        return self._made[1]

    def _make(self, epoch: int) -> list[list[Example]]:
        dice = random.Random(f"{self._seed}-{epoch}")
        if self._fit.augment or not self._examples:
            texts = [self._text(row, dice) for row in self._rows]
            names = [row.label for row in self._rows]
            self._examples = batches.encode(self._tokenizer, texts, names, self._labels, self._fit.max_tokens)
        return batches.shuffled(self._examples, self._fit.batch * self._fit.accumulation, dice)

    def _text(self, row: Row, dice: random.Random) -> str:
        # Serving normalises, so training does too, whatever the recipe.
        return disguised(row, self._fit, dice, self._ham) if self._fit.augment else normalise(row.text)


def shown(recipe: Recipe) -> list[str]:
    """The disguises that a model of this recipe, or a base made for it, meets when it learns."""
    fit = recipe.fit
    if not fit.augment and recipe.pretraining is None:
        return []
    asked = {*LEARNT} | {name for name, share in (("cased", fit.recased), ("punctuated", fit.punctuated)) if share}
    return [name for name in DISGUISES if name in asked]


def disguised(row: Row, fit: Fit, dice: random.Random, ham: Sequence[str]) -> str:
    """A row's text, disguised as the recipe says and normalised; `ham` are normalised texts to borrow words from."""
    text = row.text
    for change, share in ((cased, fit.recased), (punctuated, fit.punctuated)):
        if share and dice.random() < share:
            text = change(text, dice)
    return cut(augment(text, dice, ham, is_ham=row.label == LABELS[0]), dice, fit.cuts)
