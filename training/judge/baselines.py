"""Baselines: a linear and a boosted model on the same rows, as they come.

Both see the raw texts, without the normaliser: what one would build in an afternoon.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from training.judge.judged import Judged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from training.data.split import Row

    Judge = Callable[[Sequence[Row]], Judged]

_TERMS: Final = 1000
"""The terms that tell the classes best apart, by chi-squared: trees take dense rows."""


def are_here() -> bool:
    """Whether scikit-learn is installed: only development has it, and a GPU host may not."""
    return importlib.util.find_spec("sklearn") is not None


def linear(train: Sequence[Row], labels: Sequence[str]) -> Judge:
    """LinearSVC on TF-IDF of words 1-2 and of characters 2-5 within words. Its score is a margin."""
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415 -- only development has it
    from sklearn.svm import LinearSVC  # noqa: PLC0415

    machine = make_pipeline(_terms(), LinearSVC())
    machine.fit([row.text for row in train], _indices(train, labels))

    def judge(rows: Sequence[Row]) -> Judged:
        margins = machine.decision_function([row.text for row in rows])
        given = machine.predict([row.text for row in rows])
        score = margins if margins.ndim == 1 else margins[:, 1:].max(axis=1) - margins[:, 0]
        return Judged(_indices(rows, labels), given.astype(np.int8), score)

    return judge


def boosted(train: Sequence[Row], labels: Sequence[str]) -> Judge:
    """HistGradientBoostingClassifier on the thousand terms that tell the classes best apart, weighted as above."""
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415
    from sklearn.feature_selection import SelectKBest, chi2  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import FunctionTransformer  # noqa: PLC0415

    dense = FunctionTransformer(_dense, accept_sparse=True)
    machine = make_pipeline(
        _terms(), SelectKBest(chi2, k=_TERMS), dense, HistGradientBoostingClassifier(random_state=0)
    )
    machine.fit([row.text for row in train], _indices(train, labels))

    def judge(rows: Sequence[Row]) -> Judged:
        shares = machine.predict_proba([row.text for row in rows])
        return Judged(_indices(rows, labels), shares.argmax(axis=1).astype(np.int8), 1 - shares[:, 0])

    return judge


BASELINES: Final[Mapping[str, Callable[[Sequence[Row], Sequence[str]], Judge]]] = {"linear": linear, "boosted": boosted}


def _terms() -> Any:  # noqa: ANN401 scikit-learn is untyped
    from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: PLC0415
    from sklearn.pipeline import make_union  # noqa: PLC0415

    return make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
    )


def _dense(sparse: Any) -> Any:  # noqa: ANN401
    return sparse.toarray()


def _indices(rows: Sequence[Row], labels: Sequence[str]) -> Any:  # noqa: ANN401
    return np.array([labels.index(row.label) for row in rows], dtype=np.int8)
