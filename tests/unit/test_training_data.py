from __future__ import annotations

import json
import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest
import torch

from training.__main__ import main
from training.data import sources
from training.data import split as data
from training.data.disguises import DISGUISES, VARIED, disguise, rehosted, sloppy, synonyms
from training.data.split import Row
from training.fit import batches
from training.judge import evaluate
from worker.model.normalise import normalise

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def prepared() -> data.PreparedRows:
    return data.prepare()


def test_the_shipped_collection_gives_the_known_counts(prepared: data.PreparedRows) -> None:
    assert prepared.digest == "7d039a24a6083ed9ef0f806ebad56bbb976e3aeb8de05669173bfdc4996c239d"
    assert prepared.read == {"ham": 4827, "spam": 747}
    assert Counter(row.label for row in prepared.rows) == {"ham": 4501, "spam": 629}
    assert (prepared.clusters, prepared.mixed) == (4947, 0)
    assert prepared.dropped.total() == 5574 - 4501 - 629


@pytest.mark.parametrize("seed", range(5))
def test_no_near_duplicate_is_in_two_parts_of_a_split_and_no_row_is_lost(
    prepared: data.PreparedRows, seed: int
) -> None:
    parts = evaluate.cut(prepared.rows, seed)

    clusters = [{row.cluster for row in part} for part in parts]
    assert not (clusters[0] & clusters[1] | clusters[0] & clusters[2] | clusters[1] & clusters[2])
    assert sum(map(len, parts)) == len(prepared.rows)
    share = Counter(row.label for row in parts.test)
    assert share["spam"] / 629 == pytest.approx(0.2, abs=0.01)
    assert share["ham"] / 4501 == pytest.approx(0.2, abs=0.01)
    assert evaluate.cut(prepared.rows, seed) == parts


def test_near_duplicates_are_found_whatever_their_digits_and_linked_through_each_other() -> None:
    first, second, third, other = (
        "win a prize of 900 pounds call 09061701461 to claim it now",
        "win a prize of 500 pounds call 09061234567 to claim it now",
        "win a prize of 500 pounds call 09061234567 to claim it now before it ends",
        "are we still meeting for lunch today",
    )

    clusters = data.cluster([first, second, third, other])

    assert clusters[0] == clusters[1] == clusters[2] != clusters[3]


@pytest.mark.parametrize("name", DISGUISES)
def test_a_disguise_changes_most_texts_repeatably(name: str) -> None:
    text = "You have been selected to receive a prize, call now to claim"

    disguised = DISGUISES[name](text, random.Random(1))

    assert disguised != text
    assert disguised == DISGUISES[name](text, random.Random(1))


def test_a_text_typed_in_haste_is_mostly_the_same_and_the_same_again() -> None:
    text = "Your account needs your attention, please call us back tomorrow about the payment."
    drawn = [sloppy(text, random.Random(number)) for number in range(200)]

    assert drawn == [sloppy(text, random.Random(number)) for number in range(200)]
    assert all(0.6 * len(text) < len(each) < 1.1 * len(text) for each in drawn)
    assert sum(each != text for each in drawn) > 190
    assert any("pls" in each for each in drawn)
    assert any(each == each.lower() for each in drawn)
    assert sloppy("", random.Random(0)) == ""
    assert any(
        sloppy("приветствую тебя сегодня", random.Random(number)) != "приветствую тебя сегодня" for number in range(9)
    )


def test_words_are_exchanged_for_others_in_their_case_and_the_rest_stays() -> None:
    drawn = {synonyms("URGENT: Verify your account at bank.example", random.Random(number)) for number in range(50)}

    assert "PRESSING: Validate your profile at bank.example" in drawn
    assert synonyms("Çok teşekkürler", random.Random(0)) == "Çok teşekkürler"


def test_what_is_asked_anew_holds_every_disguise_and_more() -> None:
    assert set(VARIED) == {*DISGUISES, "sloppy", "synonyms"}
    assert disguise("synonyms", ["please pay"] * 9, "0") == disguise("synonyms", ["please pay"] * 9, "0")


def test_a_link_is_given_another_host_and_keeps_the_rest() -> None:
    text = "See https://one.example/p?id=4 or two.example, write to a@mail.example. Bye"
    changed = "See https://new.test/p?id=4 or new.test, write to a@mail.example. Bye"

    assert rehosted(text, random.Random(0), ["new.test"]) == changed
    assert rehosted(text, random.Random(0), []) == text


@pytest.mark.parametrize("name", ["lookalikes", "zero-width"])
def test_the_normaliser_undoes_what_nobody_can_see(prepared: data.PreparedRows, name: str) -> None:
    rows = prepared.rows[:500]

    undone = sum(normalise(DISGUISES[name](row.text, random.Random(5))) == normalise(row.text) for row in rows)

    assert undone / len(rows) > 0.97


def test_a_row_without_a_score_counts_as_delivered() -> None:
    class Unsure:
        labels = data.LABELS

        def prepare(self, texts: list[str]) -> list[str]:
            return texts

        def judge(self, prepared: list[str]) -> object:
            from worker.model.classifier import Scores  # noqa: PLC0415

            empty = torch.tensor([float("nan")] * len(prepared)).double().numpy()
            return Scores(empty, torch.full((len(prepared),), -1).numpy(), torch.zeros(len(prepared)).bool().numpy())

    judged = evaluate.judge(Unsure(), [Row("", "spam"), Row("", "ham")])  # type: ignore[arg-type]

    assert not judged.flagged.any()
    assert judged.score.tolist() == [0.0, 0.0]


def test_a_loss_that_is_no_number_stops_training_at_its_step() -> None:
    with pytest.raises(batches.DivergedError, match="nan at step 7"):
        batches.require_finite([float("nan")], 7)


def test_prepare_reports_and_writes_parts_that_can_be_read_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prepare", "--out", str(tmp_path)]) == 0

    assert "kept      5,130" in capsys.readouterr().out
    parts = [sources.read(tmp_path / f"{name}.tsv", data.LABELS)[0] for name in ("fit", "calibration")]
    assert sum(map(len, parts)) == 4103
    card = json.loads((tmp_path / "data.json").read_text())
    assert card["sources"][0]["sha256"] == card["digest"]
    assert sum(card["read"].values()) == sum(card["dropped"].values()) + sum(card["kept"].values())
    counted = sum(sum(part["rows"].values()) for part in card["parts"].values())
    assert counted + card["left-out-near-test"] == sum(card["kept"].values()) == 5130
    assert len({part["digest"] for part in card["parts"].values()}) == 3


def test_what_a_person_can_fix_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(tmp_path / "run"), "--recipe", "nosuch"]) == 2
    assert "shipped are gemma, nano, seed" in capsys.readouterr().err
    assert main(["compare", str(tmp_path), str(tmp_path)]) == 2
    assert "no bundle.json" in capsys.readouterr().err
