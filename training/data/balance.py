"""How many rows a line of the modern corpus gives: fewer where its shape is its label's, more where it is rare.

A shape is what can be seen of a text without reading it. One that stands mostly under one label would tell the label by
itself, so templates of that label give fewer rows there and templates of the other more. Where that is not enough, a
share of the lines without slots is left out, too. `data/modern/rows.toml` holds
the choice, so that an edited line changes its own rows only; `python -m training modern --balance` makes it anew.
"""

from __future__ import annotations

import math
import random
import tomllib
from collections import defaultdict
from functools import cache
from typing import TYPE_CHECKING, Final

from training.data import surface
from training.data.split import DATA

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Table = Mapping[str, Mapping[str, float]]

FILE: Final = DATA / "modern" / "rows.toml"
_LEAST, _MOST_ENGLISH, _MOST_OTHER = 1, 4, 3
_ENGLISH, _OTHER = 3, 2
"""Rows where nothing leans. English gives one more, since the corpus is English first."""
_HAM_A_SCAM: Final = 1.5
"""Rows of ham for one of a scam, wanted in every shape."""
_DIGITS: Final = (1, 4, 8)
_SIZES: Final = (25, 45, 80, 115, 150)
_PRIOR: Final = 2
_TRUSTED: Final = 60
"""Rows beyond which a shape counts no more than others."""
_STAY: Final = 0.05
_LEANS_ENGLISH, _LEANS_OTHER = 1.6, 1.3
"""How far from the wanted ratio a shape may lean before lines without slots are left out."""
_FEW: Final = 4
"""Rows of a shape below which none is left out."""
_KEPT: Final = 0.4
"""The least share of them that stays."""
_HEAD: Final = """\
# Rows made of a template, by label and by the shape of its first row. `python -m training modern --balance` writes it.
"""


def usual(language: str) -> int:
    """Rows of a template where nothing leans."""
    return _ENGLISH if language == "en" else _OTHER


def shape(text: str, language: str) -> str:
    """The coarse surface of a text: language, link, number, digits, money, size."""
    seen = surface.measured(text)
    parts = (
        language,
        "link" * seen.has_link,
        "phone" * seen.has_phone,
        f"digits-{sum(seen.digits >= each for each in _DIGITS)}",
        "money" * seen.has_money,
        f"size-{sum(seen.characters >= each for each in _SIZES)}",
    )
    return " ".join(part for part in parts if part)


@cache
def table() -> Table:
    """Fitted number of rows to draw from a template, by label and shape."""
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def rows(label: str, first: str, language: str) -> int:
    """Number of rows to draw from the template whose first row is `first`."""
    return int(table().get(label, {}).get(shape(first, language), usual(language)))


def is_kept(label: str, text: str, language: str) -> bool:
    """Whether a line without slots stays: it depends on its text and the table alone."""
    share = table().get(f"{label}-kept", {}).get(shape(text, language), 1)
    return random.Random(f"kept\t{text}").random() < share


def fitted(lines: Iterable[tuple[str, str, str, bool]]) -> dict[str, dict[str, float]]:
    """The table for lines of (label, first row, language, is a template): by shape what comes nearest to the ratio."""
    counts: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])  # one-off ham and scams, then templates
    for label, first, language, is_template in lines:
        if label in {"ham", "smishing"}:
            counts[shape(first, language)][2 * is_template + (label == "smishing")] += 1
    found: dict[str, dict[str, float]] = {"ham": {}, "smishing": {}, "ham-kept": {}, "smishing-kept": {}}
    for name, count in sorted(counts.items()):
        language = name.split(" ", 1)[0]
        most = _MOST_ENGLISH if language == "en" else _MOST_OTHER
        options = [(ham, scam) for ham in range(_LEAST, most + 1) for scam in range(_LEAST, most + 1)]
        costs = [_cost(count, option, usual(language)) for option in options]
        best = options[costs.index(min(costs))]
        for at, label in enumerate(("ham", "smishing")):
            if count[2 + at] and best[at] != usual(language):
                found[label][name] = best[at]
        for at, share in enumerate(_kept(count, best, _LEANS_ENGLISH if language == "en" else _LEANS_OTHER)):
            if share < 1:
                found[("ham-kept", "smishing-kept")[at]][name] = share
    return found


def _kept(count: Sequence[int], rows_each: tuple[int, int], leans: float) -> tuple[float, float]:
    """Shares of the one-off lines of ham and scams that stay, so that the shape leans no further than it may."""
    made = [count[2 + at] * rows_each[at] for at in range(2)]
    whole = [count[at] + made[at] for at in range(2)]
    if sum(whole) < _FEW:
        return 1, 1
    most = ((whole[1] + _PRIOR) * _HAM_A_SCAM * leans, (whole[0] + _PRIOR) / _HAM_A_SCAM * leans)
    ham, scam = (
        1.0 if whole[at] <= most[at] or not count[at] else round(max(_KEPT, (most[at] - made[at]) / count[at]), 2)
        for at in range(2)
    )
    return ham, scam


def _cost(count: Sequence[int], rows_each: tuple[int, int], usually: int) -> float:
    """Cost of so many rows a template of either label: how far the shape leans to one, and how unusual that is."""
    ham = count[0] + count[2] * rows_each[0]
    scam = count[1] + count[3] * rows_each[1]
    leaning = abs(math.log((ham + _PRIOR) / ((scam + _PRIOR) * _HAM_A_SCAM)))
    return leaning * min(ham + scam, _TRUSTED) / 10 + _STAY * sum(abs(each - usually) for each in rows_each)


def written(fitted_table: Table) -> str:
    """The table as TOML."""
    parts = [_HEAD]
    for label, by_shape in fitted_table.items():
        parts += [f"\n[{label}]\n", *(f'"{name}" = {count}\n' for name, count in by_shape.items())]
    return "".join(parts)
