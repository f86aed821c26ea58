"""What `POST /predict` takes from the stream: the engine judges without a pause, with and without a flood of requests.

    .venv/bin/python -m benchmarks.predict [--seconds S] [--share N]

No broker: the stream is one batch of the size that the engine's budget gives, over and over, as under full load.
"""

from __future__ import annotations

import argparse
import contextlib
import threading
import time
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks import texts
from worker import loading
from worker.metrics import Metrics
from worker.predict.predictor import FullError, Predictor, UnansweredError
from worker.settings import Settings

if TYPE_CHECKING:
    from worker.model.classifier import Classifier, Prepared
    from worker.model.models_in_service import Model

_ROUNDS: Final = 5
_REQUEST: Final = 8
_CLIENTS: Final = 8


def main() -> int:
    """Measure by turns, as the machine may have other work, and print both."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.predict", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each round")
    parser.add_argument("--share", type=float, default=0.2)
    options = parser.parse_args()
    model = loading.model(Settings())
    batch = _whole(model.classifier)
    alone, beside, answered = list[float](), list[float](), list[float]()
    for _ in range(_ROUNDS):
        alone += _stream(model.classifier, batch, options.seconds)
        with _Flood(model, options.share) as answers:
            beside += _stream(model.classifier, batch, options.seconds)
        answered += answers
    print(f"{'':<12}{'messages/s':>11}{'batch p50 ms':>14}{'batch p99 ms':>14}{'answers/s':>11}{'answer p99 ms':>15}")
    for name, batches, answers in (("alone", alone, []), ("flooded", beside, answered)):
        p50, p99 = np.percentile(batches, [50, 99]) * 1e3
        rate = len(batch) * len(batches) / sum(batches)
        print(f"{name:<12}{rate:>11,.0f}{p50:>14.1f}{p99:>14.1f}", end="")
        slowest = 1e3 * np.percentile(answers, 99) if answers else 0
        print(f"{_REQUEST * len(answers) / (_ROUNDS * options.seconds):>11,.0f}{slowest:>15.0f}")
    kept = len(beside) / sum(beside) / (len(alone) / sum(alone))
    print(f"the stream kept {kept:.1%}; {1 - options.share:.0%} are promised")
    return 0


def _whole(classifier: Classifier) -> list[Prepared]:
    batch: list[Prepared] = []
    tokens = 0
    for message in classifier.prepare(texts.stream(4096)):
        tokens += len(message)
        if tokens > classifier.engine.token_budget:
            break
        batch.append(message)
    return batch


def _stream(classifier: Classifier, batch: list[Prepared], seconds: float) -> list[float]:
    """Judge a batch over and over for so long; the seconds of each time."""
    taken = []
    until = time.monotonic() + seconds
    while (began := time.monotonic()) < until:
        classifier.judge(batch)
        taken.append(time.monotonic() - began)
    return taken


class _Flood:
    """As many requests as are answered, from several clients; the seconds of each."""

    def __init__(self, model: Model, share: float) -> None:
        self._answered: list[float] = []
        self._over = threading.Event()
        self._predictor = Predictor(lambda: model, Metrics(), share=share)
        self._lines = texts.stream(_REQUEST)
        self._threads = [threading.Thread(target=self._ask) for _ in range(_CLIENTS)]
        self._threads.append(threading.Thread(target=self._answer))

    def __enter__(self) -> list[float]:
        for each in self._threads:
            each.start()
        return self._answered

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._predictor.stop()
        for each in self._threads:
            each.join()

    def _answer(self) -> None:
        while self._predictor.step():
            pass

    def _ask(self) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            with contextlib.suppress(FullError, UnansweredError):
                self._predictor.ask(self._lines, patience=10)
                self._answered.append(time.monotonic() - began)


if __name__ == "__main__":
    raise SystemExit(main())
