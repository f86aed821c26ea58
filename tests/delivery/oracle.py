"""The oracle of delivery: nothing lost, nothing duplicated, order kept, readers agree; and how long it stood still."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from tests.delivery import readers, traffic
from worker.messages import decode_verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.delivery.readers import Seen, Watch


@dataclass
class Findings:
    """The findings of one run. Counts are of messages; stalls in seconds, one for each time that the fault struck."""

    messages: int = 0
    fed_twice: int = 0
    lost: int = 0
    duplicated: int = 0
    unknown: int = 0
    reordered: int = 0
    poison: int = 0
    dead_letters: int = 0
    dead_letters_lost: int = 0
    dead_letters_duplicated: int = 0
    dead_letters_unknown: int = 0
    readers_disagree: list[str] = field(default_factory=list)
    stalls: list[float] = field(default_factory=list)
    longest_stall: float = 0.0

    @property
    def is_exactly_once(self) -> bool:
        wrong = (self.lost, self.duplicated, self.unknown, self.reordered)
        letters = (self.dead_letters_lost, self.dead_letters_duplicated, self.dead_letters_unknown)
        return not any(wrong) and not any(letters) and not self.readers_disagree

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def judge(
    brokers: str, events: str, verdicts: str, dead_letters: str, *, watch: Watch, total: int, struck: list[float]
) -> Findings:
    """Read everything again, by three clients, and hold it against what went in. `struck`: Unix times of the faults."""
    fed = list(readers.by_ours(brokers, events))
    final = {
        "kafka-python": sorted(readers.by_ours(brokers, verdicts, dead_letters)),
        "librdkafka": sorted(readers.by_librdkafka(brokers, verdicts, dead_letters)),
        "java": sorted(readers.by_java(brokers, verdicts, dead_letters)),
        "concurrent": sorted(watch.records),
    }
    ours = final["kafka-python"]
    findings = compare(fed, [seen for seen in ours if seen.topic == verdicts], dead(ours, dead_letters), total)
    findings.readers_disagree = [reader for reader, seen in final.items() if seen != ours]
    gaps = list(stalls(watch, verdicts))
    findings.stalls = [round(longest(gaps, begin, end), 3) for begin, end in _spans(struck)]
    findings.longest_stall = round(max((length for _, _, length in gaps), default=0.0), 3)
    return findings


def dead(records: Iterable[Seen], topic: str) -> list[bytes | None]:
    return [seen.value for seen in records if seen.topic == topic]


def compare(
    fed: Iterable[Seen], verdicts: Sequence[Seen], dead_letters: Sequence[bytes | None], total: int
) -> Findings:
    """Hold verdicts (of each partition in order) and dead letters against the input topic, and that against its count.

    A sender whose broker dies may put an event in twice, librdkafka's idempotent one too: it bumps its epoch and sends
    anew. Twice in the input is two events, and two verdicts are right.
    """
    said = [decode_verdict(seen.value or b"") for seen in verdicts]
    sent, poison = _what_went_in(fed, total)
    came, buried = Counter(verdict.id for verdict in said), Counter(dead_letters)
    beyond, buried_beyond = came - sent, buried - poison
    return Findings(
        messages=sent.total() + poison.total() + sum(map(traffic.is_tombstone, range(total))),
        fed_twice=sent.total() - len(sent) + poison.total() - len(poison),
        lost=(sent - came).total(),
        duplicated=sum(count for name, count in beyond.items() if name in sent),
        unknown=len(came.keys() - sent.keys()),
        reordered=reordered([seen.key for seen in verdicts], [verdict.source.offset for verdict in said]),
        poison=poison.total(),
        dead_letters=buried.total(),
        dead_letters_lost=(poison - buried).total(),
        dead_letters_duplicated=sum(count for letter, count in buried_beyond.items() if letter in poison),
        dead_letters_unknown=len(buried.keys() - poison.keys()),
    )


def _what_went_in(fed: Iterable[Seen], total: int) -> tuple[Counter[str], Counter[bytes | None]]:
    """How often each event's name, and each poison, is in the input; each of them at least once."""
    wanted, poison = dict(traffic.expected(total)), set(traffic.poisoned(total))
    names: dict[bytes | None, str] = {traffic.value(number): traffic.name(number) for number in range(total)}
    copies = Counter(seen.value for seen in fed)
    sent = Counter({names[value]: count for value, count in copies.items() if names.get(value) in wanted})
    letters = Counter({value: count for value, count in copies.items() if value in poison})
    assert sent.keys() == wanted.keys(), "the sender says that all is sent, and the input has not all"
    assert letters.keys() == poison, "the sender says that all is sent, and the input has not all poison"
    return sent, letters


def reordered(keys: Sequence[bytes | None], offsets: Sequence[int]) -> int:
    """Number of verdicts that come after one of the same key, and so partition, whose event is later in it."""
    latest: dict[bytes | None, int] = defaultdict(int)
    count = 0
    for key, offset in zip(keys, offsets, strict=True):
        count += offset < latest[key]
        latest[key] = max(latest[key], offset)
    return count


def stalls(watch: Watch, verdicts: str) -> Iterable[tuple[float, float, float]]:
    """For each input partition, the times that it had messages and no verdict came: from, to, seconds.

    The next message's wait counts from when it was sent or from the verdict before it, whichever is later; so a pause
    of the sender is no stall, and one partition that stands still is one although the others go on.
    """
    before: dict[int, float] = defaultdict(float)
    for seen, arrived in zip(watch.records, watch.arrivals, strict=True):
        if seen.topic == verdicts:
            source = decode_verdict(seen.value or b"").source
            waited_from = max(before[source.partition], source.timestamp / 1000)
            before[source.partition] = max(before[source.partition], arrived)
            yield waited_from, arrived, arrived - waited_from


def longest(gaps: Sequence[tuple[float, float, float]], begin: float, end: float) -> float:
    """The longest stall that was going on at some time between two moments."""
    return max((length for since, until, length in gaps if until >= begin and since <= end), default=0.0)


def _spans(struck: list[float]) -> Iterable[tuple[float, float]]:
    return zip(struck, [*struck[1:], float("inf")][: len(struck)], strict=True)
