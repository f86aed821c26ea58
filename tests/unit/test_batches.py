"""Which batches are compressed: large ones always, whatever of them is large."""

from __future__ import annotations

import pytest
from kafka.record.memory_records import MemoryRecords

from worker.broker.batches import build
from worker.messages import Outgoing

LARGE = 1_200_000
COMPRESSION = 7  # of a batch's attributes, the bits that say how it is compressed


def sizes_and_kinds(*records: Outgoing, partitions: int = 6) -> list[tuple[int, int]]:
    found = []
    for _, builder in build(records, partitions, 0, keyless=0):
        builder.close()
        sealed = bytes(builder.buffer())
        batch = MemoryRecords(sealed).next_batch()
        assert batch is not None
        assert batch.validate_crc()
        found.append((len(sealed), batch.attributes & COMPRESSION))
    return found


def test_small_batches_are_left_as_they_are() -> None:
    records = [Outgoing(b"%d" % number, b"verdict %d" % number) for number in range(50)]

    assert {kind for _, kind in sizes_and_kinds(*records)} == {0}


@pytest.mark.parametrize(
    "letter",
    [
        pytest.param(Outgoing(b"k", bytes(LARGE)), id="value"),
        pytest.param(Outgoing(bytes(LARGE), b"v"), id="key"),
        pytest.param(Outgoing(b"k", b"v", (("h", bytes(LARGE)),)), id="header"),
    ],
)
@pytest.mark.parametrize("partitions", [1, 300])
def test_a_large_event_that_came_compressed_is_no_larger_as_a_dead_letter(letter: Outgoing, partitions: int) -> None:
    # A topic takes a mebibyte at once, as it is compressed: uncompressed this would be refused again and again.
    [(size, kind)] = sizes_and_kinds(letter, partitions=partitions)

    assert (size < 20_000, kind) == (True, 3)


def test_each_batch_of_a_transaction_goes_by_itself() -> None:
    large = [Outgoing(b"a", b"verdict %d " % number * 20) for number in range(100)]

    kinds = [kind for _, kind in sizes_and_kinds(*large, Outgoing(b"b", b"alone"))]

    assert sorted(kinds) == [0, 3]
