"""Fetched bytes become our records: the same as the client's, and none that is cut."""

from __future__ import annotations

import contextlib
import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import TopicPartition, errors
from kafka.codec import gzip_encode, snappy_encode
from kafka.consumer.fetcher import Fetcher, IsolationLevel
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder
from kafka.record.util import calc_crc32, calc_crc32c, encode_varint

from worker.broker import codecs
from worker.broker.client.unpacking import _Unpacking, _varint, unpacked
from worker.messages import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

INPUT = TopicPartition("sms.events", 3)
NOW = 1_764_000_000_000
PLAIN, GZIP, SNAPPY, LZ4, ZSTD = range(5)
CODECS = (PLAIN, GZIP, SNAPPY, LZ4, ZSTD)
UNKNOWN = 5
HEADER = DefaultRecordBatch.HEADER_STRUCT
NO_SUCH_TOPIC = ("t", 0)

Entry = tuple[int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]

Fate = tuple[int, bool]
# Of a batch: whose it is, if it is a transaction's, and whether that was aborted.
FATES: list[Fate] = [(-1, False), (0, False), (0, True), (1, True), (1, False)]

entries = st.tuples(
    st.one_of(st.just(NOW), st.integers(-1, 1 << 45)),
    st.one_of(st.none(), st.binary(max_size=200)),
    st.one_of(st.none(), st.binary(max_size=200), st.just(b"x" * 20_000)),
    st.lists(st.tuples(st.text(max_size=70), st.one_of(st.none(), st.binary(max_size=70))), max_size=3),
)


def batch(
    records: Sequence[Entry],
    *,
    at: int = 0,
    compression: int = PLAIN,
    producer: int = -1,
    attributes: int = 0,
    removed: int = 0,
) -> bytes:
    """Bytes of one batch as a broker has it: from this offset on, by this producer; `removed` once followed it."""
    builder = MemoryRecordsBuilder(2, compression, 1 << 24)
    if producer >= 0:
        builder.set_producer_state(producer, 0, 0, True)  # noqa: FBT003 the client's own
    for timestamp, key, value, headers in records:
        builder.append(timestamp, key, value, headers)
    builder.close()
    made = bytearray(builder.buffer())
    fields = list(HEADER.unpack_from(made))
    fields[0], fields[2], fields[5], fields[6] = at, 7, fields[5] | attributes, len(records) - 1 + removed
    HEADER.pack_into(made, 0, *fields)
    return checked(made)


def checked(made: bytearray) -> bytes:
    """With the checksum that belongs to it."""
    unchecked = DefaultRecordBatch(made)
    fields = list(HEADER.unpack_from(made))
    fields[4] = calc_crc32c(bytes(made[unchecked.ATTRIBUTES_OFFSET :]))
    HEADER.pack_into(made, 0, *fields)
    return bytes(made)


def marker(*, at: int, producer: int, is_abort: bool) -> bytes:
    """The record by which a broker ends a transaction."""
    control = DefaultRecordBatch.CONTROL_MASK
    key = struct.pack(">hh", 0, 0 if is_abort else 1)
    return batch([(NOW, key, b"\0\0\0\0\0\0", [])], at=at, producer=producer, attributes=control)


class Aborted:
    """An aborted transaction, as a fetch tells of it."""

    def __init__(self, producer_id: int, first_offset: int) -> None:
        self.producer_id, self.first_offset = producer_id, first_offset


def taken(kind: Any, fetched: bytes, take: int, aborted: Sequence[Aborted], since: int) -> list[Any]:
    """All that is taken, so many at a time, and where each time the next fetch would begin."""
    reading = kind(
        since,
        INPUT,
        MemoryRecords(fetched),
        isolation_level=IsolationLevel.READ_COMMITTED,
        aborted_transactions=aborted,
    )
    taken: list[Any] = []
    while reading:
        taken += [_fields(record) for record in reading.take(take)]
        taken.append((reading.next_fetch_offset, reading.leader_epoch))
    return taken


def _fields(record: Any) -> tuple[Any, ...]:
    at = record.timestamp if isinstance(record, Record) else record.timestamp / 1000
    return record.topic, record.partition, record.offset, at, record.key, record.value, tuple(record.headers)


@given(
    st.lists(st.tuples(st.lists(entries, min_size=1, max_size=4), st.sampled_from(FATES)), max_size=6),
    st.integers(1, 7),
    st.integers(0, 4),
    st.sampled_from(CODECS),
)
def test_it_is_what_the_client_itself_reads(
    batches: list[tuple[list[Entry], Fate]], take: int, since: int, compression: int
) -> None:
    fetched, at, aborted = b"", 0, []
    for number, (records, (producer, is_abort)) in enumerate(batches):
        removed = number % 3
        fetched += batch(records, at=at, compression=compression, producer=producer, removed=removed)
        if is_abort:
            aborted.append(Aborted(producer, at))
        at += len(records) + removed
        if producer >= 0:
            fetched += marker(at=at, producer=producer, is_abort=is_abort)
            at += 1

    ours = taken(_Unpacking, fetched, take, aborted, since)

    assert ours == taken(Fetcher.PartitionRecords, fetched, take, aborted, since)


@pytest.mark.parametrize("magic", [0, 1])
def test_records_of_old_formats_are_read_as_well(magic: int) -> None:
    builder = MemoryRecordsBuilder(magic, PLAIN, 1 << 20)
    for number in range(3):
        builder.append(NOW + number, b"k", b"%d" % number, [])
    builder.close()
    fetched = bytes(builder.buffer())

    records = _Unpacking(0, INPUT, MemoryRecords(fetched)).take(10)

    assert [(record.offset, record.value) for record in records] == [(0, b"0"), (1, b"1"), (2, b"2")]
    assert records[2].timestamp == ((NOW + 2) / 1000 if magic else -0.001)


def test_a_record_that_the_broker_dated_has_that_time() -> None:
    fetched = batch(
        [(NOW, None, b"a", []), (NOW + 50, None, b"b", [])], attributes=DefaultRecordBatch.TIMESTAMP_TYPE_MASK
    )

    records = unpacked(MemoryRecords(fetched).next_batch(), *NO_SUCH_TOPIC)

    assert [record.timestamp for record in records] == [(NOW + 50) / 1000] * 2


def test_a_headers_name_that_is_no_text_does_not_keep_what_comes_after_from_being_read() -> None:
    fetched = batch([(NOW, None, b"a", [("QQ", b"1")]), (NOW, None, b"b", [])])
    fetched = checked(bytearray(fetched.replace(b"QQ", b"\xff\xfe")))

    first, second = _Unpacking(0, INPUT, MemoryRecords(fetched)).take(10)

    assert first.headers == (("\ufffd\ufffd", b"1"),)
    assert second.value == b"b"


def test_a_batch_whose_checksum_is_another_is_refused() -> None:
    fetched = batch([(NOW, None, b"hello", [])]).replace(b"hello", b"jello")

    with pytest.raises(errors.CorruptRecordError, match=r"sms\.events:3:0: its checksum"):
        _Unpacking(0, INPUT, MemoryRecords(fetched)).take(1)


def test_a_batch_with_more_in_it_than_it_says_is_refused() -> None:
    fetched = checked(bytearray(batch([(NOW, None, b"hello", [])]) + b"more"))

    with pytest.raises(errors.CorruptRecordError, match="t:0:0: there is more"):
        unpacked(DefaultRecordBatch(fetched), *NO_SUCH_TOPIC)


@given(st.data())
def test_a_batch_that_is_cut_or_changed_within_is_read_as_the_client_reads_it_or_refused(data: st.DataObject) -> None:
    records = data.draw(st.lists(entries, min_size=1, max_size=3))
    whole = bytearray(batch(records))
    at = data.draw(st.integers(HEADER.size, len(whole) - 1))
    if data.draw(st.booleans()):
        # A record's attributes are one byte, 0; the client reads on where it is 128 or more, as if they were a number.
        whole[at] = data.draw(st.integers(0, 255 if whole[at] else 127))
    else:
        del whole[at:]

    try:
        ours: Any = [_fields(each) for each in unpacked(DefaultRecordBatch(whole), *INPUT)]
    except errors.CorruptRecordError:
        ours = "refused"

    try:
        theirs: Any = [
            (*INPUT, each.offset, each.timestamp / 1000, each.key, each.value, tuple(each.headers))
            for each in DefaultRecordBatch(whole)
        ]
    except errors.CorruptRecordError as error:
        theirs = "refused"
        if "utf-8" in str(error):  # a header's name
            return
    assert ours == theirs


@given(st.integers(-(1 << 63), (1 << 63) - 1), st.binary(max_size=3))
def test_numbers_are_read_as_they_were_written(number: int, before: bytes) -> None:
    written = bytearray(before)
    encode_varint(number, written.append)

    assert _varint(bytes(written), len(before)) == (number, len(written))


def test_a_number_that_never_ends_is_refused() -> None:
    with pytest.raises(ValueError, match="64 bits"):
        _varint(b"\xff" * 40, 0)


def test_a_marker_that_was_compacted_away_is_passed_over() -> None:
    made = batch([], producer=1, attributes=DefaultRecordBatch.CONTROL_MASK, removed=1) + batch(
        [(NOW, b"k", b"v", [])], at=9
    )

    fetched = _Unpacking(0, INPUT, MemoryRecords(made), isolation_level=IsolationLevel.READ_COMMITTED)

    assert [record.offset for record in fetched.take(10)] == [9]


def spoilt(made: bytes, *, at: int = 0, codec: int | None = None) -> bytes:
    """The batch with other bytes for its records, or another codec's number, and the checksum that belongs to that."""
    changed = bytearray(made)
    if codec is not None:
        fields = list(HEADER.unpack_from(changed))
        fields[5] = fields[5] & ~DefaultRecordBatch.CODEC_MASK | codec
        HEADER.pack_into(changed, 0, *fields)
    else:
        changed[HEADER.size + at : HEADER.size + at + 10] = b"\xff" * 10
    return checked(changed)


@pytest.mark.parametrize("codec", CODECS)
def test_a_batch_that_cannot_be_read_is_an_unreadable_record_for_each_offset_and_the_next_is_read(codec: int) -> None:
    bad: list[Entry] = [(NOW, b"k", b"v" * 1000, [])] * 3
    good: list[Entry] = [(NOW, b"k", b"after", [])]
    fetched = spoilt(batch(bad, compression=codec, at=7)) + batch(good, at=10, compression=codec)

    *unreadable, after = _Unpacking(7, INPUT, MemoryRecords(fetched)).take(10)

    assert [(each.offset, each.value, each.is_tombstone) for each in unreadable] == [
        (offset, None, False) for offset in (7, 8, 9)
    ]
    assert all("batch sms.events:3:7: " in (each.unreadable or "") for each in unreadable)
    assert (after.offset, after.value, after.unreadable) == (10, b"after", None)


def test_a_codec_that_nobody_knows_yet_is_named() -> None:
    fetched = spoilt(batch([(NOW, b"k", b"v", [])], compression=ZSTD), codec=UNKNOWN)

    [record] = _Unpacking(0, INPUT, MemoryRecords(fetched)).take(10)

    assert "codec is number 5" in record.unreadable


@pytest.mark.parametrize("codec", CODECS[1:])
def test_a_batch_that_grows_beyond_all_measure_is_not_decompressed(codec: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "MOST", 100_000)
    fetched = batch([(NOW, None, bytes(60_000), [])] * 2, compression=codec)
    within = batch([(NOW, None, bytes(99_000), [])], compression=codec)

    assert "once decompressed" in _Unpacking(0, INPUT, MemoryRecords(fetched)).take(10)[0].unreadable
    assert len(_Unpacking(0, INPUT, MemoryRecords(within)).take(10)[0].value or b"") == 99_000


@pytest.mark.parametrize("codec", CODECS[1:])
@given(st.data())
def test_compressed_bytes_of_any_kind_are_records_or_an_error_of_ours(codec: int, data: st.DataObject) -> None:
    whole = bytearray(batch([(NOW, b"k", b"some text " * 30, [])] * 4, compression=codec)[HEADER.size :])
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        whole[at] = data.draw(st.integers(0, 255))
    else:
        del whole[at:]

    with contextlib.suppress(codecs.CodecError):
        codecs.decompressed(codec, bytes(whole))


def test_snappy_without_xerial_s_frame_is_read_as_well() -> None:
    records = b"some text " * 30

    assert codecs.decompressed(SNAPPY, snappy_encode(records, xerial_compatible=False)) == records


def test_gzip_of_several_members_is_read_to_its_end() -> None:
    assert codecs.decompressed(GZIP, gzip_encode(b"one ") + gzip_encode(b"two")) == b"one two"


@pytest.mark.parametrize("magic", [0, 1])
def test_a_batch_of_an_old_format_that_cannot_be_read_is_unreadable_too(magic: int) -> None:
    builder = MemoryRecordsBuilder(magic, GZIP, 1 << 20)
    for number in range(3):
        builder.append(NOW + number, b"k", b"%d" % number, [])
    builder.close()
    made = bytearray(builder.buffer())
    made[-30:-20] = b"\xff" * 10
    crc_at, checked_from = 12, 16
    made[crc_at:checked_from] = struct.pack(">I", calc_crc32(bytes(made[checked_from:])))
    made[:8] = struct.pack(">q", 12)  # the last one's offset, as a broker assigns it

    records = _Unpacking(10, INPUT, MemoryRecords(bytes(made))).take(10)

    assert [record.offset for record in records] == [10, 11, 12]
    assert all("sms.events:3:10" in record.unreadable for record in records)
