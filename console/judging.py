"""The model, on the CPU in this process: one batch at a time, a bounded number of requests waiting for their turn."""

from __future__ import annotations

import contextlib
import math
import threading
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from console.visible import visible
from worker import loading
from worker.model.normalise import normalise
from worker.predict.answers import answers
from worker.predict.attribution import READ, attribute

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.model.models_in_service import Model
    from worker.settings import Settings

TEXTS: Final = 50
"""Of one request: a file goes in several, so that its progress is seen and others have their turn."""
CHARACTERS: Final = 100_000
"""Of one text."""
_WAITING: Final = 8
_PATIENCE: Final = 20.0
_LEAST_ODDS: Final = 0.005

log = structlog.get_logger()


class BusyError(Exception):
    """As many requests wait as may, or this one has waited too long."""


class NotReadyError(Exception):
    """The model is being loaded, or could not be; the text says which."""


class Judge:
    """Loads its bundle on a thread; judges and explains on the asking one, in turns."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings.model_copy(update={"engine": "cpu", "threads": 1})
        self._model: Model | None = None
        self._why = "The model is being loaded."
        self._turn = threading.Lock()
        self._places = threading.BoundedSemaphore(_WAITING)

    def load(self) -> None:
        """Load the model, in the background."""
        threading.Thread(target=self._load, name="judge", daemon=True).start()

    def _load(self) -> None:
        try:
            self._model = loading.model(self._settings)
        except loading.MODEL_ERRORS as error:
            log.error("no model", cause=str(error))  # noqa: TRY400 the cause is all there is to say
            self._why = "The model cannot be loaded; the console's log says why. `hamgate check` tries it, too."
        else:
            log.info("model loaded", model=self._model.name)

    def bands(self) -> dict[str, Any]:
        """Return the model's name and bands, for the page; before it is loaded why it is not."""
        if (model := self._model) is None:
            return {"model": None, "why": self._why}
        banded = model.verdicts.policy.banded
        return {"model": visible(model.name), **_bands(banded.flag_from, banded.threshold, banded.block_from)}

    def judge(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Return a verdict on each text, and what its own slider needs. Raises BusyError, NotReadyError."""
        model = self._ready()
        with self._in_turn():
            prepared = model.classifier.prepare(texts)
            found = list(answers(prepared, model.classifier.judge(prepared), model.verdicts))
        policy = model.verdicts.policy
        return [
            msgspec.to_builtins(answer)
            | _bands(banded.flag_from, banded.threshold, banded.block_from)
            | {
                "most": policy.most(answer.flags).value,
                "normalised": visible(normalise(text[:READ])),
                "is_cut": len(text) > READ,
                "text": visible(text, 2000),
            }
            for text, answer in zip(texts, found, strict=True)
            for banded in [policy.banded_of(answer.language)]
        ]

    def explain(self, text: str) -> dict[str, Any]:
        """Return which words moved a text's score. Raises BusyError, NotReadyError."""
        model = self._ready()
        with self._in_turn():
            found = attribute(model.classifier, text)
        return {
            "words": [{"word": visible(each.word, 200), "odds": _rounded(each.odds)} for each in found.words],
            "odds": _rounded(found.odds),
            "rest": _rounded(found.rest),
            "is_partial": found.is_partial,
        }

    def _ready(self) -> Model:
        if self._model is None:
            raise NotReadyError(self._why)
        return self._model

    @contextlib.contextmanager
    def _in_turn(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise BusyError
        try:
            if not self._turn.acquire(timeout=_PATIENCE):
                raise BusyError
            try:
                yield
            finally:
                self._turn.release()
        finally:
            self._places.release()


def _bands(flag_from: float, threshold: float, block_from: float) -> dict[str, float | None]:
    return {
        "flag_from": flag_from,
        "threshold": threshold,
        "block_from": block_from if math.isfinite(block_from) else None,  # never
    }


def _rounded(odds: float | None) -> float | None:
    return None if odds is None else 0.0 if abs(odds) < _LEAST_ODDS else round(odds, 2)
