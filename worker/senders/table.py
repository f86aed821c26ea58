"""What is kept of each sender, in a table of fixed size: set-associative, as a processor's cache is.

A sender's hash names a set of four slots. Where all four are taken, the one goes whose count would fade first: the
quietest. So what is forgotten is who hardly sends; and when he sends again, he begins anew.

A slot is 64 bytes in one piece, a line of the processor's cache.
"""

from __future__ import annotations

import math
import struct
from typing import Final, NamedTuple

import numpy as np

SLOTS: Final = 1 << 20
"""Senders that are kept at most."""
WAYS: Final = 4
HALF_LIFE: Final = 300.0
"""Seconds after which a message counts for half in the rate."""
SPAN: Final = 64
"""Messages over which shares are taken: earlier ones fade."""
HALF_WINDOW: Final = 1800
"""Recipients are counted over this half hour and the one before."""
BITS: Final = 64
_MASK: Final = (1 << 64) - 1
A_MINUTE: Final = 60 * math.log(2) / HALF_LIFE
"""What a decayed count is in messages a minute."""
RECIPIENTS: Final = tuple(round(BITS * math.log(BITS / max(1, BITS - used))) for used in range(BITS + 1))
"""Distinct recipients by the bits that they have set: linear counting (Whang, 1990). 266 are the most it can tell.

The standard error is 9 % at 20 recipients, and 12 % at 100.
"""
_SLOT: Final = 64
_WORDS: Final = _SLOT // 8
_LATELY: Final = struct.Struct("<dQQfIfB")
_JUDGED: Final = struct.Struct("<fB")
_STANDING: Final = struct.Struct("<IIHB")
_NAMED: Final = 8
_AT_JUDGED: Final = _NAMED + _LATELY.size
_AT_STANDING: Final = _AT_JUDGED + _JUDGED.size
_lately, _judged, _standing = _LATELY.unpack_from, _JUDGED.unpack_from, _STANDING.unpack_from


class Lately(NamedTuple):
    """What changes with each message. Times are Unix seconds of the events.

    `weight` is the decayed number of messages as of `last`; `recent` and `before` have a bit for each recipient of the
    half hour and of the one before; `strangers` is their share of the last messages, `counted` of them, up to SPAN.
    """

    last: float
    recent: int
    before: int
    weight: float
    half_hour: int
    strangers: float
    counted: int


class Standing(NamedTuple):
    """When a sender was first seen and last published; for which assignment he was looked up, and whether found."""

    first: int
    published: int
    generation: int
    is_restored: int


class SenderTable:
    """Slots by sender. A slot is named by where it begins, in bytes."""

    def __init__(self, slots: int = SLOTS) -> None:
        """Take the memory; the system gives it page by page as it is written."""
        memory = np.zeros((slots + 1) * _SLOT, dtype=np.uint8)
        begins = -memory.ctypes.data % _SLOT  # with a line of the processor's cache
        self._memory = memory.data[begins : begins + slots * _SLOT]
        self._names = self._memory.cast("B").cast("Q")
        self._sets = slots // WAYS
        self.taken = 0
        self.evicted = 0
        self._whole = memory

    def take_memory(self) -> None:
        """Have the system give the memory now, before anything is in it: else the first messages wait for it."""
        self._whole.fill(0)

    def slot(self, sender: int, at: float) -> int:
        """The slot of a sender, by his hash; a cleared one, first seen at `at`, where he has none."""
        name = (sender & _MASK) or 1
        names, word = self._names, name % self._sets * WAYS * _WORDS
        if names[word] == name:
            return word * 8
        for each in range(word + _WORDS, word + WAYS * _WORDS, _WORDS):
            if names[each] == name:
                return each * 8
        return self._cleared(word * 8, name, at)

    def _cleared(self, first: int, name: int, at: float) -> int:
        slot = min(range(first, first + WAYS * _SLOT, _SLOT), key=self._fades_at)
        if self._names[slot // 8]:
            self.evicted += 1
        else:
            self.taken += 1
        self._memory[slot : slot + _SLOT] = bytes(_SLOT)
        self._names[slot // 8] = name
        self.put(slot, Lately(at, 0, 0, 0.0, 0, 0.0, 0))
        self.stand(slot, Standing(int(at), 0, 0, 0))
        return slot

    def _fades_at(self, slot: int) -> float:
        """When a slot's count will have fallen to one message."""
        if not self._names[slot // 8]:
            return -math.inf
        its = self.lately(slot)
        return its.last + HALF_LIFE * math.log2(max(its.weight, 1e-9))

    def add(self, slot: int, at: float, recipient: int | None, *, is_stranger: bool | None) -> tuple[float, int, float]:
        """Count a message and its recipient, by his hash, in whatever order they come.

        Returns messages a minute as of the latest, the bits that recipients have set, the share of strangers. Whether
        one is a stranger may be unknown.
        """
        last, recent, before, count, half_hour, strangers, counted = _lately(self._memory, slot + _NAMED)
        if at >= last:
            count = count * 2.0 ** ((last - at) / HALF_LIFE) + 1.0
            last = at
        else:
            count += 2.0 ** ((at - last) / HALF_LIFE)
        if recipient is not None:
            now, bit = int(at) // HALF_WINDOW, 1 << (recipient & (BITS - 1))
            if now == half_hour:
                recent |= bit
            elif now > half_hour:
                before = recent if now == half_hour + 1 else 0
                recent, half_hour = bit, now
            elif now == half_hour - 1:
                before |= bit
        if is_stranger is not None:
            if counted < SPAN:
                counted += 1
            strangers += (is_stranger - strangers) / counted
        _LATELY.pack_into(self._memory, slot + _NAMED, last, recent, before, count, half_hour, strangers, counted)
        return count * A_MINUTE, (recent | before).bit_count(), strangers

    def judge(self, slot: int, *, is_spam: bool) -> None:
        """Count a message as judged."""
        spam, judged = _judged(self._memory, slot + _AT_JUDGED)
        if judged < SPAN:
            judged += 1
        _JUDGED.pack_into(self._memory, slot + _AT_JUDGED, spam + (is_spam - spam) / judged, judged)

    def lately(self, slot: int) -> Lately:
        """What changes with each message."""
        return Lately(*_lately(self._memory, slot + _NAMED))

    def put(self, slot: int, its: Lately) -> None:
        """Replace it."""
        _LATELY.pack_into(self._memory, slot + _NAMED, *its)

    def judged(self, slot: int) -> tuple[float, int]:
        """The share judged spam, of how many messages, up to SPAN."""
        return _judged(self._memory, slot + _AT_JUDGED)

    def put_judged(self, slot: int, spam: float, judged: int) -> None:
        """Replace it."""
        _JUDGED.pack_into(self._memory, slot + _AT_JUDGED, spam, judged)

    def standing(self, slot: int) -> tuple[int, int, int, int]:
        """As `Standing`, at half its cost."""
        return _standing(self._memory, slot + _AT_STANDING)

    def stand(self, slot: int, standing: Standing) -> None:
        """Replace it."""
        _STANDING.pack_into(self._memory, slot + _AT_STANDING, *standing)

    @property
    def bytes(self) -> int:
        """Memory of all slots."""
        return self._memory.nbytes
