"""A drill acts on calls that the worker makes: it once held one that the pipeline no longer made."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from deploy.drill import saboteur
from tests.fakes import FakeBroker
from tests.unit.test_classifier import WordEngine, bundle
from tests.unit.test_pipeline import NOW, event, make, read
from worker.model.classifier import Classifier, Judging

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_judge_that_is_held_judges_nothing_until_it_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Judging, "scores", Judging.scores)  # put back in the end
    saboteur.install(hold := tmp_path / "hold")
    hold.touch()
    broker = FakeBroker()
    broker.feed(event("hello"), at=NOW)
    pipeline = make(broker, classifier=Classifier(bundle(tmp_path / "bundle"), WordEngine(2)))
    read(pipeline)
    judging = threading.Thread(target=pipeline.judge)

    judging.start()
    time.sleep(0.3)
    assert list(pipeline.progress.busy()) == ["judge"]
    assert pipeline.judged.empty()

    hold.unlink()
    judging.join(5)
    assert len(pipeline.judged.get_nowait().items) == 1  # type: ignore[union-attr] # there is one
