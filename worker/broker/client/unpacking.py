"""Fetched bytes to our own records in one pass: the client makes two objects of thirteen fields for each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kafka import errors
from kafka.consumer.fetcher import Fetcher, IsolationLevel

from worker.broker.codecs import CodecError, decompressed
from worker.messages import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from worker.messages import Headers

_FORMAT: Final = 2  # of batches, since Kafka 0.11
_MS: Final = 1000
# Of a number's bytes: this bit says that there is another, these are its part of it; ten have room for 64 bits.
_MORE, _SEVEN, _LARGEST_SHIFT = 0x80, 0x7F, 63
# What a record of format 0 has for its time, as those have that their sender did not date.
_UNDATED: Final = -1


def unpack(consumer: Any) -> None:  # noqa: ANN401 the client is untyped
    """Have a consumer's polls bring our records."""
    consumer._fetcher.PartitionRecords = _Unpacking  # noqa: SLF001


class _Unpacking(Fetcher.PartitionRecords):  # type: ignore[misc] # the client is untyped
    """Fetched records of one partition. Which are hidden, and the next offset, are the client's own decisions."""

    next_fetch_offset: int

    def _unpack_records(self, partition: Any, fetched: Any, *_: Any) -> Iterator[Record]:  # noqa: ANN401
        topic, number = partition
        while (batch := fetched.next_batch()) is not None:
            if self.check_crcs and not batch.validate_crc():
                # The disk's doing, or the network's: another replica may have it whole.
                raise _corrupt(topic, number, batch.base_offset, "its checksum is another")
            records: Iterable[Record]
            if batch.magic == _FORMAT:
                self.leader_epoch, after = batch.leader_epoch, batch.next_offset
                records = [] if self._is_hidden(batch) else unpacked_or_unreadable(batch, topic, number)
            else:
                records, after = _unpacked_of_old(batch, topic, number, self.next_fetch_offset), None
            for record in records:
                self.records_read += 1
                self.next_fetch_offset = record.offset + 1
                yield record
            self.bytes_read += batch.size_in_bytes
            if after is not None:
                self.next_fetch_offset = after  # its last records may have been compacted away
        self.drain()

    def _is_hidden(self, batch: Any) -> bool:  # noqa: ANN401 the client is untyped
        """Whether it is a transaction's marker, or of one that was aborted. Asked once of each, in order."""
        if self.isolation_level == IsolationLevel.READ_COMMITTED and batch.has_producer_id():
            self._consume_aborted_transactions_up_to(batch.last_offset)
            if batch.records_count and self._contains_abort_marker(batch):  # a compacted marker may have none
                self.aborted_producer_ids.discard(batch.producer_id)
            elif self._is_batch_aborted(batch):
                return True
        return bool(batch.is_control_batch)


def unpacked_or_unreadable(batch: Any, topic: str, partition: int) -> Iterable[Record]:  # noqa: ANN401
    """Every record of a batch of the client's; of one that its sender spoilt, an unreadable one for each offset."""
    try:
        return unpacked(batch, topic, partition)
    except errors.CorruptRecordError as error:
        offsets = range(batch.base_offset, batch.next_offset)
        return _unreadable(topic, partition, offsets, batch.max_timestamp / _MS, str(error))


def unpacked(batch: Any, topic: str, partition: int) -> list[Record]:  # noqa: ANN401 the client is untyped
    """Every record of a batch of the client's. Raises CorruptRecordError."""
    buffer, at, first = bytes(batch._buffer), batch.HEADER_STRUCT.size, batch.first_timestamp  # noqa: SLF001
    appended = batch.max_timestamp if batch.timestamp_type == batch.LOG_APPEND_TIME else None
    offset, records = batch.base_offset, []
    try:
        if batch.compression_type:
            buffer, at = decompressed(batch.compression_type, buffer[at:]), 0
        for _ in range(batch.records_count):
            length, at = _varint(buffer, at)
            end = at + length
            since, at = _varint(buffer, at + 1)  # after its attributes, of which there are none yet
            beyond, at = _varint(buffer, at)
            key, at = _bytes(buffer, at)
            value, at = _bytes(buffer, at)
            headers: Headers = ()
            if buffer[at]:
                headers, at = _headers(buffer, at)
            else:
                at += 1
            if at != end:
                raise _corrupt(topic, partition, offset, "a record is not as long as it says")
            timestamp = (first + since if appended is None else appended) / _MS
            records.append(Record(topic, partition, offset + beyond, timestamp, key, value, headers))
    except CodecError as error:
        raise _corrupt(topic, partition, offset, str(error)) from error
    except (IndexError, ValueError) as error:
        raise _corrupt(topic, partition, offset, "a record is cut short") from error
    if at != len(buffer):
        raise _corrupt(topic, partition, offset, "there is more after its last record")
    return records


def _unpacked_of_old(batch: Any, topic: str, partition: int, begins: int) -> Iterable[Record]:  # noqa: ANN401
    records = []
    try:
        raws = [*batch]
    except Exception as error:  # noqa: BLE001 each codec has its own, and the client asserts
        # Of formats 0 and 1 a batch says its last offset only; it begins where the one before it ended.
        why = str(_corrupt(topic, partition, begins, f"it cannot be read: {type(error).__name__}"))
        return _unreadable(topic, partition, range(begins, batch.base_offset + 1), _UNDATED / _MS, why)
    for raw in raws:
        if not raw.validate_crc():
            raise _corrupt(topic, partition, raw.offset, "its checksum is another")
        at = _UNDATED if raw.timestamp is None else raw.timestamp
        records.append(Record(topic, partition, raw.offset, at / _MS, raw.key, raw.value))
    return records


def _unreadable(topic: str, partition: int, offsets: range, timestamp: float, why: str) -> Iterator[Record]:
    # A few at a time: of how many there are, only the batch's own word is known.
    return (Record(topic, partition, offset, timestamp, None, None, unreadable=why) for offset in offsets)


def _bytes(buffer: bytes, at: int) -> tuple[bytes | None, int]:
    size, at = _varint(buffer, at)
    return (None, at) if size < 0 else (buffer[at : at + size], at + size)


def _headers(buffer: bytes, at: int) -> tuple[Headers, int]:
    count, at = _varint(buffer, at)
    if count < 0:
        raise ValueError
    headers = []
    for _ in range(count):
        name, at = _bytes(buffer, at)
        value, at = _bytes(buffer, at)
        if name is None:
            raise ValueError
        # Brokers take any bytes for a name: as Java's clients do, what is no UTF-8 is read as what can be read of it.
        headers.append((name.decode(errors="replace"), value))
    return tuple(headers), at


def _varint(buffer: bytes, at: int) -> tuple[int, int]:
    """Read a number, and the place behind it: 7 bits a byte, the lowest first; of all bits the lowest is the sign."""
    number = buffer[at]
    at += 1
    if number >= _MORE:
        part, shift = number, 0
        number &= _SEVEN
        while part >= _MORE:
            part = buffer[at]
            at += 1
            shift += 7
            number |= (part & _SEVEN) << shift
            if shift > _LARGEST_SHIFT:
                message = "a number of more than 64 bits"
                raise ValueError(message)
    return number >> 1 ^ -(number & 1), at


def _corrupt(topic: str, partition: int, offset: int, why: str) -> errors.CorruptRecordError:
    return errors.CorruptRecordError(f"batch {topic}:{partition}:{offset}: {why}")
