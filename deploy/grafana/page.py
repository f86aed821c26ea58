"""The dashboards as one static page, drawn from a Prometheus: a look at them where there is no Grafana.

python -m deploy.grafana.page http://127.0.0.1:9090 page.html [--minutes 15] [--dashboard overview]
"""

from __future__ import annotations

import argparse
import html
import json
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from deploy.grafana import draw
from deploy.grafana.promql import filled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOLDER: Final = Path(__file__).with_name("dashboards")
ORDER: Final = ("overview", "latency", "model", "delivery", "gpu")
_POINTS: Final = 120
_STYLE: Final = """
body{background:#111217;color:#ccccdc;font:13px/1.4 Inter,system-ui,sans-serif;margin:16px}
h1{font-size:18px;margin:24px 0 2px}h1+p{margin:0 0 10px;color:#8e8e9c}
.board{display:grid;grid-template-columns:repeat(24,1fr);grid-auto-rows:34px;gap:6px}
.row{font-weight:600;font-size:14px;align-self:end;border-bottom:1px solid #2c2d33}
.panel{background:#181b1f;border:1px solid #25262c;border-radius:3px;padding:6px 8px;overflow:hidden;display:flex;flex-direction:column}
.panel h2{font-size:12px;font-weight:500;margin:0 0 2px}.panel h2 i{color:#6e9fff;margin-left:6px;cursor:help}
.panel svg{flex:1;width:100%;min-height:0}.legend{font-size:11px;color:#9fa1aa;max-height:32px;overflow:hidden}
.legend b{display:inline-block;width:10px;height:3px;margin:0 4px 3px 8px}
.stat{flex:1;display:flex;align-items:center;justify-content:center;font-size:28px;font-weight:600}
.none{flex:1;display:flex;align-items:center;justify-content:center;color:#6b6d76}
table{border-collapse:collapse;width:100%;font-size:12px}td,th{text-align:left;padding:2px 8px;border-bottom:1px solid #25262c}
th{color:#6e9fff;font-weight:500}a{color:#6e9fff}
"""


def page(address: str, names: tuple[str, ...], minutes: float) -> str:
    """Ask for every panel's data and draw it all."""
    now = time.time()
    window = draw.Window(now - minutes * 60, now, max(1.0, minutes * 60 / _POINTS))
    parts = [f"<!doctype html><meta charset=utf-8><title>hamgate</title><style>{_STYLE}</style>"]
    for name in names:
        board = json.loads((FOLDER / f"{name}.json").read_text())
        parts.append(
            f"<h1>{html.escape(board['title'])}</h1><p>{html.escape(board['description'])}</p><div class=board>"
        )
        data = {panel["id"]: _series(address, panel, window) for panel in panels(board)}
        parts += [
            _cell(panel, data.get(panel["id"], []), window)
            for panel in laid_out(board, lambda panel, data=data: bool(data[panel["id"]]))  # type: ignore[misc]
        ]
        parts.append("</div>")
    return "".join(parts)


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """A dashboard's panels, those of closed rows too."""
    return [each for panel in board["panels"] for each in panel.get("panels", []) or [panel] if each["type"] != "row"]


def laid_out(board: dict[str, Any], has_data: Callable[[dict[str, Any]], bool]) -> Iterator[dict[str, Any]]:
    """Rows and panels at their places. A closed row is opened where one of its panels has data, else takes no room."""
    saved = 0
    for panel in board["panels"]:
        within = panel.get("panels", [])
        is_open = any(has_data(each) for each in within)
        for each in (panel, *(within if is_open else ())):
            yield {**each, "gridPos": {**each["gridPos"], "y": each["gridPos"]["y"] - saved}}
        if within and not is_open:
            saved += max(each["gridPos"]["y"] + each["gridPos"]["h"] for each in within) - panel["gridPos"]["y"] - 1


def _series(address: str, panel: dict[str, Any], window: draw.Window) -> list[draw.Series]:
    return [
        (draw.legend(target["legendFormat"], row["metric"]), row["metric"], row["values"])
        for target in panel["targets"]
        for row in _ask(address, target["expr"], window)
    ]


def _cell(panel: dict[str, Any], series: list[draw.Series], window: draw.Window) -> str:
    at = panel["gridPos"]
    place = f"grid-column:{at['x'] + 1}/span {at['w']};grid-row:{at['y'] + 1}/span {at['h']}"
    title = html.escape(panel["title"])
    if panel["type"] == "row":
        return f'<div class=row style="{place}">{title}</div>'
    body = draw.panel(panel, series, window)
    return f'<div class=panel style="{place}"><h2>{title}<i title="{html.escape(panel["description"])}">i</i></h2>{body}</div>'


def _ask(address: str, expr: str, window: draw.Window) -> list[dict[str, Any]]:
    interval = f"{max(15, round(4 * window.step))}s"
    parameters = {
        "query": filled(expr, interval), "start": window.start, "end": window.end, "step": window.step,
    }  # fmt: skip
    url = f"{address}/api/v1/query_range?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 the Prometheus that was named
        result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return result


def main() -> int:
    """Write the page."""
    parser = argparse.ArgumentParser(prog="python -m deploy.grafana.page", description=__doc__)
    parser.add_argument("address")
    parser.add_argument("file", type=Path)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--dashboard", choices=ORDER)
    options = parser.parse_args()
    names = (options.dashboard,) if options.dashboard else ORDER
    options.file.write_text(page(options.address.rstrip("/"), names, options.minutes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
