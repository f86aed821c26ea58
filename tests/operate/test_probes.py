"""The probes and the end of a worker, by the clock that deploy/kubernetes sets."""

from __future__ import annotations

import signal
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.integration.harness import Traffic, Watch, WorkerProcess, exactly_once, until
from worker.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy.kafka.node import Node

BASE = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes" / "base"
POD: dict[str, Any] = yaml.safe_load((BASE / "deployment.yaml").read_text())["spec"]["template"]["spec"]
WORKER: dict[str, Any] = POD["containers"][0]


def asked(worker: WorkerProcess, probe: str) -> tuple[int, str]:
    """Status and body that kubelet would get, in the time that it would wait."""
    get, patience = WORKER[probe]["httpGet"], WORKER[probe].get("timeoutSeconds", 1)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{worker.port}{get['path']}", timeout=patience) as answer:
            return int(answer.status), answer.read().decode().strip()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode().strip()


def test_a_worker_under_load_answers_its_probes_and_drains_well_within_its_grace(
    start: Callable[..., WorkerProcess], traffic: Traffic, watch: Watch
) -> None:
    worker = start(shutdown_grace="20")
    with traffic.flowing(chunk=200):
        until(lambda: watch.seen() > 200)
        answers = {probe: asked(worker, probe) for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
        assert answers == dict.fromkeys(answers, (200, "ok"))
        asked_at = time.monotonic()
        worker.send(signal.SIGTERM)
        code = worker.ended(within=POD["terminationGracePeriodSeconds"])
        took = time.monotonic() - asked_at

    assert code == 0
    assert took < Settings.model_fields["shutdown_grace"].default
    start("next")  # what the first had not read
    exactly_once(traffic, watch)


def test_the_pod_is_given_longer_than_the_drain_and_the_leave_taking() -> None:
    assert POD["terminationGracePeriodSeconds"] >= Settings.model_fields["shutdown_grace"].default + 5 + 10


def test_a_worker_whose_brokers_fall_silent_is_alive_but_not_ready_until_they_answer(
    kafka: Node, start: Callable[..., WorkerProcess]
) -> None:
    worker = start(session_timeout="4", transaction_timeout="3")

    kafka.pause()
    try:
        until(lambda: asked(worker, "readinessProbe") == (503, "the brokers do not answer"), within=20)
        assert asked(worker, "livenessProbe") == (200, "ok")
    finally:
        kafka.resume()

    until(worker.is_ready)
