"""The model changes under load: nothing lost, nothing doubled, every message judged by one of the models there were."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from deploy.kafka import topics
from tests import bundles
from tests.integration.harness import Traffic, Watch, WorkerProcess, environment, exactly_once, until
from tests.integration.parts import Parts
from worker.model.bundle import Bundle
from worker.rollout import link as releases

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Place

SWAPS = 4
QUICK = Parts(bundle_watch=0.05)


@pytest.mark.long
def test_a_model_that_is_changed_again_and_again_under_load_loses_and_doubles_nothing(
    start: Callable[..., WorkerProcess], traffic: Traffic, watch: Watch, bundle: Path, tmp_path: Path
) -> None:
    folders = [bundles.copy(tmp_path / "a", bundle), bundles.reissued(tmp_path / "b", bundle)]
    models = [Bundle.load(folder).model for folder in folders]
    link = tmp_path / "current"
    releases.use(link, folders[0])

    with traffic.flowing():
        worker = start(bundle=str(link), parts=replace(QUICK, tokenizer_processes=2, has_engine_process=True))
        first = worker.children()
        for number in range(1, SWAPS + 1):
            releases.use(link, folders[number % 2])
            until(lambda name=models[number % 2]: watch.verdicts[-1:] and watch.verdicts[-1].model == name)  # type: ignore[misc]

    exactly_once(traffic, watch)
    assert {verdict.model for verdict in watch.verdicts} == set(models)
    assert worker.metric("hamgate_model_changes_total") == SWAPS
    assert worker.metric("hamgate_model_refused") == 0
    assert len(first) == 3, "its tokenizer, twice, and its engine"
    until(lambda: len(worker.children()) == 3)  # those of the models that are gone have ended with them
    assert not set(worker.children()) & set(first)


def test_a_bundle_that_is_refused_under_load_is_told_loudly_and_judges_nothing(
    start: Callable[..., WorkerProcess], traffic: Traffic, watch: Watch, bundle: Path, tmp_path: Path
) -> None:
    link, good = tmp_path / "current", bundles.copy(tmp_path / "good", bundle)
    bad = bundles.copy(tmp_path / "bad", bundle)
    (bad / bundles.ADAPTER).write_bytes(b"cut short")
    releases.use(link, good)

    with traffic.flowing():
        worker = start(bundle=str(link), parts=QUICK)
        releases.use(link, bad)
        until(lambda: worker.metric("hamgate_model_refused") == 1)
        seen = len(watch.verdicts)
        until(lambda: len(watch.verdicts) > seen + 50)
        assert releases.way_back(link) == good
        releases.back(link, good)
        until(lambda: worker.metric("hamgate_model_refused") == 0)

    exactly_once(traffic, watch)
    assert {verdict.model for verdict in watch.verdicts} == {Bundle.load(good).model}
    assert "bundle refused" in worker.said()
    assert worker.is_ready()


@pytest.mark.long
def test_a_canary_judges_some_keys_and_a_shadow_is_compared_with_the_rest(
    place: Place, start: Callable[..., WorkerProcess], traffic: Traffic, watch: Watch, tmp_path: Path
) -> None:
    canary, shadow = bundles.reissued(tmp_path / "canary"), bundles.flipped(tmp_path / "shadow", canaries=[])
    reports = f"{place.input}.shadow"
    topics.create(place.link.brokers, (reports,), 1)
    roles = {
        "bundle": str(bundles.NANO), "canary": str(canary), "canary_share": "0.3",
        "shadow": str(shadow), "shadow_topic": reports,
    }  # fmt: skip

    with traffic.flowing():
        worker = start(parts=QUICK, **roles)
        until(lambda: worker.metric("hamgate_model_changes_total", role="shadow", outcome="swapped") == 1, within=60)
        until(lambda: worker.metric("hamgate_messages_judged_total", role="canary") > 50, within=60)
        until(lambda: worker.metric("hamgate_messages_judged_total", role="shadow") > 50, within=60)

    exactly_once(traffic, watch)
    nano, other = Bundle.load(bundles.NANO).model, Bundle.load(canary).model
    by_key: dict[bytes | None, list[str]] = {}
    for key, verdict in zip(watch.keys, watch.verdicts, strict=True):
        by_key.setdefault(key, []).append(verdict.model)
    turns = [[model for model, _ in itertools.groupby(models)] for models in by_key.values()]
    assert all(each in ([nano], [nano, other], [other]) for each in turns), "a key changes its model once, if ever"
    assert {each[-1] for each in turns} == {nano, other}

    worker.send(signal.SIGTERM)
    assert worker.ended() == 0
    said = subprocess.run(
        [sys.executable, "-m", "worker", "compare", "--json"],
        env=environment(place, bundles.NANO, shadow_topic=reports),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    [found] = json.loads(said)
    assert (found["primary"], found["shadow"]) == (nano, Bundle.load(shadow).model)
    assert found["differing"] > 0.9 * found["judged"] > 40
    assert {each["id"] for each in found["examples"]} <= set(traffic.sent)
    assert "win a prize" not in said
