"""What must have come out: nothing lost, nothing doubled, order kept, readers agreed; and how long it stood still."""

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
    """What one run came to. Counts are of messages; stalls in seconds, one for each time that the fault struck."""

    messages: int = 0
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


def judge(brokers: str, verdicts: str, dead_letters: str, *, watch: Watch, total: int, struck: list[float]) -> Findings:
    """Read everything again, by three clients, and hold it against what went in. `struck`: Unix times of the faults."""
    final = {
        "kafka-python": sorted(readers.by_ours(brokers, verdicts, dead_letters)),
        "librdkafka": sorted(readers.by_librdkafka(brokers, verdicts, dead_letters)),
        "java": sorted(readers.by_java(brokers, verdicts, dead_letters)),
        "concurrent": sorted(watch.records),
    }
    ours = final["kafka-python"]
    findings = compare([seen for seen in ours if seen.topic == verdicts], dead(ours, dead_letters), total)
    findings.readers_disagree = [reader for reader, seen in final.items() if seen != ours]
    gaps = list(stalls(watch, verdicts))
    findings.stalls = [round(longest(gaps, begin, end), 3) for begin, end in _spans(struck)]
    findings.longest_stall = round(max((length for _, _, length in gaps), default=0.0), 3)
    return findings


def dead(records: Iterable[Seen], topic: str) -> list[bytes | None]:
    return [seen.value for seen in records if seen.topic == topic]


def compare(verdicts: Sequence[Seen], dead_letters: Sequence[bytes | None], total: int) -> Findings:
    """Hold verdicts (of each partition in order) and dead letters against the events 0 to `total`."""
    names = [decode_verdict(seen.value or b"").id for seen in verdicts]
    sent, poison = dict(traffic.expected(total)), set(traffic.poisoned(total))
    came, buried = Counter(names), Counter(dead_letters)
    return Findings(
        messages=total,
        lost=len(sent.keys() - came.keys()),
        duplicated=sum(count - 1 for count in came.values()),
        unknown=len(came.keys() - sent.keys()),
        reordered=reordered([seen.key for seen in verdicts], names),
        poison=len(poison),
        dead_letters=buried.total(),
        dead_letters_lost=len(poison - buried.keys()),
        dead_letters_duplicated=sum(count - 1 for count in buried.values()),
        dead_letters_unknown=len(buried.keys() - poison),
    )


def reordered(keys: Sequence[bytes | None], names: Sequence[str]) -> int:
    """How many messages came after one of the same key that was sent later."""
    latest: dict[bytes | None, str] = defaultdict(str)
    count = 0
    for key, name in zip(keys, names, strict=True):
        count += name < latest[key]
        latest[key] = max(latest[key], name)
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
