"""A checkpoint outlives a crash and a full disk: the one before it is kept, and taken where the last is no good."""

from __future__ import annotations

import contextlib
import os
import random
import resource
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors import SafetensorError

from training import commands
from training.__main__ import main
from training.fit import checkpoint
from training.fit.checkpoint import CheckpointError, TrainingState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def disk_that_takes(size: int) -> Iterator[None]:
    """Refuse files beyond so many bytes, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def state(value: float, size: int = 1000) -> TrainingState:
    weights = torch.full((size,), value, requires_grad=True)
    optimizer = torch.optim.AdamW([weights])
    weights.grad = torch.ones(size)
    optimizer.step()
    with torch.no_grad():
        weights.fill_(value)
    return TrainingState({"weights": weights}, {}, optimizer)


def file(folder: Path) -> Path:
    return folder / "checkpoint" / "state.safetensors"


@pytest.mark.parametrize("cut", [0, 7, 2000, -1])
def test_a_checkpoint_that_was_cut_is_not_taken_and_the_one_before_it_is(
    cut: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state(1.0).save(tmp_path, 50)
    state(2.0).save(tmp_path, 100)
    os.truncate(file(tmp_path), cut if cut >= 0 else file(tmp_path).stat().st_size - 1)
    fresh = state(0.0)

    assert fresh.resume(tmp_path) == 50

    assert fresh.weights["weights"][0] == 1.0
    (said,) = caplog.messages
    assert "goes on from step 50" in said


def test_a_crash_between_two_renames_loses_no_checkpoint(tmp_path: Path) -> None:
    state(1.0).save(tmp_path, 50)
    state(2.0).save(tmp_path, 100)
    file(tmp_path).unlink()

    assert state(0.0).resume(tmp_path) == 50


def test_where_no_checkpoint_can_be_read_the_remedy_is_said(tmp_path: Path) -> None:
    state(1.0).save(tmp_path, 50)
    os.truncate(file(tmp_path), 100)

    with pytest.raises(
        CheckpointError, match=r"checkpoint: no state in it can be read .*remove that folder"
    ) as refused:
        state(0.0).resume(tmp_path)

    assert isinstance(refused.value, commands.EXPECTED)


def test_one_of_other_weights_changes_nothing_and_is_refused(tmp_path: Path) -> None:
    state(1.0, size=10).save(tmp_path, 50)
    fresh = state(0.0)

    with pytest.raises(CheckpointError):
        fresh.resume(tmp_path)

    assert fresh.weights["weights"][0] == 0.0


def test_a_full_disk_leaves_the_checkpoint_before_and_no_part_of_the_new_one(tmp_path: Path) -> None:
    state(1.0).save(tmp_path, 50)

    with disk_that_takes(5000), pytest.raises((OSError, SafetensorError), match="too large"):
        state(2.0).save(tmp_path, 100)

    assert [path.name for path in tmp_path.rglob("*")] == ["checkpoint", "state.safetensors"]
    assert state(0.0).resume(tmp_path) == 50


@pytest.mark.parametrize(
    "problem",
    [
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        Exception("No space left on device (os error 28)"),
        OSError(28, "No space left on device"),
    ],
    ids=["safetensors", "tokenizers", "python"],
)
def test_a_full_disk_is_said_in_a_line_whichever_library_meets_it(
    problem: Exception, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(_: object) -> int:
        raise problem

    monkeypatch.setattr(commands, "COMMANDS", {"train": fill})

    assert main(["train", "run"]) == 1
    said = capsys.readouterr().err
    assert "No space left on device" in said
    assert "the same command goes on from the last checkpoint" in said
    assert said.count("\n") == 1


def test_a_damaged_file_of_weights_is_said_in_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def meet(_: object) -> int:
        message = "Error while deserializing header: header too small"
        raise SafetensorError(message)

    monkeypatch.setattr(commands, "COMMANDS", {"export": meet})

    assert main(["export", "run", "out"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_rows_that_do_not_fit_the_disk_leave_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = ("".join(random.Random(at).choices("abcdefghijklmnopqrstuvwxyz ", k=60)) for at in range(300))
    lines = [f"{'ham' if at % 3 else 'spam'}\t{text}\n" for at, text in enumerate(texts)]
    (tmp_path / "rows.tsv").write_text("".join(lines))

    with disk_that_takes(5000):
        assert main(["prepare", "--data", str(tmp_path / "rows.tsv"), "--out", str(tmp_path / "out")]) == 1

    assert "File too large" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_a_checkpoint_is_forgotten_with_the_one_before(tmp_path: Path) -> None:
    state(1.0).save(tmp_path, 50)
    state(2.0).save(tmp_path, 100)

    checkpoint.forget(tmp_path)

    assert list(tmp_path.iterdir()) == []
