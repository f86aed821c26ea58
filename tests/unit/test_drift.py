"""Whether texts still fit the bundle's evaluation: a surplus of odd ones is a drift, another share of spam is none."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.bundles import NANO
from training.data import split as data
from training.results import ROOT
from worker.model.classifier import Classifier, Prepared
from worker.rollout.drift import LEAST, SIGNALS, Reference, Seen, Window, usual

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

DICE = np.random.default_rng(1)
LIMIT = 1.4
"""The alert's, in deploy/prometheus/rules/causes.yml."""


def sample(count: int, spam: float = 0.13) -> Seen:
    """Ham scores near 0 and spam scores near 1; spam is cut finer."""
    is_spam = DICE.random(count) < spam
    score = np.where(is_spam, DICE.beta(8, 0.3, size=count), DICE.beta(0.3, 8, size=count))
    fineness = np.where(is_spam, DICE.normal(0.4, 0.03, size=count), DICE.normal(0.3, 0.05, size=count))
    return Seen(score, fineness, DICE.random(count) < 0.002)


def other(seen: Seen, share: float, **fields: NDArray[np.float64] | float) -> Seen:
    """The same with some fields changed in a share of the texts."""
    chosen = DICE.random(len(seen.score)) < share
    return seen._replace(**{name: np.where(chosen, value, getattr(seen, name)) for name, value in fields.items()})


@pytest.fixture
def window() -> Window:
    return Window(Reference.of(sample(3000), 0.5))


def drifted(window: Window, seen: Seen) -> set[str]:
    window.observe(seen)
    return {signal for signal, ratio in (window.ratios() or {}).items() if ratio > LIMIT}


def test_the_limit_is_the_alerts() -> None:
    rules = (ROOT / "deploy" / "prometheus" / "rules" / "causes.yml").read_text()
    assert re.search(rf"hamgate_drift_ratio > {LIMIT}$", rules, re.MULTILINE)


def test_ratios_are_what_a_person_counts() -> None:
    # Ham: 20 texts, of scores 0.00 to 0.19; 95 of 100 are no surer than 0.1805. Spam: 20, of 0.80 to 0.99: 0.8095.
    score = np.concatenate([np.arange(20) / 100, 0.8 + np.arange(20) / 100])
    fineness = np.concatenate([0.2 + np.arange(20) / 100, 0.4 + np.arange(20) / 100])
    reference = Reference.of(Seen(score, fineness, np.zeros(40, dtype=np.bool_)), 0.5)

    assert reference.score == (0.1805, 0.8095)
    assert reference.fineness == (0.3805, 0.5805)
    # One of 20 of each side in each tail; of all 40 one is finer than 99.9 of 100.
    assert reference.expected.tolist() == [[0.0, 0.05], [0.05, 0.05], [0.05, 0.05]]

    window = Window(reference)
    some = Seen(np.full(1000, 0.01), np.full(1000, 0.2), np.zeros(1000, dtype=np.bool_))
    some.score[:100] = 0.4  # ham, and unsure
    some.fineness[:70] = 0.5  # finer than ham is, not than spam is
    some.outside[:30] = True
    window.observe(some)

    # A tenth unsure where 5 in 100 were expected; 70 of 50; 30 of 1,000 where none were expected, so of 10.
    assert window.ratios() == pytest.approx({"outside": 3.0, "tokens": 1.4, "score": 2.0})


def test_texts_of_the_same_kind_do_not_drift(window: Window) -> None:
    for _ in range(50):
        assert not drifted(window, sample(400))


@pytest.mark.parametrize("spam", [0.0, 0.01, 0.26, 0.6])
def test_more_or_less_of_the_spam_that_is_known_is_no_drift(window: Window, spam: float) -> None:
    for _ in range(20):
        assert not drifted(window, sample(1000, spam=spam))


def test_easier_texts_are_no_drift(window: Window) -> None:
    seen = sample(20_000)

    assert not drifted(window, Seen(np.where(seen.score < 0.5, 0.0, 1.0), seen.fineness * 0.8, seen.outside))


@pytest.mark.parametrize(
    ("seen", "signals"),
    [
        (other(sample(20_000), 0.1, score=0.55), {"score"}),
        (other(sample(20_000), 0.1, score=0.45), {"score"}),
        (other(sample(20_000), 0.1, fineness=0.45), {"tokens"}),
        (other(sample(20_000), 0.1, fineness=1.5), {"tokens", "outside"}),
        (other(sample(20_000), 0.1, outside=1.0), {"outside"}),
    ],
    ids=["weak spam", "suspicious ham", "another language", "another script", "flagged"],
)
def test_a_tenth_of_odd_texts_is_seen_by_the_signal_that_it_shows_in(
    window: Window, seen: Seen, signals: set[str]
) -> None:
    assert drifted(window, seen._replace(outside=seen.outside.astype(np.bool_))) == signals


def test_nothing_is_said_of_too_few(window: Window) -> None:
    window.observe(sample(LEAST - 1))
    assert window.ratios() is None

    window.observe(sample(1))
    assert window.ratios() is not None


def test_what_was_is_forgotten(window: Window) -> None:
    assert drifted(window, other(sample(5_000), 0.5, score=0.5)) == {"score"}

    for _ in range(100):
        last = drifted(window, sample(400))
    assert not last


def test_short_texts_and_texts_without_a_score_say_nothing_of_tokens() -> None:
    texts = ["k", "ok then, see you", "see you later then", ""]
    prepared = [Prepared(np.zeros(count, np.int32), flags) for count, flags in ((1, ()), (8, ()), (3, ("outside",)))]

    seen = Seen.of(texts, [*prepared, Prepared(np.zeros(0, np.int32))], np.array([0.1, 0.2, 0.3, np.nan]))

    assert seen.score.tolist() == [0.1, 0.2, 0.3]
    assert seen.fineness.tolist() == [0.0, 8 / 16, 3 / 18]
    assert seen.outside.tolist() == [False, False, True]


def test_a_reference_goes_through_a_bundle_unchanged() -> None:
    reference = Reference.of(sample(1000), 0.5)

    again = Reference.read({"drift": json.loads(json.dumps(reference.as_quality())), "test-f1": 0.9})

    assert again is not None
    assert again.as_quality() == reference.as_quality()


def test_an_evaluation_of_one_side_has_a_reference_too() -> None:
    reference = Reference.of(sample(1000, spam=0.0), 0.999)

    again = Reference.read({"drift": json.loads(json.dumps(reference.as_quality()))})

    assert again is not None
    assert again.fineness[1] == float("inf")


SOUND = {
    "threshold": 0.5,
    "score": [0.1, 0.9],
    "tokens-a-character": [0.4, None],
    "finest": 0.7,
    "expected": {signal: [0.05, 0.05] for signal in SIGNALS},
}


def test_the_sound_one_is_read() -> None:
    assert Reference.read({"drift": SOUND}) is not None


@pytest.mark.parametrize(
    "told",
    [
        None,
        5,
        {},
        SOUND | {"score": [0.1]},
        SOUND | {"score": [0.6, 0.9]},
        SOUND | {"score": ["x", 0.9]},
        SOUND | {"threshold": None},
        SOUND | {"finest": 0},
        SOUND | {"tokens-a-character": [-1, 1]},
        SOUND | {"expected": {"score": [0.1, 0.1]}},
        SOUND | {"expected": {signal: [0.1, 1.1] for signal in SIGNALS}},
        SOUND | {"expected": {signal: [0.1] for signal in SIGNALS}},
    ],
)
def test_what_is_no_reference_is_none(told: object) -> None:
    assert Reference.read({"drift": told}) is None
    assert Reference.read({}) is None


def test_too_few_texts_are_no_evaluation() -> None:
    assert usual(Classifier.load(NANO, "cpu"), ["hello there"] * (LEAST - 1)) == {}


class Traffic:
    """Real texts judged by the shipped bundle: those of UCI that it has not learnt, and what may come besides."""

    def __init__(self) -> None:
        self.classifier = Classifier.load(NANO, "cpu")
        self.rows = data.split(data.prepare().rows, 0).test
        self.reference = Reference.made(self.classifier, [row.text for row in self.rows])

    def stream(self, texts: list[str], count: int = 8000) -> Iterator[Seen]:
        prepared = self.classifier.prepare(texts)
        score = self.classifier.judge(prepared).score
        for start in range(0, count, 400):
            at = np.random.default_rng(start).integers(len(texts), size=400)
            yield Seen.of([texts[i] for i in at], [prepared[i] for i in at], score[at])


@pytest.fixture(scope="module")
def traffic() -> Traffic:
    return Traffic()


@pytest.mark.parametrize("spam", [0, 1, 2])
def test_neither_harmless_chat_alone_nor_twice_the_spam_is_a_drift_of_the_shipped_bundle(
    traffic: Traffic, spam: int
) -> None:
    ham = [row.text for row in traffic.rows if row.label == "ham"]
    known = [row.text for row in traffic.rows if row.label != "ham"]
    window = Window(traffic.reference)

    assert not any(drifted(window, seen) for seen in traffic.stream(ham + spam * known))


def test_a_tenth_in_a_script_that_no_evaluation_has_is_a_drift_of_the_shipped_bundle(traffic: Traffic) -> None:
    thai = ["พัสดุของคุณจะมาถึงพรุ่งนี้เช้า", "ยอดเงินคงเหลือในบัญชีของคุณ", "ขอบคุณที่ใช้บริการของเรา"]
    window = Window(traffic.reference)
    texts = [row.text for row in traffic.rows]

    found = [drifted(window, seen) for seen in traffic.stream(texts + len(texts) // 27 * thai)]

    assert "outside" in found[-1]
