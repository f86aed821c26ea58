"""Answers, what is made of them, and who is better."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score

from training import hardware, metrics
from training.data import split as data
from training.data.split import Row
from training.judge import baselines, compare, errors, evaluate, findings, judged
from training.judge.evaluate import Exam, Parts, SplitReport
from training.judge.judged import Judged, JudgedSets

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def answers(truth: Sequence[int], given: Sequence[int], score: Sequence[float] | None = None) -> Judged:
    scores = np.array(given, dtype=float) if score is None else np.array(score, dtype=float)
    return Judged(np.array(truth, dtype=np.int8), np.array(given, dtype=np.int8), scores)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), min_size=4, max_size=60))
def test_further_figures_agree_with_those_of_scikit_learn(rows: list[tuple[int, int]]) -> None:
    truth, score = np.array([row[0] for row in rows], dtype=np.int8), np.array([row[1] / 9 for row in rows])
    given = (score * 2.99).astype(np.int8)

    if (truth > 0).any():
        assert metrics.pr_auc(truth > 0, score) == pytest.approx(average_precision_score(truth > 0, score))
    classes = np.unique(truth)
    expected = f1_score(truth, given, average="macro", labels=classes, zero_division=0)
    assert metrics.macro_f1(truth, given) == pytest.approx(expected)


def test_calibration_error_is_nothing_for_a_judge_that_keeps_its_promises_and_large_for_a_boaster() -> None:
    dice = np.random.default_rng(0)
    score = dice.random(50_000)
    spam = dice.random(50_000) < score

    assert metrics.ece(spam, score) < 0.01
    assert metrics.ece(spam, np.where(score > 0.5, 1.0, 0.0)) == pytest.approx(0.25, abs=0.01)
    assert sum(rows for _, _, rows in metrics.reliability(spam, score)) == 50_000


def test_mcnemar_is_exact_and_two_sided() -> None:
    assert compare.mcnemar(0, 0) == 1.0
    assert compare.mcnemar(5, 5) == 1.0
    assert compare.mcnemar(0, 6) == pytest.approx(2 / 64)
    assert compare.mcnemar(9, 1) == pytest.approx(2 * 11 / 1024)


def test_a_judge_is_better_only_when_its_lead_is_more_than_chance() -> None:
    truth = [1] * 100 + [0] * 400
    good = answers(truth, truth)
    poor = answers(truth, [1] * 60 + [0] * 440)
    one_off = answers(truth, [1] * 99 + [0] * 401)

    assert compare.compare(good, poor, range(500)).verdict == "better"
    assert compare.compare(poor, good, range(500)).verdict == "worse"
    assert compare.compare(good, one_off, range(500)).verdict == "no difference shown"
    assert compare.compare(good, poor, range(500)) == compare.compare(good, poor, range(500))


def test_near_duplicates_that_are_all_judged_alike_prove_no_more_than_one_message() -> None:
    truth = [1] * 40 + [0] * 60
    good, poor = answers(truth, truth), answers(truth, [0] * 20 + [1] * 20 + [0] * 60)

    alone = compare.compare(good, poor, range(100))
    clustered = compare.compare(good, poor, [0] * 20 + list(range(20, 100)))

    assert alone.verdict == "better"
    assert clustered.verdict == "no difference shown"


def test_judges_of_other_rows_are_not_compared() -> None:
    with pytest.raises(ValueError, match="same rows"):
        compare.compare(answers([1, 0], [1, 0]), answers([0, 1], [1, 0]), [0, 1])


def test_answers_are_kept_as_a_file_and_not_taken_for_those_to_other_questions(tmp_path: Path) -> None:
    path = tmp_path / "answers.npz"
    JudgedSets({"clean": answers([1, 0], [1, -1], [0.9, 0.1])}, {"judge": "a", "seed": 1}).save(path)

    found = judged.load(path, {"judge": "a", "seed": 1})

    assert found is not None
    assert found.clean.given.tolist() == [1, -1]
    assert not found.clean.flagged[1]
    assert judged.load(path, {"judge": "b", "seed": 1}) is None
    path.write_bytes(path.read_bytes()[:100])
    assert judged.load(path, {"judge": "a", "seed": 1}) is None
    assert [each.name for each in tmp_path.iterdir()] == ["answers.npz"]


PHRASES = {"ham": ("see you at home", "call me later mum", "lunch at noon"), "spam": ("free prize", "win cash now"),
           "smishing": ("verify your bank account", "your account is locked")}  # fmt: skip


def rows(count: int, labels: Sequence[str], start: int = 0) -> tuple[Row, ...]:
    def row(at: int) -> Row:
        label = labels[at % len(labels)]
        return Row(f"{PHRASES[label][at % len(PHRASES[label])]} {'abcdefgh'[at % 8] * 3} {at}", label, at)

    return tuple(row(at) for at in range(start, start + count))


@pytest.fixture(scope="module")
def reports() -> list[SplitReport]:
    def report(seed: int) -> SplitReport:
        fit, test = rows(60, data.THREE), rows(30, data.THREE, 100)
        exam = Exam(seed, Parts(fit, rows(15, data.THREE, 60), test), data.THREE, rows(9, data.THREE, 200))
        beside = {"linear": evaluate.baseline("linear", exam)}
        return SplitReport(exam, evaluate.answers(baselines.linear(fit, data.THREE), exam, {}), beside)

    return [report(seed) for seed in range(2)]


def test_findings_have_the_names_that_are_followed_over_time(reports: list[SplitReport]) -> None:
    names = [finding.name for finding in findings.findings(reports)]

    assert len(names) == len(set(names))
    wanted = {"f1-mean", "baseline-f1-mean", "recall-at-1-percent", "attack-recall-worst", "attack-ham-fpr-worst",
              "macro-f1-mean", "class/smishing/f1-mean", "outside/smishing/recall-at-1-percent", "slice/link/recall",
              "baseline-attack/leet/recall", "f1-difference-to-baseline"}  # fmt: skip
    assert wanted <= set(names)


def test_a_file_of_figures_is_named_after_what_judged_and_says_what_put_it_together(
    reports: list[SplitReport], tmp_path: Path
) -> None:
    there = [
        dataclasses.replace(report, model=dataclasses.replace(report.model, about={"device": "NVIDIA H100 80GB HBM3"}))
        for report in reports
    ]

    path = findings.record(there, "toy", tmp_path)

    assert path == tmp_path / "judge-toy-nvidia-h100-80gb-hbm3.json"
    figures = {row["name"]: row["extra"] for row in json.loads(path.read_text())}
    mean = figures["judge/toy/f1-mean"]
    assert mean["device"] == mean["judged-on"] == "NVIDIA H100 80GB HBM3"
    a_slice = next(name for name in figures if name.startswith("judge/toy/slice/"))
    assert figures[a_slice]["recorded-on"] == hardware.processor()
    assert figures["judge/toy/baseline-attack/leet/recall"]["device"] == hardware.processor()


def test_every_disguise_is_put_on_spam_and_ham_alike_and_the_worst_is_named(reports: list[SplitReport]) -> None:
    found = {finding.name: finding for finding in findings.findings(reports)}

    recalls = {
        name: each.figure.value for name, each in found.items() if name.startswith("attack/") and "recall" in name
    }
    assert len(recalls) == 10
    worst = found["attack-recall-worst"]
    assert worst.figure.value == min(recalls.values()) == recalls[f"attack/{worst.extra['attack']}/recall"]
    clean = reports[0].model.clean
    assert all((each.truth == clean.truth).all() for each in reports[0].model.attacks.values())


def test_a_judge_of_two_labels_is_asked_about_smishing_as_spam() -> None:
    fit = rows(60, data.LABELS)
    exam = Exam(0, Parts(fit, (), rows(20, data.LABELS, 100)), data.LABELS, rows(9, data.THREE, 200))

    found = evaluate.answers(baselines.linear(fit, data.LABELS), exam, {}).sets["outside"]

    assert sorted(set(found.truth.tolist())) == [0, 1, 2]
    assert found.given.max() <= 1


def test_what_was_misjudged_is_written_escaped_for_this_user_alone(tmp_path: Path) -> None:
    test = (Row("<b>win</b>", "spam", 1), Row("hello", "ham", 2))
    exam = Exam(0, Parts((), (), test), data.LABELS)
    report = SplitReport(exam, JudgedSets({"clean": answers([1, 0], [0, 0], [0.2, 0.1])}, {}), {})

    errors.write([report], tmp_path / "errors.html")

    page = (tmp_path / "errors.html").read_text()
    assert "&lt;b&gt;win&lt;/b&gt;" in page
    assert "hello" not in page
    assert (tmp_path / "errors.html").stat().st_mode & 0o077 == 0


def test_an_interval_of_one_split_is_over_its_rows(reports: list[SplitReport]) -> None:
    figure = next(each.figure for each in findings.findings(reports[:1]) if each.name == "f1-mean")

    assert not math.isnan(figure.low)
