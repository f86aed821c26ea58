"""START HERE. All entries as one immutable snapshot, and what it says of a message.

Which of the entries that match decides, by the first of these in which they differ:

    | | |                                                                                         |
    |-|-|-----------------------------------------------------------------------------------------|
    |1| match  | exact before prefix and suffix; of these the longer one, in characters as hashed    |
    |2| action | allow before block before flag                                                      |
    |3| what   | sender, recipient, campaign, link-host, number                                      |
    |4| id     | in the order of its characters, so that no two workers differ                       |

Expired entries match nothing. An allowed host, or number, delivers a text only if every one that the text surely has is
allowed; else a spammer would add one. What is in dry run is reported where it would have decided.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from worker.messages import Decider
from worker.policy.addresses import SenderType, normal, sender_type
from worker.policy.links import hosts_of
from worker.policy.lists.entries import ACTIONS, ListEntry, Match, What, as_listed, kind
from worker.policy.lists.finding import Found, numbers
from worker.policy.order import Ruling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from worker.policy.facts import Facts
    from worker.policy.hashing import Hashing

Table: TypeAlias = "Mapping[str, tuple[ListEntry, ...]]"
Place: TypeAlias = "tuple[What, Match, bool, int]"
"""Where an entry is looked up: what, how, whether hashed, and of how many characters; 0: all, or labels of a host."""
_Memory: TypeAlias = "dict[str, tuple[ListEntry, ...]]"
Rank: TypeAlias = "tuple[bool, int, int, int, str]"

_PERSONAL: Final = (SenderType.NUMBER, SenderType.EMAIL)
_SHARED: Final = 7
_REMEMBERED: Final = 16_384
"""Senders, recipients, and hosts, of each, that are not looked up anew: who sends at all mostly sends again."""
_ACTIONS: Final = list(ACTIONS)
_WHATS: Final = list(What)
_MOST_TRIALS: Final = 4
"""Entries in dry run that one verdict names."""


def rank(entry: ListEntry) -> Rank:
    """Its place in the order; the lowest of those that match decides. No two entries have the same."""
    is_exact = entry.match is Match.EXACT
    return (
        not is_exact,
        0 if is_exact else -(entry.length or len(entry.value)),
        _ACTIONS.index(entry.action),
        _WHATS.index(entry.what),
        entry.name,
    )


def _places(entry: ListEntry) -> Iterable[tuple[Place, str]]:
    """Where it is looked up, and by what."""
    length = entry.length
    if entry.match is not Match.EXACT and not entry.is_hashed and entry.what is not What.LINK_HOST:
        length = len(entry.value)
    yield (entry.what, entry.match, entry.is_hashed, length), entry.value[1:] if entry.is_hashed else entry.value
    if entry.national:
        yield (entry.what, entry.match, True, entry.national_length), entry.national[1:]


@dataclass(frozen=True, slots=True)
class Lookup:
    """The tables of one What: those in clear; and those of hashes, each with the kind and the part that are hashed."""

    exact: Table
    prefixes: tuple[tuple[int, Table], ...]
    suffixes: tuple[tuple[int, Table], ...]
    hashed: tuple[tuple[str, Match, int, Table], ...]

    @classmethod
    def made(cls, what: What, tables: Mapping[Place, Table]) -> Lookup:
        """Those of all that are for it."""

        def clear(wanted: Match) -> tuple[tuple[int, Table], ...]:
            places = [place for place in tables if place[:3] == (what, wanted, False)]
            return tuple((place[3], tables[place]) for place in places)

        exact = clear(Match.EXACT)
        hashed = [place for place in tables if place[0] is what and place[2]]
        return cls(
            exact[0][1] if exact else {},
            clear(Match.PREFIX),
            clear(Match.SUFFIX),
            tuple((kind(what, match), match, length, tables[what, match, True, length])
                  for _, match, _, length in hashed),
        )  # fmt: skip

    @property
    def is_in_clear(self) -> bool:
        """Whether there is anything but hashes."""
        return bool(self.exact or self.prefixes or self.suffixes)

    def clear(self, text: str) -> Iterator[ListEntry]:
        """Entries in clear that match a text."""
        yield from self.exact.get(text, ())
        for length, table in self.prefixes:
            yield from table.get(text[:length], ())
        for length, table in self.suffixes:
            yield from table.get(text[-length:], ())

    def by_hash(self, text: str, hashing: Hashing) -> list[ListEntry]:
        """Entries that match by a hash of a text, or of a part of it."""
        found: list[ListEntry] = []
        for of, match, length, table in self.hashed:
            if length > len(text):
                continue
            part = (text[-length:] if match is Match.SUFFIX else text[:length]) if length else text
            for each in _shared(hashing, of, part) if 0 < length <= _SHARED else hashing.all(of, part):
                if each in table:
                    found += table[each]
        return found


@functools.lru_cache(maxsize=4096)
def _shared(hashing: Hashing, of: str, part: str) -> tuple[str, ...]:
    """The hashes of a prefix that thousands of numbers share, which are asked for all the time."""
    return hashing.all(of, part)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All entries at one moment, made to be looked up in. Never changed: a change makes another one.

    It remembers what it was asked for last.
    """

    hashing: Hashing
    tables: Mapping[Place, Table] = field(default_factory=dict)
    lookups: tuple[Lookup | None, ...] = field(init=False)
    """Of each `What`, in its order; None: there are no entries for it."""
    _of_senders: _Memory = field(init=False, default_factory=dict, compare=False)
    _of_recipients: _Memory = field(init=False, default_factory=dict, compare=False)
    _of_hosts: _Memory = field(init=False, default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        """Note what there are entries for."""
        whats = {place[0] for place in self.tables}
        lookups = tuple(Lookup.made(what, self.tables) if what in whats else None for what in What)
        object.__setattr__(self, "lookups", lookups)

    def changed(self, gone: Iterable[ListEntry], come: Iterable[ListEntry]) -> Snapshot:
        """The same without some entries and with others. Costs a copy of the tables that they stand in."""
        tables: dict[Place, Table] = dict(self.tables)
        copied: dict[Place, dict[str, tuple[ListEntry, ...]]] = {}

        def table(place: Place) -> dict[str, tuple[ListEntry, ...]]:
            if place not in copied:
                copied[place] = dict(tables.get(place, {}))
            return copied[place]

        for entry in gone:
            for place, value in _places(entry):
                there = table(place)
                if left := tuple(each for each in there.get(value, ()) if each.name != entry.name):
                    there[value] = left
                else:
                    there.pop(value, None)
        for entry in come:
            for place, value in _places(entry):
                there = table(place)
                there[value] = (*there.get(value, ()), entry)
        tables |= copied
        return Snapshot(self.hashing, {place: each for place, each in tables.items() if each})

    def rulings(self, facts: Facts, now: float) -> Sequence[Ruling]:
        """What decides of a message, last; before it what in dry run would have. `now` in Unix seconds."""
        if not self.tables or not (found := self.matching(facts, now)):
            return ()
        rulings: list[Ruling] = []
        for entry in sorted({entry.name: entry for entry in found}.values(), key=rank):
            if not entry.dry_run:
                return [*rulings, _ruling(entry)]
            if len(rulings) < _MOST_TRIALS:
                rulings.append(_ruling(entry))
        return rulings

    def matching(self, facts: Facts, now: float) -> list[ListEntry]:
        """Every entry in force that matches a message, in no order."""
        senders, recipients, campaigns, by_host, by_number = self.lookups
        found: list[ListEntry] = []
        if senders and facts.sender:
            found += _asked(self._of_senders, facts.sender, functools.partial(_of_sender, senders, self.hashing))
        if recipients and facts.recipient:
            its = functools.partial(_of_recipient, recipients, self.hashing)
            found += _asked(self._of_recipients, facts.recipient, its)
        if campaigns and facts.campaign:
            for each in facts.campaign_ids or (facts.campaign,):
                found += campaigns.clear(each)
        if found:
            found = [entry for entry in found if not entry.has_expired(now)]
        if by_host and (its_hosts := hosts_of(facts)):
            of = functools.partial(_of_host, by_host)
            listed = {host: entries for host in its_hosts if (entries := _asked(self._of_hosts, host, of))}
            if listed:
                there = [Found((host,), is_certain=True) for host in its_hosts]
                found += _within(there, lambda host: listed.get(host, ()), now)
        if by_number and (its_numbers := numbers(facts.text)):
            found += _within(its_numbers, functools.partial(by_number.by_hash, hashing=self.hashing), now)
        return found


def _asked(memory: _Memory, what: str, of: Callable[[str], Iterable[ListEntry]]) -> tuple[ListEntry, ...]:
    """The entries for it, as remembered."""
    entries = memory.get(what)
    if entries is None:
        if len(memory) >= _REMEMBERED:
            memory.clear()
        entries = memory[what] = tuple(of(what))
    return entries


def _of_sender(lookup: Lookup, hashing: Hashing, sender: str) -> Iterable[ListEntry]:
    address = normal(sender)
    if sender_type(sender) in _PERSONAL:
        return lookup.by_hash(address, hashing)
    return lookup.clear(address) if lookup.is_in_clear else ()


def _of_recipient(lookup: Lookup, hashing: Hashing, recipient: str) -> Iterable[ListEntry]:
    return lookup.by_hash(normal(recipient), hashing)


def _of_host(lookup: Lookup, host: str) -> Iterator[ListEntry]:
    host = as_listed(host)
    yield from lookup.exact.get(host, ())
    for _, suffixes in lookup.suffixes:
        while host:
            yield from suffixes.get(host, ())
            host = host.partition(".")[2]


def _within(there: Sequence[Found], of: Callable[[str], Iterable[ListEntry]], now: float) -> Iterator[ListEntry]:
    """Entries in force for the hosts or numbers of a text; those that allow only where all is allowed."""
    allowing: list[ListEntry] = []
    is_allowed = is_allowed_in_trial = True
    for one in there:
        allows: list[ListEntry] = []
        for spelling in one.spellings:
            for entry in of(spelling):
                if entry.has_expired(now):
                    continue
                if entry.action != "allow":
                    yield entry
                elif spelling == one.spellings[0]:
                    allows.append(entry)
        if one.is_certain or allows:
            is_allowed = is_allowed and any(not entry.dry_run for entry in allows)
            is_allowed_in_trial = is_allowed_in_trial and bool(allows)
        allowing += allows
    for entry in allowing:
        if is_allowed_in_trial if entry.dry_run else is_allowed:
            yield entry


def _ruling(entry: ListEntry) -> Ruling:
    return Ruling(entry.rule, ACTIONS[entry.action], is_dry_run=entry.dry_run)


@dataclass(slots=True)
class ListRules:
    """The first row of the table in order.py: what the lists say, as of the transaction's beginning."""

    latest: Callable[[], Snapshot]
    clock: Callable[[], float] = time.time
    decider: Decider = Decider.LIST
    _snapshot: Snapshot = field(init=False)
    _now: float = 0.0

    def __post_init__(self) -> None:
        """Begin with what there is."""
        self.begin()

    def begin(self) -> None:
        """Take up the latest snapshot, and the time by which entries expire."""
        self._snapshot, self._now = self.latest(), self.clock()

    def foresee(self, some: Sequence[Facts]) -> None:
        """Nothing costs less for many."""

    def rulings(self, facts: Facts) -> Sequence[Ruling]:
        """What the lists say of a message."""
        return self._snapshot.rulings(facts, self._now)
