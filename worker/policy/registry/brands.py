"""Brands, and all of them compiled: who a sender is, which brands a text or a host names, whom a sender id imitates."""

from __future__ import annotations

import itertools
import re
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ahocorasick_rs import BytesAhoCorasick

from worker.messages import SenderType
from worker.policy import links
from worker.policy.addresses import SHORTEST_NUMBER, normal, sender_type
from worker.policy.registry.skeleton import skeleton

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ODDS: Final = 3.0
"""Added to the log odds of an impostor's score, where the registry says nothing else: 0.2 becomes 0.83."""
LEAST_NEAR: Final = 5
"""Letters of a sender id that is imitated by one letter, and of a name found within a host: shorter ones are words."""
_LONGEST_ID: Final = 32
"""Characters of a sender id that is compared; networks carry 11."""
_REMEMBERED: Final = 8192

_UNSPACED: Final = re.compile(f"[{links.UNSPACED}]")
_ACCENTS: Final = re.compile("(?<=[a-z])[\u0300-\u036f]+")
_NOT_IN_SLUG: Final = re.compile(r"\W+")
_WORD: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789_")
_END: Final = b"\0"
"""Of one text, where some stand together: in no name, and no part of a word, as \\1 is none."""
_ASCII: Final = 0x80
_START_OF_CHARACTER: Final = 0xC0
_LONGEST_CHARACTER: Final = 4


@dataclass(frozen=True, slots=True, eq=False)
class Brand:
    """A brand as its operator has registered it; `senders` by `addresses.normal`, `hosts` by `links.typed`."""

    name: str
    aliases: tuple[str, ...] = ()
    senders: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    odds: float = ODDS
    is_dry_run: bool = False
    rule: str = field(init=False)
    """What its rulings are called."""

    def __post_init__(self) -> None:
        """Name its rulings."""
        object.__setattr__(self, "rule", f"sender:{slug(self.name)}")

    @property
    def names(self) -> tuple[str, ...]:
        """All words by which a text speaks as it."""
        return (self.name, *self.aliases)

    def owns(self, host: str) -> bool:
        """Whether a host is the brand's: one of its hosts, or below one."""
        return links.belongs(host, self.hosts)

    def answers(self, number: str) -> bool:
        """Whether a number, as `addresses.normal` spells it, is one of its senders; with or without country code."""
        national = number.lstrip("0")
        is_long = len(national) >= SHORTEST_NUMBER
        return number in self.senders or (is_long and any(each.endswith(national) for each in self.senders))


def slug(name: str) -> str:
    """A name as a rule is called: in small letters, the Latin ones without accents, joined by -."""
    plain = _ACCENTS.sub("", unicodedata.normalize("NFKD", name.casefold()))
    return _NOT_IN_SLUG.sub("-", unicodedata.normalize("NFC", plain)).strip("-")


@dataclass(frozen=True, slots=True)
class _Name:
    """One word of a brand; a side that `ends` nowhere else needs no space beside it."""

    brand: Brand
    begins: bool
    ends: bool
    is_in_hosts: bool


class Registry:
    """All brands, for one look-up a message. Immutable, but for what it remembers of hosts and ids."""

    def __init__(self, brands: Sequence[Brand]) -> None:
        self.brands = tuple(brands)
        self._senders: dict[str, tuple[Brand, ...]] = {}
        self._near: dict[bytes, list[tuple[bytes, Brand]]] = {}
        self._names: list[_Name] = []
        words: list[bytes] = []
        for brand in brands:
            for name in brand.names:
                words.append(word := skeleton(name))
                self._names.append(_word(brand, name, word))
            for sender in brand.senders:
                self._senders[sender] = (*self._senders.get(sender, ()), brand)
            for each in {_id(each) for each in (*brand.senders, *brand.names) if is_alphanumeric(each)}:
                for near in _shortened(each):
                    self._near.setdefault(near, []).append((each, brand))
        self._words = BytesAhoCorasick(words)
        self._of_hosts: dict[str, tuple[Brand, ...]] = {}
        self._imitated: dict[str, tuple[Brand, ...]] = {}

    @property
    def senders(self) -> int:
        """Distinct senders."""
        return len(self._senders)

    @property
    def hosts(self) -> int:
        """Distinct hosts."""
        return len({host for brand in self.brands for host in brand.hosts})

    def registered(self, sender: str) -> tuple[Brand, ...]:
        """The brands that a sender is registered for."""
        return self._senders.get(normal(sender), ())

    def named(self, text: str) -> tuple[Brand, ...]:
        """The brands that a text names, as words of their own; the longer of two names that overlap."""
        return self.named_in([text])[0]

    def named_in(self, texts: Sequence[str]) -> list[tuple[Brand, ...]]:
        """As `named`, of each of some texts: looked for at once, for a third of the time."""
        named: list[tuple[Brand, ...]] = [()] * len(texts)
        parts = _skeletons(texts)
        plain = _END.join(parts)
        found = self._words.find_matches_as_indexes(plain, overlapping=True)
        if not found:
            return named
        words = [
            (start, -end, index)
            for index, start, end in found
            if not (self._names[index].begins and _is_word_before(plain, start))
            and not (self._names[index].ends and _is_word_behind(plain, end))
        ]
        begins = [*itertools.accumulate((len(part) + 1 for part in parts), initial=0)]
        text = reached = 0
        for start, minus_end, index in sorted(words):
            if -minus_end > reached:
                reached = -minus_end
                while start >= begins[text + 1]:
                    text += 1
                if (brand := self._names[index].brand) not in named[text]:
                    named[text] = (*named[text], brand)
        return named

    def named_by_host(self, host: str) -> tuple[Brand, ...]:
        """The brands whose names stand anywhere in a host, as in `northwind-pay.example`."""
        known = self._of_hosts.get(host)
        if known is None:
            found = self._words.find_matches_as_indexes(skeleton(_shown(host)), overlapping=True)
            known = _distinct(self._names[index].brand for index, _, _ in found if self._names[index].is_in_hosts)
            _remember(self._of_hosts, host, known)
        return known

    def imitated(self, sender: str) -> tuple[Brand, ...]:
        """The brands whose sender id, or name, an alphanumeric sender id that is not registered looks like.

        Alike by look-alikes, or, from five letters on, one letter off: changed, missing, added, or two swapped.
        """
        if len(sender) > _LONGEST_ID:
            return ()
        known = self._imitated.get(sender)
        if known is None:
            known = self._imitators_of(sender)
            _remember(self._imitated, sender, known)
        return known

    def _imitators_of(self, sender: str) -> tuple[Brand, ...]:
        if normal(sender) in self._senders:
            return ()
        given = _id(sender)
        return _distinct(
            brand
            for each in _shortened(given)
            for registered, brand in self._near.get(each, ())
            if registered == given or (min(len(registered), len(given)) >= LEAST_NEAR and is_near(registered, given))
        )


def _skeletons(texts: Sequence[str]) -> list[bytes]:
    """The skeletons of some texts, in none of which is an _END: those in ASCII are made together."""
    plain = ["" if "\0" in text or not text.isascii() else text for text in texts]
    made = skeleton("\0".join(plain)).split(_END)
    for place, text in enumerate(texts):
        if text and not plain[place]:
            made[place] = skeleton(text).replace(_END, b"\1")
    return made


def is_alphanumeric(address: str) -> bool:
    """Whether an address is a sender id in letters."""
    return sender_type(address) is SenderType.ALPHANUMERIC


def is_near(one: bytes, other: bytes) -> bool:
    """Whether one letter is changed, missing or added, or two neighbours are swapped."""
    if len(one) > len(other):
        one, other = other, one
    same = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
    rest, its = one[same:], other[same:]
    if len(one) == len(other):
        return rest[1:] == its[1:] or (rest[2:] == its[2:] and rest[:2] == its[1::-1])
    return rest == its[1:]


def _word(brand: Brand, name: str, plain: bytes) -> _Name:
    return _Name(
        brand,
        begins=not _UNSPACED.match(name[0]),
        ends=not _UNSPACED.match(name[-1]),
        is_in_hosts=len(plain) >= LEAST_NEAR and b" " not in plain,
    )


def _id(sender: str) -> bytes:
    """Of `Northwind-Bank` and `NORTHWIND BANK` the same."""
    return skeleton(sender).translate(None, b" .-_")


def _shortened(word: bytes) -> set[bytes]:
    """The word, and without each of its bytes: two words that are near have one of these in common (SymSpell)."""
    if len(word) < LEAST_NEAR:
        return {word}
    return {word, *(word[:at] + word[at + 1 :] for at in range(len(word)))}


def _shown(host: str) -> str:
    """As a browser may show it: punycode undone."""
    if "xn--" not in host:
        return host
    try:
        return host.encode().decode("idna")
    except (UnicodeError, ValueError):
        return host


def _is_word_before(plain: bytes, start: int) -> bool:
    if start == 0:
        return False
    at = start - 1
    if plain[at] < _ASCII:
        return plain[at] in _WORD
    while plain[at] < _START_OF_CHARACTER:
        at -= 1
    return _is_spaced_word(plain[at:start])


def _is_word_behind(plain: bytes, end: int) -> bool:
    if end == len(plain):
        return False
    return plain[end] in _WORD if plain[end] < _ASCII else _is_spaced_word(plain[end : end + _LONGEST_CHARACTER])


def _is_spaced_word(character: bytes) -> bool:
    """Whether the first character goes on a word: a letter, digit or mark of a script with spaces between words."""
    first = character.decode(errors="replace")[0]
    return unicodedata.category(first)[0] in "LNM" and not _UNSPACED.match(first)


def _distinct(brands: Iterator[Brand]) -> tuple[Brand, ...]:
    return tuple(dict.fromkeys(brands))


def _remember(where: dict[str, tuple[Brand, ...]], what: str, known: tuple[Brand, ...]) -> None:
    if len(where) >= _REMEMBERED:
        for each in list(itertools.islice(where, _REMEMBERED // 2)):
            del where[each]
    where[what] = known
