"""Figures of today's traffic: as a person computes them, readable, and honest about kinds that were left out."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.bundles import NANO
from training import metrics
from training.__main__ import main
from training.data import mixture
from training.data.mixture import MixtureParts, Sourced
from training.data.split import DataError
from training.judge import left_out, report, traffic, trafficpage
from training.judge.traffic import BASELINE, Answers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from training.metrics import Figure


def row(text: str, truth: str, cluster: int, source: str = "modern", **fields: str) -> Sourced:
    label = "ham" if truth == "ham" else "spam"
    return Sourced(text, label, cluster, source=source, truth=truth, **fields)


def four() -> tuple[Sourced, ...]:
    """Lawful: a code, a delivery with a link, a chat, an old chat. Scams: a toll with a link, an old prize."""
    return (
        row("Your code is 123456", "ham", 0, kind="otp-login", sender="short"),
        row("Your parcel: https://post.example/1", "ham", 1, kind="delivery-link", sender="alpha", language="fr"),
        row("see you at eight", "ham", 2, kind="chat", sender="number"),
        row("k then", "ham", 3, "uci"),
        row("Unpaid toll, pay at toll.example/x", "smishing", 4, kind="toll", sender="number"),
        row("WINNER claim your prize", "spam", 5, "uci"),
    )


SCORE = np.array([0.6, 0.95, 0.1, 0.2, 0.7, 0.99])


def found(answers: Answers) -> dict[str, Figure]:
    return {each.name: each.figure for each in traffic.figures(answers)}


@pytest.fixture(scope="module")
def small() -> dict[str, Figure]:
    return found(Answers(four(), SCORE, {"sloppy": SCORE - 0.3}, 0.5, 0.9))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("all/auc", 7 / 8),  # the toll is below the delivery, above three; the prize above all
        ("uci/auc", 1.0),
        ("modern/auc", 2 / 3),
        ("all/recall-at-1-percent", 1 / 2),  # nothing lawful may be taken: above 0.95 there is the prize
        ("lawful/all/stopped", 2 / 4),
        ("lawful/all/blocked", 1 / 4),
        ("lawful/from/organisations/stopped", 1.0),
        ("lawful/from/people/stopped", 0.0),
        ("lawful/link/with/blocked", 1.0),
        ("lawful/link/without/stopped", 1 / 3),
        ("lawful/language/fr/blocked", 1.0),
        ("lawful/language/en/blocked", 0.0),
        ("lawful/sender/short/stopped", 1.0),
        ("lawful/kind/chat/stopped", 0.0),
        ("scam/kind/toll/stopped", 1.0),
        ("scam/kind/toll/blocked", 0.0),
        ("scam/all/blocked", 1 / 2),
        ("varied/sloppy/scam/stopped", 1 / 2),
        ("varied/sloppy/lawful/stopped", 1 / 4),
        # All scams and half of the lawful are stopped; half of the scams and a quarter of the lawful blocked.
        ("precision/1-percent-spam/stopped", 0.01 / (0.01 + 0.99 / 2)),
        ("precision/5-percent-spam/blocked", 0.025 / (0.025 + 0.95 / 4)),
        ("uci/ece", (0.2 + 0.01) / 2),
    ],
)
def test_a_figure_is_what_a_person_computes(small: dict[str, Figure], name: str, value: float) -> None:
    assert small[name].value == pytest.approx(value)


def test_a_row_of_another_collection_has_no_kind_sender_or_language(small: dict[str, Figure]) -> None:
    assert not any("//" in name for name in small)
    assert "lawful/language/en/stopped" in small
    assert small["lawful/language/en/stopped"].value == 1 / 2  # the code and the chat, not UCI's


def test_a_ten_thousandth_is_said_only_of_ten_thousand_lawful_texts() -> None:
    def asked(lawful: int) -> set[str]:
        rows = [*(row("a", "ham", n % 50, "uci") for n in range(lawful)), row("b", "spam", 60, "uci")]
        return set(found(Answers(rows, np.linspace(0, 1, lawful + 1), {}, 0.5, 0.9)))

    assert "all/recall-at-0.01-percent" not in asked(9_999)
    assert "all/recall-at-0.01-percent" in asked(10_000)


def test_intervals_are_over_clusters_not_rows() -> None:
    hits = np.array([True] * 50 + [False] * 50)

    one = metrics.clustered_share(hits, np.arange(100))
    other = metrics.clustered_share(hits, np.repeat([0, 1, 2, 3], 25))

    assert one.value == other.value == 0.5
    assert one.high - one.low < 0.25
    assert (other.low, other.high) == (0.0, 1.0)
    assert metrics.clustered_share(hits, np.zeros(100)) == (0.5, 0.5, 0.5)
    assert math.isnan(metrics.clustered_share(hits[:0], []).value)


def test_a_measure_over_clusters_agrees_with_the_share() -> None:
    dice = np.random.default_rng(0)
    hits, groups = dice.random(300) < 0.3, dice.integers(40, size=300)

    share = metrics.clustered_share(hits, groups)
    measured = metrics.clustered(lambda rows: {"share": float(hits[rows].mean())}, groups)["share"]

    assert measured == pytest.approx(share, abs=0.015)


def test_expected_precision_is_bayes() -> None:
    assert metrics.expected_precision(0.8, 0.02, 0.01) == pytest.approx(0.008 / (0.008 + 0.0198))
    assert metrics.expected_precision(0.8, 0.0, 0.01) == 1.0
    assert math.isnan(metrics.expected_precision(0.0, 0.0, 0.01))


def test_a_baseline_spends_what_the_bundle_spends() -> None:
    calibration = [row("x", "ham", n) for n in range(10)] + [row("y", "spam", 10)]
    own = np.array([*range(10), 99.0])

    flag, block = traffic.beside(lambda _: own, calibration, np.linspace(0, 1, 11), 0.75, 0.85)

    assert int((own[:10] >= flag).sum()) == 2  # as many as of 0.0 to 0.9 are 0.75 and more
    assert int((own[:10] >= block).sum()) == 1


def by_word(rows: Sequence[Sourced]) -> NDArray[np.float64]:
    return np.array([0.9 if "toll" in row.text else 0.1 for row in rows])


def test_a_kind_that_is_left_out_is_gone_with_its_near_duplicates() -> None:
    near = row("Unpaid toll, pay at toll.example/y", "smishing", 4, kind="fine")
    parts = MixtureParts((*four(), near), (), ())

    rest, gone = left_out.parted(parts, {"smishing/toll"})

    assert [each.kind for each in gone] == ["toll"]
    assert near not in rest.fit
    assert len(rest.fit) == 5


def test_every_kind_is_left_out_once_and_only_known_ones_are_named() -> None:
    turns = left_out.turns(four(), "2")

    assert sorted(name for turn in turns for name in turn) == [
        "ham/chat", "ham/delivery-link", "ham/otp-login", "smishing/toll",
    ]  # fmt: skip
    assert left_out.turns(four(), "ham/chat, smishing/toll") == [frozenset({"ham/chat", "smishing/toll"})]
    for wrong in ("toll", "1", "ham/toll"):
        with pytest.raises(DataError, match="--leave-out"):
            left_out.turns(four(), wrong)


def test_kinds_left_out_are_ranked_against_lawful_rows_that_stayed() -> None:
    calibration = tuple(row("hello", "ham", 100 + n, "uci") for n in range(5))
    parts = MixtureParts((), calibration, four())
    seen: list[MixtureParts] = []

    def make(rest: MixtureParts, _: int) -> traffic.Scorer:
        seen.append(rest)
        return by_word

    asked = left_out.ask(parts, [frozenset({"smishing/toll"}), frozenset({"ham/chat"})], make)
    figures = {each.name: each.figure for each in left_out.figures(asked)}

    assert [len(rest.test) for rest in seen] == [5, 5]
    assert figures["left-out/smishing/toll/auc"].value == 1.0
    assert figures["left-out/scam/auc"].value == 1.0
    assert figures["left-out/smishing/toll/stopped"].value == 1.0
    assert figures["left-out/ham/chat/stopped"].value == 0.0
    assert figures["left-out/lawful/stopped"].value == 0.0


@pytest.fixture
def results_file(tmp_path: Path) -> Path:
    answers = Answers(four(), SCORE, {"sloppy": SCORE - 0.3}, 0.5, 0.9)
    left = left_out.TurnAnswers(four()[4:5], SCORE[4:5], SCORE[:3], 0.5)
    both = [*traffic.figures(answers), *left_out.figures([left])]
    about = {"bundle": "toy@0", "split": 0, "flag-from": 0.5, "block-from": 0.9}
    return trafficpage.record({"": both, BASELINE: both}, "toy", about, tmp_path)


def test_the_page_begins_with_one_table_and_the_card_holds_it(results_file: Path, tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text("# toy\n\n<!-- traffic -->\nold\n<!-- traffic -->\n\nmore\n")

    assert main(["report", str(results_file), "--name", "toy", "--out", str(tmp_path), "--card", str(card)]) == 0

    page = (tmp_path / "traffic-toy.md").read_text()
    table = page[: page.index("\n## ")].split("|---|---|---|\n")[1].strip().split("\n")
    assert 12 <= len(table) <= 22
    assert "| AUC | 0.875 [" in table[0]
    assert table[0].count("0.875") == 2
    assert "| smishing/toll/auc | 0.667" in page
    assert "old" not in card.read_text()
    assert table[0] in card.read_text()
    assert card.read_text().endswith("\n\nmore\n")


def test_what_holds_no_figures_of_that_name_is_refused(
    results_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(results_file), "--name", "other", "--out", str(tmp_path)]) == 2
    assert "holds no judge/other/traffic/all/auc" in capsys.readouterr().err
    with pytest.raises(report.ReportError, match="no results there"):
        trafficpage.load(tmp_path / "nosuch.json", "toy")


def test_the_option_asks_for_a_bundle(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--traffic"]) == 2
    assert "--bundle" in capsys.readouterr().err


TOY = """
name = "toy"
base = {id = "toy"}
lora = {r = 4, alpha = 8, dropout = 0.0, targets = ["q_proj", "v_proj"]}
fit = {epochs = 2, learning_rate = 3e-3, batch = 8, max_tokens = 48}
[pretraining]
vocabulary = 420
width = 64
layers = 1
heads = 4
key_value_heads = 2
intermediate = 64
epochs = 2
learning_rate = 3e-3
batch = 16
warmup_steps = 4
"""
LAWFUL = ("see you at home", "ok call me later mum", "lunch today at noon", "bring the charger please")
SCAM = ("free prize call now", "win cash claim today", "urgent reply to win", "winner claim your free tone")


def toys(count: int) -> tuple[Sourced, ...]:
    dice = random.Random(0)

    def toy(number: int) -> Sourced:
        truth, phrases = ("smishing", SCAM) if number % 3 == 0 else ("ham", LAWFUL)
        text = f"{dice.choice(phrases)} {dice.choice(phrases)} {number}"
        if number % 2:
            return row(text, truth, number, "uci", group=f"uci-{number}")
        kind = ("toll" if number % 4 else "prize") if truth != "ham" else ("chat" if number % 4 else "receipt")
        return row(text, truth, number, kind=kind, sender="number", group=f"toy-{number}")

    return tuple(toy(number) for number in range(count))


@pytest.mark.long
def test_a_bundle_is_judged_beside_linear_svc_and_kinds_are_left_out_of_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(metrics, "_RESAMPLES", 20)
    monkeypatch.setattr(mixture, "read", lambda: toys(480))
    (tmp_path / "toy.toml").write_text(TOY)
    asked = [
        "evaluate",
        "--traffic",
        "--bundle",
        str(NANO),
        "--results",
        str(tmp_path),
        "--runs",
        str(tmp_path / "runs"),
    ]
    left = ["--leave-out", "smishing/toll,ham/chat", "--retrain", "--recipe", str(tmp_path / "toy.toml")]

    assert main([*asked, *left]) == 0

    told = capsys.readouterr().out
    assert "# nano on traffic of today" in told
    [file] = tmp_path.glob("traffic-nano-*.json")
    rows = trafficpage.load(file, "nano")
    for place in ("", BASELINE):
        assert rows[f"{place}left-out/smishing/toll/auc"]["value"] > 0.8
        assert 0 <= rows[f"{place}left-out/ham/chat/stopped"]["value"] <= 1
        assert f"{place}lawful/kind/receipt/blocked" in rows
        assert f"{place}varied/synonyms/scam/stopped" in rows
    assert f"{BASELINE}uci/ece" not in rows
    assert rows["all/auc"]["extra"]["bundle"].startswith("nano@")
