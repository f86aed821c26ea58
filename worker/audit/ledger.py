"""The audit's state, without Kafka: every input record, and which of them have their one answer.

An answer is a verdict or a dead letter. What can be wrong, of which docs/operations.md says what to do:

    lost                 the worker's group has committed an offset beyond the record, and it has no answer
    missing-dead-letter  the same, of an event that cannot be decoded
    duplicated           the record has an answer already
    reordered            in one partition of an output topic, the answer comes after that of a later record of the same
                         input partition
    wrong-source         there is no record that it could answer: a tombstone, a marker, an offset beyond the end,
                         another topic; or it does not say which

Told in another order, a healthy stream would look broken. Whoever tells sees to three things: the offsets given to
`visible` are asked for after the answers told next could be read; an answer that is refused is told again later; and
the offsets given to `committed` were read before the ends of the output topics up to which all answers have been told.
"""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from worker.audit.answers import Where
from worker.audit.window import OffsetState, OffsetWindow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from worker.messages import TopicPartition


class MismatchKind(enum.StrEnum):
    """The kinds of broken delivery: a closed set."""

    LOST = "lost"
    MISSING_DEAD_LETTER = "missing-dead-letter"
    DUPLICATED = "duplicated"
    REORDERED = "reordered"
    WRONG_SOURCE = "wrong-source"


@dataclass(slots=True)
class Mismatch:
    """One that was found. What is lost has no `answer`, and `count` says how many records in a row, from `source` on.

    `source` is None where an answer names no record of the input topic.
    """

    kind: MismatchKind
    source: Where | None
    answer: Where | None = None
    count: int = 1


_MISSING: Final = {OffsetState.UNANSWERED: MismatchKind.LOST, OffsetState.UNREADABLE: MismatchKind.MISSING_DEAD_LETTER}


class Ledger:
    """Holds answers against the records of `topic`, in a window of so many offsets, over all partitions alike.

    Of a record it keeps no more than whether it can be decoded, and its time.
    """

    def __init__(self, topic: str, window: int) -> None:
        self.proven = 0
        """Records that were answered once, in order."""
        self.skipped = 0
        """Offsets that could not be audited."""
        self.mismatches: Counter[MismatchKind] = Counter()
        self._topic, self._size = topic, window
        self._windows: dict[int, OffsetWindow] = {}
        self._visible: Mapping[int, int] = {}
        self._refused: dict[int, int] = {}
        self._latest: dict[tuple[str, int, int], int] = {}
        self._found: list[Mismatch] = []

    def begin(self, partition: int, offset: int, known: Mapping[TopicPartition, int] | None = None) -> None:
        """Audit a partition from an offset on.

        `known`: positions in the output topics before which all below that offset was answered; None: not known yet.
        """
        self._windows[partition] = OffsetWindow(offset, 1, dict(known) if known is not None else None)
        for window in self._windows.values():
            window.size = max(1, self._size // len(self._windows))

    # --- what is told, in this order, over and over ---------------------------------------------------------------

    def visible(self, ends: Mapping[int, int]) -> None:
        """Say where the input ends now. An answer told from here on is of a record below that, or of none."""
        self._visible, self._refused = ends, {}
        for window in self._windows.values():
            window.wanted = 0

    def read(self, partition: int, offset: int, timestamp: float, *, is_readable: bool | None) -> bool:
        """Note an input record; `is_readable` is None for a tombstone. False when there is no room: tell it later."""
        window = self._windows[partition]
        if offset < window.position:
            return True
        unsettled = OffsetState.UNANSWERED if is_readable else OffsetState.UNREADABLE
        state = OffsetState.BLANK if is_readable is None else unsettled
        return window.add(offset, state, timestamp)

    def reached(self, partition: int, position: int) -> None:
        """Note that there are no more records below this position."""
        self._windows[partition].extend(position, OffsetState.BLANK)

    def answer(self, answer: Where, source: Where | None) -> bool:
        """Hold an answer against its record. False when that has not been read: tell it later."""
        source = source if source and source.topic == self._topic else None
        window = self._windows.get(source.partition) if source else None
        if source is None or window is None or source.offset < 0:
            self._report(MismatchKind.WRONG_SOURCE, source, answer)
        elif source.offset < window.floor:
            if window.known is not None and answer.offset >= window.known.get(answer[:2], 0):
                self._report(MismatchKind.DUPLICATED, source, answer)
        elif source.offset < window.position:
            self._match(window, answer, source)
        elif source.offset < self._visible.get(source.partition, 0):
            self._refused[source.partition] = max(source.offset, self._refused.get(source.partition, 0))
            return False
        else:
            self._report(MismatchKind.WRONG_SOURCE, source, answer)
        return True

    def committed(self, offsets: Mapping[int, int], known: Mapping[TopicPartition, int]) -> None:
        """Report what has no answer below these offsets, which the worker's group had committed.

        `known` are the positions in the output topics up to which every answer has been told since.
        """
        for partition, window in self._windows.items():
            offset = offsets.get(partition, 0)
            self._lose(partition, window, offset)
            if window.known is None and offset >= window.floor:
                window.known = dict(known)

    # --- what cannot be audited -----------------------------------------------------------------------------------

    def overflow(self) -> None:
        """Report as lost what keeps the window full while answers come to records that are far behind it.

        Only for when no answer can be told any more: each partition of the output topics is read, or refused.
        """
        for partition, offset in self._refused.items():
            window = self._windows[partition]
            if window.is_full:
                self._lose(partition, window, offset - window.size + 1)

    def skip(self, partition: int, offset: int) -> bool:
        """Leave out unread records below an offset: they are deleted. False when there is no room: tell it later."""
        window = self._windows[partition]
        count = max(0, offset - window.position)
        if not window.extend(offset, OffsetState.SKIPPED):
            return False
        self.skipped += count
        return True

    def give_up(self, offsets: Mapping[int, int]) -> None:
        """Leave out what has no answer below these committed offsets: answers were deleted before they were read."""
        for partition, window in self._windows.items():
            offset = offsets.get(partition, 0)
            for each, _ in window.waiting_below(offset):
                window.settle(each, OffsetState.SKIPPED)
                self.skipped += 1
            if window.position < offset:
                self.skipped += offset - window.position
                window.skip_to(offset)

    # --- what it comes to -----------------------------------------------------------------------------------------

    def positions(self) -> dict[int, int]:
        """For each partition the next offset to read."""
        return {partition: window.position for partition, window in self._windows.items()}

    def progress(self) -> dict[int, int]:
        """For each partition the offset below which all is settled."""
        return {partition: window.low for partition, window in self._windows.items()}

    def is_begun(self) -> bool:
        """Whether all that comes from now on can be told from answers to what was before the audit's beginning."""
        return all(window.known is not None for window in self._windows.values())

    def waiting(self) -> int:
        """Return how many records wait for their answer."""
        return sum(window.waiting for window in self._windows.values())

    def oldest(self) -> float | None:
        """Return the timestamp of the oldest record that waits for its answer."""
        return min((at for window in self._windows.values() if (at := window.oldest()) is not None), default=None)

    def is_paused(self) -> bool:
        """Whether a partition of the input cannot be read on until more is answered."""
        return any(window.is_full for window in self._windows.values())

    def found(self) -> Iterable[Mismatch]:
        """Return the mismatches found since this was last asked."""
        found, self._found = self._found, []
        return found

    def _match(self, window: OffsetWindow, answer: Where, source: Where) -> None:
        state = window.state(source.offset)
        if state in _MISSING:
            window.settle(source.offset, OffsetState.ANSWERED)
            latest, lane = source.offset, (answer.topic, answer.partition, source.partition)
            if (before := self._latest.get(lane, -1)) > latest:
                self._report(MismatchKind.REORDERED, source, answer)
            else:
                self.proven += 1
            self._latest[lane] = max(before, latest)
        elif state is OffsetState.BLANK:
            self._report(MismatchKind.WRONG_SOURCE, source, answer)
        elif state in {OffsetState.ANSWERED, None}:
            self._report(MismatchKind.DUPLICATED, source, answer)

    def _lose(self, partition: int, window: OffsetWindow, bound: int) -> None:
        last: Mismatch | None = None
        for offset, state in window.waiting_below(bound):
            window.settle(offset, OffsetState.LOST)
            kind = _MISSING[state]
            self.mismatches[kind] += 1
            if last and last.source and last.kind is kind and last.source.offset + last.count == offset:
                last.count += 1
            else:
                last = Mismatch(kind, Where(self._topic, partition, offset))
                self._found.append(last)

    def _report(self, kind: MismatchKind, source: Where | None, answer: Where) -> None:
        self.mismatches[kind] += 1
        self._found.append(Mismatch(kind, source, answer))
