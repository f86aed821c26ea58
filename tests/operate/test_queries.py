"""A real Prometheus scrapes a real worker under traffic: every query of every panel and rule returns data.

It has a canary and a shadow. What only a GPU shows comes from a stand-in: the same metrics, with made-up numbers.
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import yaml

from deploy import render, tools
from deploy.grafana import page
from deploy.grafana.promql import filled
from deploy.kafka import topics
from deploy.kafka.node import LOOPBACK, free_port
from deploy.prometheus.local import LocalPrometheus
from tests.integration.harness import until
from worker.audit.ledger import MismatchKind
from worker.engine.device import GpuState
from worker.feedback.records import HELD
from worker.feedback.reports import ReportOutcome
from worker.metrics import AuditMetrics, FeedbackMetrics, Metrics, MetricsServer
from worker.model import bundle as bundles
from worker.settings import SHIPPED_BUNDLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Place
    from tests.integration.harness import Traffic, WorkerProcess

PANELS = [
    pytest.param(panel, id=f"{path.stem}: {panel['title']}")
    for path in sorted((render.DEPLOY / "grafana" / "dashboards").glob("*.json"))
    for panel in page.panels(json.loads(path.read_text()))
]
RULES = [
    pytest.param(rule, id=rule.get("alert") or f"{rule['record']} {rule.get('labels', {}).get('slo', '')}")
    for path in sorted(render.RULES.glob("*.yml"))
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
STAND_IN = re.compile(r"hamgate_gpu_")
# A selector, without what is around it: an alert's comparison must be false for its query to be well.
SELECTOR = re.compile(r"\b(?:hamgate[a-z0-9_:]+|up|process_[a-z_]+)\b(?:\{[^}]*\})?")


class Well:
    """A worker that never was ill."""

    def liveness_problems(self) -> list[str]:
        return []

    def readiness_problems(self) -> list[str]:
        return []


@pytest.fixture(scope="session")
def bundle() -> Path:
    """The shipped one, in place of the tests' own: it says what is usual of its evaluation, so drift can be shown."""
    return SHIPPED_BUNDLE


@pytest.fixture(scope="module")
def stand_in() -> Iterator[str]:
    metrics = Metrics()
    metrics.follow_gpu(lambda: GpuState(4 << 30, 80 << 30, 3 << 30, 3 << 30, 0.9, 600.0, 60.0, 0))
    server = MetricsServer(metrics, Well(), host=LOOPBACK, port=0)
    server.start()
    yield server.address.removeprefix("http://")
    server.close()


@pytest.fixture(scope="module")
def audit() -> Iterator[str]:
    server = MetricsServer(AuditMetrics(MismatchKind), Well(), host=LOOPBACK, port=0)
    server.start()
    yield server.address.removeprefix("http://")
    server.close()


@pytest.fixture(scope="module")
def reports() -> Iterator[str]:
    server = MetricsServer(FeedbackMetrics(ReportOutcome, HELD), Well(), host=LOOPBACK, port=0)
    server.start()
    yield server.address.removeprefix("http://")
    server.close()


@pytest.fixture(scope="module")
def asked() -> dict[str, Any]:
    """Cache of the answers of one Prometheus to all queries, for all tests of this module."""
    return {}


@pytest.fixture
def watched(
    asked: dict[str, Any],
    stand_in: str,
    audit: str,
    reports: str,
    place: Place,
    start: Callable[..., WorkerProcess],
    traffic: Traffic,
    tmp_path: Path,
) -> dict[str, Any]:
    """Every query's answer, after half a minute of traffic with poison in it, and one worker that is not there."""
    if asked:
        return asked
    try:
        tools.tool("prometheus")
    except tools.MissingError as error:
        pytest.skip(str(error))
    shadow_topic = f"{place.group}.shadow"
    topics.create(place.link.brokers, (shadow_topic,), 1)
    beside = str(bundle_beside(tmp_path / "beside"))
    worker = start(shadow=beside, shadow_topic=shadow_topic, canary=beside, canary_share="0.5")
    here, gone = f"{LOOPBACK}:{worker.port}", f"{LOOPBACK}:{free_port()}"
    targets = {"hamgate": [here, gone], "stand-in": [stand_in], "broker": [stand_in]}
    targets |= {"hamgate-audit": [audit], "hamgate-feedback": [reports]}
    with LocalPrometheus(tmp_path / "prometheus", targets, scrape=0.5, hurry=60) as prometheus, traffic.flowing():
        until(lambda: worker.metric("hamgate_dead_letters_total") > 0)
        until(lambda: "HamgateScrapeMissing" in prometheus.firing())
        until(lambda: bool(prometheus.query("hamgate_drift_ratio")), within=60)
        until(lambda: bool(prometheus.query("hamgate:workers:expected")), within=120)  # what there was an hour ago
        time.sleep(5)  # for rates: ten scrapes
        for expr in {target["expr"] for param in PANELS for target in param.values[0]["targets"]}:
            chosen = ".*" if STAND_IN.search(expr) else here
            # A budget is silent for two days: here it is asked for what it would say then.
            asked[expr] = answer(prometheus, filled(expr, "5s", chosen).replace(" offset 2d", ""))
        for rule in (param.values[0] for param in RULES):
            # What looks half an hour back is asked for as this Prometheus has recorded it, by its shorter offset.
            is_late = "record" in rule and " offset " in rule["expr"]
            asked[rule["expr"]] = answer(prometheus, rule["record"] if is_late else rule["expr"])
            for selector in SELECTOR.findall(rule["expr"]) if "alert" in rule else []:
                asked[selector] = answer(prometheus, selector)
    return asked


def bundle_beside(folder: Path) -> Path:
    """The shipped bundle under another name, a little surer that it is spam."""
    shipped = bundles.load(SHIPPED_BUNDLE)
    parts = {part: SHIPPED_BUNDLE / part for part in ("adapter", "tokenizer", "base")}
    calibration = msgspec.structs.replace(shipped.calibration, intercept=shipped.calibration.intercept + 2)
    bundles.write(folder, msgspec.structs.replace(shipped, name="beside", calibration=calibration, canaries=()), parts)
    return folder


def answer(prometheus: LocalPrometheus, expr: str) -> list[str] | str:
    """The values now, or what is wrong with the query."""
    try:
        return [row["value"][1] for row in prometheus.query(expr)]
    except RuntimeError as error:
        return str(error)


@pytest.mark.parametrize("panel", PANELS)
def test_every_panel_has_data(panel: dict[str, Any], watched: dict[str, Any]) -> None:
    for target in panel["targets"]:
        values = watched[target["expr"]]
        assert isinstance(values, list), values
        assert values, target["expr"]
        # Of what did not happen there is no mean and no quantile.
        assert set(values) - {"NaN"} or re.search("model_load|model_swap", target["expr"]), target["expr"]


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_data_to_judge_by(rule: dict[str, Any], watched: dict[str, Any]) -> None:
    assert isinstance(watched[rule["expr"]], list), watched[rule["expr"]]
    for query in [rule["expr"]] if "record" in rule else SELECTOR.findall(rule["expr"]):
        assert watched[query], query
