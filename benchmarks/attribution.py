"""Whether the words that an explanation names are those that matter: on held-out spam, without them the score falls.

    .venv/bin/python -m benchmarks.attribution [--bundle FOLDER] [--texts 200] [--words 5]

Of each text the words with the most log odds are left out, and as many random ones. The falls of the score's log odds
are compared, and how long an explanation takes on one thread.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from training import results
from training.data import mixture
from training.results import Entry
from worker.model.classifier import Classifier, published
from worker.model.normalise import normalise
from worker.predict.attribution import attribute, log_odds
from worker.settings import SHIPPED_BUNDLE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

_SEED: Final = "attribution"
_LEAST: Final = 2
"""Times the words that are left out: of a shorter text nothing would be left."""


def falls(classifier: Classifier, texts: Sequence[str], words: int) -> Iterator[tuple[float, float, float, float]]:
    """For each text: the fall of the log odds without the top words, and without random ones; of the score; seconds."""
    dice = random.Random(_SEED)
    for text in texts:
        began = time.perf_counter()
        found = attribute(classifier, text, patience=60.0)
        seconds = time.perf_counter() - began
        count = len(found.words)
        if count < _LEAST * words or found.is_partial:
            continue
        ranked = sorted(range(count), key=lambda at: -(found.words[at].odds or 0.0))
        variants = [set[int](), set(ranked[:words]), set(dice.sample(range(count), words))]
        cut = [_without([each.word for each in found.words], gone) for gone in variants]
        scores = published(classifier.judge(classifier.prepare(cut)).score).tolist()
        whole, top, chance = map(log_odds, scores)
        yield whole - top, whole - chance, scores[0] - scores[1], seconds


def _without(words: Sequence[str], gone: Collection[int]) -> str:
    return " ".join(word for at, word in enumerate(words) if at not in gone)


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attribution", description=__doc__.partition("\n")[0])
    parser.add_argument("--bundle", type=Path, default=SHIPPED_BUNDLE)
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--words", type=int, default=5)
    parser.add_argument("--results", type=Path, default=results.RESULTS)
    options = parser.parse_args()
    classifier = Classifier.load(options.bundle, "cpu", threads=1)
    held_out = [row.text for row in mixture.cut(mixture.read(), 0).test if row.label != "ham"]
    random.Random(_SEED).shuffle(held_out)
    long_enough = [text for text in held_out if len(normalise(text).split()) >= _LEAST * options.words]
    measured = np.array([*falls(classifier, long_enough[: options.texts], options.words)])
    top, chance, score, seconds = measured.T
    about = {"bundle": classifier.bundle.model, "texts": len(measured), "words": options.words}
    figures = (
        ("fall without the top words", "log odds", top.mean()),
        ("fall without random words", "log odds", chance.mean()),
        ("top words over random ones", "ratio", top.mean() / chance.mean()),
        ("texts that the top words move more", "share", (top > chance).mean()),
        ("fall of the score without the top words", "probability", score.mean()),
        ("explanation p50", "ms", 1e3 * np.quantile(seconds, 0.5)),
        ("explanation p99", "ms", 1e3 * np.quantile(seconds, 0.99)),
    )
    made = [Entry(f"attribution: {name}", unit, round(float(value), 3), extra=about) for name, unit, value in figures]
    for each in made:
        print(f"{each.name:<55}{each.value:>9} {each.unit}")
    print(results.record(f"attribution-{classifier.bundle.name}", made, folder=options.results))


if __name__ == "__main__":
    main()
