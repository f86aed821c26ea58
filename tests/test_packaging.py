"""The installed package: the three packages and nothing else, from a lock that holds on any site."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    return zipfile.ZipFile(next(folder.glob("hamgate-*.whl")))


def test_the_wheel_holds_the_three_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" not in name}

    assert tops == {"worker", "training", "console"}


def test_the_wheel_is_typed_and_has_its_recipes_and_licence(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())

    assert {"worker/py.typed", "training/py.typed", "training/recipes/seed.toml", "training/recipes/nano.toml"} <= names
    assert {f"console/{name}" for name in ("py.typed", "templates/base.html", "static/live.js")} <= names
    assert {f"console/static/vendor/uplot/{name}" for name in ("uPlot.iife.min.js", "LICENSE")} <= names
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_wheel_brings_the_command_and_cannot_be_uploaded(wheel: zipfile.ZipFile) -> None:
    [entry_points] = [wheel.read(name).decode() for name in wheel.namelist() if name.endswith("entry_points.txt")]
    [metadata] = [wheel.read(name).decode() for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]

    assert "hamgate = worker.__main__:main" in entry_points
    assert "Classifier: Private :: Do Not Upload" in metadata


def test_every_dependency_is_locked_with_a_hash() -> None:
    locked = dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", LOCK, re.MULTILINE))
    wanted = PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"]

    missing = {re.split(r"[<>=\[]", name)[0].lower() for name in wanted} - set(locked)

    assert missing == set()
    for requirement in re.split(r"\n(?=[a-z0-9])", LOCK)[1:]:
        assert "--hash=sha256:" in requirement, requirement.split()[0]


def test_the_image_has_what_the_console_and_its_database_need_at_the_locked_versions() -> None:
    image = (ROOT / "deploy" / "worker.lock").read_text()
    locked, its = (dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", text, re.MULTILINE)) for text in (LOCK, image))
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = {re.split(r"[<>=\[]", name)[0].lower() for extra in ("console", "postgres") for name in extras[extra]}

    assert {"cryptography", "fastapi", "psycopg"} <= wanted <= set(its)
    assert {name: version for name, version in its.items() if locked.get(name) != version} == {}
    assert "://" not in image


def test_the_lock_names_no_address() -> None:
    assert "://" not in LOCK
    assert "://" not in (ROOT / "deploy" / "uv.lock").read_text()


@pytest.mark.parametrize(
    ("door", "module"), [("worker", "torch"), ("worker", "kafka"), ("worker", "prometheus_client")]
)
def test_heavy_imports_come_by_their_own_door_only(door: str, module: str) -> None:
    doors = {"torch": "engine/", "kafka": "broker/", "prometheus_client": "metrics/"}
    importing = re.compile(rf"^\s*(?:from|import) {module}\b", re.MULTILINE)

    outside = [
        str(path.relative_to(ROOT / door))
        for path in (ROOT / door).rglob("*.py")
        if importing.search(path.read_text()) and not str(path.relative_to(ROOT / door)).startswith(doors[module])
    ]

    assert outside == []


def test_the_worker_never_imports_training() -> None:
    importing = re.compile(r"^\s*(?:from|import) training\b", re.MULTILINE)

    assert [path.name for path in (ROOT / "worker").rglob("*.py") if importing.search(path.read_text())] == []
