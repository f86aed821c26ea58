"""Surface features that may tell a scam from a lawful message unread: links, digits, money, length, capitals.

A corpus whose classes differ here teaches a model to look here. The words themselves are not counted.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

LINK: Final = re.compile(
    r"https?://\S+|\b(?:[a-z0-9-]+\.)+(?:[a-z]{2,3}|info|link|shop|site|online|store|gift|club|work|test|example|energy)\b"
    r"(?:/\S*)?",
    re.IGNORECASE,
)
"""A link, with a scheme or none."""
_MONEY: Final = re.compile(
    r"[£$€₹₦₱¥]|\b(?:Rs\.?|INR|NGN|USD|AED|SAR|EUR|CHF|TL|GHS|Ksh|KSh|TSh|Tsh|KES|Rp|RM|AUD|QAR|KWD|GBP|Kz|USDT)(?=[\s\d.,]|$)"
    r"|\b(?:R\$|S/|[NRP])\s?(?=\d)|ريال|درهم|جنيه|دينار|ليرة|\b(?:euros?|dollars?|pounds?|lira|liraya|rupees?|quid|bucks|gneh|dh)\b",
    re.IGNORECASE,
)
_PHONE: Final = re.compile(r"(?<![\w/.-])\+?\(?\d[\d ().-]{6,}\d(?![\w/])")
_WORD: Final = re.compile(r"\w+")
_RUN: Final = re.compile(r"\d+")
_LEAST_PHONE_DIGITS: Final = 8


class Surface(NamedTuple):
    """A message's features. Capitals and what is not ASCII are shares of its characters."""

    has_link: bool
    links: int
    has_https: bool
    digits: int
    longest_run: int
    has_money: bool
    characters: int
    words: int
    capitals: float
    exclamation_marks: int
    has_phone: bool
    not_ascii: float


def features(texts: Sequence[str]) -> NDArray[np.float64]:
    """[texts, 12], in the order of Surface."""
    return np.array([measured(text) for text in texts], dtype=np.float64)


def measured(text: str) -> Surface:
    """Count it on one text."""
    links = len(LINK.findall(text))
    runs = [len(run) for run in _RUN.findall(text)]
    bare = LINK.sub(" ", text)
    phones = [found for found in _PHONE.findall(bare) if sum(map(str.isdigit, found)) >= _LEAST_PHONE_DIGITS]
    size = max(1, len(text))
    return Surface(
        has_link=links > 0,
        links=links,
        has_https="https://" in text,
        digits=sum(runs),
        longest_run=max(runs, default=0),
        has_money=bool(_MONEY.search(text)),
        characters=len(text),
        words=len(_WORD.findall(text)),
        capitals=sum(map(str.isupper, text)) / size,
        exclamation_marks=text.count("!"),
        has_phone=bool(phones),
        not_ascii=sum(not each.isascii() for each in text) / size,
    )


class Leak(NamedTuple):
    """Rows judged, and ROC AUC of a linear and a boosted classifier on surface features alone: 0.5 is chance."""

    rows: int
    linear: float
    boosted: float


_FOLDS: Final = 5


def leak(texts: Sequence[str], is_scam: Sequence[bool], groups: Sequence[str]) -> Leak:
    """The areas under the curve of both classifiers, by five folds that part no group."""
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415 -- only development has it
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import QuantileTransformer  # noqa: PLC0415
    from threadpoolctl import threadpool_limits  # noqa: PLC0415 -- scikit-learn brings it

    found, truth = features(texts), np.array(is_scam)
    folds = list(StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0).split(found, truth, groups))
    machines: Mapping[str, Any] = {
        "linear": make_pipeline(
            QuantileTransformer(n_quantiles=min(100, len(texts) // 2), output_distribution="uniform", random_state=0),
            LogisticRegression(max_iter=1000),
        ),
        "boosted": HistGradientBoostingClassifier(max_iter=30, learning_rate=0.15, random_state=0),
    }
    areas = {}
    with threadpool_limits(1):  # threads that wait for each other cost more than so little work
        for name, machine in machines.items():
            shares = cross_val_predict(machine, found, truth, cv=folds, method="predict_proba")[:, 1]
            areas[name] = float(roc_auc_score(truth, shares))
    return Leak(len(texts), **areas)
