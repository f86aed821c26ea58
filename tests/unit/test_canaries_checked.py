"""`hamgate check` says of a bundle what was done with it, of the brokers what is wrong, and no more."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from tests.unit.test_classifier import WordEngine, bundle
from worker import app, loading
from worker.__main__ import main
from worker.model.bundle import Canary
from worker.model.classifier import Classifier
from worker.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

CANARIES = (Canary("hello", "ham"), Canary("win prize", "spam"))


def checked(
    canaries: tuple[Canary, ...], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, list[str]]:
    judge = Classifier(bundle(folder, canaries=canaries), WordEngine(2))
    monkeypatch.setattr(Classifier, "load", lambda *_, **__: judge)
    monkeypatch.setattr(app, "findings", lambda _: iter([("brokers", None)]))
    return main(["check"]), capsys.readouterr().out.splitlines()


def test_canaries_that_were_judged_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = checked(CANARIES, tmp_path, monkeypatch, capsys)

    assert status == 0
    assert [line[:4] for line in said] == ["ok  ", "ok  ", "warn", "ok  "]  # it has no reference for drift
    assert "2 canaries judged" in said[1]


def test_a_bundle_without_canaries_is_warned_of_and_called_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = checked((), tmp_path, monkeypatch, capsys)

    assert status == 0
    assert [line[:4] for line in said] == ["ok  ", "ok  ", "warn", "warn", "ok  "]
    assert "no canaries" in said[1]
    assert "it has no canaries, so this host cannot verify" in said[2]
    assert not any("canaries judged" in line for line in said)


def test_the_clients_own_words_do_not_stand_beside_the_findings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(_: Settings) -> Iterator[tuple[str, str]]:
        logging.getLogger("kafka.net.manager").error("Connection failed")
        yield "brokers", "no connection"

    monkeypatch.setattr(Classifier, "load", lambda *_, **__: Classifier(bundle(tmp_path), WordEngine(2)))
    monkeypatch.setattr(app, "findings", ask)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])

    status = main(["check"])

    said = capsys.readouterr()
    assert (status, said.err) == (1, "")
    assert said.out.endswith("FAIL brokers: no connection\n")


def test_a_worker_that_takes_a_bundle_without_canaries_warns_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Classifier, "load", lambda *_, **__: Classifier(bundle(tmp_path), WordEngine(2)))

    with capture_logs() as lines:
        loading.model(Settings())

    assert [(line["event"], line["log_level"]) for line in lines] == [("unverified", "warning")]
