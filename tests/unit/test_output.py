"""What standard output cannot take ends no command in a traceback: letters, a full disk, a reader who has gone."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from training import commands
from training.__main__ import main
from training.fit import train
from training.fit.screen import console
from training.judge import findings

if TYPE_CHECKING:
    import argparse
    from pathlib import Path


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_letters_that_the_terminal_cannot_show_are_escaped(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def show(_: argparse.Namespace) -> int:
        console.print("£900 наш 😀", markup=False)
        return 0

    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    monkeypatch.setattr(commands, "COMMANDS", {"prepare": show})

    assert main(["prepare"]) == 0

    shown = written.getvalue().decode(encoding)
    assert shown.endswith(" \\u043d\\u0430\\u0448 \\U0001f600\n")


@pytest.mark.parametrize(
    "command",
    [
        "worker predict hello",
        "worker print-settings",
        pytest.param("training prepare --data rows.tsv", marks=pytest.mark.long),
    ],
)
def test_a_full_disk_behind_standard_output_is_said_in_a_line(command: str, tmp_path: Path) -> None:
    lines = [f"{'ham' if at % 3 else 'spam'}\tmessage {at:b} of {at * 7919}\n" for at in range(90)]
    (tmp_path / "rows.tsv").write_text("".join(lines))
    with open("/dev/full", "w") as full:  # noqa: PTH123 -- a device
        done = subprocess.run(
            [sys.executable, "-m", *command.split()], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True,
            check=False, timeout=120,
        )  # fmt: skip

    assert done.returncode == 1
    assert "standard output: No space left on device" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.long
def test_a_reader_who_has_gone_is_no_error(tmp_path: Path) -> None:
    lines = [f"{'ham' if at % 3 else 'spam'}\tmessage {at:b} of {at * 7919}\n" for at in range(90)]
    (tmp_path / "rows.tsv").write_text("".join(lines))
    command = f"{sys.executable} -m training prepare --data rows.tsv | sleep 0; echo ${{PIPESTATUS[0]}}"

    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=True, timeout=120, cwd=tmp_path
    )

    assert (done.stdout, done.stderr) == ("141\n", "")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    capsys.readouterr()
    assert main([str(each) for each in arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"{arguments[0]}: ")
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize("name", ["judge-nano.json", "traffic-nano.json"])
@pytest.mark.parametrize(
    "content",
    ['{"a": 1}', "[1]", "null", '[{"name": 1}]', '[{"name": "judge/nano/f1-mean"}]', '"\\ud800"', "\ufeff[]", "#!"],
)
def test_a_file_that_holds_no_results_is_refused_by_name(
    name: str, content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(content)

    assert name in refused(capsys, "report", tmp_path / name)


def test_a_results_file_that_lacks_a_figure_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"name": "judge/nano/f1-mean", "value": 0.9, "range": "0.8 to 0.95", "extra": {}}
    (tmp_path / "judge-nano.json").write_text(json.dumps([row]))

    assert "judge-nano.json: " in refused(capsys, "report", tmp_path / "judge-nano.json")


def test_a_figure_that_is_no_number_is_left_out_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], nano_results: Path
) -> None:
    rows = json.loads(nano_results.read_text())
    bad = next(row for row in rows if row["name"].startswith("judge/nano/slice/") and row["name"].endswith("/recall"))
    bad["value"] = float("nan")
    (tmp_path / "judge-nano.json").write_text(json.dumps(rows))

    assert main(["report", str(tmp_path / "judge-nano.json")]) == 0

    assert "1 figures are no numbers, and left out" in capsys.readouterr().out
    assert "nan" not in (tmp_path / "judge-nano.md").read_text().replace("nano", "")


@pytest.fixture
def nano_results() -> Path:
    from training.results import RESULTS  # noqa: PLC0415 -- only here

    return RESULTS / "judge-nano-amd-epyc-2-cores.json"


@pytest.mark.parametrize(
    "rows",
    ["ham\thello there\nspam\twin a prize\n", "spam\t\u200b\nham\t\u2060\n"],
    ids=["two", "nothing-to-read"],
)
def test_rows_that_leave_nothing_to_fit_are_refused(
    rows: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.tsv").write_text(rows, encoding="utf-8")

    said = refused(capsys, "prepare", "--data", tmp_path / "rows.tsv", "--out", tmp_path / "out")

    assert "both kinds are needed" in said or "no rows left" in said
    assert not (tmp_path / "out").exists()


def test_tensorboard_is_asked_for_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(_: object) -> None:
        pytest.fail("data were read")

    monkeypatch.setattr("training.fit.train.is_tensorboard_available", lambda: False)
    monkeypatch.setattr("training.judge.judging.asked", read)

    said = refused(capsys, "train", tmp_path / "run", "--tensorboard", tmp_path / "board")

    assert "pip install tensorboardX" in said
    assert not (tmp_path / "run").exists()


def test_tensorboards_files_are_written_by_what_the_lock_has(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")

    accelerator = train._accelerator(tmp_path)
    accelerator.log({"loss": 0.5}, 1)
    accelerator.end_training()

    assert list(tmp_path.rglob("events.out.tfevents.*"))


def test_nan_figures_are_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = findings.NamedFigure("slice/none/recall", findings.metrics.share(0, 0), {})
    good = findings.NamedFigure("f1-mean", findings.metrics.share(1, 2), {})
    monkeypatch.setattr(findings, "findings", lambda _: [good, figure])
    monkeypatch.setattr(findings, "_where", lambda _: "a cpu")

    written = findings.record([], "toy", tmp_path)

    assert [row["name"] for row in json.loads(written.read_text())] == ["judge/toy/f1-mean"]
