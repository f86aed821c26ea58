"""Which dead letters were sent back already: ranges of offsets by reason, as one short note for each partition."""

from __future__ import annotations

import bisect
import re
from dataclasses import dataclass, field
from typing import Final, Self

# Kafka's own limit for what is kept beside a committed offset, offset.metadata.max.bytes, with room for a topic's id.
_LONGEST: Final = 4096 - 64
_RANGES: Final = r"[a-z0-9-]+:\d+-\d+(,\d+-\d+)*"
_NOTE: Final = re.compile(rf"({_RANGES}(;{_RANGES})*)?")


class NoteError(ValueError):
    """A note that cannot be read, or that has become too long to be kept."""


@dataclass(slots=True)
class _Runs:
    """Half-open ranges, disjoint and in order, within each of which every letter of a reason was sent."""

    ranges: list[list[int]] = field(default_factory=list)
    latest: list[int] | None = None  # the range of the letter that was met last, if that was sent

    def holding(self, offset: int) -> list[int] | None:
        at = bisect.bisect_right(self.ranges, offset, key=lambda each: each[0]) - 1
        return self.ranges[at] if at >= 0 and offset < self.ranges[at][1] else None

    def meet(self, offset: int, *, is_sent: bool) -> None:
        """Take the next letter of this reason: ranges with no unsent one between them become one."""
        held = self.holding(offset)
        if held is None and not is_sent:
            self.latest = None
        elif held is None and self.latest is None:
            self.latest = [offset, offset + 1]
            bisect.insort(self.ranges, self.latest)
        elif held is None and self.latest is not None:
            self.latest[1] = offset + 1
        elif held is not None and self.latest is not None and held is not self.latest:
            self.latest[1] = held[1]
            self.ranges.remove(held)
        else:
            self.latest = held


@dataclass(slots=True)
class SentBack:
    """Of one partition, whose letters are met in the order of their offsets.

    Ranges rather than one offset: replays choose by reason and time, so an earlier letter may be sent after a later.
    """

    _by_reason: dict[str, _Runs] = field(default_factory=dict)

    @classmethod
    def read(cls, note: str, *, begins: int = 0) -> Self:
        """Read a note, without what lies before the partition's first record. Raises NoteError."""
        if not _NOTE.fullmatch(note):
            message = f"not a note of what was sent back: {note[:40]!r}"
            raise NoteError(message)
        found = cls()
        for part in filter(None, note.split(";")):
            reason, _, ranges = part.partition(":")
            pairs = [[int(offset) for offset in each.split("-")] for each in ranges.split(",")]
            if kept := [pair for pair in pairs if pair[1] > begins]:
                found._by_reason[reason] = _Runs(kept)
        return found

    def holds(self, reason: str, offset: int) -> bool:
        """Whether this letter was sent."""
        runs = self._by_reason.get(reason)
        return runs is not None and runs.holding(offset) is not None

    def meet(self, reason: str, offset: int, *, is_sent: bool) -> None:
        """Take the next letter into account: sent now, or not (it may have been before)."""
        if is_sent or reason in self._by_reason:
            self._by_reason.setdefault(reason, _Runs()).meet(offset, is_sent=is_sent)

    @property
    def end(self) -> int:
        """The offset after the last letter that was sent."""
        return max((runs.ranges[-1][1] for runs in self._by_reason.values()), default=0)

    def note(self) -> str:
        """Write it down, as `read` takes it. Raises NoteError when it is too long to be kept."""
        parts = [
            f"{reason}:" + ",".join(f"{first}-{end}" for first, end in runs.ranges)
            for reason, runs in sorted(self._by_reason.items())
        ]
        if len(note := ";".join(parts)) > _LONGEST:
            message = (
                "the letters sent back would lie in too many separate ranges to be remembered; "
                "choose a wider range, which joins them"
            )
            raise NoteError(message)
        return note
