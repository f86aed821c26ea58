"""Counts each message under its sender, and flags it: `burst`, `fan-out`, `first-contact`; `cold` where none can tell.

    burst          the sender's rate, decayed with a half-life of five minutes, is at the limit or above
    fan-out        so many distinct recipients, estimated, in this half hour and the one before
    first-contact  neither of the two has written to the other, as far as this worker remembers
    cold           in place of first-contact, where the rule would ask for it and the watch is younger than an hour

The clock is the events' own, at most now: old traffic that is read in a minute is spread as it was, and is no burst.
How long a partition is watched is told by the worker's clock. A sender is one as long as his address is spelt as one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from worker.messages import Decider, Flag
from worker.model.bundle import HARMLESS
from worker.policy.addresses import normal
from worker.senders.contacts import Contacts
from worker.senders.rules import concerns
from worker.senders.snapshots import KIND, NOBODY, WINDOW, SenderSnapshot
from worker.senders.table import RECIPIENTS, SenderTable, Standing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.messages import TopicPartition
    from worker.policy.facts import Facts
    from worker.policy.hashing import Hashing
    from worker.policy.order import Decided
    from worker.senders.snapshots import Held

SETTLED: Final = 82_800.0
"""Seconds more for which the share of strangers is the former owner's word, as contacts are learnt anew."""
PUBLISH_EVERY: Final = 60.0
"""Seconds of events between two snapshots of a sender."""
_WAITING: Final = 1000
_REMEMBERED: Final = 1 << 14
"""Flags of messages that a transaction rolled back may bring again: twice what the pipeline holds."""
_MOSTLY: Final = 0.5
_BURST: Final = Flag.BURST.value
_FAN_OUT: Final = Flag.FAN_OUT.value
_FIRST: Final = Flag.FIRST_CONTACT.value
_COLD: Final = Flag.COLD.value


@dataclass(frozen=True, slots=True)
class SenderLimits:
    """From what on a sender is one who writes fast (messages a minute), or to many (distinct recipients)."""

    burst: float
    fan_out: int


@dataclass(slots=True)
class Behaviour:
    """The observer. `held` is set by another thread, as one value; `due` are snapshots for it to publish.

    `is_to_strangers` says of the message last looked at whether its sender writes to strangers mostly.
    """

    limits: SenderLimits
    hashing: Hashing
    is_asked: bool = True
    """Whether a rule uses what is seen."""
    table: SenderTable = field(default_factory=SenderTable)
    contacts: Contacts = field(default_factory=Contacts)
    held: Held = NOBODY
    due: deque[tuple[str, SenderSnapshot]] = field(default_factory=deque)
    is_to_strangers: bool = False
    _taken_up: Held = NOBODY
    _warm_from: dict[TopicPartition, float] = field(default_factory=dict)
    _now: float = 0.0
    _slot: int = -1
    _said: dict[tuple[TopicPartition, int], tuple[tuple[str, ...], bool]] = field(default_factory=dict)
    _said_before: dict[tuple[TopicPartition, int], tuple[tuple[str, ...], bool]] = field(default_factory=dict)
    _many: int = 0
    _half_many: int = 0
    _half_burst: float = 0.0

    def __post_init__(self) -> None:
        """Turn the limit of recipients into bits."""
        self._many = next(bits for bits, count in enumerate(RECIPIENTS) if count >= self.limits.fan_out)
        self._half_many = next(bits for bits, count in enumerate(RECIPIENTS) if count >= self.limits.fan_out / 2)
        self._half_burst = self.limits.burst / 2

    def take_memory(self) -> None:
        """Have the system give the tables' memory now, 192 MiB: else the first messages wait for it."""
        self.table.take_memory()
        self.contacts.take_memory()

    def begin(self, now: float) -> None:
        """Take up what the companion has learnt of partitions and of senders."""
        self._now = now
        if (held := self.held) is not self._taken_up:
            self._taken_up = held
            self._warm_from = {partition: since + WINDOW for partition, since in held.since.items()}
        if len(self._said) > _REMEMBERED:
            self._said_before, self._said = self._said, {}

    def foresee(self, some: Sequence[Facts]) -> None:
        """Nothing costs less for many."""

    def look(self, facts: Facts) -> None:
        """Count the message, and add its sender's flags."""
        self._slot, self.is_to_strangers = -1, False
        if facts.sender is None:
            return
        if facts.is_repeated:
            self._say_again(facts)
        else:
            self._count(facts, facts.sender, facts.recipient)

    # In one piece: a call costs as much as three of its lines.
    def _count(self, facts: Facts, sender: str, recipient: str | None) -> None:  # noqa: C901
        table, now, at = self.table, self._now, facts.received_at
        if at > now:  # noqa: PLR1730 `min` takes twice as long
            at = now
        one = hash(normal(sender))
        self._slot = slot = table.slot(one, at)
        first, published, generation, is_restored = table.standing(slot)
        if generation != self._taken_up.generation:
            is_restored = self._restore(slot, sender, Standing(first, published, generation, is_restored))
        warm_from = self._warm_from.setdefault(facts.partition, now + WINDOW)
        is_taken_over = is_restored and now < warm_from + SETTLED
        if recipient is None:
            is_new, other = False, None
        else:
            other = hash(normal(recipient))
            is_new = self.contacts.meet(one, other)
        is_counted = now >= warm_from and other is not None and not is_taken_over
        rate, bits, strangers = table.add(slot, at, other, is_stranger=is_new if is_counted else None)
        if bits >= self._half_many or rate >= self._half_burst:
            if at - published >= PUBLISH_EVERY and len(self.due) < _WAITING:
                self._offer(slot, sender, bits, at)
        elif not is_new:
            return
        flags = [_BURST] if rate >= self.limits.burst else []
        if bits >= self._many:
            flags.append(_FAN_OUT)
        if is_new:
            is_mostly = strangers >= _MOSTLY
            if is_counted or (is_taken_over and is_mostly):
                flags.append(_FIRST)
                self.is_to_strangers = is_mostly
            elif not is_taken_over and self.is_asked and concerns(facts):
                flags.append(_COLD)
        if flags:
            self._said[facts.partition, facts.offset] = (*flags,), self.is_to_strangers
            facts.flags = (*facts.flags, *flags)

    def _say_again(self, facts: Facts) -> None:
        place = facts.partition, facts.offset
        flags, self.is_to_strangers = self._said.get(place) or self._said_before.get(place) or ((), False)
        facts.flags = (*facts.flags, *flags)

    def learn(self, facts: Facts, decided: Decided) -> None:
        """Count what the model says of the text. Where a rule has changed the score, that is not known any more."""
        del facts
        label = decided.scored.label
        if self._slot >= 0 and label is not None and decided.by is not Decider.SENDER:
            self.table.judge(self._slot, is_spam=label != HARMLESS)

    def _restore(self, slot: int, sender: str, standing: Standing) -> int:
        """Take over what another worker has published of a sender, if that is newer; whether he is restored."""
        table, held = self.table, self._taken_up
        standing = standing._replace(generation=held.generation)
        found = [held.snapshots.get(name) for name in self.hashing.all(KIND, normal(sender))] if held.snapshots else []
        its = table.lately(slot)
        if (snapshot := next(filter(None, found), None)) and (not its.weight or snapshot.at > its.last):
            standing = standing._replace(first=int(snapshot.first), is_restored=int(snapshot.counted > 0))
            snapshot.restore(table, slot)
        table.stand(slot, standing)
        return standing.is_restored

    def _offer(self, slot: int, sender: str, bits: int, at: float) -> None:
        standing = Standing(*self.table.standing(slot))
        self.table.stand(slot, standing._replace(published=int(at)))
        self.due.append((normal(sender), SenderSnapshot.of(self.table, slot, bits)))
