"""The drawn page: what it shows is what was asked for, at its time, within its bounds, and with its gaps."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from deploy.grafana import draw, page
from deploy.grafana.dashboards import ALL, encoded

WINDOW = draw.Window(1_000_000.0, 1_000_900.0, 10.0)  # a quarter of an hour, a value each ten seconds
BOARDS = {board.name: json.loads(encoded(board.build())) for board in ALL}


def panel(title: str) -> dict[str, Any]:
    [found] = [each for board in BOARDS.values() for each in page.panels(board) if each["title"] == title]
    return dict(found)


def series(name: str, *values: float | None) -> draw.Series:
    """A value each step from the window's start; None where there is none."""
    step = WINDOW.step
    points = [(WINDOW.start + n * step, str(value)) for n, value in enumerate(values) if value is not None]
    return name, {}, points


def lines(drawn: str) -> list[list[tuple[float, float]]]:
    """The points of each line that shows values, not a threshold."""
    found = re.findall(r'<polyline points="([^"]+)"(?![^>]*dasharray)', drawn)
    return [[tuple(map(float, point.split(","))) for point in each.split()] for each in found]  # type: ignore[misc]


def test_a_gap_in_a_series_is_a_gap_in_its_line() -> None:
    drawn = draw.panel(panel("In and out"), [series("read", 1, 2, 3, None, None, 4, 5)], WINDOW)

    assert [len(line) for line in lines(drawn)] == [3, 2]


def test_not_a_number_is_a_gap_too() -> None:
    assert [
        len(line)
        for line in lines(draw.panel(panel("Latency"), [series("p50", 0.1, 0.1, float("nan"), 0.1, 0.1)], WINDOW))
    ] == [2, 2]


def test_the_axis_of_time_is_the_window_that_was_asked_for_and_not_where_values_are() -> None:
    drawn = draw.panel(panel("In and out"), [series("read", *[None] * 80, 1, 2, 3)], WINDOW)
    [line] = lines(drawn)
    width = float(re.search(r'viewBox="0 0 (\d+)', drawn)[1])  # type: ignore[index]

    assert line[0][0] > width * 0.85
    assert len(re.findall(r">\d\d:\d\d(?::\d\d)?<", drawn)) >= 3


def test_the_largest_value_of_the_axis_is_the_panels_own() -> None:
    what = panel("Score quantiles")
    assert what["fieldConfig"]["defaults"]["max"] == 1
    [line] = lines(draw.panel(what, [series("p50", 0.5, 0.5)], WINDOW))
    [full] = lines(draw.panel(what, [series("p50", 1, 1)], WINDOW))
    [none] = lines(draw.panel(what, [series("p50", 0, 0)], WINDOW))

    assert line[0][1] == pytest.approx((full[0][1] + none[0][1]) / 2, abs=0.2)


def test_a_latency_is_drawn_on_a_logarithmic_axis() -> None:
    def height(value: float) -> float:
        drawn = draw.panel(panel("Latency"), [series("p50", value, value), series("p99", 0.001, 10)], WINDOW)
        return lines(drawn)[0][0][1]

    assert height(0.1) == pytest.approx((height(0.01) + height(1.0)) / 2, abs=0.3)


def test_an_action_has_the_colour_of_its_meaning_whatever_the_order() -> None:
    actions = [series(name, 1, 1) for name in ("unscored", "deliver", "block", "flag")]
    drawn = draw.panel(panel("Verdicts by action"), actions, WINDOW)
    legend = dict(re.findall(r'<b style="background:([^"]+)"></b>(\w+)', drawn))

    assert {name: color for color, name in legend.items()} == {
        "deliver": draw.NAMED["green"], "flag": draw.NAMED["orange"], "block": draw.NAMED["red"], "unscored": "#8e8e9c",
    }  # fmt: skip


def test_a_name_without_a_meaning_does_not_borrow_the_colour_of_one() -> None:
    drawn = draw.panel(panel("Labels"), [series(name, 1, 1) for name in ("smishing", "ham")], WINDOW)

    assert drawn.count(f"background:{draw.NAMED['green']}") == 1


def test_a_link_to_the_runbook_can_be_followed() -> None:
    link = "http://127.0.0.1:9090/user/operations.md#hamgatenobodyready"
    firing = {"alertname": "HamgateNobodyReady", "severity": "page", "runbook_url": link}

    assert f'<a href="{link}">' in draw.panel(panel("Alerts firing"), [("", firing, [(WINDOW.end, "1")])], WINDOW)


@pytest.mark.parametrize(("share", "color"), [(0.1, "green"), (0.38, "orange"), (0.6, "red")])
def test_a_third_not_delivered_is_not_green(share: float, color: str) -> None:
    assert draw.NAMED[color] in draw.panel(panel("Not delivered"), [series("share", share)], WINDOW)


@pytest.mark.parametrize(
    ("title", "said"),
    [
        ("Alerts firing", "no alert fires"),
        ("Latency: budget left over 3 days", "not enough data yet"),
        ("Drift", "nothing yet"),
    ],
)
def test_a_panel_without_data_says_why(title: str, said: str) -> None:
    assert said in draw.panel(panel(title), [], WINDOW)


def test_a_row_without_data_stays_closed_and_one_with_data_is_open() -> None:
    board = BOARDS["gpu"]
    folded = [row["title"] for row in board["panels"] if row.get("collapsed")]

    closed = list(page.laid_out(board, lambda each: "gpu" not in each["targets"][0]["expr"]))
    opened = list(page.laid_out(board, lambda _: True))

    assert folded == ["Device: memory and use", "Device: power"]
    assert not {"Memory", "Power"} & {each["title"] for each in closed}
    assert {"Memory", "Power", *folded} <= {each["title"] for each in opened}
    assert len(page.panels(board)) + len([row for row in board["panels"] if row["type"] == "row"]) == len(opened)
