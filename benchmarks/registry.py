"""What the sender registry costs a message: 1,000 brands, real texts of data/, each from some sender.

    python -m benchmarks.registry [--brands N] [--rounds N]

Beside the model and the broker: what the writing thread does for each message. Times of single messages, with their
share of what is done for a batch at once; the best of the rounds for each, so that other work of the machine counts
little. The clock's own time is not taken off.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks import texts
from training import results
from training.data import modern
from training.results import Entry
from worker.messages import Flag
from worker.model.normalise import is_uncovered, normalise
from worker.policy import links
from worker.policy.addresses import sender_type
from worker.policy.facts import Facts
from worker.policy.registry.brands import Brand, Registry
from worker.policy.registry.registered import RegisteredSenders

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SYLLABLES: Final = (
    "ba",
    "co",
    "del",
    "fin",
    "gra",
    "hol",
    "jun",
    "kar",
    "lum",
    "mer",
    "nor",
    "pol",
    "ri",
    "sto",
    "ver",
    "zan",
)
_NAMING: Final = 2_000
"""Messages that name a brand, beside those that do not."""
_BATCH: Final = 250
"""Messages that the writer decides together under load."""
_LONGEST_SHORT: Final = 160
"""Characters of one part of an SMS."""


def brands(count: int) -> list[Brand]:
    """Brands of names that can be spoken, each with an alias, three senders and two hosts."""
    dice = random.Random("registry")
    names = dict.fromkeys("".join(dice.choices(_SYLLABLES, k=dice.randint(2, 4))) for _ in range(20 * count))
    return [
        Brand(
            name.title(),
            (f"{name.title()} Bank",),
            frozenset({name, str(20_000 + at), f"4416329{at:05d}"}),
            frozenset({f"{name}.example", f"{name}-pay.example"}),
        )
        for at, name in enumerate(list(names)[:count])
    ]


def messages(some: Sequence[str]) -> list[Facts]:
    """Each from a number, a short code or a sender id, none of them registered."""
    dice = random.Random("senders")
    made = []
    for at, text in enumerate(some):
        sender = dice.choice(
            (f"+44770090{dice.randint(0, 9999):04d}", str(dice.randint(60_000, 99_999)), "InfoService")
        )
        facts = Facts(text, sender, None, 0.0, ("sms.events", 0), at)
        facts.flags = (Flag.NORMALISED,) if is_uncovered(text, normalise(text)) else ()
        facts.sender_type = sender_type(sender)
        made.append(facts)
    return made


def microseconds(
    do: Callable[[Facts], object],
    some: Sequence[Facts],
    rounds: int,
    foresee: Callable[[Sequence[Facts]], None] = lambda _: None,
) -> np.ndarray:
    """The best time of each message, with its share of what is done for its batch."""
    best = np.full(len(some), np.inf)
    shares = np.full(len(some), np.inf)
    for _ in range(rounds):
        for first in range(0, len(some), _BATCH):
            batch = some[first : first + _BATCH]
            for facts in batch:
                facts.found.clear()
            began = time.perf_counter_ns()
            foresee(batch)
            share = (time.perf_counter_ns() - began) / len(batch)
            shares[first : first + _BATCH] = np.minimum(shares[first : first + _BATCH], share)
            for at, facts in enumerate(batch, first):
                began = time.perf_counter_ns()
                do(facts)
                best[at] = min(best[at], time.perf_counter_ns() - began)
    return (best + shares) / 1e3


def entry(name: str, taken: np.ndarray, **extra: object) -> Entry:
    """The median, with the 99th percentile, and the mean, which is what a stream pays."""
    p99, mean = round(float(np.quantile(taken, 0.99)), 1), round(float(taken.mean()), 2)
    return Entry(
        f"registry/{name}", "us", round(float(np.median(taken)), 2), f"p99 {p99}",
        {"messages": len(taken), "mean": mean} | extra,
    )  # fmt: skip


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--brands", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=results.RESULTS)
    options = parser.parse_args()
    known = brands(options.brands)
    began = time.perf_counter()
    registry = Registry(known)
    compiled = time.perf_counter() - began
    rules = RegisteredSenders(registry, normalise)
    uci = list(texts.collection())
    new = [row.text for row in modern.read()]
    dice = random.Random("naming")
    naming = [f"{dice.choice(known).name}: {text} https://{dice.choice('abc')}{at % 97}.example/x"
              for at, text in enumerate(uci[:_NAMING])]  # fmt: skip
    own = messages([f"{brand.name}: your order is on its way, {brand.name.lower()}.example" for brand in known])
    for facts, brand in zip(own, known, strict=True):
        facts.sender = brand.name
    sets = {
        "uci-short": messages([text for text in uci if len(text) <= _LONGEST_SHORT]),
        "uci": messages(uci),
        "modern": messages(new),
        "modern-without-a-dot": messages([text for text in new if "." not in text and text.isascii()]),
        "naming-with-a-foreign-link": messages(naming),
        "registered-sender": own,
    }
    about = {"brands": len(known), "rounds": options.rounds}
    made = []
    for name, some in sets.items():
        made.append(entry(name, microseconds(rules.rulings, some, options.rounds, rules.foresee), **about))
        made.append(
            entry(f"hosts/{name}", microseconds(lambda facts: links.hosts(facts.text), some, options.rounds), **about)
        )
    made.append(Entry("registry/compile", "ms", round(compiled * 1e3, 1), "", about))
    path = results.record("registry", made, folder=options.results)
    for each in made:
        print(f"{each.name:<48} {each.value:>8} {each.unit} {each.range:<12} mean {each.extra.get('mean', '')}")
    print(path)


if __name__ == "__main__":
    main()
