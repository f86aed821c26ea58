"""One panel as HTML: lines, stacks, heatmaps and single numbers, in the units and colours of its dashboard."""

from __future__ import annotations

import html
import math
import re
from collections import defaultdict
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
_NAMED: Final = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c"}
_WIDTH, _LEFT, _TOP, _BOTTOM = 600, 76, 10, 12


def legend(shape: str, metric: dict[str, str]) -> str:
    """A series' name by Grafana's rule."""
    return re.sub(r"{{\s*(\w+)\s*}}", lambda found: metric.get(found[1], ""), shape)


def panel(what: dict[str, Any], series: list[Series]) -> str:
    """Draw it."""
    kind, unit = what["type"], what["fieldConfig"]["defaults"]["unit"]
    if kind == "stat":
        return _stat(what, series, unit)
    if kind == "table":
        return _table(what, series)
    height = what["gridPos"]["h"] * 40 - 80
    if kind == "heatmap":
        return _heatmap(series, unit, height)
    stacked = what["fieldConfig"]["defaults"]["custom"].get("stacking", {}).get("mode") == "normal"
    return _lines(what, series, unit, height, stacked=stacked)


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
    return _NAMED.get(passed[-1]["color"], passed[-1]["color"])


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
        "<tr>" + "".join(f"<td>{html.escape(row.get(column, '')[:40])}</td>" for column in columns) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _lines(what: dict[str, Any], series: list[Series], unit: str, height: int, *, stacked: bool) -> str:
    defaults = what["fieldConfig"]["defaults"]
    drawn, floor = [], defaultdict[float, float](float)
    for name, _, values in series:
        points = [(t, float(value)) for t, value in values if not math.isnan(float(value))]
        base = [floor[t] for t, _ in points] if stacked else [0.0] * len(points)
        tops = [value + below for (_, value), below in zip(points, base, strict=True)]
        for (t, _), top in zip(points, tops, strict=True):
            floor[t] = top
        drawn.append((name, [t for t, _ in points], tops, base))
    times = [t for _, ts, _, _ in drawn for t in ts]
    if not times:
        return "<div class=none>nothing yet</div>"
    first, last = min(times), max(*times, min(times) + 1)
    highest = max([top for _, _, tops, _ in drawn for top in tops] or [1]) or 1
    lowest = min([0.0, *(top for _, _, tops, _ in drawn for top in tops)])

    def place(t: float, value: float) -> str:
        x = _LEFT + (t - first) / (last - first) * (_WIDTH - _LEFT - 4)
        y = _TOP + (height - _TOP - _BOTTOM) * (1 - (value - lowest) / (highest - lowest or 1))
        return f"{x:.1f},{y:.1f}"

    parts = [_axis(lowest, highest, unit, height)]
    for number, (_, ts, tops, base) in enumerate(drawn):
        color = _COLORS[number % len(_COLORS)]
        line = " ".join(place(t, top) for t, top in zip(ts, tops, strict=True))
        if stacked:
            back = " ".join(place(t, low) for t, low in reversed(list(zip(ts, base, strict=True))))
            parts.append(f'<polygon points="{line} {back}" fill="{color}" fill-opacity=".55"/>')
        parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"/>')
    for step in defaults["thresholds"]["steps"][1:]:
        if lowest < step["value"] <= highest:
            ends = f"{place(first, step['value'])} {place(last, step['value'])}"
            parts.append(
                f'<polyline points="{ends}" stroke="{_NAMED[step["color"]]}" stroke-dasharray="6 4" fill="none"/>'
            )
    names = "".join(
        f'<b style="background:{_COLORS[number % len(_COLORS)]}"></b>{html.escape(name)}'
        for number, (name, *_) in enumerate(drawn)
    )
    return _svg(parts, height) + f"<div class=legend>{names}</div>"


def _heatmap(series: list[Series], unit: str, height: int) -> str:
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
    wide, tall = (_WIDTH - _LEFT) / max(len(cells), 1), (height - _BOTTOM) / len(bounds)
    parts = []
    for column, t in enumerate(sorted(cells)):
        for row, count in enumerate(cells[t]):
            if count > most / 1000:
                x, y = _LEFT + column * wide, height - _BOTTOM - (row + 1) * tall
                parts.append(
                    f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall:.1f}" fill="#ff9830" '
                    f'fill-opacity="{0.08 + 0.92 * (count / most) ** 0.5:.2f}"/>'
                )
    for row in range(0, len(bounds), max(1, len(bounds) // 8)):
        name = bounds[row][0]
        text = name if name == "+Inf" else shown(float(name), unit)
        parts.append(f'<text x="{_LEFT - 6}" y="{height - _BOTTOM - row * tall:.1f}" {_TEXT}>{text}</text>')
    return _svg(parts, height)


_TEXT: Final = 'fill="#8e8e9c" font-size="11" text-anchor="end"'


def _axis(lowest: float, highest: float, unit: str, height: int) -> str:
    parts = []
    for part in range(5):
        y = _TOP + (height - _TOP - _BOTTOM) * (1 - part / 4)
        value = lowest + (highest - lowest) * part / 4
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#25262c"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" {_TEXT}>{shown(value, unit)}</text>')
    return "".join(parts)


def _svg(parts: list[str], height: int) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height}" preserveAspectRatio="none">{"".join(parts)}</svg>'
