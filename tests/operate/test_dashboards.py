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
from deploy.grafana import dashboards, page
from deploy.grafana import panels as looks
from deploy.prometheus.slo import LEVELS
from tests.operate.series import series_named, shown_series

FOLDER = Path(render.DEPLOY, "grafana", "dashboards")
RENDERED = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
UNITS = {"none", "short", "s", "bytes", "percentunit", "mps", "ops", "watt", "celsius", "joule"}


def panels(name: str) -> list[dict[str, Any]]:
    return page.panels(RENDERED[name])


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
    for panel in page.laid_out(RENDERED[name], lambda _: True):
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
    numbers = [panel["id"] for panel in page.laid_out(RENDERED[name], lambda _: True)]

    assert len(set(titles)) == len(titles)
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("name", RENDERED)
def test_every_series_a_panel_asks_for_is_one_the_worker_shows(name: str) -> None:
    asked = {series for panel in panels(name) for target in panel["targets"] for series in series_named(target["expr"])}

    assert asked - shown_series() - {f"hamgate:errors:ratio_{window}" for window in ("5m", "1h", "3d")} - {
        "hamgate:objective:ratio", "hamgate:flagged:ratio_10m", "hamgate:runbook:info",
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


@pytest.mark.parametrize("name", RENDERED)
def test_every_query_is_of_the_deployments_that_were_chosen(name: str) -> None:
    for panel in panels(name):
        for target in panel["targets"]:
            every = re.findall(r"\b(?:hamgate[a-z0-9_:]+|ALERTS|process_[a-z_]+)\b(\{[^}]*\})?", _asked(target["expr"]))
            assert every, target["expr"]
            for selector in every:
                assert 'namespace=~"$namespace"' in selector, target["expr"]


def _asked(expr: str) -> str:
    """The query without what it is joined with, which only adds a label or an objective to what was chosen."""
    joined = ("hamgate_model_info", "hamgate:runbook:info", r"hamgate:objective:ratio\{[^}]*\}")
    return re.sub(r"(group_left|group_right) \([^)]*\) \(?(1 - )?(" + "|".join(joined) + ")", "", expr)


@pytest.mark.parametrize("name", RENDERED)
def test_a_dashboard_has_variables_for_what_tells_deployments_apart(name: str) -> None:
    variables = {each["name"]: each for each in RENDERED[name]["templating"]["list"]}

    assert list(variables) == ["datasource", "namespace", "job", "instance"]
    assert "$namespace" in json.dumps(variables["job"])
    assert "$job" in json.dumps(variables["instance"])


@pytest.mark.parametrize("name", RENDERED)
def test_a_change_of_model_and_a_rollout_are_marked(name: str) -> None:
    marks = {each["name"]: each["expr"] for each in RENDERED[name]["annotations"]["list"]}

    assert set(marks) == {"model changed", "worker started"}
    asked = {series for expr in marks.values() for series in series_named(expr)}
    assert asked <= shown_series()


def test_what_has_a_meaning_has_its_colour_wherever_it_is_shown() -> None:
    shown = {"{{action}}": {"deliver", "flag", "block", "unscored"}, "{{outcome}}": {"committed", "fenced"}}
    for name in RENDERED:
        for panel in panels(name):
            fixed = {
                override["matcher"]["options"]: setting["value"]["fixedColor"]
                for override in panel["fieldConfig"].get("overrides", [])
                for setting in override["properties"]
                if setting["id"] == "color"
            }
            assert all(color == looks.MEANING[what] for what, color in fixed.items())
            legends = {target["legendFormat"] for target in panel["targets"]}
            if panel["title"] != "Changes":
                assert all(shown[legend] <= set(fixed) for legend in legends & set(shown)), panel["title"]


@pytest.mark.parametrize("name", RENDERED)
def test_a_number_without_a_bound_is_not_green(name: str) -> None:
    for panel in panels(name):
        steps = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])
        if panel["type"] == "stat" and len(steps) == 1:
            assert steps[0]["color"] != looks.GREEN, panel["title"]


@pytest.mark.parametrize("name", RENDERED)
def test_quantiles_of_a_time_are_on_a_logarithmic_axis_and_ages_are_as_of_their_scrape(name: str) -> None:
    for panel in panels(name):
        expressions = [target["expr"] for target in panel["targets"]]
        if panel["type"] == "timeseries" and any("histogram_quantile" in expr for expr in expressions):
            is_log = panel["fieldConfig"]["defaults"]["custom"].get("scaleDistribution", {}).get("type") == "log"
            assert is_log == (panel["fieldConfig"]["defaults"]["unit"] == "s"), panel["title"]
        assert not any("time() -" in expr for expr in expressions), panel["title"]


def test_each_row_of_the_alerts_links_to_its_section_of_the_runbook() -> None:
    [table] = [panel for panel in panels("overview") if panel["title"] == "Alerts firing"]
    [link] = [
        setting["value"][0]
        for override in table["fieldConfig"]["overrides"]
        if override["matcher"]["options"] == "runbook"
        for setting in override["properties"]
    ]
    rules = yaml.safe_load((render.RULES / "runbooks.yml").read_text())["groups"][0]["rules"]
    everywhere = [yaml.safe_load(path.read_text()) for path in render.RULES.glob("*.yml")]
    alerts = {
        rule["alert"] for file in everywhere for group in file["groups"] for rule in group["rules"] if "alert" in rule
    }

    assert link["url"] == "${__value.raw}"
    assert {rule["labels"]["alertname"] for rule in rules} == alerts
    assert all(rule["labels"]["runbook_url"].endswith(f"#{rule['labels']['alertname'].lower()}") for rule in rules)
