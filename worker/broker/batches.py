"""Records to batches, a whole batch at a time, with the client's own encoder.

kafka-python's own `send` makes a future, takes six locks and hashes the key in Python for every record: 14,000
records a second on two shared cores. Built a batch at a time it is 80,000.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

from kafka import codec
from kafka.partitioner.default import murmur2
from kafka.record.memory_records import MemoryRecordsBuilder

from worker.broker.client import compressing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.messages import Outgoing

BATCH_BYTES: Final = 512 << 10
"""Only one batch of a partition is in flight at a time, so that a transaction's records should fit one; and Kafka's
default limit for a batch is 1 MiB."""
CODECS: Final = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
"""Of HAMGATE_COMPRESSION: each as a batch's attributes have it."""
PACKAGES: Final = {"snappy": (codec.has_snappy, "python-snappy"), "zstd": (codec.has_zstd, "zstandard")}
"""Of codecs that need a package of their own: whether the client found it, and its name."""
_WORTH_IT: Final = 4 << 10
"""Bytes from which on a batch is compressed. Smaller ones are what a worker with little to do writes, one for each
partition, and the compressor releases the interpreter lock for each. A large one always is: it came compressed, and
must not be too large for the broker as a dead letter. So one record above BATCH_BYTES is compressed also where nothing
else is."""
_TIGHT: Final = 900 << 10
"""Bytes from which on a record of its own is compressed by gzip: Kafka's default limit is not far."""
# Subscribers whose partition is remembered.
_KEYS: Final = 1 << 16
_FORMAT: Final = 2  # of records, since Kafka 0.11


@functools.lru_cache(_KEYS)
def _hash(key: bytes) -> int:
    """The key's hash, as Kafka's own clients have it, so that a key has one partition whoever writes it."""
    return int(murmur2(key)) & 0x7FFFFFFF


def missing_package(compression: str) -> str | None:
    """The package that a codec needs and that is not installed; None: it can be used."""
    is_available, package = PACKAGES.get(compression, (codec.has_gzip, ""))
    return None if is_available() else package


def build(
    records: Iterable[Outgoing], partitions: int, timestamp: int, *, keyless: int, compression: str
) -> list[tuple[int, MemoryRecordsBuilder]]:
    """Records to batches, in order for each partition; `timestamp` in epoch milliseconds."""
    compressing.make_gzip_quick()
    by_partition: dict[int, list[Outgoing]] = {}
    for record in records:
        index = keyless if record.key is None else _hash(record.key) % partitions
        by_partition.setdefault(index, []).append(record)
    built: list[tuple[int, MemoryRecordsBuilder]] = []
    for index, its in by_partition.items():
        is_worth_it = sum(map(raw_size, its)) >= _WORTH_IT
        batch = None
        for record in its:
            if batch is None or batch.append(timestamp, record.key, record.value, record.headers) is None:
                chosen = _chosen(record, compression) if is_worth_it else "none"
                batch = MemoryRecordsBuilder(_FORMAT, CODECS[chosen], BATCH_BYTES)
                batch.append(timestamp, record.key, record.value, record.headers)
                built.append((index, batch))
    return built


def _chosen(record: Outgoing, compression: str) -> str:
    """Return the codec of a batch that begins with this record: gzip where a weaker one leaves a large record large."""
    is_weak = compression in {"lz4", "snappy"} and _is_tight(record)
    return "gzip" if is_weak or (compression == "none" and raw_size(record) > BATCH_BYTES) else compression


def _is_tight(record: Outgoing) -> bool:
    """Whether lz4 leaves a record so large that a topic may not take it; mostly not."""
    return raw_size(record) > _TIGHT and len(codec.lz4_encode(record.value or b"")) > _TIGHT


def packed_size(record: Outgoing) -> int:
    """Return about how many bytes a large record takes in a batch of its own."""
    value = record.value or b""
    encode = codec.gzip_encode if _is_tight(record) else codec.lz4_encode
    return raw_size(record) - len(value) + len(encode(value))


def raw_size(record: Outgoing) -> int:
    """Return the bytes of a record's key, value and headers."""
    headers = sum(len(name) + len(value or b"") for name, value in record.headers) if record.headers else 0
    return len(record.key or b"") + len(record.value or b"") + headers
