"""The state of one input partition's offsets, from the first that is not proven on: a byte and a time each."""

from __future__ import annotations

import enum
from array import array
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator


class OffsetState(enum.IntEnum):
    """The state of an offset: the first two wait for their answer."""

    UNANSWERED = 1
    UNREADABLE = 2
    """It waits for a dead letter: the event cannot be decoded."""
    BLANK = 3
    """No record that is to be answered: a tombstone, a marker, or nothing."""
    ANSWERED = 4
    LOST = 5
    """Reported as a mismatch."""
    SKIPPED = 6
    """Not audited: it was deleted before it could be."""


_WAITING: Final = (OffsetState.UNANSWERED, OffsetState.UNREADABLE)
# The front is cut off in pieces of this part of the size: each cut moves what is behind it.
_PIECE: Final = 8


class OffsetWindow:
    """Offsets of one partition: those below `low` are settled, those from `position` on are not read yet.

    At most `size` offsets lie between the two. What is settled is remembered for as long as there is room.
    `floor` is where the audit of this partition began; `known` holds positions in the output partitions, before which
    answers to offsets below the floor may lie; None: they may still come.
    """

    def __init__(self, start: int, size: int, known: dict[tuple[str, int], int] | None = None) -> None:
        self.floor, self.size, self.known = start, size, known
        self.waiting = 0
        """Records that wait for their answer."""
        self.wanted = 0
        """Up to which offset there was no room to read, since this was last set back."""
        self._base = self._low = start
        self._states = bytearray()
        self._times = array("d")

    @property
    def position(self) -> int:
        """The next offset to read."""
        return self._base + len(self._states)

    @property
    def low(self) -> int:
        """The first offset that waits for its answer; `position` when none does."""
        if not self.waiting:
            self._low = self.position
        elif self._states[self._low - self._base] not in _WAITING:
            self._low = self._base + min(self._next_waiting(self._low - self._base, len(self._states)))
        return self._low

    @property
    def is_full(self) -> bool:
        """Whether there still is no room for what was to be read."""
        return self.wanted - self.low > self.size

    def oldest(self) -> float | None:
        """Return the timestamp of the first record that waits for its answer."""
        return self._times[self.low - self._base] if self.waiting else None

    def state(self, offset: int) -> OffsetState | None:
        """Return what a read offset is; None: it was settled long ago."""
        return OffsetState(self._states[offset - self._base]) if offset >= self._base else None

    def add(self, offset: int, state: OffsetState, timestamp: float) -> bool:
        """Append a record; what lies between it and the last is blank. False when there is no room."""
        if not self.extend(offset, OffsetState.BLANK) or not self._make_room(1):
            return False
        self._states.append(state)
        self._times.append(timestamp)
        self.waiting += state in _WAITING
        return True

    def extend(self, to: int, state: OffsetState) -> bool:
        """Say of all offsets from `position` to `to` what they are. False when there is no room."""
        count = to - self.position
        if count <= 0:
            return True
        if count >= self.size and not self.waiting:
            self._begin_anew(to, is_skipped=state is OffsetState.SKIPPED)
            return True
        if not self._make_room(count):
            return False
        self._states.extend(bytes((state,)) * count)
        self._times.extend((0.0,) * count)
        return True

    def settle(self, offset: int, state: OffsetState) -> None:
        """Let a record wait no longer."""
        self._states[offset - self._base] = state
        self.waiting -= 1

    def waiting_below(self, bound: int) -> Iterator[tuple[int, OffsetState]]:
        """Yield the offsets below `bound` that wait for their answer, in order; each may be settled meanwhile."""
        at = self.low - self._base
        end = max(at, min(bound, self.position) - self._base)  # a negative one would count from the back
        while (at := min(self._next_waiting(at, end), default=-1)) >= 0:
            yield self._base + at, OffsetState(self._states[at])
            at += 1

    def _next_waiting(self, at: int, end: int) -> list[int]:
        """For each kind of waiting record where the next one is, if there is one."""
        return [found for state in _WAITING if (found := self._states.find(state, at, end)) >= 0]

    def skip_to(self, offset: int) -> None:
        """Go on from an offset that is not read yet. Nothing may wait."""
        self._begin_anew(offset, is_skipped=True)

    def _begin_anew(self, offset: int, *, is_skipped: bool) -> None:
        self._base = self._low = offset
        self._states, self._times = bytearray(), array("d")
        if is_skipped:
            self.floor, self.known = offset, None

    def _make_room(self, count: int) -> bool:
        if self.position + count - self.low > self.size:
            self.wanted = self.position + count
            return False
        beyond = len(self._states) + count - self.size
        if beyond > 0:
            cut = min(beyond + self.size // _PIECE, self._low - self._base)
            del self._states[:cut]
            del self._times[:cut]
            self._base += cut
        return True
