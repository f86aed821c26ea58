"""Writes what is made from code and deploy/site.toml: rules, dashboards, Kubernetes' copy of the rules, the Helm chart.

python -m deploy.render            write them
python -m deploy.render --check    say which are out of step; exit 1 if any is
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from deploy import site
from deploy.grafana import dashboards
from deploy.kubernetes import chart
from deploy.prometheus import slo, workers

if TYPE_CHECKING:
    from collections.abc import Iterator

DEPLOY: Final = Path(__file__).resolve().parent
RULES: Final = DEPLOY / "prometheus" / "rules"
_MADE: Final = "# Made by `python -m deploy.render` from {}: change that.\n"


def files() -> Iterator[tuple[Path, str]]:
    """Each file that is made, and what belongs in it."""
    here = site.load()
    expected, levels = workers.rules(here.workers), slo.rules(here.runbook)
    yield RULES / "workers.yml", _yaml("deploy/site.toml and deploy/prometheus/workers.py", expected)
    yield RULES / "slo.yml", _yaml("deploy/site.toml and deploy/prometheus/slo.py", levels)
    # Written by hand, but for where its links lead.
    causes = re.sub(r"(?<=runbook_url: )\S+(?=#)", lambda _: here.runbook, (RULES / "causes.yml").read_text())
    yield RULES / "causes.yml", causes
    alerts = [rule["alert"] for each in (levels, yaml.safe_load(causes)) for group in each["groups"]
              for rule in group["rules"] if "alert" in rule]  # fmt: skip
    links = _runbooks(alerts, here.runbook)
    yield RULES / "runbooks.yml", _yaml("deploy/site.toml and the names of the alerts", links)
    for name, content in dashboards.rendered():
        yield DEPLOY / "grafana" / "dashboards" / f"{name}.json", content
    base = DEPLOY / "kubernetes" / "base"
    every = (expected, levels, yaml.safe_load(causes), links)
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "hamgate",
            "labels": yaml.safe_load((base / "servicemonitor.yaml").read_text())["metadata"]["labels"],
        },
        "spec": {"groups": [group for each in every for group in each["groups"]]},
    }
    yield base / "prometheusrule.yaml", _yaml("deploy/prometheus", resource)
    yield from chart.files(here.runbook)


def _runbooks(alerts: list[str], runbook: str) -> dict[str, Any]:
    """A series for each alert with its link, for the dashboards: ALERTS has labels only, no annotations."""
    recorded = [
        {
            "record": "hamgate:runbook:info",
            "expr": "vector(1)",
            "labels": {"alertname": alert, "runbook_url": f"{runbook}#{alert.lower()}"},
        }
        for alert in alerts
    ]
    return {"groups": [{"name": "hamgate-runbooks", "interval": "1m", "rules": recorded}]}


def stale() -> list[Path]:
    """Return the files whose content differs from what would be made now."""
    return [path for path, content in files() if not path.is_file() or path.read_text() != content]


def _yaml(source: str, content: dict[str, Any]) -> str:
    return _MADE.format(source) + yaml.safe_dump(content, sort_keys=False, width=140)


def main() -> int:
    """Write, or check."""
    parser = argparse.ArgumentParser(prog="python -m deploy.render", description=__doc__)
    parser.add_argument("--check", action="store_true")
    if parser.parse_args().check:
        for path in (late := stale()):
            print(f"{path} is out of step: python -m deploy.render", file=sys.stderr)
        return 1 if late else 0
    for path, content in files():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
