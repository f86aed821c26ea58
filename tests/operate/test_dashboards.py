"""The dashboards, before any Prometheus is asked: in step, complete, laid out, and of series that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.models import dashboard as schema

from deploy import render
from deploy.grafana import dashboards
from deploy.prometheus.slo import LEVELS
from tests.operate.series import series_named, shown_series

FOLDER = Path(render.DEPLOY, "grafana", "dashboards")
RENDERED = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
UNITS = {"none", "short", "s", "bytes", "percentunit", "mps", "ops", "watt", "celsius", "joule"}


def panels(name: str) -> list[dict[str, Any]]:
    return [panel for panel in RENDERED[name]["panels"] if panel["type"] != "row"]


def test_what_is_committed_is_what_the_code_renders() -> None:
    assert render.stale() == []


def test_there_is_a_file_for_each_dashboard_and_no_other() -> None:
    assert set(RENDERED) == {dashboard.name for dashboard in dashboards.ALL}
    assert set(RENDERED) == {"overview", "latency", "model", "delivery", "gpu"}


@pytest.mark.parametrize("name", RENDERED)
def test_every_panel_has_a_unit_and_says_what_it_means_and_what_to_do(name: str) -> None:
    assert panels(name)
    for panel in panels(name):
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        means, _, do = panel["description"].partition("\n\n**Do:** ")
        assert len(means) > 5, panel["title"]
        assert len(do) > 5, panel["title"]
        assert panel["targets"], panel["title"]


@pytest.mark.parametrize("name", RENDERED)
def test_panels_lie_side_by_side_and_fill_their_rows(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in RENDERED[name]["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
    height = max(y for _, y in taken) + 1
    assert {(x, y) for x in range(24) for y in range(height)} == taken


@pytest.mark.parametrize("name", RENDERED)
def test_titles_and_numbers_of_panels_are_unique(name: str) -> None:
    titles = [panel["title"] for panel in panels(name)]
    numbers = [panel["id"] for panel in RENDERED[name]["panels"]]

    assert len(set(titles)) == len(titles)
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("name", RENDERED)
def test_every_series_a_panel_asks_for_is_one_the_worker_shows(name: str) -> None:
    asked = {series for panel in panels(name) for target in panel["targets"] for series in series_named(target["expr"])}

    assert asked - shown_series() - {f"hamgate:errors:ratio_{window}" for window in ("5m", "1h", "3d")} - {
        "hamgate:objective:ratio", "hamgate:flagged:ratio_10m",
    } == set()  # fmt: skip


@pytest.mark.parametrize("name", RENDERED)
def test_a_dashboard_survives_the_grafana_schema_unchanged(name: str) -> None:
    read = schema.Dashboard.from_json(RENDERED[name])

    assert read.uid == f"hamgate-{name}"
    assert json.loads(dashboards.encoded(read)) == RENDERED[name]


def test_every_alert_a_panel_names_exists() -> None:
    named = {
        word
        for name in RENDERED
        for panel in panels(name)
        for word in re.findall(r"Hamgate[A-Z]\w+", panel["description"])
    }
    rules = [yaml.safe_load(path.read_text()) for path in render.RULES.glob("*.yml")]
    alerts = {rule["alert"] for file in rules for group in file["groups"] for rule in group["rules"] if "alert" in rule}

    assert named - alerts == set()


def test_every_service_level_is_on_the_overview() -> None:
    titles = " ".join(panel["title"].lower() for panel in panels("overview"))

    assert all(f"{level.name}: budget left" in titles for level in LEVELS)
