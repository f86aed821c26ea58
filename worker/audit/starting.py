"""Where an audit begins: where the last one ended, at an offset, at a time, or where the worker's group is now."""

from __future__ import annotations

import datetime as dt
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from worker.audit.brokers import AwayError
from worker.messages import EARLIEST, LATEST

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from worker.audit.brokers import Brokers, Tail
    from worker.audit.ledger import Ledger
    from worker.messages import Positions, TopicPartition

_AHEAD: Final = 3600.0
"""How far a record's timestamp may lie ahead of the time: as far as Kafka 4 takes it by default."""
_BEFORE: Final = 100
"""Records before the first that are looked at for its time: one alone may be dated wrongly."""
_PATIENCE: Final = 30.0
_POLL_WAIT: Final = 0.2


class StartError(Exception):
    """The audit cannot begin where it was told to; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Start:
    """The start given on the command line: an offset for some partitions, a Unix time for all others, or nothing."""

    offsets: Mapping[int, int] = field(default_factory=dict)
    since: float | None = None

    @classmethod
    def parse(cls, offsets: Iterable[str], since: str | None) -> Start:
        """Read `--from-offset P:O ...` and `--from-time T`. Raises ValueError naming the option."""
        return cls(dict(map(_offset, offsets)), None if since is None else _time(since))

    @property
    def is_given(self) -> bool:
        """Whether it was said where to begin."""
        return bool(self.offsets) or self.since is not None


def begin(ledger: Ledger, brokers: Brokers, start: Start, verdicts: str) -> tuple[Positions, Positions]:
    """Begin each partition of the input; `verdicts` is the topic of those. Raises StartError.

    Return from where the output topics are to be read, and up to where an audit before this one has read them.
    """
    stable = brokers.answers.ends()  # before the offsets: all answers to what is beyond those come after these
    settled, progress = brokers.settled(), brokers.progress()
    starts, ends = brokers.events.starts(), brokers.events.ends()
    asked = _asked(brokers, start, starts, ends)
    notes = {place: note for place, (_, note) in progress.items() if place in stable}
    known = {place: int(note) for place, note in notes.items()} if all(map(str.isdecimal, notes.values())) else None
    begins = [stable]
    for place in starts:
        if place in asked:
            ledger.begin(place[1], asked[place])
        elif place in progress:
            offset, _ = progress[place]
            _require_there(offset, ends[place], place)
            ledger.begin(place[1], offset, known)
            begins.append({each: progress[each][0] if each in progress else 0 for each in stable})
        else:
            ledger.begin(place[1], settled.get(place, starts[place]))
    if asked:
        since = _answers_since(brokers, asked, ends)
        begins.append(since)
        _require_kept(brokers, {place: offset for place, offset in since.items() if place[0] == verdicts})
    return {place: min(each[place] for each in begins) for place in stable}, known or {}


def _asked(brokers: Brokers, start: Start, starts: Positions, ends: Positions) -> Positions:
    """Return the start offsets given on the command line, by partition. Raises StartError."""
    asked = dict(brokers.events.at(start.since)) if start.since is not None else {}
    places = {place[1]: place for place in starts}
    for partition, offset in start.offsets.items():
        if partition not in places:
            message = f"--from-offset {partition}:{offset}: there is no such partition; there are {sorted(places)}"
            raise StartError(message)
        if offset > (end := ends[places[partition]]):
            message = f"--from-offset {partition}:{offset}: the partition ends at {end}"
            raise StartError(message)
        asked[places[partition]] = offset
    return asked


def _answers_since(brokers: Brokers, asked: Positions, ends: Positions) -> Positions:
    """From where the answers to all records from these on are found: from an hour before these were sent."""
    moment = _sent(brokers.events, {place: offset for place, offset in asked.items() if offset < ends[place]})
    if moment == math.inf:  # all that is to be answered is yet to come
        return brokers.answers.ends()
    since = max(0.0, moment - _AHEAD) if moment >= EARLIEST else 0.0
    return brokers.answers.at(since)


def _sent(tail: Tail, asked: Positions) -> float:
    """Return the earliest timestamp of these records and those just before them; infinity for none."""
    starts = tail.starts()
    for place, offset in asked.items():
        tail.seek(place, max(starts[place], offset - _BEFORE))
    earliest, until = math.inf, time.monotonic() + _PATIENCE
    while left := {place for place, offset in asked.items() if tail.position(place) <= offset}:
        if time.monotonic() > until:
            message = f"the records from which to begin could not be read within {_PATIENCE:g} s"
            raise AwayError(message)
        tail.only(left)
        for chunk in tail.chunks(_POLL_WAIT):
            # Where there is none at the offset itself, the next one is the first.
            near = [each.timestamp for each in chunk.records if each.offset <= asked[chunk.place]]
            earliest = min([earliest, *near, *(each.timestamp for each in chunk.records[:1])])
    return earliest


def _require_kept(brokers: Brokers, since: Positions) -> None:
    """Of a partition that begins no earlier than its answers are looked for, some of these may be deleted."""
    starts, ends = brokers.answers.starts(), brokers.answers.ends()
    for place, offset in since.items():
        if 0 < starts[place] >= offset and offset < ends[place]:
            message = (
                f"partition {place[1]} of {place[0]} may have had answers to the first records, and begins only at "
                f"{starts[place]} now: begin later, at least an hour after what it still has"
            )
            raise StartError(message)


def _require_there(offset: int, end: int, place: TopicPartition) -> None:
    if offset > end:
        message = (
            f"the audit has come to offset {offset} of partition {place[1]} of {place[0]}, which ends at {end}: the "
            "topic was created again; delete the audit's group, HAMGATE_GROUP_ID.audit"
        )
        raise StartError(message)


def _offset(given: str) -> tuple[int, int]:
    partition, colon, offset = given.partition(":")
    if not (colon and partition.isdecimal() and offset.isdecimal()):
        message = f"--from-offset {given}: allowed: a partition and an offset, as 0:1200"
        raise ValueError(message)
    return int(partition), int(offset)


def _time(given: str) -> float:
    try:
        moment = dt.datetime.fromisoformat(given)
        seconds = moment.timestamp() if moment.tzinfo else math.nan
    except ValueError:
        seconds = float(given) if given.replace(".", "", 1).isdecimal() else math.nan
    if not EARLIEST <= seconds <= LATEST:
        message = (
            f"--from-time {given}: allowed: an RFC 3339 time with its offset, as 2026-01-31T08:00:00Z, or Unix seconds"
        )
        raise ValueError(message)
    return seconds
