"""The rules: valid, of series that exist, each alert tested both ways, with a section of its own in the runbook."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from deploy import render, site, tools
from deploy.prometheus import workers
from deploy.prometheus.local import hurried
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


def test_the_site_says_how_many_workers_there_should_be_and_is_believed_before_kubernetes(tmp_path: Path) -> None:
    (tmp_path / "workers.yml").write_text(yaml.safe_dump(workers.rules({"sms": 2, "": 1})))
    kubernetes = [
        {"series": f'kube_deployment_spec_replicas{{deployment="hamgate",namespace="{name}"}}', "values": "9x100"}
        for name in ("sms", "other")
    ]
    expected = [('{namespace="sms"}', 2), ("{}", 1), ('{namespace="other"}', 9)]
    test = {
        "rule_files": [str(tmp_path / "workers.yml")],
        "evaluation_interval": "1m",
        "tests": [{
            "interval": "1m",
            "input_series": kubernetes,
            "promql_expr_test": [{
                "expr": "sum by (namespace) (hamgate:workers:expected)", "eval_time": "5m",
                "exp_samples": [{"labels": labels, "value": value} for labels, value in expected],
            }],
        }],
    }  # fmt: skip
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))

    run("promtool", "test", "rules", tmp_path / "test.yml")


def test_a_ratio_is_written_as_a_plain_number(tmp_path: Path) -> None:
    labels = {"job": "hamgate", "instance": "a", "role": "primary", "signal": "score"}
    series = ",".join(f'{name}="{value}"' for name, value in labels.items())
    summary = "Texts on a do not fit the primary model: signal score is 1.70 times what its evaluation had."
    annotations = {**ALERTS["HamgateDrift"]["annotations"], "summary": summary}
    test = {
        "rule_files": [str(render.RULES / "causes.yml")],
        "evaluation_interval": "1m",
        "tests": [{
            "interval": "1m",
            "input_series": [{"series": f"hamgate_drift_ratio{{{series}}}", "values": "1.69863x60"}],
            "alert_rule_test": [{
                "eval_time": "20m", "alertname": "HamgateDrift",
                "exp_alerts": [{"exp_labels": {"severity": "ticket", **labels}, "exp_annotations": annotations}],
            }],
        }],
    }  # fmt: skip
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))

    run("promtool", "test", "rules", tmp_path / "test.yml")


@pytest.mark.parametrize(
    ("line", "said"),
    [("sms = -1", "'sms': a number of workers"), ("Sms = 1", "'Sms': a namespace"), ("sms = true", "a number")],
)
def test_a_number_of_workers_that_cannot_be_is_refused_by_name(line: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(f'runbook = "https://a/b"\n[workers]\n{line}\n')

    with pytest.raises(site.SiteError, match=said):
        site.load(tmp_path / "site.toml")


@pytest.mark.parametrize("runbook", ["docs/operations.md", "ftp://a/b", "https://a/b#c", ""])
def test_a_runbook_that_no_browser_could_open_is_refused(runbook: str, tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(f'runbook = "{runbook}"\n')

    with pytest.raises(site.SiteError, match="runbook: an address"):
        site.load(tmp_path / "site.toml")


def test_a_key_of_the_site_that_is_not_known_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text("[worker]\nsms = 2\n")

    with pytest.raises(site.SiteError, match="worker is not known; known are runbook, workers"):
        site.load(tmp_path / "site.toml")


def test_rules_are_hurried_with_their_offsets_and_steps() -> None:
    content = {"groups": [{"rules": [{"expr": workers.an_hour_ago("hamgate")}]}]}

    [[rule]] = [group["rules"] for group in hurried(content, 60, 0.5)["groups"]]

    assert rule["expr"].endswith("[30000ms:2000ms] offset 30000ms)")


@pytest.mark.parametrize("alert", ["HamgateNobodyReady", "HamgateLatencyBudgetFast"])
def test_what_is_wrong_with_one_deployment_hides_nothing_of_another(alert: str) -> None:
    settings = yaml.safe_load((render.DEPLOY / "alertmanager" / "alertmanager.yml").read_text())
    about = [rule for rule in settings["inhibit_rules"] if any(alert in line for line in rule["source_matchers"])]

    assert about
    assert all("namespace" in rule["equal"] for rule in about)
    assert "namespace" in settings["route"]["group_by"]


def test_no_rule_puts_two_deployments_together() -> None:
    together = [rule["expr"] for rule in RULES if re.search(r"(by|on) \((?!namespace, job)", rule["expr"])]

    assert together == []


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
    assert rule["annotations"]["runbook_url"] == f"{site.load().runbook}#{alert.lower()}"
    section = RUNBOOK.partition(f"\n### {alert}\n")[2].partition("\n### ")[0].partition("\n## ")[0]
    assert all(f"**{part}.**" in section for part in ("See", "Fix", "Prevent")), alert


def test_the_runbook_has_no_section_for_an_alert_that_does_not_exist() -> None:
    assert set(re.findall(r"^### (Hamgate\w+)$", RUNBOOK, re.MULTILINE)) == set(ALERTS)


def test_every_series_a_rule_asks_for_exists() -> None:
    recorded = {rule["record"] for rule in RULES if "record" in rule}

    assert {series for rule in RULES for series in series_named(rule["expr"])} - shown_series() - recorded == set()
