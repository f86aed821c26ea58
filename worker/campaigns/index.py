"""Campaigns by their signatures, in memory that is bounded from the start: locality-sensitive hashing over bands.

A signature is cut into bands of four bytes. A table has a row for each band, and in it, by a hash of the band, the
place of whoever had the same band last, with the rest of the hash, by which other bands are told apart. The signatures
at these places are compared whole, so whatever the table has forgotten costs recall at most, and nothing need ever be
taken out of it.

Texts lie in a ring: each that is like no other, and of a campaign's variants those that are unlike all before them, so
that a wording may drift. The second text of its kind makes a campaign of the two. Where as many campaigns are held as
may be, the one seen least recently goes: a small one, while the small ones are more than a quarter, else a large one.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from worker.campaigns.signature import LENGTH, name_of
from worker.campaigns.sketch import Sketch
from worker.messages import Action

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.campaigns.signature import Signature

Places: TypeAlias = NDArray[np.int64]

HELD: Final = 100_000
"""Campaigns at most; about 1 KB each."""
RECENT: Final = 1 << 18
"""Texts in the ring; 144 bytes each."""
SIMILAR: Final = 0.48
"""Equal share of two signatures from which their texts are of one campaign."""
CLOSE: Final = 0.75
"""Equal share from which a variant adds nothing new."""
LARGE: Final = 10
"""Messages from which a campaign is published, and outlives small ones."""

ALIASES: Final = 8
"""Other ids of one campaign, at most."""
_BAND: Final = 4
"""Bytes. A pair of Jaccard 0.48 shares one of the 32 bands with 0.83, one of 0.6 with 0.99, one of 0.2 with 0.05."""
_SLOT_BITS: Final = 20
"""Of each band: 128 MiB in all."""
_FACTOR: Final = np.uint32(0x9E3779B1)  # odd, of well-mixed bits (the golden ratio's): Knuth's multiplier
_SHIFT: Final = np.uint32(32 - _SLOT_BITS)
_PLACES: Final = 1 << _SLOT_BITS
"""An entry of the table is a place in its lower bits, and in its upper ones what of the hash names no slot."""
_UPPER: Final = np.uint32(_SLOT_BITS)
_ONE: Final = np.uint32(1)
_SIMILAR_BYTES: Final = round(SIMILAR * LENGTH)
_CLOSE_BYTES: Final = round(CLOSE * LENGTH)


class ScoredAlone(NamedTuple):
    """Of the messages that have a score: how many there are, how many it alone would flag, and how many block."""

    scored: int = 0
    flagged: int = 0
    blocked: int = 0


NONE_SCORED: Final = ScoredAlone()


@dataclass(slots=True, eq=False)
class KnownCampaign:
    """What is known of one. Actions, scores and sketches count from its second message on, `size` from the first.

    `others` is what other workers have counted, by the keys of their records; `told_by` what their scores said of
    these, and `elsewhere` the sum of it. `aliases` are ids that it had, or has on other workers: of all its ids the
    smallest is in force.
    """

    id: str
    place: int
    """In the index; 0 once it is forgotten."""
    first: float
    last: float
    size: int = 0
    delivered: int = 0
    flagged: int = 0
    blocked: int = 0
    unscored: int = 0
    scored: int = 0
    scores: float = 0.0
    """The sum of those that have one."""
    alone_flagged: int = 0
    """Messages that the score alone would flag, whatever a rule made of them."""
    alone_blocked: int = 0
    different: Sketch = field(default_factory=Sketch)
    before: tuple[int, int, int] = (0, 0, 0)
    """Different senders, recipients and hosts as this worker counted them before it was started anew."""
    others: dict[str, int] = field(default_factory=dict)
    told_by: dict[str, ScoredAlone] = field(default_factory=dict)
    elsewhere: ScoredAlone = NONE_SCORED
    aliases: tuple[str, ...] = ()
    key: str | None = None
    """Of its record in the topic, once there is one."""

    def judge(self, score: float, alone: Action) -> None:
        """Count a score, and what it alone would have had done."""
        self.scored += 1
        self.scores += score
        if alone is Action.FLAG:
            self.alone_flagged += 1
        elif alone is Action.BLOCK:
            self.alone_blocked += 1

    def hear(self, key: str, said: ScoredAlone | None) -> None:
        """Take up what another worker's scores said; None: its record has ended."""
        if said is None:
            self.told_by.pop(key, None)
        else:
            self.told_by[key] = said
        told = self.told_by.values()
        self.elsewhere = ScoredAlone(*(sum(column) for column in zip(*told, strict=True))) if told else NONE_SCORED

    @property
    def total(self) -> int:
        """Messages, of all workers that are known."""
        return self.size + sum(self.others.values()) if self.others else self.size


Similar: TypeAlias = tuple[tuple[int, int], ...]
"""Places of what is like a text, and how many bytes of their signatures are equal."""


class SignatureBands(NamedTuple):
    """Of a signature: where each band stands in the table, and what of its hash stands there before the place."""

    slots: Places
    uppers: NDArray[np.uint32]


class Likeness(NamedTuple):
    """What is like a text: a campaign, or else the place of the one text like it in the ring; 0: nothing."""

    campaign: KnownCampaign | None = None
    alone: int = 0
    is_close: bool = False


class Index:
    """All that is remembered. For one thread, but for `len` and `signature_of`."""

    def __init__(self, held: int = HELD, recent: int = RECENT) -> None:
        if 1 + held + recent > _PLACES:
            message = f"{held} campaigns and {recent} texts: no more than {_PLACES - 1} together have places"
            raise ValueError(message)
        self._held, self._recent = held, recent
        # Place 0 is nobody's, as an empty table names it; then the campaigns' own; then the ring.
        self._signatures = np.zeros((1 + held + recent, LENGTH), dtype=np.uint8)
        self._table = np.zeros((LENGTH // _BAND) << _SLOT_BITS, dtype=np.uint32)
        self._rows: Places = np.arange(LENGTH // _BAND, dtype=np.int64) << _SLOT_BITS
        self._owners: list[KnownCampaign | None] = [None] * len(self._signatures)
        self._seen_at = np.zeros(recent)
        self._made = self._next = 0
        self._small: OrderedDict[int, None] = OrderedDict()
        self._large: OrderedDict[int, None] = OrderedDict()
        self._by_id: dict[str, KnownCampaign] = {}
        self._to_lay: list[tuple[Signature, SignatureBands, float]] = []
        self._to_put: list[tuple[Signature, int]] = []
        self._replaced: set[int] = set()
        """Places whose text is another since `ahead`."""

    def __len__(self) -> int:
        """Campaigns held."""
        return len(self._small) + len(self._large)

    def __iter__(self) -> Iterator[KnownCampaign]:
        """The campaigns held: the small ones first, the least recently seen first."""
        return (found for place in (*self._small, *self._large) if (found := self._owners[place]))

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays, whatever is in them."""
        return self._signatures.nbytes + self._table.nbytes + self._seen_at.nbytes + 8 * len(self._owners)

    def take_memory(self) -> None:
        """Have the system give the table's memory now: else the first messages wait for it, 0.3 s in all."""
        self._table.fill(0)

    def named(self, name: str) -> KnownCampaign | None:
        """The campaign that has an id, or had it, or has it on another worker."""
        return self._by_id.get(name)

    def signature_of(self, campaign: KnownCampaign) -> Signature | None:
        """The signature of its first message; None once it is forgotten."""
        found = self._signatures[campaign.place].copy()
        return found if campaign.place else None

    def bands(self, signatures: NDArray[np.uint8]) -> list[SignatureBands]:
        """The bands of some signatures, [n, LENGTH] bytes: `like` and `count` take less time with them."""
        return [*map(SignatureBands, *self._bands(signatures))]

    def _bands(self, signatures: NDArray[np.uint8]) -> SignatureBands:
        hashes = np.ascontiguousarray(signatures).view(np.uint32) * _FACTOR
        return SignatureBands(self._rows + (hashes >> _SHIFT), hashes << _UPPER)

    def ahead(self, some: Sequence[tuple[Signature, SignatureBands]]) -> list[Similar | None]:
        """Of some different texts that come next, what here each is like; None for those that may be like one another.

        Of nearly all traffic this tells at a fifth of the cost what `like` would of each.
        """
        self.settle()
        self._replaced.clear()
        signatures = np.array([signature for signature, _ in some])
        slots = np.array([bands.slots for _, bands in some])
        uppers = np.array([bands.uppers for _, bands in some])
        entries = self._table.take(slots) ^ uppers
        rows, columns = np.nonzero(entries - _ONE < _PLACES - 1)  # 0 becomes the greatest of all
        pairs = np.unique(rows << _SLOT_BITS | entries[rows, columns])  # most share more than one band
        rows, places = pairs >> _SLOT_BITS, pairs & (_PLACES - 1)
        there = self._signatures.take(places, axis=0)
        equal = np.count_nonzero(there == signatures.take(rows, axis=0), axis=1)
        is_like = equal >= _SIMILAR_BYTES
        found: list[list[tuple[int, int]]] = [[] for _ in some]
        for row, place, count in zip(rows[is_like].tolist(), places[is_like].tolist(), equal[is_like].tolist(),
                                     strict=True):  # fmt: skip
            found[row].append((place, count))
        every = slots.astype(np.uint64) << np.uint64(32) | uppers
        ordered = np.sort(every, axis=None)
        common = ordered[1:][ordered[1:] == ordered[:-1]]
        if not len(common):
            return [*map(tuple, found)]
        is_shared = (common.take(np.searchsorted(common, every), mode="clip") == every).any(axis=1)
        return [None if shared else tuple(sorted(found[row])) for row, shared in enumerate(is_shared.tolist())]

    def add_alone(self, signature: Signature, bands: SignatureBands, at: float) -> None:
        """Count a text that is like nothing, by `ahead`. It is found from `settle` on."""
        self._to_lay.append((signature, bands, at))

    def settle(self) -> None:
        """Put into the table what waits: at once it takes a fifth of the time."""
        if self._to_lay:
            signatures, bands, times = zip(*self._to_lay, strict=True)
            ring = (self._next + np.arange(len(times))) % self._recent
            places = 1 + self._held + ring
            self._next = (self._next + len(times)) % self._recent
            self._seen_at[ring] = times
            for place in places.tolist():
                self._owners[place] = None
            self._place(np.array(signatures), places, SignatureBands(
                np.array([each.slots for each in bands]), np.array([each.uppers for each in bands])))  # fmt: skip
            self._to_lay = []
        if self._to_put:
            signatures, put = zip(*self._to_put, strict=True)
            self._place(np.array(signatures), np.array(put))
            self._to_put = []

    def _place(self, signatures: NDArray[np.uint8], places: Places, bands: SignatureBands | None = None) -> None:
        slots, uppers = bands or self._bands(signatures)
        self._signatures[places] = signatures
        self._table[slots] = uppers | places[:, None].astype(np.uint32)

    def like(
        self, signature: Signature, bands: SignatureBands | None = None, similar: Similar | None = None
    ) -> Likeness:
        """What is like a text by its signature: the most similar; a campaign rather than a single text.

        `similar` is what `ahead` has said of it, in the last batch that it was asked for.
        """
        if similar is None or not self._replaced.isdisjoint(place for place, _ in similar):
            similar = self._similar(signature, bands)
        campaign, most, alone, most_alone = None, _SIMILAR_BYTES - 1, 0, _SIMILAR_BYTES - 1
        for place, count in similar:
            if count <= most:
                continue
            owner = self._owners[place]
            if owner and owner.place:
                campaign, most = owner, count
            elif place > self._held and count > most_alone:
                alone, most_alone = place, count
        if campaign:
            return Likeness(campaign, is_close=most >= _CLOSE_BYTES)
        return Likeness(alone=alone, is_close=most_alone >= _CLOSE_BYTES)

    def _similar(self, signature: Signature, bands: SignatureBands | None) -> Similar:
        slots, uppers = bands or self._bands(signature)
        # What was laid down by another band differs in its upper bits, and is no place then.
        named = {each for each in (self._table.take(slots) ^ uppers).tolist() if 0 < each < _PLACES}
        if not named:
            return ()
        places = sorted(named)
        equal = (self._signatures.take(places, axis=0) == signature).sum(axis=1).tolist()
        return tuple((place, count) for place, count in zip(places, equal, strict=True) if count >= _SIMILAR_BYTES)

    def count(
        self, signature: Signature, match: Likeness, at: float, bands: SignatureBands | None = None
    ) -> tuple[KnownCampaign | None, KnownCampaign | None]:
        """Count a text that is like `match`. Returns its campaign, and the one that had to go for it, if any."""
        campaign, gone = match.campaign, None
        if match.alone:
            first = float(self._seen_at[match.alone - self._held - 1])
            campaign, gone = self.found(self._signatures[match.alone].copy(), min(first, at))
            campaign.size = 1
            self._owners[match.alone] = campaign
        if campaign:
            campaign.size += 1
            campaign.first, campaign.last = min(campaign.first, at), max(campaign.last, at)
            self.touch(campaign)
        if not match.is_close:
            self._lay(signature, campaign, at, bands)
        return campaign, gone

    def found(
        self, signature: Signature, at: float, name: str | None = None
    ) -> tuple[KnownCampaign, KnownCampaign | None]:
        """Begin a campaign without messages; by its signature's own id, or another's. And which had to go for it."""
        gone = None
        if self._made < self._held:
            self._made += 1
            place = self._made
        else:
            gone = self._least()
            place, gone.place = gone.place, 0
            self._replaced.add(place)
            for each in (gone.id, *gone.aliases):
                if self._by_id.get(each) is gone:
                    del self._by_id[each]
        made = KnownCampaign(name or name_of(signature), place, at, at)
        self._owners[place] = made
        self._by_id.setdefault(made.id, made)
        self._small[place] = None
        self._signatures[place] = signature
        self._to_put.append((signature, place))  # until then it is found by its text in the ring
        return made, gone

    def also_named(self, campaign: KnownCampaign, name: str) -> None:
        """Learn an id that a campaign has elsewhere: the smallest is in force, by the others it is still found."""
        if name == campaign.id or name in campaign.aliases or len(campaign.aliases) >= ALIASES:
            return
        smaller, larger = sorted((campaign.id, name))
        campaign.id, campaign.aliases = smaller, (*campaign.aliases, larger)
        self._by_id.setdefault(name, campaign)

    def touch(self, campaign: KnownCampaign) -> None:
        """Note that it was seen just now, or has grown."""
        place = campaign.place
        if place in self._large:
            self._large.move_to_end(place)
        elif campaign.total >= LARGE:
            del self._small[place]
            self._large[place] = None
        else:
            self._small.move_to_end(place)

    def _lay(self, signature: Signature, owner: KnownCampaign | None, at: float, bands: SignatureBands | None) -> None:
        """Into the ring, in the place of the oldest there."""
        place = 1 + self._held + self._next
        self._replaced.add(place)
        self._owners[place] = owner
        self._seen_at[self._next] = at
        self._next = (self._next + 1) % self._recent
        slots, uppers = bands or self._bands(signature)
        self._signatures[place] = signature
        self._table[slots] = uppers | np.uint32(place)

    def _least(self) -> KnownCampaign:
        """Take out the campaign that is to go."""
        is_small = not self._large or len(self._small) > self._held // 4
        place, _ = (self._small if is_small else self._large).popitem(last=False)
        gone = self._owners[place]
        if gone is None:
            message = f"no campaign at place {place}"
            raise LookupError(message)
        return gone
