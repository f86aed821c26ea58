"""The registry's file is taken up when it has changed and held still; a bad change changes nothing."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from worker.metrics import Metrics
from worker.model.normalise import normalise
from worker.policy.registry.reading import RegistryError
from worker.policy.registry.watching import RegistryWatch

if TYPE_CHECKING:
    from pathlib import Path

ONE = '[[brand]]\nname = "Pakketto"\nsenders = ["PAKKETTO", "+441632960123"]\n'
TWO = ONE + '[[brand]]\nname = "Northwind"\nhosts = ["northwind.example"]\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "registry.toml"
    file.write_text(ONE)
    return file


def names(watch: RegistryWatch) -> list[str]:
    return [each.name for each in watch.rules.latest.brands]


def value(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(name)


def test_a_change_is_in_force_once_it_has_held_still(file: Path) -> None:
    metrics = Metrics()
    watch = RegistryWatch.of(file, metrics, normalise)
    assert value(metrics, "hamgate_registry_brands") == 1

    file.write_text(TWO[:-20])
    watch.look()
    file.write_text(TWO)
    watch.look()
    assert names(watch) == ["Pakketto"]
    watch.look()

    assert names(watch) == ["Pakketto", "Northwind"]
    assert value(metrics, "hamgate_registry_brands") == 2
    assert value(metrics, "hamgate_registry_refused_total") == 0


@pytest.mark.parametrize("bad", ["", "[[brand]\n", ONE + 'hosts = ["com"]\n', None])
def test_a_bad_change_is_refused_and_told_once_and_the_former_stays(file: Path, bad: str | None) -> None:
    metrics = Metrics()
    watch = RegistryWatch.of(file, metrics, normalise)

    with capture_logs() as told:
        if bad is None:
            file.unlink()
        else:
            file.write_text(bad)
        for _ in range(5):
            watch.look()
        assert names(watch) == ["Pakketto"]
        assert value(metrics, "hamgate_registry_refused_total") == 1
        file.write_text(TWO)
        for _ in range(5):
            watch.look()

    assert [each["event"] for each in told] == ["registry refused; the one in force stays", "registry in force"]
    assert "registry.toml" in told[0]["cause"]
    assert "441632960123" not in str(told)
    assert names(watch) == ["Pakketto", "Northwind"]
    assert value(metrics, "hamgate_registry_refused_total") == 1


def test_a_link_that_points_elsewhere_is_a_change(file: Path, tmp_path: Path) -> None:
    (tmp_path / "two.toml").write_text(TWO)
    link = tmp_path / "current.toml"
    link.symlink_to(file)
    watch = RegistryWatch.of(link, Metrics(), normalise)

    (tmp_path / "new").symlink_to(tmp_path / "two.toml")
    os.replace(tmp_path / "new", link)  # noqa: PTH105 as Kubernetes does with a ConfigMap
    watch.look()
    watch.look()

    assert len(names(watch)) == 2


def test_on_its_own_thread_it_takes_up_a_change_within_two_seconds_and_stops(file: Path) -> None:
    watch = RegistryWatch.of(file, Metrics(), normalise)

    def steps() -> None:
        while watch.step():
            pass

    thread = threading.Thread(target=steps)
    thread.start()
    file.write_text(TWO)
    changed = time.monotonic()
    while len(names(watch)) < 2 and time.monotonic() < changed + 30:
        time.sleep(0.01)
    taken = time.monotonic() - changed
    watch.stop()
    thread.join(10)

    assert taken < 2
    assert not thread.is_alive()


def test_a_bad_file_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[[brand]]\n")

    with pytest.raises(RegistryError, match=r"bad.toml: line 1: name: is missing"):
        RegistryWatch.of(tmp_path / "bad.toml", Metrics(), normalise)
