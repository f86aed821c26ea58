"""Texts to scores: normalise, tokenise, run, calibrate.

`prepare` belongs to the thread that reads, `judge` to the one that judges; they may run at the same time. For another
thread there is `beside`. torch is loaded by `Classifier.load`, through the engine, and never by importing this.
"""

from __future__ import annotations

import contextlib
import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self, cast

import msgspec
import numpy as np
from numpy.typing import NDArray  # noqa: TC002 # a field's type

from worker import engine as engines
from worker.model.bundle import TOKENIZER, Bundle, BundleError
from worker.model.engine_process import EngineProcess
from worker.model.tokenizer import FLAGS, LANGUAGES, TextTokenizer, UnreadableTokenizerError, parse
from worker.model.tokenizer_process import TokenizerProcesses
from worker.model.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tokenizers import Tokenizer

    from worker.engine import Begun, Engine, Kind
    from worker.model.bundle import Thresholds

HAM: Final = 0
"""The index of the harmless label, in every bundle."""
UNSCORED: Final = -1
"""The label index of a message that has no score."""


class Prepared(msgspec.Struct, frozen=True, gc=False):
    """A message made ready for the engine. `len()` is what it costs in a batch's token budget.

    `plain` is the beginning of what normalising made of its text, where it changed more than white space.
    """

    tokens: NDArray[np.int32]
    flags: tuple[str, ...] = ()
    shared: int = 0
    language: str | None = None
    plain: str | None = None

    def __len__(self) -> int:
        """Tokens that the engine computes: all, less those that every message begins with where these cost nothing."""
        return len(self.tokens) - self.shared

    @property
    def is_empty(self) -> bool:
        """Whether nothing was left to judge: its reason for having no score is `empty-text`."""
        return not len(self.tokens)

    def __bool__(self) -> bool:
        """True, empty or not: it is there."""
        return True


@dataclass(frozen=True, slots=True)
class Scores:
    """The answer for a batch, one element for each message, in the order given.

    `score` is the calibrated probability of not being ham (NaN where unscored), `label` the index of the label that
    the threshold gives (UNSCORED where there is none), `scored` whether there is an answer. A message that is not
    scored and not empty had a non-finite logit.
    """

    score: NDArray[np.float64]
    label: NDArray[np.int64]
    scored: NDArray[np.bool_]

    def __len__(self) -> int:
        """Messages."""
        return len(self.score)


def published(score: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores to the digits that a verdict gives; label and action are decided by these, so that it holds together."""
    return np.round(score, 6)


NO_SCORES: Final = Scores(np.empty(0), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.bool_))
"""The answer for no message."""


@dataclass(frozen=True, slots=True)
class Judging:
    """A batch of `count` messages on its way through the engine; `rows` are those with something to judge."""

    classifier: Classifier
    count: int
    rows: list[int]
    begun: Begun
    threshold: float | NDArray[np.float64]

    @property
    def is_done(self) -> bool:
        """Whether its scores can be had without waiting."""
        return self.begun.is_done

    def scores(self) -> Scores:
        """Wait for the engine; the scores, in the order given."""
        logits = np.full((self.count, len(self.classifier.labels)), np.nan)
        if self.rows:
            logits[self.rows] = self.begun.logits()
        return self.classifier.read(logits, self.threshold)


class CanaryError(Exception):
    """The model does not say what it said when it was made. Names the canary by index, never by its text."""

    def __init__(self, index: int, expected: str, got: str | None) -> None:
        super().__init__(f"canary {index}: expected {expected}, got {got or 'no finite score'}")
        self.index = index
        self.expected = expected
        self.got = got


class Classifier:
    """A bundle and the engine that runs it.

    `threshold` replaces the bundle's own, for an operator who wants another balance of misses and false alarms.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        *,
        threshold: float | None = None,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        """`tokenizer` is the bundle's, where it was parsed before. Raises BundleError."""
        if engine.labels != len(bundle.labels):
            message = f"the bundle names {len(bundle.labels)} labels, its model has {engine.labels} logits"
            raise ValueError(message)
        self.bundle = bundle
        self.engine = engine
        self.turns = Turns()
        """Whose batch the engine begins: of several threads one at a time, in the order of asking."""
        self.labels = tuple(bundle.labels)
        self.threshold = bundle.threshold if threshold is None else threshold
        self.by_language = {
            language: own if threshold is None else msgspec.structs.replace(own, threshold=threshold)
            for language, own in bundle.by_language.items()
        }
        with _unreadable(bundle):
            parsed = parse(bundle.read(TOKENIZER)) if tokenizer is None else tokenizer
        self._tokenizer: TextTokenizer | TokenizerProcesses = TextTokenizer(parsed, bundle.max_tokens, bundle.coverage)

    @classmethod
    def load(  # noqa: PLR0913 what there is to choose
        cls,
        path: Path | str,
        kind: Kind | str = engines.Kind.AUTO,
        *,
        threads: int = 0,
        token_budget: int | None = None,
        threshold: float | None = None,
        apart: bool = False,
    ) -> Self:
        """Load and verify a bundle, and make its engine: `apart`, if it is the CPU's, in a process of its own.

        Raises BundleError, UnsupportedModelError, EngineProcessError.
        """
        bundle = Bundle.load(path)
        with _unreadable(bundle):
            tokenizer = parse(bundle.read(TOKENIZER))
        kind = engines.resolve(kind)
        engine: Engine
        if apart and kind is engines.Kind.CPU:
            engine = EngineProcess(bundle, threads=threads, token_budget=token_budget)
        else:
            engine = engines.load(bundle, tokenizer, kind, threads=threads, token_budget=token_budget)
        return cls(bundle, engine, threshold=threshold, tokenizer=tokenizer)

    def tokenise_in_processes(self, processes: int = 1) -> None:
        """Have texts tokenised by processes of this classifier's own from now on; they end with the classifier.

        Raises BundleError, TokenizerProcessError; so may `prepare` then, when one of them has ended.
        """
        with _unreadable(self.bundle):
            self._tokenizer = TokenizerProcesses(
                self.bundle.read(TOKENIZER), self.bundle.max_tokens, processes, self.bundle.coverage
            )

    def beside(self) -> Self:
        """Return the same with a tokenizer of its own, for a second thread: they share the engine, in turns.

        Raises BundleError.
        """
        made = copy.copy(self)
        with _unreadable(self.bundle):
            parsed = parse(self.bundle.read(TOKENIZER))
        made._tokenizer = TextTokenizer(parsed, self.bundle.max_tokens, self.bundle.coverage)  # noqa: SLF001 its own
        return made

    @property
    def tokenizer_pids(self) -> tuple[int, ...]:
        """The processes that tokenise for it; none where this one does."""
        return self._tokenizer.pids

    @property
    def has_engine(self) -> bool:
        """Whether what judges for it is still there, and the next batch will not fail for that."""
        return not self.engine.has_ended

    @property
    def has_tokenizer(self) -> bool:
        """Whether what tokenises for it is still there, and the next text will not fail for that."""
        return not self._tokenizer.has_ended

    def prepare(self, texts: Sequence[str]) -> list[Prepared]:
        """Normalise and tokenise, in order."""
        return self.begin_preparing(texts)()

    def begin_preparing(self, texts: Sequence[str]) -> Callable[[], list[Prepared]]:
        """Begin to `prepare`; what is returned, called, waits for it. More may be begun meanwhile."""
        tokenised, shared = self._tokenizer.begin(texts), self.engine.shared_tokens

        def prepared() -> list[Prepared]:
            return [
                Prepared(tokens, FLAGS[flags], shared if len(tokens) else 0, LANGUAGES[language], plain)
                for tokens, flags, language, plain in tokenised()
            ]

        return prepared

    def judge(self, prepared: Sequence[Prepared]) -> Scores:
        """Score messages that were prepared. An empty one costs nothing and has no score."""
        return self.begin(prepared).scores()

    def begin(self, prepared: Sequence[Prepared]) -> Judging:
        """Begin to score messages; another batch may be begun before this one's scores are asked for."""
        return self._begin(prepared, _thresholds(prepared, self.threshold, self.by_language))

    def canaries(self) -> None:
        """Judge the bundle's own canaries, at its own thresholds. Raises CanaryError on the first that differs."""
        bundle, canaries = self.bundle, self.bundle.canaries
        prepared = self.prepare([canary.text for canary in canaries])
        scores = self._begin(prepared, _thresholds(prepared, bundle.threshold, bundle.by_language)).scores()
        for index, (canary, label) in enumerate(zip(canaries, scores.label, strict=True)):
            got = None if label == UNSCORED else self.labels[label]
            if got != canary.label:
                raise CanaryError(index, canary.label, got)

    def _begin(self, prepared: Sequence[Prepared], threshold: float | NDArray[np.float64]) -> Judging:
        rows = [row for row, message in enumerate(prepared) if len(message.tokens)]
        with self.turns:
            begun = self.engine.begin([prepared[row].tokens for row in rows])
        return Judging(self, len(prepared), rows, begun, threshold)

    def read(self, logits: NDArray[np.float64], threshold: float | NDArray[np.float64]) -> Scores:
        """Scores of logits [n, labels]; those of a message that has none are NaN. A threshold for all, or for each."""
        scored = cast("NDArray[np.bool_]", np.isfinite(logits).all(axis=1))
        logits[~scored] = 0.0  # any number will do: it is overwritten below
        calibration = self.bundle.calibration
        score = platt(logits, calibration.slope, calibration.intercept)
        label = np.where(published(score) < threshold, HAM, 1 + logits[:, 1:].argmax(axis=1))
        return Scores(np.where(scored, score, np.nan), np.where(scored, label, UNSCORED), scored)


def _thresholds(
    prepared: Sequence[Prepared], threshold: float, by_language: Mapping[str, Thresholds]
) -> float | NDArray[np.float64]:
    """One for all, or each message's own where its language has one."""
    if not by_language:
        return threshold
    own = {language: each.threshold for language, each in by_language.items()}
    return np.array([own.get(message.language or "", threshold) for message in prepared])


@contextlib.contextmanager
def _unreadable(bundle: Bundle) -> Iterator[None]:
    """Blame the bundle for a tokenizer that is none."""
    try:
        yield
    except UnreadableTokenizerError as error:
        raise BundleError(bundle.folder, f"{TOKENIZER}: {error}") from error


def platt(logits: NDArray[np.float64], slope: float, intercept: float) -> NDArray[np.float64]:
    """Calibrated probability of not being ham: sigmoid(slope * z + intercept), z the log odds of not ham."""
    others = logits[:, 1:]
    top = others.max(axis=1)
    odds = top + np.log(np.exp(others - top[:, None]).sum(axis=1)) - logits[:, HAM]
    # tanh does not overflow, however sure the model is.
    probability: NDArray[np.float64] = 0.5 * (1.0 + np.tanh(0.5 * (slope * odds + intercept)))
    return probability
