"""The pins: every image and tool that this project takes from elsewhere has a version, listed in one place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from deploy import pins

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).resolve().parents[2]
# Releases from before these have known holes, or are out of support (docs/operations.md, Upgrade).
OLDEST = {
    "redpandadata/redpanda": (26, 2), "redpandadata/console": (3, 14), "prom/prometheus": (3, 16),
    "prom/alertmanager": (0, 35), "grafana/grafana": (13, 2, 3), "python": (3, 12, 14),
}  # fmt: skip
DIGEST = "sha256:" + "a" * 64


def test_every_image_of_another_is_listed_once_with_a_version() -> None:
    images = [pin for pin in pins.listed() if pin.kind == "image"]

    assert {pin.name for pin in images} == set(OLDEST)
    assert len({pin.name for pin in images}) == len(images)
    for pin in images:
        assert tuple(map(int, re.findall(r"\d+", pin.version))) >= OLDEST[pin.name], pin


def test_nothing_that_compose_or_a_dockerfile_takes_is_missing_from_the_list() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"].values()
    taken = {service["image"] for service in services if not service["image"].startswith("hamgate:")}
    bases = set(re.findall(r"^FROM (\S+)", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE))

    assert taken <= {pin.reference for pin in pins.listed()}
    assert {base for base in bases if ":" in base or "$" in base} == {"${PYTHON_IMAGE}"}


def test_tools_are_listed_beside_the_images() -> None:
    assert {"compose", "kustomize", "kubeconform"} <= {pin.name for pin in pins.listed() if pin.kind == "tool"}


def test_a_digest_that_a_registry_gives_is_written_beside_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in pins.HOLDERS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    monkeypatch.setattr(pins, "ROOT", tmp_path)

    pins.lock(lambda reference: DIGEST if "grafana" in reference or "python" in reference else None)
    pins.lock(lambda _: None)  # asked again, without an answer: what was written stays

    locked = {pin.name: pin.digest for pin in pins.listed() if pin.kind == "image"}
    assert locked["grafana/grafana"] == locked["python"] == DIGEST
    assert locked["redpandadata/redpanda"] == ""
    compose = yaml.safe_load((tmp_path / "docker-compose.yml").read_text())
    assert compose["services"]["grafana"]["image"].endswith(f"@{DIGEST}")


def test_a_list_without_digests_says_how_to_get_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert pins.main([]) == 0

    said = capsys.readouterr()
    assert "grafana/grafana" in said.out
    missing = sum(not pin.digest for pin in pins.listed() if pin.kind == "image")
    assert (f"{missing} without a digest" in said.err) == bool(missing)
