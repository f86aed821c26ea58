"""`hamgate calibrate` and what `hamgate check` says of bands, with the shipped bundle."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.bundles import remade
from worker import commands, loading
from worker.__main__ import main
from worker.commands import calibrating
from worker.settings import SHIPPED_BUNDLE, Settings

if TYPE_CHECKING:
    from pathlib import Path

LAWFUL = [f"ok see you at {hour} at number {door}, bring the papers" for hour in range(1, 13) for door in range(1, 41)]
SECRET = "ok see you at 7 at number 9, bring the papers"  # noqa: S105 # one of them


@pytest.fixture
def lawful(tmp_path: Path) -> Path:
    (tmp_path / "lawful.txt").write_text("\n".join(LAWFUL) + "\n\n")
    return tmp_path / "lawful.txt"


def answered(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["calibrate", *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_bands_are_fitted_that_hold_the_budget_and_can_be_set(lawful: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answered(capsys, str(lawful), "--flagged", "0.02", "--blocked", "0.01")

    assert found["texts"] == len(LAWFUL)
    assert found["settings"].keys() <= {"HAMGATE_FLAG_FROM", "HAMGATE_BLOCK_FROM", "HAMGATE_THRESHOLD"}
    made = {name.removeprefix("HAMGATE_").lower(): float(value) for name, value in found["settings"].items()}
    model = loading.model(Settings(**made))  # a start takes them
    scores = model.classifier.judge(model.classifier.prepare(LAWFUL)).score
    policy = model.verdicts.policy
    actions = [policy.action(score) for score in np.round(scores, 6)]
    assert sum(action != "deliver" for action in actions) <= 0.02 * len(LAWFUL)
    assert sum(action == "block" for action in actions) <= 0.01 * len(LAWFUL)


def test_too_few_texts_for_a_budget_are_said_and_nothing_is_set_for_it(
    lawful: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", str(lawful)]) == 0

    shown = capsys.readouterr().out
    assert f"too few texts for block at 0.001: {len(LAWFUL)}, at least 3,688 are needed" in shown
    assert "HAMGATE_FLAG_FROM=" in shown
    assert "HAMGATE_BLOCK_FROM=0" not in shown
    assert SECRET not in shown
    assert "papers" not in shown


def test_events_and_plain_lines_are_read_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.dumps({"id": at, "text": text}) for at, text in enumerate(LAWFUL)]
    (tmp_path / "lawful.jsonl").write_text("\n".join(lines))
    (tmp_path / "lawful.txt").write_text("\r\n".join(LAWFUL))

    assert answered(capsys, str(tmp_path / "lawful.jsonl")) == answered(capsys, str(tmp_path / "lawful.txt"))


def test_a_line_that_only_looks_like_json_is_a_text() -> None:
    lines = [b"{not json}\n", b'{"id": 1}\n', b"\xff\xfe\n", b"\n", b" \n", b'{"text": ""}\n']

    assert list(calibrating.texts(lines)) == ["{not json}", '{"id": 1}', "\ufffd\ufffd"]


def test_an_event_that_a_worker_repairs_is_read_as_the_worker_reads_it() -> None:
    lines = [
        b'\xef\xbb\xbf{"text": "first"}\n',
        b'{"text": "cut \\ud83d"}\n',
        b'{"text": "\xed\xa0\xbd\xed\xb8\x80"}\n',
    ]

    assert list(calibrating.texts(lines)) == ["first", "cut \ufffd", "\U0001f600"]


def test_standard_input_is_read_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(LAWFUL).encode())))

    assert answered(capsys, "-")["texts"] == len(LAWFUL)


@pytest.mark.parametrize("content", ["", "\n\n", "\u200b\n"])
def test_a_file_without_a_text_is_an_error(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "none.txt").write_text(content)

    assert main(["calibrate", str(tmp_path / "none.txt")]) == 1
    assert "no text with a score" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", str(tmp_path / "gone.txt")]) == 1
    assert "gone.txt" in capsys.readouterr().err


@pytest.mark.parametrize("budgets", [("0", "0"), ("0.01", "0.02"), ("1", "0.1"), ("0.01", "-1")])
def test_budgets_that_make_no_sense_are_refused(
    budgets: tuple[str, str], lawful: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", str(lawful), f"--flagged={budgets[0]}", f"--blocked={budgets[1]}"]) == 2
    assert "0 < blocked <= flagged < 1" in capsys.readouterr().err


def test_what_is_never_blocked_takes_nothing_of_the_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codes = [f"Your verification code is {code}. Do not share it." for code in range(100_000, 100_020)]
    (tmp_path / "lawful.txt").write_text("\n".join(LAWFUL + codes))

    found = answered(capsys, str(tmp_path / "lawful.txt"), "--blocked", "0.01")

    assert found["flags"] == {"one-time-code": 20}
    assert found["block"]["threshold"] <= found["flag"]["threshold"]


def said(settings: Settings) -> list[tuple[str, str | None]]:
    return list(commands._check_model(settings))


def test_check_says_what_each_band_takes_of_the_evaluation(tmp_path: Path) -> None:
    quality = {"scores": {"bounds": [0.3, 0.9], "shares": [0.8, 0.15, 0.05]}}
    folder = remade(tmp_path / "known", SHIPPED_BUNDLE, quality=quality)

    [_, (bands, trouble), *_] = said(Settings(bundle=folder, flag_from=0.3, block_from=0.9))

    assert trouble is None
    assert bands == "primary bands (of the bundle's evaluation 80.0% delivered, 15.0% flagged, 5.0% blocked)"


def test_check_refuses_a_band_that_no_score_reaches_by_its_setting() -> None:
    [_, _, (name, trouble)] = said(Settings(block_from=0.9999))

    assert name == "primary bands"
    assert trouble is not None
    assert trouble.startswith("HAMGATE_BLOCK_FROM 0.9999: no score reaches it")


def test_check_has_nothing_against_a_band_that_says_that_it_blocks_nothing() -> None:
    [_, (bands, trouble)] = said(Settings(block_from=1))

    assert trouble is None
    assert bands.endswith("0.0% blocked)")


def test_a_bundles_bands_are_those_that_it_is_run_with(tmp_path: Path) -> None:
    folder = remade(tmp_path / "banded", SHIPPED_BUNDLE, bands={"flag_from": 0.3, "block_from": 0.9})

    banded = loading.model(Settings(bundle=folder)).verdicts.policy.banded

    assert (banded.flag_from, banded.block_from) == (0.3, 0.9)


def test_a_bundle_without_bands_is_run_as_before(tmp_path: Path) -> None:
    model = loading.model(Settings(bundle=remade(tmp_path / "plain", SHIPPED_BUNDLE, bands=None)))

    banded = model.verdicts.policy.banded
    assert banded.flag_from == banded.threshold == banded.block_from == model.classifier.bundle.threshold
