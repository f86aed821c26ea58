"""Lists changed a hundred times under load on two workers; and what the lists cost a message.

    python -m benchmarks.lists [--changes 100] [--rate 300] [--only cost|changes]

Changes: half of the messages come from the sender that is being listed, to all partitions. A change is in force in a
partition with the first verdict that shows it; the time is from the change's acknowledgement to that verdict's arrival
at a read_committed reader, and the last partition counts. After it, no verdict may show what held before.
Cost: `Snapshot.rulings` for real texts with numbers as senders and recipients, nearly none of which match.
"""

from __future__ import annotations

import argparse
import bisect
import dataclasses
import datetime as dt
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks import texts
from benchmarks.load import OpenLoop, Reading
from deploy.kafka import topics
from deploy.kafka.node import free_port, temporary
from training import results
from training.results import Entry
from worker.broker import KafkaLink, Publisher
from worker.messages import Outgoing, Verdict, decode_verdict
from worker.policy.facts import Facts
from worker.policy.hashing import Hashing
from worker.policy.lists.entries import ListEntry, Match, What, encode, target
from worker.policy.lists.matching import Snapshot
from worker.settings import PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from worker.messages import Record

PARTITIONS: Final = 6
KEYS: Final = 97
WORKERS: Final = 2
ACTIONS: Final = ("block", "flag", None)
"""What becomes of each subject in turn; None: it is removed."""
_WITHIN: Final = 60.0
_SIZES: Final = (0, 1_000, 100_000)
_MESSAGES: Final = 4096
_ROUNDS: Final = 10
_KINDS: Final = (
    (What.SENDER, Match.EXACT, "+4479"), (What.SENDER, Match.EXACT, "Shop"), (What.LINK_HOST, Match.EXACT, "exact"),
    (What.LINK_HOST, Match.SUFFIX, "host"), (What.NUMBER, Match.EXACT, "+4490"), (What.RECIPIENT, Match.EXACT, "+4479"),
    (What.SENDER, Match.PREFIX, "+4479"),
)  # fmt: skip
_SHARES: Final = (35, 45, 57, 70, 90, 99)
"""Of a hundred entries: where the next kind begins."""


# --- changes ----------------------------------------------------------------------------------------------------


class Senders(OpenLoop):
    """Every other message is from the subject of the moment."""

    def __init__(self, link: KafkaLink, topic: str, rate: float, lines: Sequence[str]) -> None:
        super().__init__(link, topic, rate, self._record)
        self.subject, self._lines = "Nobody", lines

    def _record(self, number: int) -> Iterator[Outgoing]:
        sender = self.subject if number % 2 else "Other"
        event = {"id": f"{number}:{sender}", "text": self._lines[number % len(self._lines)], "sender": sender}
        yield Outgoing(b"+44770090%04d" % (number % KEYS), json.dumps(event).encode())


class Arrivals(Reading):
    """All verdicts, each with its time of arrival."""

    def __init__(self, link: KafkaLink, topic: str) -> None:
        super().__init__(link, [topic], self._arrived)
        self.verdicts: list[Verdict] = []
        self.keys: list[bytes | None] = []
        self.at: list[float] = []

    def _arrived(self, record: Record) -> None:
        self.at.append(time.monotonic())
        self.keys.append(record.key)
        self.verdicts.append(decode_verdict(record.value or b""))


@dataclass(frozen=True, slots=True)
class Change:
    """One change: of which sender, what is to hold, from which verdict on, and when it was acknowledged."""

    subject: str
    action: str | None
    first: int
    acknowledged: float

    def shows(self, verdict: Verdict) -> bool:
        """Whether a verdict of the subject shows it."""
        return verdict.reason != "list" if self.action is None else (
            verdict.reason == "list" and verdict.action == self.action
        )  # fmt: skip


def changes(count: int, rate: float, made: Path, bootstrap: str) -> list[Entry]:
    """Make changes under load; what came of it."""
    name = f"lists-{uuid.uuid4().hex[:6]}"
    events, verdicts, letters, lists = (f"{name}.{part}" for part in ("events", "verdicts", "dead-letters", "lists"))
    topics.create(bootstrap, (events, verdicts, letters), PARTITIONS)
    topics.create_compacted(bootstrap, lists)
    key = made / "hash.key"
    key.write_text(secrets.token_hex(32))
    hashing = Hashing.read(key)
    link = KafkaLink(bootstrap, client_id=name)
    load, seen = Senders(link, events, rate, texts.stream(2000)), Arrivals(link, verdicts)
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(WORKERS)]
    common = {
        "BROKERS": bootstrap, "INPUT_TOPIC": events, "VERDICT_TOPIC": verdicts, "DEAD_LETTER_TOPIC": letters,
        "GROUP_ID": name, "ENGINE": "cpu", "THREADS": "1", "LOG_FORMAT": "json", "LOG_LEVEL": "warning",
        "LISTS_TOPIC": lists, "HASH_KEY_FILE": str(key),
    }  # fmt: skip
    workers = [
        _worker(common | {"INSTANCE_ID": f"w{number}", "METRICS_PORT": address.rpartition(":")[2]})
        for number, address in enumerate(addresses)
    ]
    try:
        _await(lambda: all(_assigned(each) == PARTITIONS / WORKERS for each in addresses), "both workers' partitions")
        seen.thread.start()
        load.thread.start()
        _await(lambda: len(seen.verdicts) > rate, "verdicts")
        with Publisher(link) as publisher:

            def publish(record: Outgoing) -> None:
                publisher.publish(lists, [record])

            done = [_change(number, hashing, publish, load, seen) for number in range(count)]
        load.stop()
        _await(lambda: len(seen.verdicts) >= load.sent, "the last verdicts")
        time.sleep(1)  # for one too many to show
        seen.stop()
        for each in workers:
            each.terminate()
        statuses = [each.wait(60) for each in workers]
    finally:
        for each in workers:
            each.kill()
    return _told(load, seen, done, rate, statuses)


def _change(
    number: int, hashing: Hashing, publish: Callable[[Outgoing], None], load: Senders, seen: Arrivals
) -> Change:
    subject, action = f"Bank{number // len(ACTIONS)}", ACTIONS[number % len(ACTIONS)]
    if number % len(ACTIONS) == 0:
        load.subject = subject
        time.sleep(0.3)  # so that there are messages of it before
    found = target(What.SENDER, Match.EXACT, subject)
    entry = found.entry(hashing, action=action or "block", author="bench", reason="a change", now=time.time())
    key, value = encode(entry)
    publish(Outgoing(key, value if action else None))
    made = Change(subject, action, len(seen.verdicts), time.monotonic())
    _await(lambda: not _missing(made, seen), f"change {number}")
    time.sleep(0.1)
    return made


def _missing(change: Change, seen: Arrivals) -> set[int]:
    shown = {verdict.source.partition for _, verdict in _of(change, seen) if change.shows(verdict)}
    return set(range(PARTITIONS)) - shown


def _of(change: Change, seen: Arrivals, until: int | None = None) -> Iterator[tuple[float, Verdict]]:
    for at in range(change.first, len(seen.verdicts) if until is None else until):
        if seen.verdicts[at].id.endswith(f":{change.subject}"):
            yield seen.at[at], seen.verdicts[at]


def _told(
    load: Senders, seen: Arrivals, done: Sequence[Change], rate: float, statuses: Sequence[int]
) -> list[Entry]:  # fmt: skip
    counts = Counter(verdict.id for verdict in seen.verdicts)
    last: dict[bytes | None, int] = {}
    reordered = 0
    for key, verdict in zip(seen.keys, seen.verdicts, strict=True):
        number = int(verdict.id.partition(":")[0])
        reordered += number < last.get(key, -1)
        last[key] = number
    each_partition, each_change, undone = list[float](), list[float](), 0
    ends = [change.first for change in done[1:]] + [len(seen.verdicts)]
    for change, until in zip(done, ends, strict=True):
        in_force: dict[int, float] = {}
        for at, verdict in _of(change, seen, until):
            place = verdict.source.partition
            if change.shows(verdict):
                in_force.setdefault(place, at - change.acknowledged)
            else:
                undone += place in in_force
        each_partition += in_force.values()
        each_change.append(max(in_force.values()))
    extra = {
        "changes": len(done), "workers": WORKERS, "partitions": PARTITIONS, "rate": rate, "messages": load.sent,
        "exit-statuses": list(statuses),
        "seconds-by-partition": {f"p{q}": round(float(np.percentile(each_partition, q)), 3) for q in (50, 90, 99, 100)},
        "seconds": {f"p{q}": round(float(np.percentile(each_change, q)), 3) for q in (50, 90, 99, 100)},
    }  # fmt: skip
    figures = (
        ("messages", "messages", load.sent), ("lost", "messages", load.sent - len(counts)),
        ("duplicated", "messages", counts.total() - len(counts)), ("reordered", "messages", reordered),
        ("back-to-before", "verdicts", undone),
        ("in-force/p50", "s", round(float(np.percentile(each_change, 50)), 3)),
        ("in-force/longest", "s", round(max(each_change), 3)),
    )  # fmt: skip
    return [Entry(f"lists/changes/{what}", unit, value, extra=extra) for what, unit, value in figures]


def _worker(settings: dict[str, str]) -> subprocess.Popen[bytes]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return subprocess.Popen(
        [sys.executable, "-m", "worker", "run"],
        env=inherited | {PREFIX + name: value for name, value in settings.items()},
    )


def _assigned(address: str) -> float:
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return 0.0
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("hamgate_assigned_partitions "))


def _await(what: Callable[[], bool], why: str) -> None:
    until = time.monotonic() + _WITHIN
    while not what():
        if time.monotonic() > until:
            message = f"{why} did not come within {_WITHIN:g} s"
            raise TimeoutError(message)
        time.sleep(0.02)


# --- cost -------------------------------------------------------------------------------------------------------


def cost() -> list[Entry]:
    """Microseconds that lists take of a message: none, some, many; and of which kind."""
    hashing = Hashing((secrets.token_bytes(32),))
    facts = [
        Facts(text, f"+4477{at * 7919 % 10**8:08}", f"+4478{at * 104729 % 10**8:08}", 0.0, ("t", 0), at)
        for at, text in enumerate(texts.stream(_MESSAGES))
    ]
    made = []
    for size in _SIZES:
        began = time.perf_counter()
        entries = [*_entries(size, hashing)]
        typed = time.perf_counter() - began
        began = time.perf_counter()
        snapshot = Snapshot(hashing).changed((), entries)
        compiled = time.perf_counter() - began
        began = time.perf_counter()
        snapshot.changed(entries[:1], entries[:1])
        change = time.perf_counter() - began
        extra: dict[str, object] = {"messages": _MESSAGES, "matched": _matched(snapshot, facts)}
        if size:
            extra |= {"typed-seconds": round(typed, 2), "compiled-seconds": round(compiled, 3),
                      "one-change-ms": round(1e3 * change, 2)}  # fmt: skip
            for what in What:
                mine = Snapshot(hashing).changed((), [entry for entry in entries if entry.what is what])
                extra[f"{what}-alone-us"] = _microseconds(mine, facts)
        made.append(Entry(f"lists/cost/{size}-entries", "us", _microseconds(snapshot, facts), "", extra))
    return made


def _entries(count: int, hashing: Hashing) -> Iterator[ListEntry]:
    """Senders, names, hosts, numbers, recipients, and prefixes of three lengths."""
    now = dt.datetime.now(dt.UTC).timestamp()
    for at in range(count):
        digits = f"{at * 7907 % 10**8:08}"
        what, match, start = _KINDS[bisect.bisect(_SHARES, at % 100)]
        middle = {What.LINK_HOST: f"{at}.example.com", What.RECIPIENT: digits, What.NUMBER: digits}
        typed = start + middle.get(what, digits if start.startswith("+") else str(at))
        if match is Match.PREFIX:
            typed = typed[: 7 + at // 100 % 3]
        found = target(what, match, typed)
        yield found.entry(hashing, action="block", author="bench", reason="a cost", now=now)


def _matched(snapshot: Snapshot, facts: Sequence[Facts]) -> int:
    return sum(bool(snapshot.rulings(each, 0.0)) for each in facts)


def _microseconds(snapshot: Snapshot, facts: Sequence[Facts]) -> float:
    """A message's, of this thread's own time: the best round's mean."""
    best = float("inf")
    for _ in range(_ROUNDS):
        for each in facts:
            each.found.clear()
        began = time.thread_time()
        for each in facts:
            snapshot.rulings(each, 0.0)
        best = min(best, time.thread_time() - began)
    return round(1e6 * best / len(facts), 2)


def main() -> int:
    """Measure and record; 1 where something was lost, came twice, or took longer than two seconds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lists", description=__doc__)
    parser.add_argument("--changes", type=int, default=100)
    parser.add_argument("--rate", type=float, default=300.0, help="messages a second")
    parser.add_argument("--only", choices=("cost", "changes"))
    parser.add_argument("--results", type=Path, default=results.RESULTS)
    options = parser.parse_args()
    found: list[Entry] = []
    if options.only != "changes":
        found += cost()
    if options.only != "cost":
        with tempfile.TemporaryDirectory() as made, temporary("lists") as node:
            found += changes(options.changes, options.rate, Path(made), node.bootstrap)
    for each in found:
        print(f"{each.name:<36} {each.value:>10} {each.unit}")
    print(json.dumps([dataclasses.asdict(each)["extra"] for each in found][-1], indent=1))
    print(results.record("lists", found, folder=options.results))
    value = {each.name: each.value for each in found}
    wrong = [f"lists/changes/{each}" for each in ("lost", "duplicated", "reordered", "back-to-before")]
    return int(any(value.get(name) for name in wrong) or value.get("lists/changes/in-force/longest", 0) > 2)  # noqa: PLR2004


if __name__ == "__main__":
    sys.exit(main())
