"""How many different ones there were, in 64 bytes a kind: HyperLogLog (Flajolet et al. 2007), within about 13 %.

Hashed by Python's own hash of strings, whose key is drawn anew in each process: nothing can be tried against it later.
"""

from __future__ import annotations

import enum
import math
from typing import Final

_BITS: Final = 6
_REGISTERS: Final = 1 << _BITS
_WORD: Final = (1 << 64) - 1
_ALPHA: Final = 0.709
"""For 64 registers, by the paper; and up to which estimate empty registers tell more."""
_LINEAR: Final = 2.5 * _REGISTERS


class Different(enum.IntEnum):
    """What is counted."""

    SENDERS = 0
    RECIPIENTS = 1
    HOSTS = 2


_SENDERS, _RECIPIENTS, _HOSTS = (kind * _REGISTERS for kind in Different)
"""Where the registers of each begin."""


class Sketch:
    """Counts different strings of each kind."""

    __slots__ = ("_registers",)

    def __init__(self) -> None:
        self._registers = bytearray(_REGISTERS * len(Different))

    def add(self, sender: str | None, recipient: str | None, hosts: tuple[str, ...] = ()) -> None:
        """Count those of a message that are others."""
        if sender:
            self._add(_SENDERS, sender)
        if recipient:
            self._add(_RECIPIENTS, recipient)
        for host in hosts:
            self._add(_HOSTS, host)

    def _add(self, begins: int, text: str) -> None:
        hashed = hash(text) & _WORD
        at, rest = begins + (hashed & (_REGISTERS - 1)), hashed >> _BITS
        rank = (rest & -rest).bit_length() or 64 - _BITS
        self._registers[at] = max(self._registers[at], rank)

    def count(self, kind: Different) -> int:
        """How many there were, about."""
        registers = self._registers[kind * _REGISTERS : (kind + 1) * _REGISTERS]
        raw = _ALPHA * _REGISTERS * _REGISTERS / sum(2.0**-each for each in registers)
        if raw <= _LINEAR and (empty := registers.count(0)):
            return round(_REGISTERS * math.log(_REGISTERS / empty))
        return round(raw)
