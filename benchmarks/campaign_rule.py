"""What the rule of campaigns stops beyond the score, of spam and of lawful bulk; and what it costs.

    python -m benchmarks.campaign_rule [--campaigns 150] [--variants 40]

Founding texts are test rows of data/modern that the shipped bundle has not learnt: spam, lawful, and lawful as bulk is,
where numbers alone differ. The first two are edited as by `benchmarks.campaigns`. All variants are shuffled, scored by
the bundle, and decided with and without the rule. What text alone would stop at the same lawful shares is found by
adding to the log odds of every score.
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.campaigns import edited, renumbered
from training import results
from training.data import mixture
from training.results import Entry
from worker import loading
from worker.campaigns import rules
from worker.campaigns.rules import LEAST, NEARLY_ALL, CampaignRules
from worker.campaigns.watching import CampaignWatch
from worker.messages import Action
from worker.metrics import Metrics
from worker.model.classifier import published
from worker.pipeline.verdicts import with_odds
from worker.policy.facts import Facts
from worker.policy.order import SEVERITY, Context, Scored
from worker.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from worker.policy.order import Rules

SPAM, LAWFUL, BULK = "spam", "lawful", "lawful-bulk"
_LEAST_WORDS: Final = 8
_SWEEP: Final = (0.8, 0.9, 0.95, 1.0)
_ODDS: Final = np.arange(0, 0.3, 0.01)
_BATCH: Final = 256


@dataclass(frozen=True, slots=True)
class Variants:
    """A shuffled stream: of each text its kind, its score, and what bounds it."""

    kinds: NDArray[np.str_]
    texts: Sequence[str]
    scores: Sequence[float]
    flags: Sequence[tuple[str, ...]]
    languages: Sequence[str | None]


def variants(model: loading.Model, campaigns: int, each: int, dice: random.Random) -> Variants:
    """Make them, and have them scored."""
    rows = [row for row in mixture.cut(mixture.read(), 0).test if row.source == "modern"]
    words = sorted({word for row in rows for word in row.text.split() if word.isalpha() and len(word) > 2})  # noqa: PLR2004
    founding = {row.group: row for row in rows if len(row.text.split()) >= _LEAST_WORDS}.values()
    spam = dice.sample([row.text for row in founding if row.truth != "ham"], campaigns)
    lawful = dice.sample([row.text for row in founding if row.truth == "ham"], campaigns)
    made = [(SPAM, edited(text, dice, words)) for text in spam for _ in range(each)]
    made += [(LAWFUL, edited(text, dice, words)) for text in lawful for _ in range(each)]
    made += [(BULK, renumbered(text, dice)) for text in lawful for _ in range(each)]
    dice.shuffle(made)
    texts, classifier = [text for _, text in made], model.classifier
    scores: list[float] = []
    flags: list[tuple[str, ...]] = []
    languages: list[str | None] = []
    for first in range(0, len(texts), _BATCH):
        prepared = classifier.prepare(texts[first : first + _BATCH])
        scores += published(classifier.judge(prepared).score).tolist()
        flags += [one.flags for one in prepared]
        languages += [one.language for one in prepared]
    return Variants(np.array([kind for kind, _ in made]), texts, scores, flags, languages)


def alone(stream: Variants, model: loading.Model, odds: float = 0.0) -> NDArray[np.int64]:
    """What the score has done with each, as its place in SEVERITY, with so much added to its log odds."""
    policy = model.verdicts.policy
    some = zip(stream.scores, stream.flags, stream.languages, strict=True)
    return np.array([SEVERITY.index(policy.action(with_odds(score, odds) if odds else score, *its))
                     for score, *its in some])  # fmt: skip


def decided(stream: Variants, actions: NDArray[np.int64], asked: Rules) -> tuple[NDArray[np.int64], float]:
    """The same by a worker that watches campaigns; and CPU microseconds that the rule takes of a message."""
    context = Context([asked], [CampaignWatch(Metrics(), "bench")])
    found = [
        (Facts(text, None, None, 1.7e9 + at, ("sms.events", 0), at, flags), Scored("spam", 0.5, SEVERITY[action], None))
        for at, (text, flags, action) in enumerate(zip(stream.texts, stream.flags, actions.tolist(), strict=True))
    ]
    after = [SEVERITY.index(context.decide(*each).scored.action) for each in found]
    began = time.process_time()
    for facts, _ in found:
        asked.rulings(facts)
    return np.array(after), (time.process_time() - began) / len(found) * 1e6


def entries(stream: Variants, model: loading.Model) -> Iterator[Entry]:
    """Shares stopped by kind, without the rule, with it, and by text alone at the same lawful shares; cost."""
    without = alone(stream, model)
    shifted = [alone(stream, model, float(odds)) for odds in _ODDS]
    is_spam, kinds = stream.kinds == SPAM, (SPAM, LAWFUL, BULK)
    extra = {"messages": len(stream.texts), "least": LEAST, "nearly-all": NEARLY_ALL}
    costs = []
    for share in _SWEEP:
        rules.NEARLY_ALL = share  # type: ignore[misc] # for the sweep alone
        after, cost = decided(stream, without, CampaignRules(is_dry_run=False))
        costs.append(cost)
        name = "shipped" if share == NEARLY_ALL else f"nearly-all-{share:g}"
        for what, bound in (("stopped", Action.FLAG), ("blocked", Action.BLOCK)):
            least = SEVERITY.index(bound)
            for kind in kinds:
                its = stream.kinds == kind
                yield Entry(f"campaign-rule/{name}/{what}/{kind}", "share", _of(after >= least, its), "",
                            extra | {"without": _of(without >= least, its)})  # fmt: skip
            allowed = _of(after >= least, ~is_spam)
            same = max(_of(each >= least, is_spam) for each in shifted if _of(each >= least, ~is_spam) <= allowed)
            yield Entry(f"campaign-rule/{name}/{what}/text-alone-at-equal-lawful", "share", same, "",
                        extra | {"lawful": allowed})  # fmt: skip
    rules.NEARLY_ALL = NEARLY_ALL  # type: ignore[misc]
    yield Entry("campaign-rule/cpu-a-message", "us", round(float(np.median(costs)), 2),
                f"{min(costs):.2f} to {max(costs):.2f}", extra)  # fmt: skip


def _of(hits: NDArray[np.bool_], which: NDArray[np.bool_]) -> float:
    return round(float(hits[which].mean()), 5)


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--campaigns", type=int, default=150)
    parser.add_argument("--variants", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, default=results.RESULTS)
    options = parser.parse_args()
    model = loading.model(Settings())
    stream = variants(model, options.campaigns, options.variants, random.Random(options.seed))
    made = list(entries(stream, model))
    for each in made:
        print(f"{each.name:<60} {each.value:>9} {each.unit:<6} {each.range} {each.extra.get('without', '')}")
    print(results.record("campaign-rule", made, folder=options.results))


if __name__ == "__main__":
    main()
