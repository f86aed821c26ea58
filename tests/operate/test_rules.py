"""The rules: valid, of series that exist, each alert tested both ways, with a section of its own in the runbook."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from deploy import render, tools
from tests.operate.series import series_named, shown_series

if TYPE_CHECKING:
    from pathlib import Path

PROMETHEUS = render.DEPLOY / "prometheus"
GROUPS = [group for path in sorted(render.RULES.glob("*.yml")) for group in yaml.safe_load(path.read_text())["groups"]]
RULES: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
TESTS = [yaml.safe_load(path.read_text()) for path in sorted((PROMETHEUS / "tests").glob("*.yml"))]
RUNBOOK = (render.DEPLOY.parent / "docs" / "operations.md").read_text()


def run(name: str, *arguments: object) -> str:
    try:
        program = tools.tool(name)
    except tools.MissingError as error:
        pytest.skip(str(error))
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False, cwd=PROMETHEUS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_prometheus_takes_its_settings_and_every_rule() -> None:
    said = run("promtool", "check", "config", "prometheus.yml")

    assert f"{len(RULES)} rules" in said or said.count("rules found") == len(list(render.RULES.glob("*.yml")))


def test_alertmanager_takes_its_settings() -> None:
    run("amtool", "check-config", render.DEPLOY / "alertmanager" / "alertmanager.yml")


@pytest.mark.parametrize("severity", ["page", "ticket"])
def test_alertmanager_sends_each_severity_to_its_receiver(severity: str) -> None:
    settings = render.DEPLOY / "alertmanager" / "alertmanager.yml"

    said = run("amtool", "config", "routes", "test", f"--config.file={settings}", f"severity={severity}")

    assert said.splitlines()[0] == severity


def test_alertmanager_holds_back_only_alerts_that_exist() -> None:
    settings = yaml.safe_load((render.DEPLOY / "alertmanager" / "alertmanager.yml").read_text())
    named = {
        name
        for rule in settings["inhibit_rules"]
        for line in rule["source_matchers"] + rule["target_matchers"]
        for name in re.findall(r"Hamgate\w+", line)
    }

    assert named - set(ALERTS) == set()


@pytest.mark.parametrize("path", sorted((PROMETHEUS / "tests").glob("*.yml")), ids=lambda path: path.stem)
def test_alerts_fire_when_they_must_and_are_silent_when_they_must(path: Path) -> None:
    run("promtool", "test", "rules", path)


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_is_tested_both_ways(alert: str) -> None:
    checks = [check for file in TESTS for test in file["tests"] for check in test["promql_expr_test"]]
    if "Budget" in alert:  # one query for all of them: who is not among the expected is silent
        about = [check for check in checks if "Budget" in check["expr"]]
        fires = [check for check in about if any(alert in sample["labels"] for sample in check["exp_samples"])]
        assert fires
        assert len(about) > len(fires)
        return
    tests = [
        test for file in TESTS for test in file["tests"]
        if any(f'"{alert}"' in check["expr"] for check in test["promql_expr_test"])
    ]  # fmt: skip
    about = [check for test in tests for check in test["promql_expr_test"] if f'"{alert}"' in check["expr"]]
    assert any(check["exp_samples"] for check in about)
    # Silent at another time, or for the other one of two workers or jobs in the same test.
    is_silent = any(not check["exp_samples"] for check in about) or any(_others(test, alert) for test in tests)
    assert is_silent


def _others(test: dict[str, Any], alert: str) -> bool:
    """Whether the test has a worker or a job for which the alert is expected not to fire."""
    found = {
        value for series in test["input_series"] for value in re.findall(r'(?:instance|job)="(\w+)"', series["series"])
    }
    expected = {
        value for check in test["promql_expr_test"] if f'"{alert}"' in check["expr"]
        for sample in check["exp_samples"] for value in re.findall(r'="(\w+)"', sample["labels"])
    }  # fmt: skip
    return bool(found - expected - {"hamgate", "broker"})


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_says_how_bad_it_is_what_it_is_and_where_to_read_on(alert: str) -> None:
    rule = ALERTS[alert]

    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["description"]
    assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{alert.lower()}"
    section = RUNBOOK.partition(f"\n### {alert}\n")[2].partition("\n### ")[0].partition("\n## ")[0]
    assert all(f"**{part}.**" in section for part in ("See", "Fix", "Prevent")), alert


def test_the_runbook_has_no_section_for_an_alert_that_does_not_exist() -> None:
    assert set(re.findall(r"^### (Hamgate\w+)$", RUNBOOK, re.MULTILINE)) == set(ALERTS)


def test_every_series_a_rule_asks_for_exists() -> None:
    recorded = {rule["record"] for rule in RULES if "record" in rule}

    assert {series for rule in RULES for series in series_named(rule["expr"])} - shown_series() - recorded == set()
