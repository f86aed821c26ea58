"""What is remembered of campaigns, what is forgotten first, and that it never grows."""

from __future__ import annotations

import random
import resource
from typing import TYPE_CHECKING

import numpy as np
import pytest

from worker.campaigns.index import LARGE, Index, KnownCampaign
from worker.campaigns.signature import LENGTH, name_of

if TYPE_CHECKING:
    from worker.campaigns.signature import Signature

DICE = np.random.default_rng(1)


def fresh() -> Signature:
    return DICE.integers(0, 256, LENGTH, dtype=np.uint8)


def near(signature: Signature, share: float) -> Signature:
    """One that is equal in a share of its bytes, the first ones."""
    other = signature.copy()
    changed = round((1 - share) * LENGTH)
    if changed:
        other[-changed:] ^= 0xFF
    return other


def send(index: Index, signature: Signature, at: float = 0.0) -> KnownCampaign | None:
    index.settle()
    return index.count(signature, index.like(signature), at)[0]


def small(held: int = 8, recent: int = 16) -> Index:
    return Index(held, recent)


def test_the_second_message_of_its_kind_makes_a_campaign_of_both() -> None:
    index, founding = small(), fresh()

    assert send(index, founding, 5.0) is None
    campaign = send(index, near(founding, 0.8), 7.0)

    assert campaign
    assert (campaign.size, campaign.first, campaign.last) == (2, 5.0, 7.0)
    assert campaign.id == name_of(founding)
    assert len(index) == 1


def test_what_is_unlike_belongs_to_no_campaign() -> None:
    index = small()

    assert [send(index, fresh()) for _ in range(50)] == [None] * 50
    assert len(index) == 0


def test_a_wording_may_drift_by_variants_near_one_another() -> None:
    index, wording = small(recent=64), fresh()
    send(index, wording)
    campaign = send(index, wording)
    for step in range(1, 20):
        wording = wording.copy()
        wording[step * 6 : step * 6 + 6] ^= 0xFF
        assert send(index, wording) is campaign


def test_looking_changes_nothing() -> None:
    index, founding = small(), fresh()
    send(index, founding)

    for _ in range(5):
        assert index.like(founding).campaign is None

    assert len(index) == 0


def test_a_small_campaign_seen_least_recently_goes_first_and_a_large_one_last() -> None:
    index = small(held=8, recent=64)
    large = fresh()
    for _ in range(LARGE):
        send(index, large)
    others = [fresh() for _ in range(12)]
    for each in others:
        send(index, each)
        send(index, each)

    assert len(index) == 8
    assert send(index, large) is not None
    assert [index.named(name_of(each)) is not None for each in others] == [False] * 5 + [True] * 7


def test_large_campaigns_alone_do_not_keep_new_ones_out() -> None:
    index = small(held=8, recent=64)
    for _ in range(20):
        each = fresh()
        for _ in range(LARGE):
            send(index, each)

    newest = fresh()
    send(index, newest)
    assert send(index, newest) is not None
    for _ in range(LARGE):
        last = send(index, newest)
    assert last
    assert last.size == LARGE + 2


def test_a_campaign_that_is_forgotten_is_found_no_more_and_may_come_again() -> None:
    index = small(held=1, recent=4)
    first, second = fresh(), fresh()
    old = [send(index, first) for _ in range(2)][-1]
    for _ in range(2):
        send(index, second)
    for _ in range(4):
        send(index, fresh())

    assert old
    assert old.place == 0
    assert index.signature_of(old) is None
    assert index.like(first).campaign is None
    assert index.named(old.id) is None
    send(index, first)
    again = send(index, first)
    assert again
    assert (again.id, again.size) == (old.id, 2)


@pytest.mark.parametrize("held", [1, 3, 50])
def test_memory_does_not_grow_and_places_are_never_shared(held: int) -> None:
    index, dice = Index(held, 32), random.Random(held)
    before = index.nbytes
    wordings = [fresh() for _ in range(200)]
    for at in range(3000):
        send(index, near(dice.choice(wordings), dice.choice((1.0, 0.9, 0.6))), float(at))
        assert len(index) <= held

    assert index.nbytes == before
    places = [campaign.place for campaign in index]
    assert sorted(places) == sorted(set(places))
    assert all(0 < place <= held for place in places)
    assert set(index._by_id) == {name for each in index for name in (each.id, *each.aliases)}


def test_of_the_ids_that_a_campaign_has_the_smallest_is_in_force_and_all_find_it() -> None:
    index = small()
    campaign, _ = index.found(fresh(), 0.0, "5" * 16)

    for name in ("7" * 16, "3" * 16, "3" * 16, "4" * 16):
        index.also_named(campaign, name)

    assert campaign.id == "3" * 16
    assert sorted(campaign.aliases) == ["4" * 16, "5" * 16, "7" * 16]
    assert all(index.named(str(digit) * 16) is campaign for digit in (3, 4, 5, 7))


def test_a_campaign_rather_than_a_single_text_and_the_nearest_of_them() -> None:
    index, founding = small(recent=64), fresh()
    send(index, founding)
    send(index, founding)
    far = near(founding, 0.3)
    send(index, far)  # like nothing: single

    match = index.like(near(founding, 0.5))

    assert match.campaign is index.named(name_of(founding))
    assert not match.is_close


def test_the_first_messages_wait_for_no_memory_once_it_is_taken() -> None:
    index = Index(64, 64)
    index.take_memory()
    drawn = np.random.default_rng(1).integers(0, 256, (20, LENGTH), dtype=np.uint8)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for each in drawn:
        index.count(each, index.like(each), 0.0)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 30


def test_bands_made_for_many_signatures_say_the_same_as_those_made_for_one() -> None:
    index, some = small(recent=64), np.stack([fresh() for _ in range(20)])
    for each in some:
        send(index, each)

    for each, bands in zip(some, index.bands(some), strict=True):
        assert index.like(each, bands) == index.like(each)
        assert index.like(each, bands).alone


def test_what_shares_a_slot_alone_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    index = small(recent=64)
    send(index, fresh())
    asked = fresh()
    slots, uppers = index.bands(asked[None])[0]
    index._table[slots] = uppers ^ np.uint32(1 << 31) | np.uint32(9)  # as another band, of the same slot, left it
    monkeypatch.setattr(index, "_signatures", None)  # so that to compare would fail

    assert index.like(asked) == index.like(asked, index.bands(asked[None])[0])
    assert not index.like(asked).alone


def test_more_places_than_an_entry_can_name_are_refused() -> None:
    with pytest.raises(ValueError, match="1048575 together"):
        Index(1 << 20, 1)
