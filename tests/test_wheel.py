"""The wheel, installed in an environment of its own and used outside the checkout: all that it needs is in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests import toy_messages

ROOT = Path(__file__).resolve().parent.parent
RECIPE = """
name = "toy"
quantisation = "none"
base = {id = "hamgate/toy"}
pretraining = {vocabulary = 400, width = 32, layers = 1, heads = 2, key_value_heads = 1, intermediate = 32, \
epochs = 12, learning_rate = 3e-3, warmup_steps = 5}
lora = {r = 2, alpha = 2, dropout = 0.0, targets = ["q_proj"]}
fit = {epochs = 1, learning_rate = 5e-3, batch = 32, max_tokens = 32}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside the checkout with toy data, a toy recipe, and an environment that has the wheel."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    venv.create(folder / "venv", symlinks=True)
    [packages] = (folder / "venv").glob("lib/python*/site-packages")
    # A plain path: the .pth files of that folder, the editable install's among them, are not followed.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    [wheel] = folder.glob("hamgate-*.whl")
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "venv" / "bin" / "python"), "install", "--quiet"]
    subprocess.run(
        [*pip, "--no-deps", "--no-index", "--ignore-installed", "--no-warn-script-location", str(wheel)],
        cwd=folder, env=alone(), check=True,
    )  # fmt: skip
    (folder / "messages.tsv").write_text(toy_messages.tsv(180))
    (folder / "toy.toml").write_text(RECIPE)
    (folder / "grid.toml").write_text(f'recipe = "{folder / "toy.toml"}"\n[grid]\n"pretraining.epochs" = [1]\n')
    return folder


def alone() -> dict[str, str]:
    """The environment of the programs, without a word on the checkout."""
    kept = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "SOURCE_COMMIT"}}
    return {name: value for name, value in kept.items() if not name.startswith("HAMGATE_")} | {
        "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip


def said(place: Path, program: str, *arguments: str, status: int = 0) -> str:
    done = subprocess.run(
        [str(place / "venv" / "bin" / program), *arguments],
        cwd=place, env=alone(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == status, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def test_the_packages_are_the_wheels_own(place: Path) -> None:
    where = said(place, "python", "-c", "import training, worker; print(training.__file__, worker.__file__)").split()

    assert all(Path(path).is_relative_to(place) for path in where)


def test_a_text_is_judged_by_the_shipped_bundle(place: Path) -> None:
    assert said(place, "hamgate", "predict", "hello").startswith("ham ")


def test_a_check_finds_the_shipped_bundle_well_and_no_broker(place: Path) -> None:
    found = said(place, "hamgate", "check", "--brokers", "127.0.0.1:1", status=1).splitlines()

    assert [line for line in found if line.startswith("ok ") and "shipped/nano" in line]
    assert [line for line in found if line.startswith("FAIL")]


@pytest.mark.long
def test_the_shipped_collections_are_prepared(place: Path) -> None:
    assert "kept      5,130" in said(place, "python", "-m", "training", "prepare")


@pytest.mark.long
def test_a_recipe_is_evaluated_and_its_figures_lie_beside_its_runs(place: Path) -> None:
    toy = ("--recipe", "toy.toml", "--data", "messages.tsv", "--splits", "1")

    said(place, "python", "-m", "training", "evaluate", *toy)

    [written] = (place / "build" / "evaluate").glob("judge-toy-*.json")
    assert {row["name"] for row in json.loads(written.read_text())} >= {"judge/toy/f1-mean"}


@pytest.mark.long
def test_a_sweep_is_run_and_its_figures_go_where_it_is_told(place: Path) -> None:
    said(place, "python", "-m", "training", "sweep", "grid.toml", "--splits", "1", "--results", "figures")

    assert len(list((place / "figures").glob("sweep-toy-grid-*.json"))) == 1
