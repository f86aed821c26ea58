"""How well planted campaigns are found in a stream of a million messages, and what that costs.

    python -m benchmarks.campaigns [--messages 1000000] [--campaigns 1000]

A campaign is a text of data/modern that is not ham, sent 20 to 2,000 times (Zipf) with the edits that senders make to
get past filters: other numbers and hosts in each, words swapped, typos, emoji, a greeting. Beside it goes the rest of
data/modern and data/uci as it is, and, for half of what is no campaign, the machine-written texts of data/taught, most
of which come a few times only. All of it is shuffled: the messages of a small campaign are 50,000 others apart.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from training import results
from training.data import modern, taught
from training.data import split as data
from training.results import Entry
from worker.campaigns.index import HELD, RECENT
from worker.campaigns.signature import constant
from worker.campaigns.watching import CampaignWatch
from worker.messages import Action, Flag
from worker.metrics import Metrics
from worker.model.normalise import is_uncovered, normalise
from worker.policy.facts import Facts
from worker.policy.order import Decided, Scored

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LEAST_WORDS: Final = 8
"""Of a founding text."""
_SMALLEST, _LARGEST, _ZIPF = 20, 2_000, 0.7
_CHUNK, _SHOWN = 10_000, 10
_BATCH: Final = 250
"""Messages that the writer decides together under load."""
_SELDOM: Final = 0.5
"""Share of data/taught in what is no campaign."""
_LENGTHS: Final = ((0, 40), (40, 60), (60, 90), (90, 150), (150, 10_000))
_DECIDED: Final = Decided(Scored("spam", 0.9, Action.FLAG, None))

_NAMES: Final = ("Sarah", "James", "Maria", "Ahmed", "Chen", "Olga", "Amina", "Peter", "Lucia", "Kofi", "Priya", "Tom")
_GREETINGS: Final = ("Hi", "Hello", "Hey", "Dear", "Good morning", "Dear customer", "Hi there")
_EMOJI: Final = "🎉🔥💰⚠️🚨✅📦🙏😊❗👉🎁"
_HOST: Final = re.compile(r"(https?://)?(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,}(/\S*)?")
_NUMBER: Final = re.compile(r"\d+")
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_ENDINGS: Final = ("com", "net", "xyz", "top", "info", "cc", "co.uk", "online", "example")
_SWAPS: Final = {
    "now": "today", "today": "now", "urgent": "important", "click": "tap", "tap": "click", "visit": "see",
    "call": "ring", "please": "kindly", "your": "ur", "you": "u", "account": "acct", "payment": "pmt",
    "parcel": "package",
    "package": "parcel", "delivery": "shipment", "confirm": "verify", "verify": "confirm", "update": "renew",
    "free": "gratis", "win": "claim", "won": "earned", "prize": "reward", "reply": "respond", "immediately": "at once",
    "is": "was", "has": "had", "been": "just", "to": "2", "for": "4", "and": "&", "avoid": "prevent", "link": "page",
    "here": "below", "limited": "locked", "suspended": "blocked", "pay": "settle", "fee": "charge", "job": "position",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Traffic:
    """A shuffled stream: texts, and for each the campaign it is of, -1 for none; and the founding texts."""

    texts: list[str]
    campaigns: list[int]
    founding: list[str]


def traffic(messages: int, campaigns: int, dice: random.Random) -> Traffic:
    """Make the stream."""
    rows = modern.read()
    uci = [row.text for row in data.prepare().rows]
    vocabulary = sorted({word for text in uci for word in text.split() if word.isalpha() and len(word) >= _LONG_WORD})
    first = {
        row.group: row.text for row in reversed(rows) if row.label != "ham" and len(row.text.split()) >= _LEAST_WORDS
    }
    chosen = dice.sample(sorted(first), campaigns)
    sizes = [max(_SMALLEST, round(_LARGEST / rank**_ZIPF)) for rank in range(1, campaigns + 1)]
    sent = [
        (edited(first[group], dice, vocabulary), number)
        for number, (group, size) in enumerate(zip(chosen, sizes, strict=True))
        for _ in range(size)
    ]
    others = [*(row.text for row in rows if row.group not in set(chosen)), *uci]
    seldom = [row.text for row in taught.unlabelled()]
    while len(sent) < messages:
        sent.append((dice.choice(seldom if dice.random() < _SELDOM else others), -1))
    dice.shuffle(sent)
    return Traffic([text for text, _ in sent], [number for _, number in sent], [first[group] for group in chosen])


# How often a sender does what, in `edited`; each is a draw of its own.
_TYPOS: Final = (0.3, 0.2)
_GREETED, _BY_NAME, _LIKE = 0.3, 0.6, 0.7
_HALF: Final = 0.5
_LONG_WORD: Final = 3


def edited(text: str, dice: random.Random, vocabulary: Sequence[str]) -> str:
    """A variant: other numbers and hosts always, and some of a word swapped, a typo, emoji, a greeting, a name."""
    text = _HOST.sub(lambda found: _host(found, dice), text)
    text = renumbered(text, dice)
    pieces = text.split(" ")
    for _ in range(dice.choice((0, 1, 1, 2))):
        _swap(pieces, dice, vocabulary)
    text = " ".join(pieces)
    for share in _TYPOS:
        if dice.random() < share:
            text = _typo(text, dice)
    if dice.random() < _GREETED:
        greeting = dice.choice(_GREETINGS)
        text = f"{greeting} {dice.choice(_NAMES)}, {text}" if dice.random() < _BY_NAME else f"{greeting}! {text}"
    for _ in range(dice.choice((0, 0, 0, 1, 2))):
        pieces = text.split(" ")
        pieces.insert(dice.randrange(len(pieces) + 1), dice.choice(_EMOJI))
        text = " ".join(pieces)
    return text


def renumbered(text: str, dice: random.Random) -> str:
    """The text with other numbers."""
    return _NUMBER.sub(lambda found: "".join(dice.choice("123456789") for _ in found[0]), text)


def _swap(pieces: list[str], dice: random.Random, vocabulary: Sequence[str]) -> None:
    """Exchange a word for its like, where one is known, else for any other word."""
    places = [at for at, piece in enumerate(pieces) if piece.strip(".,!?:;").isalpha()]
    known = [at for at in places if pieces[at].strip(".,!?:;").lower() in _SWAPS]
    if known and dice.random() < _LIKE:
        at = dice.choice(known)
        word = pieces[at].strip(".,!?:;")
        pieces[at] = pieces[at].replace(word, _SWAPS[word.lower()])
    elif places:
        at = dice.choice(places)
        pieces[at] = pieces[at].replace(pieces[at].strip(".,!?:;"), dice.choice(vocabulary))


def _typo(text: str, dice: random.Random) -> str:
    """A letter left out, doubled, exchanged for another, or two in the wrong order."""
    places = [at for at, letter in enumerate(text) if letter.isalpha()]
    if not places:
        return text
    at = dice.choice(places)
    before, letter, after = text[:at], text[at], text[at + 1 :]
    return dice.choice(
        (
            before + after,
            before + letter + letter + after,
            before + dice.choice(_LETTERS) + after,
            before + after[:1] + letter + after[1:],
        )
    )


def _host(found: re.Match[str], dice: random.Random) -> str:
    name = "".join(dice.choice(_LETTERS) for _ in range(dice.randint(5, 12)))
    path = "/" + "".join(dice.choice(_LETTERS) for _ in range(6)) if found[2] else ""
    return f"{found[1] or ''}{name}.{dice.choice(_ENDINGS)}{path}"


@dataclass(frozen=True, slots=True)
class Watched:
    """The campaign that each message was given; CPU seconds of each chunk; bytes resident, before and at each tenth."""

    given: list[str | None]
    seconds: list[float]
    resident: list[int]
    watch: CampaignWatch


def watched(stream: Traffic, dice: random.Random) -> Watched:
    """Show the stream to the observer, as the writer does."""
    before = _resident()
    watch = CampaignWatch(Metrics(), "bench")
    given: list[str | None] = []
    seconds, resident = [], [before]
    for start in range(0, len(stream.texts), _CHUNK):
        some = [
            Facts(text, _sender(number, dice), f"+4479{dice.randrange(10**8):08}", 1.7e9 + at, ("sms.events", 0), at)
            for at, (text, number) in enumerate(
                zip(stream.texts[start : start + _CHUNK], stream.campaigns[start : start + _CHUNK], strict=True), start
            )
        ]
        for facts in some:
            _normalised(facts)
        seconds.append(_shown(watch, some))
        given += [facts.campaign for facts in some]
        watch.changed.clear()  # as the companion does
        if len(given) % max(_CHUNK, len(stream.texts) // _SHOWN) == 0:
            resident.append(_resident())
            print(f"{len(given):>9,} {seconds[-1] / len(some) * 1e6:6.1f} us, {len(watch.index):,} campaigns, "
                  f"{resident[-1] / 2**20:,.0f} MiB", file=sys.stderr)  # fmt: skip
    return Watched(given, seconds, resident, watch)


def fresh(stream: Traffic, watch: CampaignWatch) -> float:
    """CPU microseconds of a message whose wording the observer has never met: three words of it are swapped."""
    dice = random.Random("fresh")
    words = sorted({word for text in stream.texts[:_CHUNK] for word in text.split() if word.isalpha()})
    texts = []
    for text in stream.texts[:_CHUNK]:
        pieces = [*text.split(), *dice.choices(words, k=3)]
        dice.shuffle(pieces)
        texts.append(" ".join(pieces))
    some = [Facts(text, "+44780", "+44790", 1.7e9, ("sms.events", 1), at) for at, text in enumerate(texts)]
    for facts in some:
        _normalised(facts)
    return _shown(watch, some) / len(some) * 1e6


def _shown(watch: CampaignWatch, some: Sequence[Facts]) -> float:
    """Show messages as the writer does, a batch at a time: CPU seconds."""
    began = time.process_time()
    for first in range(0, len(some), _BATCH):
        batch = some[first : first + _BATCH]
        watch.foresee(batch)
        for facts in batch:
            watch.look(facts)
            watch.learn(facts, _DECIDED)
    return time.process_time() - began


def _normalised(facts: Facts) -> None:
    """As the reader has made it ready."""
    plain = normalise(facts.text)
    if is_uncovered(facts.text, plain):
        facts.flags, facts.plain = (Flag.NORMALISED.value,), plain


def _sender(number: int, dice: random.Random) -> str:
    return f"+4477{number:04}{dice.randrange(30):04}" if number >= 0 else f"+4478{dice.randrange(10**8):08}"


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def entries(stream: Traffic, seen: Watched) -> Iterator[Entry]:
    """Recall, purity, cost, memory."""
    found: defaultdict[int, Counter[str | None]] = defaultdict(Counter)
    groups: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for number, name in zip(stream.campaigns, seen.given, strict=True):
        if name is not None:
            groups[name][number] += 1
        if number >= 0:
            found[number][name] += 1
    main = {number: max(((count, name) for name, count in names.items() if name), default=(0, None))
            for number, names in found.items()}  # fmt: skip
    planted = sum(names.total() for names in found.values())
    extra = {
        "messages": len(stream.texts),
        "campaigns": len(found),
        "planted": planted,
        "smallest": min(names.total() for names in found.values()),
        "largest": max(names.total() for names in found.values()),
        "held-at-most": HELD,
        "in-the-ring-at-most": RECENT,
    }
    by_length = {}
    for least, most in _LENGTHS:
        of = [number for number in found if least <= len(constant(stream.founding[number])) < most]
        if of:
            share = sum(main[number][0] for number in of) / sum(found[number].total() for number in of)
            by_length[f"founding-characters-{least}-to-{most}"] = f"{share:.4f} of {len(of)}"
    recall = sum(count for count, _ in main.values()) / planted
    yield Entry("campaigns/recall", "share", round(recall, 4), "", extra | by_length)
    without = sum(names[None] for names in found.values()) / planted
    yield Entry("campaigns/planted-without-campaign", "share", round(without, 4), "", extra)
    worst = sorted(main[number][0] / found[number].total() for number in found)
    yield Entry("campaigns/recall-of-a-campaign", "share", round(float(np.median(worst)), 4),
                f"{worst[0]:.2f} to {worst[-1]:.2f}",
                extra | {"below-half": sum(each < _HALF for each in worst)})  # fmt: skip
    touched = [each for each in groups.values() if any(number >= 0 for number in each)]
    purity = sum(max(each.values()) for each in touched) / sum(each.total() for each in touched)
    yield Entry("campaigns/purity", "share", round(purity, 4), "", extra | {"groups": len(touched)})
    mains = {name for _, name in main.values() if name}
    own = sum(max(count for number, count in groups[name].items() if number >= 0) for name in mains)
    pure = own / sum(groups[name].total() for name in mains)
    yield Entry("campaigns/purity-of-main-groups", "share", round(pure, 4), "", extra | {"groups": len(mains)})
    each = np.array(seen.seconds) / _CHUNK * 1e6
    yield Entry("campaigns/cpu-a-message", "us", round(float(each.mean()), 1), f"{each.min():.1f} to {each.max():.1f}",
                extra | {"clock": "process CPU time", "chunks-of": _CHUNK})  # fmt: skip
    alone = fresh(stream, seen.watch)
    yield Entry("campaigns/cpu-a-new-wording", "us", round(alone, 1), "", extra | {"texts": _CHUNK})
    first, *later = (size / 2**20 for size in seen.resident)
    yield Entry("campaigns/resident-growth", "MiB", round(later[-1] - first, 1), f"{later[0] - first:.1f} at a tenth",
                extra | {"arrays-mib": round(seen.watch.index.nbytes / 2**20, 1), "held": len(seen.watch.index),
                         "at-each-tenth": ", ".join(f"{size - first:.0f}" for size in later)})  # fmt: skip


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--campaigns", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, default=results.RESULTS)
    options = parser.parse_args()
    dice = random.Random(options.seed)
    stream = traffic(options.messages, options.campaigns, dice)
    made = [*entries(stream, watched(stream, dice))]
    for each in made:
        print(f"{each.name:<40} {each.value:>10} {each.unit:<6} {each.range}")
    print(made[0].extra)
    print(results.record("campaigns", made, folder=options.results))


if __name__ == "__main__":
    main()
