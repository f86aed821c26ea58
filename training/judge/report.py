"""A results file as pages a person reads: a report with plots, a bundle's card. Every figure is from the file."""

from __future__ import annotations

import importlib.util
import json
import math
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from training import whole
from training.data.disguises import DISGUISES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    Figures = Mapping[str, Mapping[str, Any]]

TITLES: Final = {
    "f1-mean": "F1", "mcc-mean": "MCC", "auc-mean": "AUC", "pr-auc-mean": "area under precision over recall",
    "recall-at-1-percent": "recall at 1 % false positives", "recall-at-0.1-percent": "recall at 0.1 % false positives",
    "ece-mean": "calibration error (ECE)", "macro-f1-mean": "macro F1",
}  # fmt: skip
JUDGES: Final = {"": "{name}", "baseline-": "LinearSVC", "boosted-": "boosted trees"}
_INK: Final = ("#1b5e9b", "#d1762b", "#7a7a7a")


class ReportError(ValueError):
    """A results file that no report can be made of; the text says which."""


class _Row(msgspec.Struct):
    """A row of a results file, as `results.record` writes it."""

    name: str
    value: float
    unit: str = ""
    range: str = ""
    extra: dict[str, Any] = msgspec.field(default_factory=dict)


def load(path: Path, name: str) -> dict[str, dict[str, Any]]:
    """The figures of a judge, by name without its own. Raises ReportError."""
    prefix = f"judge/{name}/"
    found = rows_of(path, prefix, "evaluate")
    if "f1-mean" not in found:
        message = f"{path}: holds no {prefix}f1-mean"
        raise ReportError(message)
    return found


def rows_of(path: Path, prefix: str, writer: str) -> dict[str, dict[str, Any]]:
    """The rows of a results file whose names begin so, without that, and with a number. Raises ReportError."""
    try:
        rows = msgspec.convert(json.loads(path.read_text(encoding="utf-8")), list[_Row])
    except (OSError, ValueError) as error:
        message = f"{path}: no results there ({type(error).__name__}); `{writer}` writes them"
        raise ReportError(message) from None
    return {
        row.name.removeprefix(prefix): msgspec.to_builtins(row)
        for row in rows
        if row.name.startswith(prefix) and not math.isnan(row.value)
    }


def no_numbers(path: Path) -> int:
    """How many figures of a results file are none: shares of nothing."""
    return sum(math.isnan(row["value"]) for row in json.loads(path.read_text(encoding="utf-8")))


def can_plot() -> bool:
    """Whether matplotlib is installed, which a wheel does not bring."""
    return importlib.util.find_spec("matplotlib") is not None


def write(figures: Figures, name: str, source: str, folder: Path) -> Path:
    """Write `judge-<name>.md` and its plots into the folder; returns the page.

    Raises ReportError where matplotlib is not installed.
    """
    if not can_plot():
        message = "a report needs matplotlib for its plots: pip install matplotlib"
        raise ReportError(message)
    folder.mkdir(parents=True, exist_ok=True)
    plots = [
        _reliability(figures, name, folder / f"judge-{name}-reliability.png"),
        _attacks(figures, name, folder / f"judge-{name}-attacks.png"),
    ]
    page = folder / f"judge-{name}.md"
    whole.write(page, "\n".join(_page(figures, name, source, plots)) + "\n")
    return page


def card(figures: Figures, source: str) -> str:
    """The measured part of a model card: what a reader of a bundle needs before using it."""
    extra = figures["f1-mean"]["extra"]
    hides, blames = (figures[f"attack-{which}-worst"]["extra"]["attack"] for which in ("recall", "ham-fpr"))
    lines = [f"From `{source}`: {extra['splits']} honest splits, models made the same way; 95 % intervals.", ""]
    lines += [line.format(name="this recipe") for line in _table(figures, list(TITLES), *list(JUDGES.values())[:2])]
    caught, flagged = _share(figures, "attack-recall-worst"), _share(figures, "attack-ham-fpr-worst")
    lines += [
        "",
        (
            f"Disguised in ten ways: at worst {caught} of spam still caught ({hides}),\n"
            f"{flagged} of ham flagged ({blames})."
        ),
    ]
    if "outside/ham/flagged" in figures:
        shares = (
            f"{label} {_share(figures, f'outside/{label}/flagged')}"
            for label in ("smishing", "spam", "ham")
            if f"outside/{label}/flagged" in figures
        )
        lines += ["", f"Texts of another collection, none learnt from, flagged:\n{', '.join(shares)}."]
    return "\n".join(lines)


MEASURED: Final = "<!-- measured -->"
TRAFFIC: Final = "<!-- traffic -->"
"""Two lines of each stand around a measured part of a card."""


def renew(readme: Path, measured: str, mark: str = MEASURED) -> None:
    """Put the measured part between the card's two marks. Raises ReportError where there are none."""
    text = readme.read_text()
    marked = f"{mark}\n\n{measured}\n\n{mark}"
    renewed, count = re.subn(f"{mark}.*{mark}", lambda _: marked, text, flags=re.DOTALL)
    if not count:
        message = f"{readme}: no two lines `{mark}` to put the figures between"
        raise ReportError(message)
    whole.write(readme, renewed)


def _page(figures: Figures, name: str, source: str, plots: Sequence[Path]) -> Iterator[str]:
    extra = figures["f1-mean"]["extra"]
    yield f"# How good {name} is"
    yield ""
    yield f"Made from `{source}` by `python -m training report`; nothing here is typed."
    yield f"Put together by `{extra['command']}`, commit {extra['commit']}, {extra['date']}."
    yield f"Learnt and judged on {extra['judged-on']}."
    yield ""
    yield f"Means over {extra['splits']} honest splits (near-duplicates are held out together), with 95 % intervals"
    yield "by Student's t. The baselines are fitted and judged on the same rows."
    yield ""
    yield from (line.format(name=name) for line in _table(figures, list(TITLES), *JUDGES.values()))
    yield from _splits(figures, name)
    yield from ["", "## Calibration", "", f"![Promised and observed share of spam]({plots[0].name})"]
    yield from _disguised(figures, plots[1])
    yield from _elsewhere(figures)
    yield from _kinds(figures)
    yield from _classes(figures, name)


def _splits(figures: Figures, name: str) -> Iterator[str]:
    """Each split's F1, and the paired tests."""
    yield ""
    for prefix, title in JUDGES.items():
        if (row := figures.get(f"{prefix}f1-mean")) is not None:
            each = ", ".join(f"{f1:.3f}" for f1 in row["extra"]["each"])
            yield f"- F1 of each split, {title.format(name=name)}: {each}"
    for other, title in (("baseline", "LinearSVC"), ("boosted", "boosted trees")):
        if (row := figures.get(f"f1-difference-to-{other}")) is not None:
            test = row["extra"]
            alone = f"right alone on {test['right-alone']} messages, wrong alone on {test['wrong-alone']}"
            yield f"- Against {title}, paired: **{test['verdict']}**, F1 {row['value']:+.4f} ({row['range']})"
            yield f"  by redrawing clusters; {alone}, McNemar p {test['mcnemar-p']}"


def _disguised(figures: Figures, plot: Path) -> Iterator[str]:
    met = [each for each in DISGUISES if figures[f"attack/{each}/recall"]["extra"].get("met-in-training")]
    shown = f"\nTraining shows some disguises ({', '.join(met)}), the rest never." if met else ""
    yield from ["", "## Disguised", "", f"The same test rows, spam and ham alike.{shown}"]
    yield from ["", f"![Spam still caught under each disguise]({plot.name})", ""]
    yield "| | spam caught | ham flagged | LinearSVC: caught | flagged |"
    yield "|---|---|---|---|---|"
    for attack in DISGUISES:
        keys = [f"{prefix}attack/{attack}/{what}" for prefix in ("", "baseline-") for what in ("recall", "ham-fpr")]
        yield f"| {attack} | " + " | ".join(_share(figures, key) for key in keys) + " |"


def _elsewhere(figures: Figures) -> Iterator[str]:
    if "outside/ham/flagged" not in figures:
        return
    yield from [
        "",
        "## Texts of another collection",
        "",
        "None of them, and no row of that collection, was learnt from.",
        "",
    ]
    yield "| | rows | flagged | at 1 % of its ham | LinearSVC: flagged | at 1 % |"
    yield "|---|---|---|---|---|---|"
    for label in ("smishing", "spam", "ham"):
        names = [f"outside/{label}/{what}" for what in ("flagged", "recall-at-1-percent")]
        if names[0] not in figures:
            continue
        cells = [_share(figures, prefix + each) for prefix in ("", "baseline-") for each in names]
        yield f"| {label} | {figures[names[0]]['extra']['rows']} | " + " | ".join(cells) + " |"


def _kinds(figures: Figures) -> Iterator[str]:
    yield from ["", "## By kind of text", "", "| | spam caught | of | ham flagged | of |", "|---|---|---|---|---|"]
    for key in (key for key in figures if key.startswith("slice/") and key.endswith("/recall")):
        other = key.replace("/recall", "/ham-fpr")
        spam, ham = figures[key]["extra"]["spam"], figures[other]["extra"]["ham"] if other in figures else 0
        yield f"| {key.split('/')[1]} | {_share(figures, key)} | {spam} | {_share(figures, other)} | {ham} |"


def _classes(figures: Figures, name: str) -> Iterator[str]:
    keys = [key for key in figures if key.startswith("class/")]
    if keys:
        yield from ["", "## By class", "", f"| F1 | {name} | LinearSVC | boosted trees |", "|---|---|---|---|"]
    for key in keys:
        yield f"| {key.split('/')[1]} | " + " | ".join(_share(figures, prefix + key) for prefix in JUDGES) + " |"


def _table(figures: Figures, keys: Sequence[str], *titles: str) -> Iterator[str]:
    prefixes = list(JUDGES)[: len(titles)]
    yield "| | " + " | ".join(titles) + " |"
    yield "|---" * (len(titles) + 1) + "|"
    for key in (key for key in keys if key in figures):
        yield f"| {TITLES[key]} | " + " | ".join(_share(figures, prefix + key) for prefix in prefixes) + " |"


def _share(figures: Figures, key: str) -> str:
    row = figures.get(key)
    if row is None:
        return ""
    low, _, high = row["range"].partition(" to ")
    return f"{row['value']:.3f} [{float(low):.3f}, {float(high):.3f}]"


def _reliability(figures: Figures, name: str, path: Path) -> Path:
    figure, axes = _canvas()
    points = figures["ece-mean"]["extra"]["reliability"]
    axes.plot([0, 1], [0, 1], color=_INK[2], linewidth=1, linestyle="--")
    axes.plot([said for said, _, _ in points], [came for _, came, _ in points], color=_INK[0], marker="o")
    for said, came, rows in points:
        axes.annotate(f"{rows:,}", (said, came), xytext=(5, -11), textcoords="offset points", fontsize=7, color=_INK[2])
    axes.set(
        xlabel="promised probability of spam", ylabel="share that was spam", title=f"{name}: messages in each tenth"
    )
    return _saved(figure, path)


def _attacks(figures: Figures, name: str, path: Path) -> Path:
    figure, axes = _canvas()
    there = [prefix for prefix in JUDGES if f"{prefix}attack-recall-worst" in figures]
    judges = [(prefix, JUDGES[prefix].format(name=name)) for prefix in there]
    height = 0.8 / len(judges)
    for at, (prefix, title) in enumerate(judges):
        values = [figures[f"{prefix}attack/{attack}/recall"]["value"] for attack in DISGUISES]
        axes.barh([place + at * height for place in range(len(values))], values, height, color=_INK[at], label=title)
    axes.set_yticks([place + 0.4 - height / 2 for place in range(len(DISGUISES))], list(DISGUISES))
    axes.invert_yaxis()
    axes.set(xlabel="spam still caught", xlim=(0, 1))
    axes.legend(fontsize=8, loc="lower left")
    return _saved(figure, path)


def _canvas() -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # noqa: PLC0415 -- only development has it

    figure = Figure(figsize=(6, 4), layout="constrained")
    return figure, figure.subplots()


def _saved(figure: Any, path: Path) -> Path:  # noqa: ANN401 matplotlib's
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return path
