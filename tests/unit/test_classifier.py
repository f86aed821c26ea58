"""Texts to scores, with an engine that reads its logits off the tokens."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from worker.engine import Done, Kind
from worker.model.bundle import Base, Bundle, Calibration, Canary, Thresholds
from worker.model.classifier import HAM, UNSCORED, CanaryError, Classifier, platt
from worker.model.tokenizer import cut

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

WORDS = {"<s>": 0, "<unk>": 1, "hello": 2, "win": 3, "prize": 4, "broken": 5, "bank": 6}
LOGITS = {2: (3.0, -3.0, -3.0), 3: (-2.0, 2.0, 0.0), 4: (-4.0, 4.0, 0.0), 5: (np.nan, 0.0, 0.0), 6: (-3.0, 0.0, 3.0)}
MAX_TOKENS = 7


class WordEngine:
    """Sums what each word says."""

    kind = Kind.CPU
    token_budget = 1000

    def __init__(self, labels: int) -> None:
        self.labels = labels
        self.batches: list[int] = []

    shared_tokens = 0
    pid = None
    has_ended = False

    def begin(self, tokens: Sequence[Sequence[int]]) -> Done:
        return Done(self.logits(tokens) if tokens else np.empty((0, self.labels), dtype=np.float32))

    def logits(self, tokens: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        self.batches.append(len(tokens))
        rows = [np.sum([LOGITS.get(int(token), (0, 0, 0)) for token in row], axis=0) for row in tokens]
        return np.array(rows, dtype=np.float32)[:, : self.labels]


def bundle(folder: Path, labels: tuple[str, ...] = ("ham", "spam"), canaries: tuple[Canary, ...] = ()) -> Bundle:
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="<unk>"))  # noqa: S106 # a word, not a secret
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    (folder / "tokenizer").mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"))
    return Bundle(
        name="words",
        base=Base(id="words"),
        labels=labels,
        threshold=0.5,
        calibration=Calibration(slope=0.5, intercept=0.0),
        max_tokens=MAX_TOKENS,
        recipe={},
        data_digest="",
        quality={},
        canaries=canaries,
        created_at="",
        folder=folder,
    )


@pytest.fixture
def classifier(tmp_path: Path) -> Classifier:
    return Classifier(bundle(tmp_path), WordEngine(2))


def test_texts_become_calibrated_scores_in_the_order_given(classifier: Classifier) -> None:
    scores = classifier.judge(classifier.prepare(["hello", "win", "hello hello", "win prize"]))

    expected = 1 / (1 + np.exp(-0.5 * np.array([-6, 4, -12, 12.0])))
    np.testing.assert_allclose(scores.score, expected, rtol=1e-6)
    assert scores.label.tolist() == [0, 1, 0, 1]
    assert scores.scored.all()


def test_tokens_are_those_of_the_tokenizer_with_its_beginning(classifier: Classifier) -> None:
    (prepared,) = classifier.prepare(["hello win"])

    assert prepared.tokens.tolist() == [0, 2, 3]
    assert (len(prepared), prepared.flags) == (3, ())


def test_what_every_message_begins_with_costs_a_batch_nothing_where_the_engine_shares_it(tmp_path: Path) -> None:
    sharing = WordEngine(2)
    sharing.shared_tokens = 1

    prepared = Classifier(bundle(tmp_path), sharing).prepare(["hello win", ""])

    assert [len(message) for message in prepared] == [2, 0]
    assert [len(message.tokens) for message in prepared] == [3, 0]


def test_a_text_of_nothing_is_empty_and_never_reaches_the_engine(classifier: Classifier) -> None:
    prepared = classifier.prepare(["", " \n ", "win", "\u200b"])
    scores = classifier.judge(prepared)

    assert [message.is_empty for message in prepared] == [True, True, False, True]
    assert [len(message) for message in prepared] == [0, 0, 2, 0]
    assert scores.scored.tolist() == [False, False, True, False]
    assert scores.label.tolist() == [UNSCORED, UNSCORED, 1, UNSCORED]
    assert np.isnan(scores.score[[0, 1, 3]]).all()
    assert classifier.engine.batches == [1]


def test_nothing_to_judge_asks_nothing_of_the_engine(classifier: Classifier) -> None:
    assert len(classifier.judge([])) == 0
    assert len(classifier.judge(classifier.prepare([""]))) == 1
    assert classifier.engine.batches == []


def test_a_logit_that_is_not_finite_leaves_its_message_unscored_and_no_other(classifier: Classifier) -> None:
    scores = classifier.judge(classifier.prepare(["hello", "broken", "win"]))

    assert scores.scored.tolist() == [True, False, True]
    assert scores.label.tolist() == [0, UNSCORED, 1]
    assert np.isnan(scores.score).tolist() == [False, True, False]


def test_a_long_text_keeps_both_its_ends_and_says_so(classifier: Classifier) -> None:
    (prepared,) = classifier.prepare(["win " + "hello " * 50 + "prize bank"])

    assert prepared.tokens.tolist() == [0, 3, 2, 2, 2, 4, 6]
    assert prepared.flags == ("truncated",)


def test_a_very_long_text_is_judged_by_its_ends_like_a_long_one(classifier: Classifier) -> None:
    (prepared,) = classifier.prepare(["win " + "hello " * 50_000 + "prize bank"])

    assert prepared.tokens.tolist() == [0, 3, 2, 2, 2, 4, 6]


def test_a_disguised_text_is_read_in_plain_and_flagged(classifier: Classifier) -> None:
    (prepared,) = classifier.prepare(["w\u200bin prize"])

    assert prepared.tokens.tolist() == [0, 3, 4]
    assert prepared.flags == ("normalised",)


def test_white_space_alone_is_no_disguise(classifier: Classifier) -> None:
    assert classifier.prepare(["  win   prize "])[0].flags == ()


def test_the_threshold_can_be_moved_by_the_operator(tmp_path: Path) -> None:
    made = bundle(tmp_path)
    strict, lax = (Classifier(made, WordEngine(2), threshold=threshold) for threshold in (0.999, 0.01))

    assert strict.judge(strict.prepare(["win"])).label.tolist() == [HAM]
    assert lax.judge(lax.prepare(["win"])).label.tolist() == [1]


def test_with_more_labels_the_likeliest_that_is_not_ham_is_named(tmp_path: Path) -> None:
    classifier = Classifier(bundle(tmp_path, ("ham", "spam", "smishing")), WordEngine(3))

    assert classifier.judge(classifier.prepare(["hello", "win", "bank"])).label.tolist() == [0, 1, 2]


def test_the_score_is_of_all_that_is_not_ham() -> None:
    logits = np.array([[1.0, 2.0, 3.0]])

    odds = np.log(np.exp(2) + np.exp(3)) - 1
    np.testing.assert_allclose(platt(logits, 2.0, -1.0), 1 / (1 + np.exp(1 - 2 * odds)))


def test_no_logit_however_large_overflows_the_score() -> None:
    np.testing.assert_array_equal(platt(np.array([[-1e4, 1e4], [1e4, -1e4]]), 1.0, 0.0), [1.0, 0.0])


def test_canaries_that_hold_pass_at_the_bundles_own_threshold(tmp_path: Path) -> None:
    canaries = (Canary("win prize", "spam"), Canary("hello", "ham"))

    Classifier(bundle(tmp_path, canaries=canaries), WordEngine(2), threshold=0.9999).canaries()


@pytest.mark.parametrize(("text", "got"), [("hello", "ham"), ("broken", None)])
def test_a_canary_that_fails_is_named_without_its_text(tmp_path: Path, text: str, got: str | None) -> None:
    canaries = (Canary("win", "spam"), Canary(text, "spam"))
    classifier = Classifier(bundle(tmp_path, canaries=canaries), WordEngine(2))

    with pytest.raises(CanaryError, match="canary 1: expected spam, got") as caught:
        classifier.canaries()
    assert text not in str(caught.value)
    assert str(got or "no finite score") in str(caught.value)


def test_an_engine_with_other_labels_than_the_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"2 labels.*3 logits"):
        Classifier(bundle(tmp_path), WordEngine(3))


@pytest.mark.parametrize(("most", "kept"), [(1, [0]), (2, [0, 9]), (5, [0, 1, 2, 8, 9])])
def test_cutting_keeps_the_ends(most: int, kept: list[int]) -> None:
    assert cut(np.arange(10, dtype=np.int32), most).tolist() == kept


def test_importing_the_classifier_loads_no_torch() -> None:
    code = "import sys, worker.model.classifier; sys.exit('torch' in sys.modules)"

    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_written_like_a_control_token_is_read_as_its_characters(classifier: Classifier) -> None:
    plain, forged = classifier.prepare(["win prize", "win <s> prize"])

    assert forged.tokens.tolist().count(plain.tokens[0]) == 1


def test_a_language_may_have_its_own_threshold(tmp_path: Path) -> None:
    made = msgspec.structs.replace(
        bundle(tmp_path), by_language={"hi": Thresholds(flag_from=0.9, threshold=0.95, block_from=0.99)}
    )
    classifier = Classifier(made, WordEngine(2))
    [sure] = classifier.prepare(["win"])
    hindi = msgspec.structs.replace(sure, language="hi")
    french = msgspec.structs.replace(sure, language="fr")

    scores = classifier.judge([sure, hindi, french])

    assert 0.5 < scores.score[0] == scores.score[1] == scores.score[2] < 0.95
    assert scores.label.tolist() == [1, HAM, 1]


def test_a_set_threshold_is_one_for_all_languages(tmp_path: Path) -> None:
    made = msgspec.structs.replace(
        bundle(tmp_path), by_language={"hi": Thresholds(flag_from=0.9, threshold=0.95, block_from=0.99)}
    )
    classifier = Classifier(made, WordEngine(2), threshold=0.6)
    [sure] = classifier.prepare(["win"])

    scores = classifier.judge([sure, msgspec.structs.replace(sure, language="hi")])

    assert scores.label.tolist() == [1, 1]
    assert classifier.by_language["hi"].threshold == 0.6
