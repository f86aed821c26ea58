"""What is kept of senders: counted in any order, estimated within bounds, and never more than there is room for."""

from __future__ import annotations

import random
import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.senders.contacts import MISTAKEN, Contacts
from worker.senders.table import BITS, HALF_LIFE, HALF_WINDOW, RECIPIENTS, SPAN, WAYS, SenderTable

NOON = 1_790_000_000.0


def counted(times: list[float], table: SenderTable | None = None) -> float:
    """Messages a minute of one sender who sent at these times."""
    table = table or SenderTable(WAYS)
    slot = table.slot(1, times[0])
    return [table.add(slot, at, None, is_stranger=None)[0] for at in times][-1]


@given(st.lists(st.integers(0, 7200), min_size=1, max_size=50), st.randoms())
def test_the_order_of_messages_does_not_matter(seconds: list[int], dice: random.Random) -> None:
    times = [NOON + each for each in seconds]
    mixed = dice.sample(times, len(times))

    assert counted(mixed) == pytest.approx(counted(sorted(times)), rel=1e-3)


def test_a_steady_sender_s_rate_is_what_he_sends() -> None:
    assert counted([NOON + 3 * each for each in range(2000)]) == pytest.approx(20, rel=0.02)


def test_old_traffic_read_at_once_is_no_burst_of_a_sender_who_sends_now() -> None:
    table = SenderTable(WAYS)
    counted([NOON], table)

    assert counted([NOON - 86_400 + 60 * each for each in range(1000)], table) < 1


@pytest.mark.parametrize("count", [5, 20, 50, 100])
def test_distinct_recipients_are_estimated_within_a_third(count: int) -> None:
    dice = random.Random(count)
    off = []
    for sender in range(40):
        table = SenderTable(WAYS)
        slot = table.slot(sender, NOON)
        recipients = [dice.getrandbits(60) for _ in range(count)]
        bits = [table.add(slot, NOON, each, is_stranger=None)[1] for each in recipients * 3][-1]
        off.append(RECIPIENTS[bits] / count)

    assert sum(off) / len(off) == pytest.approx(1, abs=0.08)
    assert sum(0.67 < each < 1.33 for each in off) >= 35


def test_recipients_are_forgotten_after_two_half_hours() -> None:
    table = SenderTable(WAYS)
    slot = table.slot(1, NOON)
    begins = NOON - NOON % HALF_WINDOW

    bits = [table.add(slot, begins + step * HALF_WINDOW, step, is_stranger=None)[1] for step in (0, 1, 2, 6)]
    late = table.add(slot, begins, 9, is_stranger=None)[1]

    assert bits == [1, 2, 2, 1]
    assert late == 1


@given(st.lists(st.booleans(), min_size=1, max_size=200))
def test_shares_are_shares_and_follow_the_last_messages(strangers: list[bool]) -> None:
    table = SenderTable(WAYS)
    slot = table.slot(1, NOON)

    for each in strangers:
        table.add(slot, NOON, None, is_stranger=each)
        table.judge(slot, is_spam=each)

    lately, (spam, judged) = table.lately(slot), table.judged(slot)
    assert 0 <= lately.strangers <= 1
    assert lately.strangers == pytest.approx(spam)
    assert lately.counted == judged == min(len(strangers), SPAN)
    if len(strangers) <= SPAN:
        assert spam == pytest.approx(sum(strangers) / len(strangers), abs=1e-4)


def test_the_quietest_goes_where_there_is_no_room() -> None:
    table = SenderTable(WAYS)
    rates = {1: 50, 2: 3, 3: 40, 4: 30}
    for sender, count in rates.items():
        counted_slot = table.slot(sender, NOON)
        for _ in range(count):
            table.add(counted_slot, NOON, None, is_stranger=None)

    table.slot(5, NOON + 1)

    kept = [sender for sender in (1, 3, 4) if table.lately(table.slot(sender, NOON)).weight]
    assert (kept, table.evicted, table.taken) == ([1, 3, 4], 1, WAYS)


def test_a_table_takes_any_number_of_senders_in_its_own_memory() -> None:
    table = SenderTable(1024)
    before = table.bytes

    for sender in range(20_000):
        table.add(table.slot(hash(str(sender)), NOON + sender), NOON + sender, sender, is_stranger=True)

    assert table.bytes == before == 64 * 1024
    assert table.taken <= 1024
    assert table.taken + table.evicted == 20_000


def test_a_rate_fades_by_half_in_its_half_life() -> None:
    table = SenderTable(WAYS)
    busy = counted([NOON] * 100, table)

    assert counted([NOON + HALF_LIFE], table) == pytest.approx(busy / 2, rel=0.05)


def test_those_who_have_met_are_known_in_either_direction() -> None:
    contacts = Contacts(1000)

    assert [contacts.meet(1, 2), contacts.meet(1, 2), contacts.meet(2, 1), contacts.meet(1, 3)] == [
        True, False, False, True,
    ]  # fmt: skip


def test_no_pair_of_the_last_is_forgotten_and_new_ones_are_rarely_taken_for_known() -> None:
    contacts, dice = Contacts(20_000), random.Random(1)
    pairs = [(dice.getrandbits(62), dice.getrandbits(62)) for _ in range(70_000)]
    for one, other in pairs:
        contacts.meet(one, other)
    mistaken = sum(not contacts.meet(dice.getrandbits(62), dice.getrandbits(62)) for _ in range(5000)) / 5000

    assert mistaken <= 2 * MISTAKEN
    assert not any(contacts.meet(one, other) for one, other in pairs[-14_000:])


def test_a_slot_holds_a_bit_for_each_estimate() -> None:
    assert len(RECIPIENTS) == BITS + 1
    assert tuple(sorted(RECIPIENTS)) == RECIPIENTS
    assert RECIPIENTS[1] == 1


def test_the_first_messages_wait_for_no_memory_once_it_is_taken() -> None:
    table, contacts = SenderTable(1 << 16), Contacts(1 << 20)
    table.take_memory()
    contacts.take_memory()
    dice = random.Random(1)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(200):
        table.slot(dice.getrandbits(64), NOON)
        contacts.meet(dice.getrandbits(64), dice.getrandbits(64))

    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 30
