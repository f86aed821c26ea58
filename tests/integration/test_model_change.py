"""The model changes under load: nothing lost, nothing doubled, every message judged by one of the models there were."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests import bundles
from tests.integration.harness import Traffic, Watch, WorkerProcess, exactly_once, until
from worker import releases
from worker.bundle import Bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SWAPS = 6


def test_a_model_that_is_changed_again_and_again_under_load_loses_and_doubles_nothing(
    start: Callable[..., WorkerProcess], traffic: Traffic, watch: Watch, bundle: Path, tmp_path: Path
) -> None:
    folders = [bundles.copy(tmp_path / "a", bundle), bundles.twin(tmp_path / "b", bundle)]
    models = [Bundle.load(folder).model for folder in folders]
    link = tmp_path / "current"
    releases.use(link, folders[0])

    with traffic.flowing():
        worker = start(bundle=str(link), bundle_watch="0.05")
        for number in range(1, SWAPS + 1):
            releases.use(link, folders[number % 2])
            until(lambda name=models[number % 2]: watch.verdicts[-1:] and watch.verdicts[-1].model == name)  # type: ignore[misc]

    exactly_once(traffic, watch)
    assert {verdict.model for verdict in watch.verdicts} == set(models)
    assert worker.metric("hamgate_model_changes_total") == SWAPS
    assert worker.metric("hamgate_model_refused") == 0


def test_a_bundle_that_is_refused_under_load_is_told_loudly_and_judges_nothing(
    start: Callable[..., WorkerProcess], traffic: Traffic, watch: Watch, bundle: Path, tmp_path: Path
) -> None:
    link, good = tmp_path / "current", bundles.copy(tmp_path / "good", bundle)
    bad = bundles.copy(tmp_path / "bad", bundle)
    (bad / bundles.ADAPTER).write_bytes(b"cut short")
    releases.use(link, good)

    with traffic.flowing():
        worker = start(bundle=str(link), bundle_watch="0.05")
        releases.use(link, bad)
        until(lambda: worker.metric("hamgate_model_refused") == 1)
        seen = len(watch.verdicts)
        until(lambda: len(watch.verdicts) > seen + 50)
        assert releases.back(link) == good
        until(lambda: worker.metric("hamgate_model_refused") == 0)

    exactly_once(traffic, watch)
    assert {verdict.model for verdict in watch.verdicts} == {Bundle.load(good).model}
    assert "bundle refused" in worker.said()
    assert worker.is_ready()
