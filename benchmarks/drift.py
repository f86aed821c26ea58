"""What the drift alert says of streams of each kind, after how many messages; and what a message costs.

    python -m benchmarks.drift [--bundle FOLDER] [--evaluated-on uci|all]

Real rows of data/: the bundle's own test rows of split 0 as known traffic, with other texts mixed in.
"""

from __future__ import annotations

import argparse
import random
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from training import results
from training.data import mixture, modern
from training.data.disguises import sloppy
from training.results import ROOT, Entry
from worker.metrics import Metrics
from worker.model.classifier import Classifier
from worker.model.models_in_service import Role
from worker.model.normalise import normalise
from worker.rollout.drift import LEAST, SIGNALS, Drift, Reference, Seen, Window
from worker.settings import SHIPPED_BUNDLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from training.data.mixture import Sourced
    from worker.model.classifier import Prepared

_BATCH: Final = 100
_BEFORE, _LONG, _REPEATS = 10_000, 20_000, 20
_SPAM: Final = 0.13
"""UCI's own share."""
_LATIN: Final = ("es", "fr", "de", "pt", "tr", "id", "sw")
_OTHER_SCRIPT: Final = ("ar", "hi")
_RULES: Final = ROOT / "deploy" / "prometheus" / "rules" / "causes.yml"
_COST_BATCHES: Final = (16, 64, 256)


@dataclass(frozen=True, slots=True)
class Pool:
    """Texts and what the bundle makes of them."""

    texts: list[str]
    prepared: list[Prepared]
    score: NDArray[np.float64]

    @classmethod
    def of(cls, classifier: Classifier, texts: Iterable[str]) -> Pool:
        """Judge them; those without a score are left out."""
        texts = list(texts)
        prepared = classifier.prepare(texts)
        score = classifier.judge(prepared).score
        there = np.flatnonzero(np.isfinite(score)).tolist()
        return cls([texts[at] for at in there], [prepared[at] for at in there], score[there])

    def draw(self, count: int, dice: np.random.Generator) -> Seen:
        """Some of them, with replacement."""
        at = dice.integers(len(self.texts), size=count).tolist()
        return Seen.of([self.texts[i] for i in at], [self.prepared[i] for i in at], self.score[at])


@dataclass(frozen=True, slots=True)
class Stream:
    """What comes after ordinary traffic: shares of pools."""

    name: str
    parts: Sequence[tuple[float, Pool]]

    def batches(self, count: int, dice: np.random.Generator) -> Iterable[Seen]:
        """Batches of `_BATCH` texts, as many as make `count`; each text's pool is drawn by its share."""
        shares = np.array([share for share, _ in self.parts])
        for _ in range(count // _BATCH):
            drawn = dice.multinomial(_BATCH, shares / shares.sum())
            seen = [pool.draw(int(each), dice) for (_, pool), each in zip(self.parts, drawn, strict=True) if each]
            yield Seen(*(np.concatenate(columns) for columns in zip(*seen, strict=True)))


def streams(classifier: Classifier, rows: Sequence[Sourced], known: Sequence[Sourced]) -> list[Stream]:
    """The kinds of traffic, ordinary first."""
    personal = modern.kinds()["personal"]
    test = [row for row in mixture.cut(rows, 0).test if row.source == "modern"]
    notices = [row for row in test if row.truth == "ham" and row.kind not in personal and row.language == "en"]

    def pool(some: Iterable[Sourced]) -> Pool:
        return Pool.of(classifier, (row.text for row in some))

    dice = random.Random("drift")
    ham, spam = (pool(row for row in known if row.label == label) for label in ("ham", "spam"))
    chat = pool(row for row in known if row.label == "ham" and row.kind in {"", *personal})
    hasty = [Pool.of(classifier, (sloppy(row.text, dice) for row in known if row.label == label))
             for label in ("ham", "spam")]  # fmt: skip
    usual = ((1 - _SPAM, ham), (_SPAM, spam))

    def mixed(share: float, other: Pool) -> list[tuple[float, Pool]]:
        return [*((part * (1 - share), each) for part, each in usual), (share, other)]

    new = {
        "modern-notices": pool(notices),
        "modern-scams": pool(row for row in test if row.truth != "ham" and row.language == "en"),
        "another-language": pool(row for row in test if row.language in _LATIN),
        "another-script": pool(row for row in test if row.language in _OTHER_SCRIPT),
    }
    return [
        Stream("ordinary", usual),
        Stream("harmless-chat-alone", [(1.0, chat)]),
        Stream("half-the-spam", [(1 - _SPAM / 2, ham), (_SPAM / 2, spam)]),
        Stream("twice-the-spam", [(1 - 2 * _SPAM, ham), (2 * _SPAM, spam)]),
        *(Stream(f"{name}/{share:.0%}".replace("%", "-percent"), mixed(share, other))
          for name, other in new.items() for share in (0.1, 0.3)),
        Stream("typed-in-haste", [(1 - _SPAM, hasty[0]), (_SPAM, hasty[1])]),
    ]  # fmt: skip


def fires(reference: Reference, ordinary: Stream, stream: Stream, limit: float) -> tuple[list[float], dict[str, float]]:
    """After how many messages a signal is over the limit for good, in each repeat (inf: never); last ratios, by mean.

    For good: until the end of the stream.
    """
    after, last = [], []
    for seed in range(_REPEATS):
        dice, window = np.random.default_rng(seed), Window(reference)
        for seen in ordinary.batches(_BEFORE, dice):
            window.observe(seen)
        over: list[bool] = []
        for seen in stream.batches(_LONG, dice):
            window.observe(seen)
            over.append(max((window.ratios() or {}).values()) > limit)
        quiet = max((at for at, each in enumerate(over) if not each), default=-1)
        after.append((quiet + 2) * _BATCH if quiet + 1 < len(over) else np.inf)
        last.append(window.ratios() or {})
    return after, {signal: float(np.mean([each[signal] for each in last])) for signal in last[0]}


def entries(name: str, reference: Reference, found: Sequence[Stream], limit: float) -> list[Entry]:
    """What each stream shows: the share of repeats that fire, the median of messages until they do, the ratios."""
    made = []
    about = {"repeats": _REPEATS, "ordinary-before": _BEFORE, "messages": _LONG, "limit": limit}
    for stream in found:
        after, ratios = fires(reference, found[0], stream, limit)
        fired = [each for each in after if np.isfinite(each)]
        first = max(ratios, key=lambda signal: ratios[signal])
        extra = about | {"highest-signal": first} | {signal: round(ratio, 2) for signal, ratio in ratios.items()}
        made.append(Entry(f"drift/{name}/{stream.name}/fired", "share", len(fired) / _REPEATS, "", extra))
        if fired:
            spread = f"{min(fired):.0f} to {max(fired):.0f}"
            made.append(
                Entry(f"drift/{name}/{stream.name}/messages-until", "messages", float(np.median(fired)), spread, extra)
            )
    return made


def halves(name: str, classifier: Classifier, known: Sequence[Sourced]) -> list[Entry]:
    """Ratios of traffic like the evaluation's but of other rows: half of its clusters beside the other half."""
    known = [row for row in known if normalise(row.text)]
    pool = Pool.of(classifier, (row.text for row in known))
    seen = Seen.of(pool.texts, pool.prepared, pool.score)
    clusters = np.array([row.cluster for row in known])
    ratios: dict[str, list[float]] = {signal: [] for signal in SIGNALS}
    for seed in range(_REPEATS * 5):
        names = np.unique(clusters)
        first = np.isin(clusters, np.random.default_rng(seed).permutation(names)[: len(names) // 2])
        one, other = (Seen(seen.score[at], seen.fineness[at], seen.outside[at]) for at in (first, ~first))
        window = Window(Reference.of(one, classifier.bundle.threshold))
        for _ in range(-(-LEAST // len(other.score))):
            window.observe(other)
        for signal, ratio in (window.ratios() or {}).items():
            ratios[signal].append(ratio)
    return [
        Entry(f"drift/{name}/other-half/{signal}", "ratio", round(float(np.median(each)), 2),
              f"{np.quantile(each, 0.025):.2f} to {np.quantile(each, 0.975):.2f}")
        for signal, each in ratios.items()
    ]  # fmt: skip


def cost(reference: Reference, pool: Pool) -> list[Entry]:
    """Microseconds that a batch of each size takes beside the pipeline, gauges included; the best of some."""

    class Stand:
        role = Role.PRIMARY
        reference: Reference

    stand = Stand()
    stand.reference = reference
    made = []
    for size in _COST_BATCHES:
        drift, best = Drift(Metrics().drift), np.inf
        some = pool.texts[:size], pool.prepared[:size], pool.score[:size]
        for _ in range(LEAST // size + 200):
            began = time.perf_counter()
            drift.observe(stand, *some)  # type: ignore[arg-type] # all that it reads of a model
            best = min(best, time.perf_counter() - began)
        made.append(
            Entry(
                f"drift/cost/batch-of-{size}",
                "us",
                round(best * 1e6, 1),
                "",
                {"us-a-message": round(best * 1e6 / size, 3)},
            )
        )
    return made


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=SHIPPED_BUNDLE)
    parser.add_argument("--evaluated-on", choices=("uci", "all"), default="uci",
                        help="the test rows that are known traffic to it (default: uci)")  # fmt: skip
    parser.add_argument("--results", type=Path, default=results.RESULTS)
    options = parser.parse_args()
    [(_, limit)] = re.findall(r"(hamgate_drift_ratio) > ([\d.]+)", _RULES.read_text())
    classifier = Classifier.load(options.bundle, "cpu")
    rows = mixture.read()
    test = mixture.cut(rows, 0).test
    known = mixture.of(test, "uci") if options.evaluated_on == "uci" else test
    reference = Reference.made(classifier, [row.text for row in known])
    found = streams(classifier, rows, known)
    made = entries(classifier.bundle.name, reference, found, float(limit))
    made += halves(classifier.bundle.name, classifier, known)
    made += cost(reference, Pool.of(classifier, (row.text for row in known)))
    about = {"bundle": classifier.bundle.model, "evaluated-on": options.evaluated_on, "rows": len(known)}
    made = [Entry(each.name, each.unit, each.value, each.range, about | each.extra) for each in made]
    path = results.record(f"drift-{classifier.bundle.name}", made, folder=options.results)
    for each in made:
        print(f"{each.name:<60} {each.value:>9} {each.range:<18} {each.extra.get('highest-signal', '')}")
    print(path)


if __name__ == "__main__":
    main()
