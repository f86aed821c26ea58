"""Texts from outside, judged beside the stream on its engine, for a share of the time.

The stream comes first. A turn takes at most the share of the engine's token budget, so that it holds up a batch of the
stream by no more than that share of a batch. After a turn this thread rests until the turn was its share of the time.
Its tokenizer is its own. The queue is bounded; who finds it full is told so at once.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from worker.predict.answers import answers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.metrics import Metrics
    from worker.model.classifier import Classifier, Prepared
    from worker.model.models_in_service import Model
    from worker.predict.answers import Answer

ROOM: Final = 1024
"""Texts that may wait."""
_TURN: Final = 64
"""Texts of one turn, at most."""
_TICK: Final = 0.5
"""Seconds after which an idle thread looks whether its model is still the one in service."""


class FullError(Exception):
    """As many texts wait as may."""


class UnansweredError(Exception):
    """There was no answer in time, or the worker stops."""


@dataclass(slots=True, eq=False)
class _Question:
    """The texts of one request, and its answers as they come."""

    texts: Sequence[str]
    answers: list[Answer] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)


class Predictor:
    """Answers texts with the primary model in service. `ask` belongs to any thread, `step` to one of its own."""

    name = "predict"

    def __init__(self, model: Callable[[], Model], metrics: Metrics, *, share: float, room: int = ROOM) -> None:
        """`share` of the time, above 0 and at most 1."""
        self._model, self._metrics, self._share, self._room = model, metrics, share, room
        self._changed = threading.Condition()
        self._queue: deque[_Question] = deque()
        self._waiting = 0
        self._stopping = threading.Event()
        self._mine: tuple[Model, Classifier] | None = None

    def ask(self, texts: Sequence[str], *, patience: float) -> list[Answer]:
        """Return the texts' verdicts, in order. Raises FullError; UnansweredError after `patience` seconds."""
        asked = _Question(texts)
        with self._changed:
            if self._stopping.is_set():
                raise UnansweredError
            if self._waiting + len(texts) > self._room:
                raise FullError
            self._queue.append(asked)
            self._waiting += len(texts)
            self._changed.notify()
        asked.over.wait(patience)
        with self._changed:
            if len(asked.answers) < len(texts):
                self._forget(asked)
                raise UnansweredError
        return asked.answers

    def waiting(self) -> int:
        """Texts that wait."""
        return self._waiting

    def step(self) -> bool:
        """Take one turn, or wait a moment for texts. False when it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._stopping.is_set(), _TICK)
            turn = self._next_turn()
        if turn and not self._stopping.is_set():
            spent = self._take(turn)
            self._metrics.predict_busy.inc(spent)
            self._stopping.wait(spent * (1 - self._share) / self._share)
        elif self._mine and self._mine[0] is not self._model():
            self._mine = None  # or it would keep a model that is out of service in memory
        return not self._stopping.is_set()

    def stop(self) -> None:
        """Answer no more: whoever waits is told."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
            for asked in self._queue:
                asked.over.set()

    def _next_turn(self) -> list[tuple[_Question, str]]:
        """The next texts in line, of one or several requests."""
        turn: list[tuple[_Question, str]] = []
        for asked in self._queue:
            turn += [(asked, text) for text in asked.texts[len(asked.answers) :]]
            if len(turn) >= _TURN:
                break
        return turn[:_TURN]

    def _take(self, turn: list[tuple[_Question, str]]) -> float:
        """Judge the first of them that fit, at least one; the seconds that this took, less the wait for the stream."""
        model = self._model()
        if self._mine is None or self._mine[0] is not model:
            self._mine = (model, model.classifier.beside())
        classifier = self._mine[1]
        began, waited = time.monotonic(), classifier.turns.waited()
        prepared = self._fitting(classifier.prepare([text for _, text in turn]), classifier)
        found = list(answers(prepared, classifier.judge(prepared), model.verdicts))
        spent = time.monotonic() - began - (classifier.turns.waited() - waited)
        self._metrics.predict_texts.inc(len(found))
        with self._changed:
            for (asked, _), answer in zip(turn, found, strict=False):  # what did not fit has its turn later
                asked.answers.append(answer)
                if len(asked.answers) == len(asked.texts):
                    self._forget(asked)
                    asked.over.set()
        return spent

    def _fitting(self, prepared: list[Prepared], classifier: Classifier) -> list[Prepared]:
        """The first texts that a turn may have."""
        budget = self._share * classifier.engine.token_budget
        tokens, count = 0, 0
        for message in prepared:
            tokens += len(message)
            if count and tokens > budget:
                break
            count += 1
        return prepared[:count]

    def _forget(self, asked: _Question) -> None:
        if asked in self._queue:
            self._queue.remove(asked)
            self._waiting -= len(asked.texts)
