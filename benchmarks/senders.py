"""What a sender's behaviour adds to the text: recall of conversation scams at equal lawful flags; cost; memory.

    python -m benchmarks.senders [--senders N] [--people N] [--hours H]

Simulated traffic, real texts: test rows of data/ that the shipped bundle has not learnt, scored by it. Nine hundred and
ninety of a thousand senders are lawful; what each of them does stands in `_people`, `_organisations` and `_scammers`.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import resource
import time
import zlib
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from training import results
from training.data import mixture, modern
from training.results import Entry
from worker.messages import Action, Flag
from worker.model.classifier import Classifier
from worker.policy.facts import Facts
from worker.policy.hashing import Hashing
from worker.policy.order import Context, Scored
from worker.senders import Behaviour, BehaviourRules, SenderLimits
from worker.senders.contacts import MISTAKEN, PAIRS, Contacts
from worker.senders.rules import ODDS, RULE
from worker.senders.snapshots import KIND, WINDOW, Held, SenderSnapshot
from worker.senders.table import SLOTS
from worker.settings import SHIPPED_BUNDLE, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from training.data.mixture import Sourced

SCAMS: Final = ("wrong-number", "hi-mum", "new-number", "romance", "job", "task-job")
START: Final = 1_790_000_000.0
_HOUR: Final = 3600.0
_SWEEP: Final = (2.0, 3.0, 4.0, 5.0, 6.0)
_KEY: Final = Hashing((b"a key for a benchmark",))
_CAPPED: Final = frozenset((Flag.NOTICE, Flag.ONE_TIME_CODE, Flag.OUTSIDE))
"""Texts that are never blocked on their score."""
_DISTINCT: Final = 10_000_000
_PARTITION: Final = ("sms.events", 0)


class Sent(NamedTuple):
    """One message of the simulation: `group` is who sends, `text` a row of the texts."""

    at: float
    sender: str
    recipient: str
    text: int
    group: str


@dataclass(frozen=True, slots=True)
class Texts:
    """Test rows with what the bundle makes of them."""

    rows: Sequence[Sourced]
    score: NDArray[np.float64]
    flags: Sequence[tuple[str, ...]]

    @classmethod
    def judged(cls, classifier: Classifier) -> Texts:
        """All test rows of the three collections that get a score."""
        rows = mixture.cut(mixture.read(), 0).test
        prepared = classifier.prepare([row.text for row in rows])
        score = classifier.judge(prepared).score
        there = np.flatnonzero(np.isfinite(score)).tolist()
        return cls([rows[at] for at in there], score[there], [prepared[at].flags for at in there])

    def those(self, wanted: Callable[[Sourced], bool]) -> list[int]:
        """Rows by what they are."""
        return [at for at, row in enumerate(self.rows) if wanted(row)]


def _number(dice: random.Random) -> str:
    return f"+4477{dice.randrange(10**8):08d}"


def _people(texts: Texts, count: int, hours: float, dice: random.Random) -> Iterator[Sent]:
    """Talks of two to ten messages, to and fro; nine in ten with one of a dozen contacts, else with a stranger.

    One in a hundred greets thirty contacts within an hour; one in two hundred sells something, and answers strangers.
    """
    personal = modern.kinds()["personal"]
    chat = texts.those(lambda row: row.truth == "ham" and (row.kind in personal or row.source != "modern"))
    numbers = [_number(dice) for _ in range(count)]
    for number in numbers:
        contacts = dice.sample(numbers, 12)
        for _ in range(round(dice.expovariate(1 / (hours / 3)))):
            other = dice.choice(contacts) if dice.random() < 0.9 else dice.choice(numbers)  # noqa: PLR2004
            yield from _talk(number, other, START + dice.uniform(0, hours * _HOUR), chat, dice)
        drawn = dice.random()
        at = START + dice.uniform(0, (hours - 1) * _HOUR)
        if drawn < 0.01:  # noqa: PLR2004
            for other in {*contacts, *dice.sample(numbers, 18)}:
                yield Sent(START + dice.uniform(0, 60), other, number, dice.choice(chat), "people")  # known
                yield Sent(at + dice.uniform(0, _HOUR), number, other, dice.choice(chat), "people")
        elif drawn < 0.015:  # noqa: PLR2004
            for _ in range(40):
                yield from _talk(dice.choice(numbers), number, at + dice.uniform(0, _HOUR), chat, dice)


def _talk(one: str, other: str, at: float, chat: Sequence[int], dice: random.Random) -> Iterator[Sent]:
    for turn in range(dice.randint(2, 10)):
        pair = (one, other) if turn % 2 == 0 else (other, one)
        yield Sent(at, *pair, dice.choice(chat), "people")
        at += dice.expovariate(1 / 60)


def _organisations(
    texts: Texts, people: Sequence[str], hours: float, dice: random.Random, *, is_known: bool
) -> Iterator[Sent]:
    """Notices to customers of its own: 60 under names and short codes, and 30 under plain numbers.

    Each has 100 to 3,000 customers, and writes to 20 to 600 of them an hour; one in five has never been written to.

    Where they are not `is_known`, the worker has just started: it has seen nobody written to.
    """
    personal = modern.kinds()["personal"]
    by_kind: dict[tuple[bool, str], list[int]] = defaultdict(list)
    for at, row in enumerate(texts.rows):
        if row.source == "modern" and row.truth == "ham" and row.kind not in personal:
            by_kind[row.sender in {"number", "unknown"}, row.kind].append(at)
    for index in range(90):
        is_number = index >= 60  # noqa: PLR2004
        kinds = sorted(kind for number, kind in by_kind if number == is_number)
        name = _number(dice) if is_number else dice.choice((f"BRAND{index}", str(60_000 + index)))
        group = "organisations on numbers" if is_number else "organisations"
        own = [each for kind in dice.sample(kinds, 3) for each in by_kind[is_number, kind]]
        customers = dice.sample(people, min(len(people), round(10 ** dice.uniform(2, 3.5))))
        hourly = min(600, max(20, len(customers) // 5))
        for customer in customers[: len(customers) * 4 // 5 * is_known]:
            yield Sent(START - dice.uniform(0, _HOUR), name, customer, dice.choice(own), group)
        for _ in range(round(hourly * hours)):
            yield Sent(START + dice.uniform(0, hours * _HOUR), name, dice.choice(customers), dice.choice(own), group)


def _scammers(texts: Texts, people: Sequence[str], count: int, hours: float, dice: random.Random) -> Iterator[Sent]:
    """Openers of one family to strangers, 10 to 300 an hour each for three hours; three victims in a hundred answer."""
    families = {kind: texts.those(lambda row, kind=kind: row.truth == "smishing" and row.kind == kind)  # type: ignore[misc]
                for kind in SCAMS}  # fmt: skip
    chat = texts.those(lambda row: row.truth == "ham" and row.source == "uci")
    for index in range(count):
        number, family = _number(dice), SCAMS[index % len(SCAMS)]
        hourly = 10 ** dice.uniform(1, 2.5)
        begins = START + dice.uniform(0, (hours - 3) * _HOUR)
        for _ in range(round(3 * hourly)):
            at, victim = begins + dice.uniform(0, 3 * _HOUR), dice.choice(people)
            yield Sent(at, number, victim, dice.choice(families[family]), family)
            if dice.random() < 0.03:  # noqa: PLR2004
                yield Sent(at + 300, victim, number, dice.choice(chat), "people")


def simulated(texts: Texts, people: int, hours: float, seed: int, *, is_known: bool = True) -> list[Sent]:
    """All messages, in the order of time."""
    dice = random.Random(seed)
    talk = list(_people(texts, people, hours, dice))
    numbers = sorted({each.sender for each in talk})
    sent = [*talk, *_organisations(texts, numbers, hours, dice, is_known=is_known)]
    sent += _scammers(texts, numbers, round(people / 99), hours, dice)
    return sorted(sent)


class Watched(NamedTuple):
    """A message as it came out: its score, whether the rule would raise it, and its flags."""

    sent: Sent
    score: float
    is_raised: bool
    flags: tuple[str, ...]


def watch(
    sent: Iterable[Sent], texts: Texts, threshold: float, *, workers: int = 1, restart_at: float = np.inf
) -> list[Watched]:
    """Through one worker that sees all, or one of several, where a message's key is its recipient.

    At `restart_at` others take their places, who know what they have published.
    """
    settings = Settings()
    limits = SenderLimits(settings.senders_burst, settings.senders_fan_out)
    observers = [Behaviour(limits, _KEY) for _ in range(workers)]
    contexts = [Context([BehaviourRules(each, is_dry_run=True)], [each]) for each in observers]
    known: dict[str, SenderSnapshot] = {}
    found = []
    for offset, each in enumerate(sent):
        if each.at >= restart_at:
            restart_at, held = np.inf, Held({_PARTITION: each.at}, known, 1)
            observers = [Behaviour(limits, _KEY, held=held) for _ in range(workers)]
            contexts = [Context([BehaviourRules(each, is_dry_run=True)], [each]) for each in observers]
        worker = zlib.crc32(each.recipient.encode()) % workers
        score = float(texts.score[each.text])
        scored = Scored("spam" if score >= threshold else "ham", score, Action.DELIVER, None, _raised)
        facts = Facts("", each.sender, each.recipient, each.at, _PARTITION, offset, texts.flags[each.text])
        contexts[worker].begin(each.at)
        decided = contexts[worker].decide(facts, scored)
        found.append(Watched(each, score, any(rule == RULE for rule, _ in decided.trials), facts.flags))
        due = observers[worker].due
        while due:
            sender, snapshot = due.popleft()
            known[_KEY.of(KIND, sender)] = snapshot
    return found


def _raised(odds: float) -> Scored:
    del odds
    return Scored("spam", 1.0, Action.DELIVER, None)


@dataclass(frozen=True, slots=True)
class Judged:
    """Watched messages as columns."""

    score: NDArray[np.float64]
    raised: NDArray[np.bool_]
    capped: NDArray[np.bool_]
    group: NDArray[np.str_]

    @classmethod
    def of(cls, watched: Sequence[Watched]) -> Judged:
        """Those of one stretch of time."""
        return cls(
            np.array([each.score for each in watched]).clip(1e-6, 1 - 1e-6),
            np.array([each.is_raised for each in watched]),
            np.array([not _CAPPED.isdisjoint(each.flags) for each in watched]),
            np.array([each.sent.group for each in watched]),
        )

    @property
    def is_scam(self) -> NDArray[np.bool_]:
        """Whether a message is one of the scams."""
        return np.isin(self.group, SCAMS)

    def scores(self, odds: float) -> NDArray[np.float64]:
        """Scores as the rule would have them."""
        return 1 / (1 + np.exp(-(np.log(self.score / (1 - self.score)) + odds * self.raised)))

    def hits(self, odds: float, bound: float, *, blocked: bool) -> NDArray[np.bool_]:
        """Which are flagged, or blocked, from a score on."""
        return (self.scores(odds) >= bound) & ~(self.capped & blocked)

    def bound(self, odds: float, share: float, *, blocked: bool) -> float:
        """The least score from which no more than a share of the lawful is hit."""
        lawful = self.scores(odds)[~self.is_scam & ~(self.capped & blocked)]
        most = int(share * (~self.is_scam).sum())
        return float(np.nextafter(np.sort(lawful)[::-1][most], 1)) if most < len(lawful) else 0.0


def recalls(name: str, judged: Judged, flag_from: float, block_from: float) -> Iterator[Entry]:
    """Recall of text alone and with context, at equal lawful shares and as shipped; then the lawful by group."""
    about = {"messages": len(judged.score), "scams": int(judged.is_scam.sum())}
    for what, bound in (("flagged", flag_from), ("blocked", block_from)):
        blocked = what == "blocked"
        alone = judged.hits(0.0, bound, blocked=blocked)
        share = float(alone[~judged.is_scam].mean())
        extra = about | {"lawful": round(share, 5)}
        yield Entry(f"senders/{name}/{what}/text-alone/recall", "share", _of(alone, judged.is_scam), "", extra)
        for odds in _SWEEP:
            hits = judged.hits(odds, judged.bound(odds, share, blocked=blocked), blocked=blocked)
            more = extra | {"lawful": _of(hits, ~judged.is_scam)}
            yield Entry(f"senders/{name}/{what}/odds-{odds:g}/recall-at-equal-lawful", "share",
                        _of(hits, judged.is_scam), "", more)  # fmt: skip
        hits = judged.hits(ODDS, bound, blocked=blocked)
        more = about | {"lawful": _of(hits, ~judged.is_scam), "odds": ODDS}
        yield Entry(f"senders/{name}/{what}/shipped/recall", "share", _of(hits, judged.is_scam), "", more)
        for group in sorted(set(judged.group.tolist())):
            its = judged.group == group
            yield Entry(f"senders/{name}/{what}/shipped/{group.replace(' ', '-')}", "share", _of(hits, its), "",
                        {"messages": int(its.sum()), "text-alone": _of(alone, its)})  # fmt: skip


def _of(hits: NDArray[np.bool_], which: NDArray[np.bool_]) -> float:
    return round(float(hits[which].mean()), 5)


def flags(name: str, watched: Sequence[Watched]) -> Iterator[Entry]:
    """The share of each group's messages that get each flag."""
    groups = Counter(_name(each.sent.group) for each in watched)
    for group, total in sorted(groups.items()):
        its = [each for each in watched if _name(each.sent.group) == group]
        for flag in (Flag.BURST, Flag.FAN_OUT, Flag.FIRST_CONTACT, Flag.COLD):
            count = sum(flag in each.flags for each in its)
            yield Entry(f"senders/{name}/flags/{group.replace(' ', '-')}/{flag}", "share", round(count / total, 5))


def _name(group: str) -> str:
    return "scams" if group in SCAMS else group


def cost(sent: Sequence[Sent]) -> Iterator[Entry]:
    """Microseconds of the writing thread a message: with the observer and the rule, less the walk without them.

    In batches of 256 whose strings are as fresh as from a decoder; medians of batches; filled with 300,000 senders.
    """
    settings, sent = Settings(), sent[len(sent) // 2 :][:100_000]
    scored, before = Scored("ham", 0.1, Action.DELIVER, None, _raised), sent[0].at - 3 * WINDOW

    def taken(context: Context, fill: int) -> float:
        context.begin(before)
        for index in range(fill):
            context.decide(Facts("", str(10**9 + index), str(index), before, _PARTITION, index), scored)
        times = []
        for first in range(0, len(sent), 256):
            batch = [
                Facts("", _fresh(each.sender), _fresh(each.recipient), each.at, _PARTITION, fill + offset)
                for offset, each in enumerate(sent[first : first + 256], first)
            ]
            began = time.thread_time()
            context.begin(batch[-1].received_at)
            for facts in batch:
                context.decide(facts, scored)
            times.append((time.thread_time() - began) / len(batch) * 1e6)
        return float(np.median(times))

    alone = min(taken(Context(), 0) for _ in range(3))
    gc.collect()
    gc.freeze()  # as a worker does
    full = []
    for _ in range(3):
        behaviour = Behaviour(SenderLimits(settings.senders_burst, settings.senders_fan_out), _KEY)
        full.append(taken(Context([BehaviourRules(behaviour, is_dry_run=False)], [behaviour]), 300_000))
    spread = f"{min(full) - alone:.1f} to {max(full) - alone:.1f}"
    about = {"walk-alone": round(alone, 2), "load-average": round(os.getloadavg()[0], 1)}
    yield Entry("senders/cost", "us", round(min(full) - alone, 2), spread, about)


def _fresh(address: str) -> str:
    return address.encode().decode()


def many() -> Iterator[Entry]:
    """Ten million senders, each with a recipient of his own: bytes of table and filters, growth, time."""
    behaviour = Behaviour(SenderLimits(15, 20), _KEY)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.thread_time()
    for index in range(_DISTINCT):
        if index % 1000 == 0:
            behaviour.begin(START + (index + 1000) / 1000)
        sender, recipient = str(447_000_000_000 + index), str(448_000_000_000 + index)
        behaviour.look(Facts("", sender, recipient, START + index / 1000, _PARTITION, index))
    seconds = time.thread_time() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    table, contacts = behaviour.table, behaviour.contacts
    about = {"senders": _DISTINCT, "kept": table.taken, "slots": SLOTS, "table": table.bytes, "filters": contacts.bytes}
    yield Entry("senders/10-million/bytes", "bytes", table.bytes + contacts.bytes, "", about | {"process-grew": grown})
    yield Entry("senders/10-million/cost", "us", round(seconds / _DISTINCT * 1e6, 2), "a sender never seen before")


def mistakes() -> Entry:
    """Of new pairs, the share that two full filters take for known ones; filters of a twentieth of the size."""
    contacts, dice = Contacts(PAIRS // 20), random.Random(1)
    for _ in range(PAIRS // 10 - 1):
        contacts.meet(dice.getrandbits(63), dice.getrandbits(63))
    tries = 200_000
    missed = sum(not contacts.meet(dice.getrandbits(63), dice.getrandbits(63)) for _ in range(tries))
    return Entry("senders/first-contact/missed", "share", round(missed / tries, 5), "", {"bound": 2 * MISTAKEN})


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.senders", description=__doc__)
    parser.add_argument("--people", type=int, default=10_000)
    parser.add_argument("--hours", type=float, default=6.0)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="without ten million senders; records nothing")
    parser.add_argument("--results", type=Path, default=results.RESULTS)
    options = parser.parse_args()
    classifier = Classifier.load(SHIPPED_BUNDLE, "cpu")
    bands = classifier.bundle.bands
    texts = Texts.judged(classifier)
    sent = simulated(texts, options.people, options.hours, options.seed)
    made: list[Entry] = []
    new = simulated(texts, options.people, options.hours, options.seed, is_known=False)
    middle = START + options.hours / 2 * _HOUR
    runs = (
        ("by-sender", sent, 1, np.inf),
        ("by-recipient-4-workers", sent, 4, np.inf),
        ("by-sender-never-seen-before", new, 1, np.inf),
        ("by-sender-after-a-restart", sent, 1, middle),
    )
    for name, traffic, workers, restart_at in runs:
        watched = watch(traffic, texts, classifier.bundle.threshold, workers=workers, restart_at=restart_at)
        begins = restart_at if restart_at < np.inf else traffic[0].at + WINDOW + 1
        warm = [each for each in watched if each.sent.at >= begins]
        made += recalls(name, Judged.of(warm), bands.flag_from, bands.block_from)
        made += flags(name, warm)
        made += flags(f"{name}/first-hour", [each for each in watched if each.sent.at < traffic[0].at + WINDOW])
    made += cost(sent)
    made.append(mistakes())
    if not options.quick:
        made += many()
    about = {"bundle": classifier.bundle.model, "people": options.people, "hours": options.hours, "seed": options.seed}
    made = [replace(each, extra=about | each.extra) for each in made]
    for each in made:
        beside = each.extra.get("lawful", each.extra.get("text-alone", ""))
        print(f"{each.name:<75} {each.value:>12} {each.range} {beside}")
    if not options.quick:
        print(results.record("senders", made, folder=options.results))


if __name__ == "__main__":
    main()
