"""Which words moved a score: their shares add up, the strongest are those that matter, and it takes bounded time."""

from __future__ import annotations

import csv
import random
import time
from pathlib import Path

import pytest

from worker import loading
from worker.__main__ import main
from worker.model.classifier import Classifier, published
from worker.predict.attribution import READ, attribute, log_odds
from worker.settings import Settings

ROOT = Path(__file__).parents[2]
SPAM = "WINNER!! Call 09061701461 to claim your prize"


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return loading.model(Settings(threads=1)).classifier


def odds_of(classifier: Classifier, texts: list[str]) -> list[float]:
    return list(map(log_odds, published(classifier.judge(classifier.prepare(texts)).score).tolist()))


def test_the_shares_and_the_rest_add_up_to_the_scores_log_odds(classifier: Classifier) -> None:
    found = attribute(classifier, SPAM)

    assert [each.word for each in found.words] == SPAM.split()
    assert found.odds == pytest.approx(odds_of(classifier, [SPAM])[0])
    assert found.rest is not None
    assert sum(each.odds or 0 for each in found.words) + found.rest == pytest.approx(found.odds)
    assert not found.is_partial


def test_a_words_share_is_what_the_log_odds_lose_without_it(classifier: Classifier) -> None:
    words = SPAM.split()
    whole, without = odds_of(classifier, [SPAM, " ".join(words[:1] + words[2:])])

    assert attribute(classifier, SPAM).words[1].odds == pytest.approx(whole - without)


def test_without_the_top_words_the_score_falls_thrice_as_far_as_without_random_ones(classifier: Classifier) -> None:
    with (ROOT / "data/modern/messages.tsv").open(newline="") as file:
        rows = [row[:2] for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    dice = random.Random(5)
    long = [text for text, label in rows if label == "spam" and len(text.split()) >= 12]
    spam = dice.sample(long, 60)
    top_fall = random_fall = 0.0
    for text in spam:
        found = attribute(classifier, text)
        order = sorted(range(len(found.words)), key=lambda at: -(found.words[at].odds or 0))
        gone = [set(order[:5]), set(dice.sample(order, 5))]
        cut = [" ".join(each.word for at, each in enumerate(found.words) if at not in some) for some in gone]
        whole, top, chance = odds_of(classifier, [text, *cut])
        top_fall, random_fall = top_fall + whole - top, random_fall + whole - chance

    assert top_fall > 3 * random_fall


def test_the_words_are_those_that_the_model_reads(classifier: Classifier) -> None:
    found = attribute(classifier, "Ｗ Ｉ Ｎ Ｎ Ｅ Ｒ！ claim your priｚe")

    assert [each.word for each in found.words] == ["WINNER!", "claim", "your", "prize"]


@pytest.mark.parametrize("text", ["", " \n ", "\u200b"])
def test_nothing_left_to_judge_has_nothing_to_explain(classifier: Classifier, text: str) -> None:
    found = attribute(classifier, text)

    assert (found.words, found.odds, found.rest) == ((), None, None)


@pytest.mark.parametrize("text", ["word " * 20_000, "x" * 100_000, "a b " * 5000, "\u202e" * 50_000])
def test_a_long_text_takes_bounded_time_and_says_that_it_is_partial(classifier: Classifier, text: str) -> None:
    began = time.monotonic()
    found = attribute(classifier, text, patience=1.0)

    assert time.monotonic() - began < 10
    assert len(found.words) <= 96
    assert found.is_partial or len(text) <= READ or not found.words


def test_without_time_some_words_are_measured_and_the_others_have_no_share(classifier: Classifier) -> None:
    found = attribute(classifier, " ".join(f"word{n}" for n in range(80)), patience=0.0)

    assert found.is_partial
    assert [each.odds is None for each in found.words] == [False] * 32 + [True] * 48


def test_predict_explains_for_people_and_as_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main(["predict", "--explain", SPAM, ""]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("spam ")
    assert any(line.split()[1:] == ["09061701461"] for line in lines)
    assert lines[-1].strip() == "nothing to explain"

    assert main(["predict", "--explain", "--json", SPAM]) == 0
    assert '"words": [{"word": "WINNER!!", "odds": ' in capsys.readouterr().out
