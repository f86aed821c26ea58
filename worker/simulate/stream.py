"""Events: a text or something odd, its sender, its headers; drawn by one dice, so that a seed gives the same stream."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from worker.messages import Outgoing
from worker.simulate import poison, texts

if TYPE_CHECKING:
    import random

    from worker.simulate.shape import Swell

_MS: Final = 1000
# Of readable messages; what remains is people's own.
_NOTICES: Final = 0.55
_WITHOUT_ID: Final = 0.02
_ODD: Final = 0.005
_FROM_ONE_SENDER: Final = 0.5


class _MadeUpEvent(msgspec.Struct, omit_defaults=True):
    """Event v1, as a gateway sends it."""

    text: str
    sender: str
    recipient: str
    received_at: int
    id: str | None = None
    direction: str = "mobile-terminated"


_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares, each from 0 to 1: spam of readable messages, poison and tombstones of all, traced of all."""

    spam: float = 0.12
    poison: float = 0.001
    tombstones: float = 0.0005
    traced: float = 0.01
    subscribers: int = 1000


@dataclass(slots=True)
class Stream:
    """Makes events one after the other, and counts what they were. `run` makes ids unique between runs."""

    mix: Mix
    run: str
    dice: random.Random
    given: texts.Given | None = None
    made: Counter[str] = field(default_factory=Counter)
    _number: int = 0
    _campaign: tuple[int, texts.Campaign, str | None] | None = None

    def event(self, due: float) -> Outgoing:
        """Make an ordinary event, received by the carrier at `due` (Unix seconds)."""
        dice, mix = self.dice, self.mix
        drawn = dice.random()
        if drawn < mix.poison:
            reason = dice.choice(tuple(poison.UNREADABLE))
            return self._made("poison", None, poison.UNREADABLE[reason](dice))
        if drawn < mix.poison + mix.tombstones:
            return self._made("tombstone", None, None)
        return self._message(*self._written(), due)

    def _written(self) -> tuple[str, str]:
        """A kind of message and its text."""
        dice, given = self.dice, self.given
        if dice.random() < self.mix.spam:
            return "spam", dice.choice(given.spam) if given and given.spam else texts.spam(dice)
        if given:
            return "given", dice.choice(given.ham)
        if dice.random() < _ODD:
            return "odd", dice.choice(poison.ODD)(dice)
        return ("notice", texts.notice(dice)) if dice.random() < _NOTICES else ("chat", texts.chat(dice))

    def of_campaign(self, swell: Swell, due: float) -> Outgoing:
        """Make the next event of a campaign: one text for all of it, from one sender or from spoofed ones."""
        if self._campaign is None or self._campaign[0] != swell.number:
            sender = self._subscriber() if self.dice.random() < _FROM_ONE_SENDER else None
            self._campaign = (swell.number, texts.Campaign(self.dice), sender)
        _, campaign, sender = self._campaign
        return self._message("campaign", campaign.text(self.dice), due, sender)

    def _message(self, kind: str, text: str, due: float, sender: str | None = None) -> Outgoing:
        self._number += 1
        sender = sender or self._subscriber()
        identity = None if self.dice.random() < _WITHOUT_ID else f"{self.run}-{self._number}"
        event = _MadeUpEvent(text, sender, self._subscriber(), round(due * _MS), identity)
        return self._made(kind, sender, _encode(event))

    def _made(self, kind: str, sender: str | None, value: bytes | None) -> Outgoing:
        self.made[kind] += 1
        headers = (("traceparent", self._traceparent()),) if self.dice.random() < self.mix.traced else ()
        return Outgoing((sender or self._subscriber()).encode(), value, headers)

    def _traceparent(self) -> bytes:
        # The first byte is never 0, so that neither id can be all zeros, which would be no id.
        trace, span = self.dice.randbytes(15).hex(), self.dice.randbytes(7).hex()
        return f"00-a1{trace}-b2{span}-01".encode()

    def _subscriber(self) -> str:
        """A number that begins as those kept for fiction do, and is too long to be anybody's."""
        return f"+447700900{self.dice.randrange(self.mix.subscribers):06}"
