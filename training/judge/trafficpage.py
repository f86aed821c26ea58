"""Figures of today's traffic as a page: one table first, then each of them. Made from a results file alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from training import hardware, results
from training.judge.report import ReportError, rows_of
from training.judge.traffic import BASELINE, FALSE_POSITIVES, SPAM_SHARES
from training.results import RESULTS, Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from training.judge.findings import NamedFigure

    Rows = Mapping[str, Mapping[str, Any]]

_LEAST: Final = 10
"""Texts, of fewer than which no part is called the worst."""
_PLACE: Final = "judge/{}/traffic/"
HEADLINE: Final = {
    "AUC": "all/auc",
    **{f"recall at {key.replace('-percent', ' %')} false positives": f"all/recall-at-{key}" for key in FALSE_POSITIVES},
    "lawful blocked": "lawful/all/blocked",
    "lawful flagged or blocked": "lawful/all/stopped",
    "... sent by organisations": "lawful/from/organisations/stopped",
    "... sent by people": "lawful/from/people/stopped",
    "... with a link": "lawful/link/with/stopped",
    "scams blocked": "scam/all/blocked",
    "scams flagged or blocked": "scam/all/stopped",
    "... typed in haste": "varied/sloppy/scam/stopped",
    "... in other words": "varied/synonyms/scam/stopped",
    "precision of what is stopped, at 1 % spam": "precision/1-percent-spam/stopped",
    "whole kinds left out: AUC": "left-out/scam/auc",
    "whole kinds left out: lawful stopped": "left-out/lawful/stopped",
}
WORST: Final = {
    "worst lawful kind: flagged or blocked": ("lawful/kind/", "/stopped", max),
    "worst language: lawful flagged or blocked": ("lawful/language/", "/stopped", max),
    "worst scam kind: flagged or blocked": ("scam/kind/", "/stopped", min),
    "worst disguise: scams flagged or blocked": ("varied/", "/scam/stopped", min),
    "worst calibrated collection: ECE": ("", "/ece", max),
}
TABLES: Final = {
    "By collection": ("source", ("lawful/source/", "scam/source/")),
    "By sender type": ("sender type", ("lawful/sender/", "scam/sender/")),
    "By language": ("language", ("lawful/language/", "scam/language/")),
    "With and without a link": ("link", ("lawful/link/", "scam/link/")),
    "Lawful kinds": ("kind", ("lawful/kind/",)),
    "Scam kinds": ("kind", ("scam/kind/",)),
}


def record(
    found: Mapping[str, Sequence[NamedFigure]], name: str, about: Mapping[str, Any], folder: Path = RESULTS
) -> Path:
    """Write each judge's figures, by its place in names; `about` goes with the first. Returns the file."""
    entries = [
        Entry(_PLACE.format(name) + place + each.name, "share", round(each.figure.value, 4), each.figure.interval,
              {**(about if each.name == HEADLINE["AUC"] else {}), **each.extra})
        for place, figures in found.items()
        for each in figures
        if not math.isnan(each.figure.value)
    ]  # fmt: skip
    return results.record(f"traffic-{name}", entries, device=hardware.processor(), folder=folder)


def load(path: Path, name: str) -> dict[str, dict[str, Any]]:
    """The figures in a results file, by name without the judge's own. Raises ReportError."""
    place = _PLACE.format(name)
    found = rows_of(path, place, "evaluate --traffic")
    if HEADLINE["AUC"] not in found:
        message = f"{path}: holds no {place}{HEADLINE['AUC']}"
        raise ReportError(message)
    return found


def page(rows: Rows, name: str) -> Iterator[str]:
    """The headline, then every part, as lines of Markdown."""
    extra = rows[HEADLINE["AUC"]]["extra"]
    yield f"# {name} on traffic of today"
    yield ""
    yield f"`{extra['bundle']}`, test rows of split {extra['split']} of three collections: {extra['lawful']:,} lawful,"
    yield f"{extra['scam']:,} scams, {extra['clusters']:,} clusters. 95 % intervals over clusters."
    yield "LinearSVC has learnt the same collections' train rows; its bands stop and block as many lawful calibration"
    yield f"rows as the bundle's do (flag from {extra['flag-from']:g}, block from {extra['block-from']:g})."
    yield ""
    yield from headline(rows, name)
    yield from _ranked(rows, name)
    for title, (what, starts) in TABLES.items():
        yield from _parts(rows, title, what, starts)
    yield from _varied(rows, name)
    yield from _precision(rows, name)
    yield from _calibration(rows)
    yield from _left_out(rows, name)


def headline(rows: Rows, name: str) -> Iterator[str]:
    """What one reads first."""
    yield f"| | {name} | LinearSVC |"
    yield "|---|---|---|"
    for title, key in HEADLINE.items():
        if key in rows:
            yield f"| {title} | {_cell(rows, key)} | {_cell(rows, BASELINE + key)} |"
    for title, (start, end, pick) in WORST.items():
        cells = [_worst(rows, place, start, end, pick) for place in ("", BASELINE)]
        if cells[0]:
            yield f"| {title} | {' | '.join(cells)} |"


def _ranked(rows: Rows, name: str) -> Iterator[str]:
    keys = [key for key in rows if key.endswith("/auc") or "/recall-at-" in key]
    keys = [key for key in keys if not key.startswith((BASELINE, "left-out/"))]
    yield from ["", "## Ranking, by collection", "", f"| | rows | {name} | LinearSVC |", "|---|---|---|---|"]
    for key in keys:
        extra = rows[key]["extra"]
        count = f"{extra['lawful']} + {extra['scam']}"
        yield f"| {key.replace('/', ', ')} | {count} | {_cell(rows, key)} | {_cell(rows, BASELINE + key)} |"


def _parts(rows: Rows, title: str, what: str, starts: Sequence[str]) -> Iterator[str]:
    yield from ["", f"## {title}", ""]
    yield f"| | {what} | rows | flagged or blocked | blocked | LinearSVC: flagged or blocked | blocked |"
    yield "|---|---|---|---|---|---|---|"
    for start in starts:
        for key in (key for key in rows if key.startswith(start) and key.endswith("/stopped")):
            other = key.removesuffix("stopped") + "blocked"
            cells = [_cell(rows, place + each) for place in ("", BASELINE) for each in (key, other)]
            side, _, value, _ = key.split("/")
            yield f"| {side} | {value} | {rows[key]['extra']['rows']} | {' | '.join(cells)} |"


def _varied(rows: Rows, name: str) -> Iterator[str]:
    yield from ["", "## Disguised, mistyped, in other words", ""]
    yield f"| | scams stopped: {name} | LinearSVC | lawful stopped: {name} | LinearSVC |"
    yield "|---|---|---|---|---|"
    for key in (key for key in rows if key.startswith("varied/") and key.endswith("/scam/stopped")):
        other = key.replace("/scam/", "/lawful/")
        cells = [_cell(rows, place + each) for each in (key, other) for place in ("", BASELINE)]
        yield f"| {key.split('/')[1]} | {' | '.join(cells)} |"


def _precision(rows: Rows, name: str) -> Iterator[str]:
    yield from ["", "## Expected precision, by the share of spam", ""]
    yield f"| | of the stopped: {name} | LinearSVC | of the blocked: {name} | LinearSVC |"
    yield "|---|---|---|---|---|"
    for key in SPAM_SHARES:
        cells = [_cell(rows, f"{place}precision/{key}-spam/{what}") for what in ("stopped", "blocked")
                 for place in ("", BASELINE)]  # fmt: skip
        yield f"| {key.replace('-percent', ' %')} | {' | '.join(cells)} |"


def _calibration(rows: Rows) -> Iterator[str]:
    yield from ["", "## Calibration, by collection", "", "Promised share of spam, what came, rows, by tenths.", ""]
    yield from ["| | ECE | by tenths |", "|---|---|---|"]
    for key in (key for key in rows if key.endswith("/ece")):
        bins = ", ".join(f"{said:.2f}: {came:.2f} ({count})" for said, came, count in rows[key]["extra"]["reliability"])
        yield f"| {key.removesuffix('/ece')} | {_cell(rows, key)} | {bins} |"


def _left_out(rows: Rows, name: str) -> Iterator[str]:
    keys = [key for key in {key.removeprefix(BASELINE): None for key in rows} if key.startswith("left-out/")]
    if not keys:
        return
    yield from ["", "## Whole kinds left out of training", ""]
    yield "Stopped: at the score that 1 % of the lawful calibration rows reach."
    yield from ["", f"| | {name} | LinearSVC |", "|---|---|---|"]
    for key in keys:
        yield f"| {key.removeprefix('left-out/')} | {_cell(rows, key)} | {_cell(rows, BASELINE + key)} |"


def _worst(rows: Rows, place: str, start: str, end: str, pick: Callable[..., str]) -> str:
    """The figure and what it is of."""
    some = [
        key
        for key, row in rows.items()
        if key.startswith(place + start) and key.endswith(end) and (place or not key.startswith(BASELINE))
        and row["extra"].get("rows", _LEAST) >= _LEAST
    ]  # fmt: skip
    if not some:
        return ""
    key = pick(some, key=lambda each: float(rows[each]["value"]))
    return f"{_cell(rows, key)} {key.removeprefix(place + start).removesuffix(end)}"


def _cell(rows: Rows, key: str) -> str:
    row = rows.get(key)
    if row is None:
        return ""
    low, _, high = row["range"].partition(" to ")
    return f"{row['value']:.3f} [{float(low):.3f}, {float(high):.3f}]"
