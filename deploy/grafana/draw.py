"""One panel as HTML: lines, stacks, heatmaps and single numbers, in the units, colours and bounds of its dashboard."""

from __future__ import annotations

import html
import itertools
import math
import re
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Final

Series = tuple[str, dict[str, str], list[tuple[float, str]]]

_COLORS: Final = (
    "#73bf69",
    "#f2cc0c",
    "#8ab8ff",
    "#ff780a",
    "#f2495c",
    "#5794f2",
    "#b877d9",
    "#705da0",
    "#37872d",
    "#fade2a",
)
NAMED: Final = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c", "blue": "#5794f2"}
_COLUMN, _ROW, _LEFT, _TOP, _BOTTOM = 58, 40, 78, 10, 20
_GAP: Final = 1.5  # steps without a value


@dataclass(frozen=True)
class Window:
    """What was asked for: from when to when, with a value each `step` seconds."""

    start: float
    end: float
    step: float


def legend(shape: str, metric: dict[str, str]) -> str:
    """A series' name by Grafana's rule."""
    return re.sub(r"{{\s*(\w+)\s*}}", lambda found: metric.get(found[1], ""), shape)


def panel(what: dict[str, Any], series: list[Series], window: Window) -> str:
    """Draw it."""
    if not series:
        return f"<div class=none>{html.escape(what['fieldConfig']['defaults'].get('noValue', ''))}</div>"
    kind = what["type"]
    if kind == "stat":
        return _stat(what, series, what["fieldConfig"]["defaults"]["unit"])
    if kind == "table":
        return _table(what, series)
    if kind == "heatmap":
        return _heatmap(what, series, window)
    return _lines(what, series, window)


def shown(value: float, unit: str) -> str:
    """A number as Grafana would write it."""
    if math.isnan(value):
        return "-"
    if unit == "percentunit":
        return f"{value * 100:.4g} %"
    if unit == "s":
        return f"{value * 1000:.3g} ms" if abs(value) < 1 else f"{value:.3g} s"
    step, names = (1024, ("B", "KiB", "MiB", "GiB")) if unit == "bytes" else (1000, ("", " K", " M", " G"))
    size = 0
    while abs(value) >= step and size < len(names) - 1:
        value, size = value / step, size + 1
    suffix = {"mps": " msg/s", "ops": "/s", "watt": " W", "celsius": " °C", "joule": " J"}.get(unit, "")
    return f"{value:.3g}{' ' if unit == 'bytes' else ''}{names[size]}{suffix}"


def _color(what: dict[str, Any], value: float) -> str:
    steps = what["fieldConfig"]["defaults"]["thresholds"]["steps"]
    passed = [step for step in steps if step["value"] is None or value >= step["value"]]
    return NAMED.get(passed[-1]["color"], passed[-1]["color"])


def _text(value: str) -> str:
    cut = html.escape(value[:40])
    return f'<a href="{html.escape(value)}">{cut}</a>' if value.startswith("http") else cut


def _colors(what: dict[str, Any], names: list[str]) -> list[str]:
    """Each series' colour: that of its meaning where the panel gives one, else the palette's next."""
    fixed = {
        override["matcher"]["options"]: setting["value"]["fixedColor"]
        for override in what["fieldConfig"].get("overrides", [])
        for setting in override["properties"]
        if setting["id"] == "color"
    }
    given = {name: NAMED.get(color, color) for name, color in fixed.items()}
    others = itertools.cycle([color for color in _COLORS if color not in given.values()])
    return [given[name] if name in given else next(others) for name in names]


def _stat(what: dict[str, Any], series: list[Series], unit: str) -> str:
    parts = [
        f'<span style="color:{_color(what, float(values[-1][1]))};margin:0 8px">{shown(float(values[-1][1]), unit)}</span>'
        for _, _, values in series
    ]
    return f"<div class=stat>{''.join(parts)}</div>"


def _table(what: dict[str, Any], series: list[Series]) -> str:
    options = what["transformations"][0]["options"]
    hidden = {name for name, is_hidden in options["excludeByName"].items() if is_hidden}
    newest = max(values[-1][0] for _, _, values in series)
    rows = [metric for _, metric, values in series if values[-1][0] >= newest - 1]
    for step in what["transformations"][1:]:
        first = step["options"]["sort"][0]["field"]
        rows.sort(key=lambda row: row.get(first, ""))
    columns = sorted({name for row in rows for name in row} - hidden)
    names = options.get("renameByName") or {}
    head = "".join(f"<th>{html.escape(names.get(column, column))}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{_text(row.get(column, ''))}</td>" for column in columns) + "</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


@dataclass(frozen=True)
class _Canvas:
    """Where a time and a value lie, in a drawing of a panel's size."""

    window: Window
    width: int
    height: int
    lowest: float
    highest: float
    is_log: bool

    def x(self, t: float) -> float:
        """A time's place."""
        part = (t - self.window.start) / (self.window.end - self.window.start)
        return _LEFT + min(max(part, 0), 1) * (self.width - _LEFT - 6)

    def y(self, value: float) -> float:
        """A value's place; what is outside the bounds lies on them."""
        low, high = self._scaled(self.lowest), self._scaled(self.highest)
        part = (self._scaled(max(value, self.lowest)) - low) / ((high - low) or 1)
        return _TOP + (self.height - _TOP - _BOTTOM) * (1 - min(max(part, 0), 1))

    def line(self, points: list[tuple[float, float]]) -> str:
        """A line's points."""
        return " ".join(f"{self.x(t):.1f},{self.y(value):.1f}" for t, value in points)

    def ticks(self) -> list[float]:
        """The values to write at the axis: four steps, or the powers of ten."""
        if not self.is_log:
            return [self.lowest + (self.highest - self.lowest) * part / 4 for part in range(5)]
        first, last = round(math.log10(self.lowest)), round(math.log10(self.highest))
        return [10.0**power for power in range(first, last + 1)]

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.is_log else value


def _runs(points: list[tuple[float, float]], step: float) -> list[list[tuple[float, float]]]:
    """The points in pieces: a new one after each gap."""
    runs: list[list[tuple[float, float]]] = []
    for point in points:
        if runs and point[0] - runs[-1][-1][0] <= _GAP * step:
            runs[-1].append(point)
        else:
            runs.append([point])
    return runs


def _lines(what: dict[str, Any], series: list[Series], window: Window) -> str:
    defaults = what["fieldConfig"]["defaults"]
    stacked = defaults["custom"].get("stacking", {}).get("mode") == "normal"
    is_log = defaults["custom"].get("scaleDistribution", {}).get("type") == "log"
    floor = defaultdict[float, float](float)
    drawn = []
    for name, _, values in series:
        points = [(t, float(value)) for t, value in values if math.isfinite(float(value))]
        points = [(t, value) for t, value in points if value > 0 or not is_log]
        below = [(t, floor[t] if stacked else 0.0) for t, _ in points]
        above = [(t, value + base) for (t, value), (_, base) in zip(points, below, strict=True)]
        floor.update(above)
        drawn.append((name, above, dict(below)))
    tops = [value for _, above, _ in drawn for _, value in above]
    if not tops:
        return panel(what, [], window)
    low, high = (min(tops), max(tops)) if is_log else (min(0.0, *tops), max(tops))
    low, high = defaults.get("min", low), defaults.get("max", high)
    if is_log:
        low, high = 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high))
    width, height = _size(what)
    canvas = _Canvas(window, width, height, low, high if high > low else low + (9 * low if is_log else 1), is_log)
    parts = [_axes(canvas, defaults["unit"])]
    colors = _colors(what, [name for name, _, _ in drawn])
    for color, (_, above, below) in zip(colors, drawn, strict=True):
        for run in _runs(above, window.step):
            if stacked:
                back = canvas.line([(t, below[t]) for t, _ in reversed(run)])
                parts.append(f'<polygon points="{canvas.line(run)} {back}" fill="{color}" fill-opacity=".55"/>')
            parts.append(f'<polyline points="{canvas.line(run)}" fill="none" stroke="{color}" stroke-width="2"/>')
    for step in defaults["thresholds"]["steps"][1:]:
        if canvas.lowest < step["value"] <= canvas.highest:
            ends = canvas.line([(window.start, step["value"]), (window.end, step["value"])])
            stroke = NAMED[step["color"]]
            parts.append(f'<polyline points="{ends}" stroke="{stroke}" stroke-dasharray="6 4" fill="none"/>')
    names = "".join(
        f'<b style="background:{color}"></b>{html.escape(name)}'
        for color, (name, _, _) in zip(colors, drawn, strict=True)
    )
    return _svg(parts, width, height) + f"<div class=legend>{names}</div>"


def _size(what: dict[str, Any]) -> tuple[int, int]:
    """About the size that the page gives it, so that text is not drawn out."""
    return what["gridPos"]["w"] * _COLUMN, what["gridPos"]["h"] * _ROW - 68


def _heatmap(what: dict[str, Any], series: list[Series], window: Window) -> str:
    (width, height), unit = _size(what), what["fieldConfig"]["defaults"]["unit"]
    canvas = _Canvas(window, width, height, 0, 1, is_log=False)
    bounds = sorted(series, key=lambda each: math.inf if each[0] == "+Inf" else float(each[0]))
    counts: dict[float, list[float]] = defaultdict(list)
    for _, _, values in bounds:
        for t, value in values:
            counts[t].append(float(value))
    cells = {
        t: [b - a for a, b in zip([0.0, *row], row, strict=False)]
        for t, row in counts.items()
        if len(row) == len(bounds)
    }
    most = max((max(row) for row in cells.values()), default=0) or 1
    wide, tall = (width - _LEFT) * window.step / (window.end - window.start), (height - _BOTTOM) / len(bounds)
    parts = [_times(canvas)]
    for t, row_of_counts in sorted(cells.items()):
        for row, count in enumerate(row_of_counts):
            if count > most / 1000:
                y = height - _BOTTOM - (row + 1) * tall
                parts.append(
                    f'<rect x="{canvas.x(t) - wide:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall:.1f}" '
                    f'fill="#ff9830" fill-opacity="{0.08 + 0.92 * (count / most) ** 0.5:.2f}"/>'
                )
    for row in range(0, len(bounds), max(1, len(bounds) // 8)):
        name = bounds[row][0]
        text = name if name == "+Inf" else shown(float(name), unit)
        parts.append(f'<text x="{_LEFT - 6}" y="{height - _BOTTOM - row * tall:.1f}" {_TEXT}>{text}</text>')
    return _svg(parts, width, height)


_TEXT: Final = 'fill="#8e8e9c" font-size="11" text-anchor="end"'


def _axes(canvas: _Canvas, unit: str) -> str:
    parts = []
    for value in canvas.ticks():
        y = canvas.y(value)
        parts.append(f'<line x1="{_LEFT}" x2="{canvas.width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#25262c"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" {_TEXT}>{shown(value, unit)}</text>')
    return "".join(parts) + _times(canvas)


def _times(canvas: _Canvas) -> str:
    """The axis of time: a mark at each fifth of the window."""
    length = canvas.window.end - canvas.window.start
    shape = "%H:%M:%S" if length < _SHORT else "%H:%M" if length < _LONG else "%d.%m. %H:%M"
    parts = []
    for part in range(1, 5):
        t = canvas.window.start + length * part / 5
        x = canvas.x(t)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{canvas.height - _BOTTOM}" stroke="#202127"/>')
        at = time.strftime(shape, time.localtime(t))
        parts.append(f'<text x="{x + 22:.1f}" y="{canvas.height - 4}" {_TEXT}>{at}</text>')
    return "".join(parts)


_SHORT, _LONG = 600, 86_400  # seconds of a window that needs the second, or the day, to tell its times apart


def _svg(parts: list[str], width: int, height: int) -> str:
    return f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none">{"".join(parts)}</svg>'
