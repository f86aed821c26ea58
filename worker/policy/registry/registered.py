"""START HERE. What the registry says of a message: at most flagged, or more odds, or nothing.

    | the text                                 | its sender          | its links                | said                |
    |------------------------------------------|---------------------|--------------------------|---------------------|
    | names the brand, informs, or is a code   | the brand's         | none, or all the brand's | at most flag        |
    | names the brand                          | not the brand's     | one that is nobody's     | the brand's odds    |
    | names the brand, and a number to call    | a number or e-mail  | none                     | the brand's odds    |
    | any                                      | imitates the brand's| any                      | the brand's odds    |
    | all else: people talk about brands       |                     |                          | nothing             |

A link is nobody's when it belongs to no brand that the text names. Where the event gives no sender, nothing is said. A
sender id can be spoofed: so a registered one bounds what is done, and delivers nothing that a list blocks.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Final

from worker.messages import Action, Decider, Flag, SenderType
from worker.policy.addresses import normal
from worker.policy.links import belongs, hosts_of
from worker.policy.order import Ruling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from worker.policy.facts import Facts
    from worker.policy.registry.brands import Brand, Registry

_TIME: Final = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|\d{1,2}[:.]\d{2}(?:[:.]\d{2})?(?!\d)")
_NUMBER: Final = re.compile(r"\+?\(?\d(?:[ ().-]{0,2}\d){8,14}(?!\d)")
_SPELT_OUT: Final = re.compile(r"(?<![^\W_])[^\W_](?:[\W_]{1,4}[^\W_]){2}(?![^\W_])|&#?\w{2,8};")
_NEAR: Final = 2048
"""Characters of a text whose disguises are undone here: what says who speaks stands at its beginning."""
_NAMED: Final = "brands"
"""Of `Facts.found`: the brands that a text names, without its disguises undone."""
_PERSONAL: Final = frozenset((SenderType.NUMBER, SenderType.EMAIL))


class RegisteredSenders:
    """The row `sender` of the table in order.py. `plain` undoes a text's disguises, where there are any."""

    decider = Decider.SENDER

    def __init__(self, registry: Registry, plain: Callable[[str], str]) -> None:
        self._registry = registry
        self._next = registry
        self._plain = plain

    @property
    def latest(self) -> Registry:
        """What is in force from the next transaction on."""
        return self._next

    def offer(self, registry: Registry) -> None:
        """From the next transaction on, look up here. May be called by any thread."""
        self._next = registry

    def begin(self) -> None:
        """Take up what was offered."""
        self._registry = self._next

    def foresee(self, some: Sequence[Facts]) -> None:
        """Look for the brands that a batch's texts name."""
        for facts, named in zip(some, self._registry.named_in([facts.text for facts in some]), strict=True):
            facts.found[_NAMED] = named

    def rulings(self, facts: Facts) -> Sequence[Ruling]:
        """One ruling at most for each brand, the one with the most odds first."""
        if facts.sender is None:
            return ()
        registry = self._registry
        own = registry.registered(facts.sender)
        if (named := facts.found.get(_NAMED)) is None:
            named = registry.named(facts.text)
        links = hosts_of(facts)
        if not named and Flag.NORMALISED in facts.flags and (links or own or _NUMBER.search(facts.text)):
            named = self._named_in_disguise(facts.text)
        if own and (ours := _of_the_brand(facts, own, named, links)) is not None:
            return ours
        impostors = () if own or facts.sender_type is not SenderType.ALPHANUMERIC else registry.imitated(facts.sender)
        if links:
            named = _distinct(named, *map(registry.named_by_host, links))
        if named:
            impostors = _distinct(impostors, _claimed(facts, own, named, links))
        said = [Ruling(brand.rule, odds=brand.odds, is_dry_run=brand.is_dry_run) for brand in impostors]
        return sorted(said, key=lambda ruling: -ruling.odds) if len(said) > 1 else said

    def _named_in_disguise(self, text: str) -> tuple[Brand, ...]:
        """The brands named by what a skeleton does not undo: letter by letter, or as HTML writes them."""
        near = text[:_NEAR]
        return self._registry.named(self._plain(near)) if _SPELT_OUT.search(near) else ()


def _of_the_brand(
    facts: Facts, own: tuple[Brand, ...], named: tuple[Brand, ...], links: tuple[str, ...]
) -> Sequence[Ruling] | None:
    """What is said of a registered sender; None where a link is not its brand's."""
    clean = [brand for brand in own if all(map(brand.owns, links))]
    if not clean:
        return None
    facts.is_registered = not all(brand.is_dry_run for brand in clean)
    informs = Flag.NOTICE in facts.flags or Flag.ONE_TIME_CODE in facts.flags
    return [
        Ruling(brand.rule, at_most=Action.FLAG, is_dry_run=brand.is_dry_run)
        for brand in clean
        if informs or brand in named
    ]


def _claimed(
    facts: Facts, own: tuple[Brand, ...], named: tuple[Brand, ...], links: tuple[str, ...]
) -> tuple[Brand, ...]:
    """The brands that a sender speaks as, without being theirs, while it leads elsewhere."""
    claimed = tuple(brand for brand in named if brand not in own)
    if not claimed:
        return ()
    theirs: frozenset[str] = frozenset().union(*(brand.hosts for brand in named))
    if not all(belongs(host, theirs) for host in links):
        return claimed
    if own or facts.sender_type not in _PERSONAL:
        return ()
    numbers = tuple(_numbers(facts.text))
    return tuple(brand for brand in claimed if any(not brand.answers(number) for number in numbers))


def _numbers(text: str) -> Iterator[str]:
    """Numbers to call: nine digits or more that are no date."""
    for number in _NUMBER.findall(_TIME.sub(" ", text)):
        yield normal(number)


def _distinct(*some: tuple[Brand, ...]) -> tuple[Brand, ...]:
    return tuple(dict.fromkeys(itertools.chain.from_iterable(some)))
