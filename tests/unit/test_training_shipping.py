"""A bundle in force is replaced by one that is no worse on the same rows, or by whoever insists."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.toy_recipe import TOY, quiet
from tests.unit.test_training_run import rows
from training.data import split as data
from training.fit import train
from training.judge import evaluate, shipping
from training.judge.evaluate import Exam, Parts
from training.judge.judged import Judged, JudgedSets
from worker.model.bundle import load

if TYPE_CHECKING:
    from pathlib import Path

EXAM = Exam(3, Parts(tuple(rows(120, 1)), tuple(rows(60, 2)), tuple(rows(90, 4))), ("ham", "spam"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train.fit(TOY, EXAM.parts.fit, folder, seed=3, progress=quiet)
    return folder


def judgement(errors: int) -> JudgedSets:
    """The exam's answers, the first so many spam missed."""
    truth = np.array([int(row.label == "spam") for row in EXAM.parts.test], dtype=np.int8)
    given = truth.copy()
    given[np.flatnonzero(truth)[:errors]] = 0
    judged = Judged(truth, given, given.astype(np.float64))
    return JudgedSets({"clean": judged, "attack/leet": judged}, {})


def test_a_bundle_carries_what_it_scored_and_which_rows_it_was_not_made_of(run: Path, tmp_path: Path) -> None:
    shipped = shipping.ship(run, EXAM, "digest", tmp_path / "toy")

    again = evaluate.evaluate(shipped.folder, EXAM).clean.measure()
    assert shipped.quality["held-out"] == data.digest(EXAM.parts.test)
    assert shipped.quality["test-f1"] == round(again["f1"], 4)
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


def test_one_that_is_no_worse_replaces_it_and_both_are_compared_aloud(run: Path, tmp_path: Path) -> None:
    shipping.ship(run, EXAM, "first", tmp_path / "toy")
    said: list[str] = []

    shipping.ship(run, EXAM, "second", tmp_path / "toy", tell=said.append)

    assert load(tmp_path / "toy").data_digest == "second"
    assert "no difference shown" in said[0]
    assert len(said) > 6  # the test rows as they are, and under every disguise


def test_a_worse_one_is_refused_and_nothing_is_replaced(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_force = shipping.ship(run, EXAM, "first", tmp_path / "toy")
    answers = {"toy": judgement(0), "bundle": judgement(20)}
    monkeypatch.setattr(evaluate, "evaluate", lambda folder, _exam: answers[folder.name])

    with pytest.raises(shipping.WorseBundleError, match=r"clean, attack/leet.*--even-if-worse"):
        shipping.ship(run, EXAM, "second", tmp_path / "toy")

    assert load(tmp_path / "toy").digest == in_force.digest
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]

    shipping.ship(run, EXAM, "second", tmp_path / "toy", even_if_worse=True)
    assert load(tmp_path / "toy").data_digest == "second"
