"""The training command line refuses in one line that names the error and its remedy."""

from __future__ import annotations

import logging
import random
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.bundles import NANO, forget_labels
from training import commands
from training.__main__ import main
from training.data import split as data
from training.fit import recipe, runs
from training.judge import evaluate, judging
from training.judge.evaluate import Exam
from worker.model.bundle import Bundle

if TYPE_CHECKING:
    from collections.abc import Callable

WORDS = ("alpha", "bravo", "delta", "hotel", "india", "kilo", "lima", "metro", "oscar", "papa", "romeo", "tango")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path, status: int = 2) -> str:
    """Return the text of a refusal, one line that begins with the command."""
    capsys.readouterr()
    assert main([str(each) for each in arguments]) == status
    said = capsys.readouterr().err
    assert said.startswith(f"{arguments[0]}: ")
    assert said.count("\n") == 1
    return said


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Messages without near-duplicates among them."""
    dice = random.Random(0)
    path = tmp_path_factory.mktemp("data") / "messages.tsv"
    lines = [f"{('ham', 'ham', 'spam')[at % 3]}\t{' '.join(dice.sample(WORDS, 6))} {at}\n" for at in range(120)]
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="module")
def run(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of split 3, as far as it knows itself: it has learnt nothing yet."""
    parts = evaluate.cut(data.prepare(collection).rows, 3)
    folder = tmp_path_factory.mktemp("run")
    runs.begin(folder, runs.Run(recipe.load(Path("nano")), 3, data.digest(parts.fit)))
    return folder


def test_an_export_takes_recipe_and_split_from_the_run_and_is_not_told_otherwise(
    run: Path, collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export = ("export", run, tmp_path / "out", "--data", collection)

    assert "trained by another recipe than seed" in refused(capsys, *export, "--recipe", "seed")
    assert "trained on split 3, not on 0" in refused(capsys, *export, "--seed", "0")
    assert "trained on other rows than these" in refused(capsys, "export", run, tmp_path / "out")
    assert "has its training ended?" in refused(capsys, *export)
    assert "has its training ended?" in refused(capsys, *export, "--recipe", "nano", "--seed", "3")


def test_an_export_takes_labels_from_the_run_and_is_not_told_another_order(
    collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    three = tmp_path / "three.tsv"
    three.write_text(collection.read_text().replace("spam\t", "smishing\t", 20))
    labels = ("ham", "spam", "smishing")
    parts = evaluate.cut(data.prepare(three, labels=labels).rows, 3)
    runs.begin(tmp_path / "run", runs.Run(recipe.load(Path("nano")), 3, data.digest(parts.fit), labels))
    export = ("export", tmp_path / "run", tmp_path / "out", "--data", three)

    said = refused(capsys, *export, "--labels", "ham,smishing,spam")

    assert "trained on the labels ham,spam,smishing, in this order, not on ham,smishing,spam" in said
    assert "has its training ended?" in refused(capsys, *export)


@pytest.fixture(scope="module")
def shipped() -> judging.Asked:
    """The shipped rows, read once: that takes seconds."""
    return judging.Asked(data.prepare(), data.LABELS, ())


def test_a_bundle_is_not_judged_on_rows_that_it_has_learnt_from(
    shipped: judging.Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "asked", lambda _: shipped)
    reason = "made of the rows of split 0, so it has learnt most of split 3's test rows"

    assert reason in refused(capsys, "evaluate", "--bundle", NANO, "--seed", "3", "--runs", tmp_path)
    assert reason in refused(capsys, "compare", NANO, NANO, "--seed", "3")


def test_a_bundle_is_judged_on_its_own_split_in_silence_and_on_rows_of_unknown_kin_with_a_warning(
    shipped: judging.Asked, collection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nano, own, other = Bundle.load(NANO), shipped.prepared, data.prepare(collection)

    judging.require_new(nano, own, Exam(0, evaluate.cut(own.rows, 0), data.LABELS))
    assert not capsys.readouterr().out
    judging.require_new(nano, other, Exam(0, evaluate.cut(other.rows, 0), data.LABELS))
    assert "nothing in it says that it was made without these rows" in capsys.readouterr().out


def test_a_folder_without_a_run_is_not_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no run in it" in refused(capsys, "export", tmp_path, tmp_path / "out")
    (tmp_path / "recipe.json").write_text('{"name": "a recipe of something else"}')
    assert "recipe.json: " in refused(capsys, "export", tmp_path, tmp_path / "out")


def test_what_is_counted_is_at_least_one(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["import", "adapter", "out", "--base", "b", "--max-tokens", "0"], ["evaluate", "--splits", "0"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert f"argument {arguments[-2]}: invalid _at_least_one value: '0'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["train", "run"], "train: stopped; the same command goes on from the last checkpoint\n"),
        (["prepare"], "prepare: stopped\n"),
    ],
)
def test_ctrl_c_promises_to_go_on_only_where_there_is_a_checkpoint(
    command: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "COMMANDS", {command[0]: stop})

    assert main(command) == 130
    assert capsys.readouterr().err == said


def test_a_library_that_is_missing_is_told_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("training.commands")
    monkeypatch.setitem(sys.modules, "training.commands", None)

    with pytest.raises(ImportError, match="commands"):
        main(["prepare"])


def test_what_the_system_refuses_is_said_in_a_line(
    collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()

    said = refused(capsys, "prepare", "--data", collection, "--out", tmp_path / "file" / "under", status=1)

    assert str(tmp_path / "file") in said
    assert "Not a directory" in said


def test_rows_are_written_into_a_folder_all_three_or_none(
    collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("precious")
    prepare = ("prepare", "--data", collection, "--out")

    assert "a file, where three are to be written" in refused(capsys, *prepare, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "precious"
    assert main([str(each) for each in (*prepare, tmp_path / "rows")]) == 0
    written = {path.name for path in (tmp_path / "rows").iterdir()}
    assert written == {"fit.tsv", "calibration.tsv", "test.tsv", "data.json"}


def test_labels_and_splits_that_nothing_can_be_judged_by_are_refused_by_name(
    collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "few.tsv").write_text("ham\thello there\n")

    assert "--labels 'spam,ham': labels must be 'ham'" in refused(
        capsys, "prepare", "--data", collection, "--labels", "spam,ham"
    )
    assert "0 spam among 0 train rows" in refused(
        capsys, "evaluate", "--bundle", NANO, "--data", tmp_path / "few.tsv", "--runs", tmp_path / "runs"
    )
    assert not (tmp_path / "runs").exists()


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of nano's, beside its base and its tokenizer in one folder."""
    folder = tmp_path_factory.mktemp("adapter")
    shutil.copytree(NANO / "adapter", folder / "adapter")
    shutil.copytree(NANO / "base", folder / "base")
    shutil.copytree(NANO / "tokenizer", folder / "base", dirs_exist_ok=True)
    forget_labels(folder / "base")
    return folder


@pytest.mark.parametrize(
    ("spoil", "options", "named"),
    [
        (lambda base: (base / "config.json").write_text("{"), [], r"its config\.json cannot be read .*valid JSON"),
        (lambda base: (base / "config.json").write_text("[]"), [], r"its config\.json cannot be read"),
        (lambda base: (base / "config.json").unlink(), [], r"its config\.json cannot be read"),
        (lambda base: (base / "tokenizer.json").unlink(), [], r"no tokenizer can be read there"),
        (lambda base: (base / "tokenizer.json").write_text("{"), [], r"no tokenizer can be read there"),
        (lambda base: (base / "model.safetensors").unlink(), [], r"no safetensors file in it"),
        (lambda base: (base / "model.safetensors").write_bytes(b"no"), [], r"model\.safetensors: not whole"),
        (lambda _: None, ["--name", "a b/c"], r"name must be letters.*\(it is 'a b/c'"),
        (lambda _: None, ["--labels", "spam,junk"], r"labels must be 'ham' and at least one more"),
        (lambda _: None, ["--labels", "ham,"], r"labels must be different and not empty"),
        (lambda _: None, ["--revision", "main"], r"a folder, which has no revision 'main'"),
    ],
    ids=range(11),
)
def test_an_import_of_what_does_not_fit_names_it_and_leaves_nothing(
    adapter: Path, spoil: Callable[[Path], object], options: list[str], named: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shutil.copytree(adapter / "base", tmp_path / "base")
    spoil(tmp_path / "base")

    said = refused(
        capsys, "import", adapter / "adapter", tmp_path / "out" / "bundle", "--base", tmp_path / "base", *options
    )

    assert re.search(named, said)
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_a_library_does_not_speak_of_kernels_before_each_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "--data", "nosuch.tsv"]) == 2

    assert "nosuch.tsv: cannot be read (No such file" in capsys.readouterr().err
    assert not logging.getLogger("bitsandbytes.backends.cpu.ops").isEnabledFor(logging.WARNING)
