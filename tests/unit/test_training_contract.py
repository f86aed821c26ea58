"""Whatever way a bundle is made, it carries everything that the worker and its operators read in it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.toy_recipe import TOY
from tests.unit.test_training_run import rows
from training import commands
from training.bundle import export
from training.data import mixture, taught
from training.data.mixture import MixtureParts, Sourced
from training.judge import shipping
from training.judge.evaluate import Exam, Parts
from worker import commands as worker_commands
from worker.model.bundle import Base, Bundle, load
from worker.rollout import drift
from worker.rollout.budgets import ScoreSpread
from worker.rollout.drift import Reference
from worker.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MEASURED = ("split", "held-out", "test-f1", "test-auc", "test-ece")
FIT, CALIBRATION, TEST = rows(120, 1), rows(60, 2), rows(90, 4)


def sourced(source: list) -> tuple[Sourced, ...]:  # type: ignore[type-arg]
    return tuple(Sourced(row.text, row.label, row.cluster, source="uci", truth=row.label) for row in source)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run of a toy, made by the way that makes nano, and nano's bundle of it."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drift, "LEAST", 80)
        patch.setattr(mixture, "read", tuple)
        patch.setattr(mixture, "cut", lambda *_: MixtureParts(*map(sourced, (FIT, CALIBRATION, TEST))))
        patch.setattr(taught, "soften", lambda given: given)
        patch.setattr(taught, "unlabelled", tuple)
        patch.setattr(export, "missed", lambda _: [])
        places = argparse.Namespace(run=folder / "run", out=folder / "nano")
        assert commands._of_mixture(TOY, places) == 0
    return folder


def nano(made: Path, _: Path) -> Bundle:
    return load(made / "nano")


def exported(made: Path, out: Path) -> Bundle:
    exam = Exam(0, Parts(tuple(FIT), tuple(CALIBRATION), tuple(TEST)), ("ham", "spam"))
    return shipping.ship(made / "run", exam, "digest", out)


def exported_of_few(made: Path, out: Path) -> Bundle:
    """The test rows alone are fewer than what is usual can be told from."""
    exam = Exam(0, Parts(tuple(FIT), tuple(CALIBRATION), tuple(TEST[:60])), ("ham", "spam"))
    return shipping.ship(made / "run", exam, "digest", out)


def imported(made: Path, out: Path) -> Bundle:
    run = load(made / "nano")
    base = out.with_name("base")
    for part in ("base", "tokenizer"):
        for file in (run.folder / part).iterdir():
            base.mkdir(exist_ok=True)
            (base / file.name).write_bytes(file.read_bytes())
    seen = {"quantisation": "nf4", "double_quantisation": True}
    origin = export.Origin("toy", {"name": "imported", **seen}, "", Base(str(base)), max_tokens=48)
    return export.import_adapter(run.adapter, origin, out, calibration=[*CALIBRATION, *TEST])


WAYS: dict[str, tuple[Callable[[Path, Path], Bundle], tuple[str, ...]]] = {
    "nano": (nano, MEASURED),
    "export": (exported, MEASURED),
    "export, few rows": (exported_of_few, MEASURED),
    "import": (imported, ()),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_bundle_of_every_way_carries_everything(
    way: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift, "LEAST", 80)
    make, measured = WAYS[way]

    bundle = make(made, tmp_path / "bundle")

    empty = [
        name
        for name, value in msgspec.structs.asdict(bundle).items()
        if value in ("", (), {}, None) and name not in {"by_language", "data_digest"}
    ]
    assert not empty
    assert bundle.calibration != export._PLAIN
    assert len(bundle.canaries) == len(export.CANARIES)
    assert ScoreSpread.read(bundle.quality)
    assert Reference.read(bundle.quality)
    assert bundle.quality["highest-score"] == bundle.highest_score < 1
    assert {"lawful-flagged", "lawful-blocked", *measured} <= bundle.quality.keys()
    assert bool(bundle.data_digest) == bool(measured)


def test_a_bundle_without_drift_monitoring_is_warned_of_where_it_is_made_and_where_it_is_checked(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = exported(made, tmp_path / "bundle")  # of fewer rows than are needed

    commands.describe(bundle)
    assert "no drift monitoring: " in capsys.readouterr().out
    said = dict(worker_commands._check_model(Settings(bundle=bundle.folder)))
    assert isinstance(said["primary drift"], worker_commands._Caution)
