"""A run's examples: each epoch's messages, augmented if the recipe says so, in an order of their own."""

from __future__ import annotations

import os
import random
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Final, TypeVar

from training.data.disguises import DISGUISES, HOST, LEARNT, augment, cased, cut, punctuated, rehosted, sloppy
from training.data.split import LABELS
from training.fit import batches
from worker.model.normalise import normalise

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from transformers import PreTrainedTokenizerBase

    from training.data.split import Row
    from training.fit.batches import Example
    from training.fit.recipe import Fit, Recipe

R = TypeVar("R", bound="Row")
_MOST_AHEAD: Final = 8
_WORTH_PROCESSES: Final = 50_000
"""Texts in all; a process takes seconds to begin."""


class Epochs:
    """The steps of each epoch, by its number.

    All of an epoch comes from the seed and its number, so that a resumed run sees what it would have seen.
    """

    def __init__(  # noqa: PLR0913, PLR0917 what an epoch is made of
        self,
        fit: Fit,
        rows: Sequence[Row],
        taught: Sequence[Row],
        labels: Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        seed: int,
    ) -> None:
        self._fit, self._labels, self._tokenizer, self._seed = fit, labels, tokenizer, seed
        self._texts = _Texts(rows, taught, fit, seed)
        self._is_drawn = fit.augment or bool(size(rows, taught, fit) - len(rows))
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
        dice = random.Random(f"{self._seed}-{epoch}-order")
        if self._is_drawn or not self._examples:
            # Serving normalises, so training does too, whatever the recipe.
            rows = self._texts.rows(epoch)
            texts = self._texts.of(epoch) if self._fit.augment else [normalise(row.text) for row in rows]
            self._examples = examples(rows, texts, self._tokenizer, self._labels, self._fit.max_tokens)
        return batches.shuffled(self._examples, self._fit.batch * self._fit.accumulation, dice)


def repeated(rows: Sequence[R], times: Mapping[str, int]) -> tuple[R, ...]:
    """The rows, each as often as is said of its source, or once."""
    return tuple(row for row in rows for _ in range(times.get(row.source, 1)))


def size(rows: Sequence[Row], taught: Sequence[Row], fit: Fit) -> int:
    """Messages of an epoch: every row, and as many of the taught ones as the recipe draws."""
    return len(rows) + min(fit.taught, len(taught))


def state_size(rows: Sequence[Row], taught: Sequence[Row]) -> int:
    """Values of the teacher's states, 0 where no row has one."""
    return max(len(row.state) for row in (*rows, *taught))


def examples(
    rows: Sequence[Row],
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    labels: Sequence[str],
    max_tokens: int,
) -> list[Example]:
    """Tokenise an epoch's texts, with what is learnt of each row."""
    names, spam, states = [row.label for row in rows], [row.spam for row in rows], [row.state for row in rows]
    return batches.encode(tokenizer, texts, names, labels, max_tokens, spam, states)


def shown(recipe: Recipe) -> list[str]:
    """The disguises that a model of this recipe, or a base made for it, meets when it learns."""
    fit = recipe.fit
    if not fit.augment and recipe.pretraining is None:
        return []
    asked = {*LEARNT} | {name for name, share in (("cased", fit.recased), ("punctuated", fit.punctuated)) if share}
    return [name for name in DISGUISES if name in asked]


def in_turn(
    rows: Sequence[Row], taught: Sequence[Row], fit: Fit, seed: int, epochs: range
) -> Iterator[tuple[list[Row], list[str]]]:
    """Each epoch's rows and their texts, disguised. Where they are many, processes beside this one make them ahead.

    An epoch's texts come from the seed and its number alone, whoever makes them.
    """
    ahead = min(_MOST_AHEAD, (os.cpu_count() or 1) // 2, len(epochs))
    made = _Texts(rows, taught, fit, seed)
    if ahead < 1 or size(rows, taught, fit) * len(epochs) < _WORTH_PROCESSES:
        yield from ((made.rows(epoch), made.of(epoch)) for epoch in epochs)
        return
    with ProcessPoolExecutor(ahead, get_context("spawn"), _begin, (rows, taught, fit, seed)) as pool:
        waiting: deque[tuple[int, Future[list[str]]]] = deque()
        for epoch in epochs:
            waiting.append((epoch, pool.submit(_of, epoch)))
            if len(waiting) > ahead:
                first, texts = waiting.popleft()
                yield made.rows(first), texts.result()
        while waiting:
            first, texts = waiting.popleft()
            yield made.rows(first), texts.result()


class _Texts:
    """An epoch's rows and texts, from the seed and its number."""

    def __init__(self, rows: Sequence[Row], taught: Sequence[Row], fit: Fit, seed: int) -> None:
        self._rows, self._taught, self._fit, self._seed = rows, taught, fit, seed
        self._ham = [normalise(row.text) for row in rows if row.label == LABELS[0]]
        self._hosts = hosts(rows) if fit.rehosted else []

    def rows(self, epoch: int) -> list[Row]:
        count = size(self._rows, self._taught, self._fit) - len(self._rows)
        return [*self._rows, *random.Random(f"{self._seed}-{epoch}-taught").sample(self._taught, count)]

    def of(self, epoch: int) -> list[str]:
        dice = random.Random(f"{self._seed}-{epoch}")
        return [disguised(row, self._fit, dice, self._ham, self._hosts) for row in self.rows(epoch)]


_here: list[_Texts] = []
"""In a process beside the one that trains: what it was begun with."""


def _begin(rows: Sequence[Row], taught: Sequence[Row], fit: Fit, seed: int) -> None:
    _here[:] = [_Texts(rows, taught, fit, seed)]


def _of(epoch: int) -> list[str]:
    return _here[0].of(epoch)


def hosts(rows: Sequence[Row]) -> list[str]:
    """Every host that a link of these rows has, once, in an order of its own."""
    return sorted({found[0].lower() for row in rows for found in HOST.finditer(row.text)})


def disguised(row: Row, fit: Fit, dice: random.Random, ham: Sequence[str], known: Sequence[str] = ()) -> str:
    """A row's text, disguised as the recipe says and normalised; `ham` are normalised texts to borrow words from.

    `known` are hosts to exchange a link's for.
    """
    text = row.text
    if fit.rehosted and dice.random() < fit.rehosted:
        text = rehosted(text, dice, known)
    if fit.sloppy and dice.random() < fit.sloppy:
        text = sloppy(text, dice)
    for change, share in ((cased, fit.recased), (punctuated, fit.punctuated)):
        if share and dice.random() < share:
            text = change(text, dice)
    return cut(augment(text, dice, ham, is_ham=row.label == LABELS[0]), dice, fit.cuts)
