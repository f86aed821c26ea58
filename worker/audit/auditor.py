"""START HERE. The audit's round, again and again: ask how far all is, read, and report what has no answer.

    1  what the worker's group has committed, then the ends of the output topics: a proof, once these are read
    2  how far the output topics can be read, then how far the input can
    3  the input up to there, or until the window is full
    4  the output topics up to there, or until an answer comes to a record that is not read yet
    5  with all read to the ends of 1: what has no answer below the committed offsets is lost

No clock decides what is lost. The ends of 1 include what open transactions have written, as the worker's offsets may be
seen before its verdicts are: a transaction's markers reach its partitions one after the other.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from worker.audit import answers
from worker.messages import dated

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.audit.brokers import Brokers, Tail
    from worker.audit.ledger import Ledger
    from worker.messages import Positions, Record, TopicPartition

_POLL_WAIT: Final = 0.1
# How long one step may read before the round goes on, so that metrics and progress are never older.
_STEP: Final = 2.0
# Rounds that are remembered to begin from after a restart; of more, every second is forgotten.
_CHECKPOINTS: Final = 256


class RepartitionedError(Exception):
    """Partitions were added: connect again."""


@dataclass(frozen=True, slots=True)
class Topics:
    """The three, by what they hold."""

    events: str
    verdicts: str
    dead_letters: str


@dataclass(frozen=True, slots=True)
class _Proof:
    """The worker group's offsets, and the positions up to which all answers to what is below them lie."""

    committed: dict[int, int]
    written: Positions


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """Positions as a round began: every answer before `answers` is of a record before `events`."""

    events: dict[int, int]
    answers: Positions


@dataclass(slots=True)
class Auditor:
    """Tells a ledger what the brokers have.

    `positions` are where the reading of the output topics goes on, `seen` where that of an audit before this one ended:
    it begins before that, as not all that it had seen was settled. `is_readable` decodes an event as the worker does.
    """

    ledger: Ledger
    topics: Topics
    positions: Positions
    seen: Positions
    is_readable: Callable[[Record], bool]
    stopping: threading.Event = field(default_factory=threading.Event)
    judged: dict[int, int] | None = None
    """The committed offsets of the last proof that was made."""
    _proof: _Proof | None = None
    _checkpoints: deque[_Checkpoint] = field(default_factory=deque)
    _refused: set[TopicPartition] = field(default_factory=set)
    _is_cut: bool = False
    _stands_still: bool = False
    """Whether the proof was asked for when nothing moved any more."""

    def resume(self, brokers: Brokers) -> None:
        """Take up new connections where the old ones were. New partitions are read from their beginning."""
        self._proof, self._stands_still = None, False
        self._refused.clear()
        for topic, partition in brokers.partitions():
            if topic != self.topics.events:
                self.positions.setdefault((topic, partition), 0)
            elif partition not in self.ledger.positions():
                self.ledger.begin(partition, 0, {})
        for partition, offset in self.ledger.positions().items():
            brokers.events.seek((self.topics.events, partition), offset)
        for place, offset in self.positions.items():
            brokers.answers.seek(place, offset)

    def turn(self, brokers: Brokers) -> bool:
        """Go one round; whether it brought anything. Raises AwayError or RepartitionedError: then `resume`."""
        if self._proof is None:
            committed = brokers.committed()  # before the ends of what is written
            offsets = {partition: offset for (_, partition), offset in committed.items()}
            self._proof = _Proof(offsets, brokers.written())
        stable = brokers.answers.ends()
        self._require_the_same(brokers.partitions())
        ends = brokers.events.ends()  # after those: of every answer that can be read, the record is there
        self.ledger.visible({partition: end for (_, partition), end in ends.items()})
        self._remember()
        has_read = self._follow(brokers.events, ends, self._read, self._skip)
        for place in ends:
            self.ledger.reached(place[1], brokers.events.position(place))
        has_matched = self._follow(brokers.answers, stable, self._answer, self._miss)
        self.positions = {place: brokers.answers.position(place) for place in self.positions}
        if self._is_cut:
            self._give_up(brokers)
        elif has_read or has_matched:
            self._stands_still = False
        if self._proof and self._is_read_to_the_end(self._proof):
            self._judge(self._proof, has_moved=has_read or has_matched)
        return has_read or has_matched

    def progress(self) -> dict[TopicPartition, tuple[int, str]]:
        """Return what to commit: where a restart goes on, and beside it how far the output topics have been read.

        The latter not before all answers to what is below the first records can have come: they would look doubled.
        """
        settled = self.ledger.progress()
        while len(self._checkpoints) > 1 and _is_settled(self._checkpoints[1], settled):
            self._checkpoints.popleft()
        again = self._checkpoints[0].answers if self._checkpoints else self.positions
        seen = {place: max(position, self.seen.get(place, 0)) for place, position in self.positions.items()}
        notes = seen if self.ledger.is_begun() else {}
        return {
            **{(self.topics.events, partition): (offset, "") for partition, offset in settled.items()},
            **{place: (again.get(place, 0), str(notes.get(place, ""))) for place in self.positions},
        }

    def _remember(self) -> None:
        self._checkpoints.append(_Checkpoint(self.ledger.positions(), dict(self.positions)))
        if len(self._checkpoints) > _CHECKPOINTS:
            self._checkpoints = deque(list(self._checkpoints)[::2])

    def _require_the_same(self, places: frozenset[TopicPartition]) -> None:
        known = {(self.topics.events, partition) for partition in self.ledger.positions()} | self.positions.keys()
        if places - known:
            raise RepartitionedError

    def _follow(
        self,
        tail: Tail,
        ends: Positions,
        take: Callable[[Record], bool],
        take_gap: Callable[[TopicPartition, int], bool],
    ) -> bool:
        """Hand on every record before `ends`; a partition rests from one that is not taken. Whether any was taken."""
        resting: set[TopicPartition] = set()
        has_moved, until = False, time.monotonic() + _STEP
        while left := {place for place, end in ends.items() if tail.position(place) < end} - resting:
            if self.stopping.is_set() or time.monotonic() > until:
                break
            tail.only(left)
            for chunk in tail.chunks(_POLL_WAIT):
                if chunk.gap is not None and not take_gap(chunk.place, chunk.gap):
                    resting.add(chunk.place)
                    tail.seek(chunk.place, self.ledger.positions()[chunk.place[1]])
                    continue
                for record in chunk.records:
                    if record.offset >= ends[chunk.place] or not take(record):
                        resting.add(chunk.place)
                        tail.seek(chunk.place, record.offset)
                        break
                    has_moved = True
        return has_moved

    def _read(self, record: Record) -> bool:
        is_readable = None if record.is_tombstone else self.is_readable(record)
        timestamp = dated(record, time.time()).timestamp
        return self.ledger.read(record.partition, record.offset, timestamp, is_readable=is_readable)

    def _skip(self, place: TopicPartition, offset: int) -> bool:
        return self.ledger.skip(place[1], offset)

    def _answer(self, record: Record) -> bool:
        place = record.topic, record.partition
        is_dead_letter = record.topic == self.topics.dead_letters
        source = answers.dead_letter_source(record) if is_dead_letter else answers.verdict_source(record)
        is_taken = self.ledger.answer(answers.Where(*place, record.offset), source)
        if is_taken:
            self.positions[place] = record.offset + 1  # at once: the next connection must not tell it again
            self._refused.discard(place)
        else:
            self._refused.add(place)
        return is_taken

    def _miss(self, place: TopicPartition, offset: int) -> bool:
        del place, offset
        self._is_cut = True
        return True

    def _give_up(self, brokers: Brokers) -> None:
        """Answers were deleted unread: what they may have been of cannot be audited."""
        self.ledger.give_up({partition: offset for (_, partition), offset in brokers.settled().items()})
        for partition, offset in self.ledger.positions().items():
            brokers.events.seek((self.topics.events, partition), offset)
        self._proof, self._is_cut = None, False

    def _is_read_to_the_end(self, proof: _Proof) -> bool:
        return all(
            place in self._refused or self.positions.get(place, 0) >= end for place, end in proof.written.items()
        )

    def _judge(self, proof: _Proof, *, has_moved: bool) -> None:
        """Report what is lost.

        While an answer is refused, that is only what a full window cannot wait for; and it is not reported before all
        is read that was written when everything had come to a standstill.
        """
        if not self._refused:
            self.ledger.committed(proof.committed, proof.written)
            self.judged, self._proof = proof.committed, None
        elif not has_moved:
            if self._stands_still:
                self.ledger.overflow()
            self._stands_still, self._proof = not self._stands_still, None


def _is_settled(checkpoint: _Checkpoint, settled: dict[int, int]) -> bool:
    return all(offset <= settled[partition] for partition, offset in checkpoint.events.items())
