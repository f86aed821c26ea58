"""Configurations on slices of train: every one on every split, none twice, the best first."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from training.__main__ import main
from training.data import split as data
from training.fit import recipe, runs
from training.fit.recipe import RecipeError
from training.judge import evaluate, sweep

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

GRID = 'recipe = "seed"\n[grid]\n"lora.r" = [4, 16]\n"fit.learning_rate" = [2e-4]\n'


def trials(folder: Path, splits: int = 2) -> list[sweep.Trial]:
    (folder / "grid.toml").write_text(GRID)
    return sweep.load(folder / "grid.toml", splits)[1]


def outcome(folder: Path, trial: sweep.Trial, f1: float) -> None:
    (folder / trial.name).mkdir()
    found = {"f1": f1, "attacked": 0.9, "blamed": 0.01, "parameters": 10**trial.chosen.lora.r, "seconds": 2.0}
    found |= {"peak_gib": None, "trained-on": "a GPU"}
    (folder / trial.name / "outcome.json").write_text(json.dumps(found))


def test_every_configuration_is_tried_on_every_split_with_the_grids_values(tmp_path: Path) -> None:
    found = trials(tmp_path)

    assert [(each.chosen.lora.r, each.seed) for each in found] == [(4, 0), (4, 1), (16, 0), (16, 1)]
    assert len({each.name for each in found}) == 4
    assert found[0].name == "r=4_learning_rate=0.0002-0"


def test_levers_are_pulled_one_at_a_time_beside_the_recipe_as_it_is(tmp_path: Path) -> None:
    text = 'recipe = "seed"\n[one]\n"lora.r" = [4, 64]\n"fit.augment" = [true]\n'
    (tmp_path / "one.toml").write_text(text)

    found = sweep.load(tmp_path / "one.toml", 1)[1]

    assert [each.configuration for each in found] == [sweep.UNCHANGED, "r=4", "r=64", "augment=True"]
    assert [(each.chosen.lora.r, each.chosen.fit.augment) for each in found] == [
        (16, False), (4, False), (64, False), (16, True),
    ]  # fmt: skip


def test_the_shipped_sweep_of_levers_can_be_read() -> None:
    name, found = sweep.load(recipe.RECIPES.parent / "sweeps" / "gemma.toml", 5)

    assert name == "gemma"
    assert len({trial.name for trial in found}) == len(found)


def test_a_sweeps_figures_are_written_with_their_splits_and_where_they_were_made(
    tmp_path: Path,
) -> None:
    found = trials(tmp_path)
    for trial, f1 in zip(found, (0.8, 0.82, 0.9, 0.92), strict=True):
        outcome(tmp_path, trial, f1)

    rows = json.loads(sweep.record(list(sweep.outcomes(found, tmp_path)), "seed", "grid", tmp_path).read_text())

    best = rows[0]
    assert best["name"] == f"sweep/seed/{found[2].configuration}/f1-mean"
    assert best["value"] == pytest.approx(0.91)
    assert best["extra"]["each"] == [0.9, 0.92]
    assert best["extra"]["trained-on"] == "a GPU"
    blamed = next(row for row in rows if row["name"].endswith("attack-ham-fpr-worst"))
    assert blamed["value"] == pytest.approx(0.01)


def test_the_best_configuration_stands_first_and_one_without_outcome_is_left_out(tmp_path: Path) -> None:
    found = trials(tmp_path)
    outcome(tmp_path, found[0], 0.8)
    assert [each.configuration for each in sweep.outcomes(found, tmp_path)] == [found[0].configuration]
    outcome(tmp_path, found[2], 0.9)
    outcome(tmp_path, found[3], 0.92)

    ranked = list(sweep.outcomes(found, tmp_path))

    assert [each.f1.value for each in ranked] == pytest.approx([0.91, 0.8])
    sweep.plot(ranked, tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_a_trial_that_is_done_is_not_done_again_and_one_that_fails_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = trials(tmp_path, 1)
    outcome(tmp_path, found[0], 0.8)
    monkeypatch.setattr("sys.executable", "false")
    heard: list[str] = []

    sweep.run_all(tmp_path / "grid.toml", found, tmp_path, [""], heard.append)

    assert heard == ["1 of 2 trials are done already", f"1/1 {found[1].name}: failed: no reason given"]


def test_own_data_has_files_of_its_own_and_every_trial_is_given_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "grid.toml").write_text(GRID)
    words = ("alpha", "bravo", "delta", "hotel", "india", "kilo", "lima", "metro")
    lines = [f"{at % 2};{words[at % 8]} {words[at // 8]} {at:b}" for at in range(64)]
    (tmp_path / "rows.csv").write_text("\n".join(["verdict;words", *lines]))
    rows = ["--data", str(tmp_path / "rows.csv"), "--map", "0=ham,1=spam"]
    rows += ["--label-column", "verdict", "--text-column", "words"]
    told: list[list[str]] = []
    tried: list[tuple[int, tuple[str, ...]]] = []

    def trial(found: sweep.Trial, folder: Path, rows: Sequence[data.Row], labels: tuple[str, ...], **_: object) -> None:
        assert folder.parent == tmp_path / "runs"
        tried.append((len(rows), labels))
        outcome(folder, found, 0.9)

    def trials_(path: Path, found: list[sweep.Trial], folder: Path, *rest: Any) -> None:
        again = ["sweep", str(path), "--runs", str(folder), "--splits", "1"]
        told.append(rest[-1])
        assert [main([*again, "--trial", str(at), *rest[-1]]) for at in range(len(found))] == [0, 0]

    monkeypatch.setattr(sweep, "run", trial)
    monkeypatch.setattr(sweep, "run_all", trials_)

    assert main(["sweep", str(tmp_path / "grid.toml"), "--splits", "1", "--runs", str(tmp_path / "runs"), *rows]) == 0

    assert tried == [(64, ("ham", "spam"))] * 2
    assert "--data=" + str(tmp_path / "rows.csv") in told[0]
    (figures,) = (tmp_path / "runs").glob("sweep-seed-grid-*.json")
    assert figures.is_file()


@pytest.mark.parametrize(
    ("lever", "is_taken"),
    [
        pytest.param('"lora.rslora" = [true]', True, id="of-the-adapter"),
        pytest.param('"fit.cuts" = [0.1]', False, id="of-the-base"),
    ],
)
def test_a_trial_takes_a_base_that_another_has_made_alike(lever: str, *, is_taken: bool, tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text(f'recipe = "nano"\n[one]\n{lever}\n')
    first, other = sweep.load(tmp_path / "one.toml", 1)[1]
    learnt = [data.Row(f"message {number}", "ham") for number in range(3)]
    runs.begin(tmp_path / first.name, runs.Run(first.chosen, first.seed, data.digest(learnt)))
    for part in ("base", "tokenizer"):
        (tmp_path / first.name / part).mkdir()
        (tmp_path / first.name / part / "file").write_text(part)

    sweep._take_base(other, learnt, tmp_path)

    taken = tmp_path / other.name / "base" / "file"
    assert taken.exists() == is_taken
    assert not is_taken or runs.read(tmp_path / other.name).recipe == other.chosen

    sweep._take_base(first, learnt, tmp_path)  # has its own
    assert (tmp_path / first.name / "base" / "file").read_text() == "base"


def test_a_base_of_other_rows_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text('recipe = "nano"\n[one]\n"lora.rslora" = [true]\n')
    first, other = sweep.load(tmp_path / "one.toml", 1)[1]
    runs.begin(tmp_path / first.name, runs.Run(first.chosen, first.seed, "other rows"))
    (tmp_path / first.name / "base").mkdir()

    sweep._take_base(other, [data.Row("hello", "ham")], tmp_path)

    assert not (tmp_path / other.name).exists()


def test_an_outcome_of_a_version_that_measured_less_is_measured_again(tmp_path: Path) -> None:
    found = trials(tmp_path)
    outcome(tmp_path, found[0], 0.8)
    path = tmp_path / found[0].name / "outcome.json"
    path.write_text(json.dumps({"f1": 0.8, "attacked": 0.9, "parameters": 1, "seconds": 2.0, "peak_gib": None}))

    assert list(sweep.outcomes(found, tmp_path)) == []


def test_an_outcome_of_another_recipe_is_none(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text('recipe = "nano"\n[one]\n"lora.rslora" = [true]\n')
    first, other = sweep.load(tmp_path / "one.toml", 1)[1]
    for trial in (first, other):
        outcome(tmp_path, trial, 0.8)
        runs.begin(tmp_path / trial.name, runs.Run(first.chosen, trial.seed, "rows"))

    [found] = sweep.outcomes([first, other], tmp_path)

    assert found.configuration == first.configuration

    (tmp_path / first.name / runs.FILE).write_text('{"recipe": {}, "of": "another version"}')
    assert list(sweep.outcomes([first, other], tmp_path)) == []


def test_a_configuration_that_failed_keeps_none_of_the_others_from_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found, folder = trials(tmp_path), tmp_path / "seed-grid"
    folder.mkdir()
    for trial in found[:3]:
        outcome(folder, trial, 0.8)
    monkeypatch.setattr("sys.executable", "false")

    there = ["--runs", str(tmp_path), "--results", str(tmp_path / "figures")]
    status = main(["sweep", str(tmp_path / "grid.toml"), "--splits", "2", *there])

    [written] = (tmp_path / "figures").glob("sweep-seed-*.json")
    assert {row["name"].split("/")[2] for row in json.loads(written.read_text())} == {found[0].configuration}
    assert status == 1
    assert f"not measured on all 2 splits, and not written: {found[2].configuration}" in " ".join(
        capsys.readouterr().out.split()
    )


@pytest.mark.long
def test_what_a_configuration_is_judged_by_is_train_and_no_near_duplicate_of_what_it_learns() -> None:
    prepared = data.prepare()
    parts = evaluate.cut(prepared.rows, 0)
    learnt, validated = data.hold_out(parts.fit, sweep._SEED, sweep._VALIDATED)

    tested = {row.cluster for row in (*parts.test, *parts.calibration)}
    assert tested.isdisjoint(row.cluster for row in (*learnt, *validated))
    assert {row.cluster for row in learnt}.isdisjoint(row.cluster for row in validated)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        pytest.param("[grid]\n", "has `recipe`", id="no-recipe"),
        pytest.param('recipe = "seed"\n[grid]\n"lora.r" = 4\n', "of lists", id="no-list"),
        pytest.param('recipe = "seed"\n[grid]\n"lora.nosuch" = [4]\n', "nosuch", id="no-field"),
        pytest.param('recipe = "seed"\n[grid]\n"nosuch.r" = [4]\n', "no table 'nosuch'", id="no-table"),
        pytest.param('recipe = "seed"\n[grid]\n"lora.r" = ["four"]\n', "lora.r", id="type"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "bad.toml").write_text(text)

    with pytest.raises(RecipeError, match=named):
        sweep.load(tmp_path / "bad.toml", 1)
