"""Which batches are compressed, and how: large ones always, whatever of them is large."""

from __future__ import annotations

import gzip

import pytest
from kafka.record.memory_records import MemoryRecords

from worker.broker import BrokerError, KafkaLink, batches
from worker.broker.batches import BATCH_BYTES, CODECS, build
from worker.messages import Outgoing
from worker.settings import Settings

LARGE = 1_200_000
COMPRESSION = 7  # of a batch's attributes, the bits that say how it is compressed
GZIP = 1
HEADER = 61  # bytes of a batch before its records


def sealed(*records: Outgoing, partitions: int = 6, compression: str = "gzip") -> list[bytes]:
    made = []
    for _, builder in build(records, partitions, 0, keyless=0, compression=compression):
        builder.close()
        made.append(bytes(builder.buffer()))
    return made


def sizes_and_kinds(*records: Outgoing, partitions: int = 6, compression: str = "gzip") -> list[tuple[int, int]]:
    found = []
    for each in sealed(*records, partitions=partitions, compression=compression):
        batch = MemoryRecords(each).next_batch()
        assert batch is not None
        assert batch.validate_crc()
        found.append((len(each), batch.attributes & COMPRESSION))
    return found


def values(made: bytes) -> list[bytes]:
    batch = MemoryRecords(made).next_batch()
    assert batch is not None
    return [record.value for record in batch]


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
@pytest.mark.parametrize("compression", ["none", "gzip", "lz4"])
def test_a_large_event_that_came_compressed_is_no_larger_as_a_dead_letter(
    letter: Outgoing, partitions: int, compression: str
) -> None:
    # A topic takes a mebibyte at once, as it is compressed: uncompressed this would be refused again and again.
    [(size, kind)] = sizes_and_kinds(letter, partitions=partitions, compression=compression)

    assert size < 20_000
    assert kind == (CODECS[compression] or GZIP)


def test_each_batch_of_a_transaction_goes_by_itself() -> None:
    large = [Outgoing(b"a", b"verdict %d " % number * 20) for number in range(100)]

    kinds = [kind for _, kind in sizes_and_kinds(*large, Outgoing(b"b", b"alone"))]

    assert sorted(kinds) == [0, GZIP]


@pytest.mark.parametrize("compression", CODECS)
def test_each_codec_of_the_setting_is_the_batch_s_own_and_can_be_read_back(compression: str) -> None:
    if package := {"zstd": "zstandard", "snappy": "snappy"}.get(compression):
        pytest.importorskip(package)
    verdicts = [Outgoing(b"a", b"verdict %d " % number * 20) for number in range(100)]

    [made] = sealed(*verdicts, compression=compression)

    [(_, kind)] = sizes_and_kinds(*verdicts, compression=compression)
    assert kind == CODECS[compression]
    assert values(made) == [each.value for each in verdicts]


def test_without_compression_everything_up_to_a_whole_batch_is_left_as_it_is() -> None:
    large = [Outgoing(b"a", b"x" * (BATCH_BYTES // 2)) for _ in range(4)]

    assert {kind for _, kind in sizes_and_kinds(*large, compression="none")} == {0}


def test_gzip_takes_its_quickest_level() -> None:
    [made] = sealed(*(Outgoing(b"a", b"verdict %d " % number * 20) for number in range(100)))

    fastest = 4  # RFC 1952: the compressor used its fastest algorithm
    assert made[HEADER + 8] == fastest
    assert gzip.decompress(made[HEADER:])


def test_the_setting_offers_exactly_these_codecs() -> None:
    for each in CODECS:
        assert Settings(compression=each).compression == each  # type: ignore[arg-type]
    assert Settings().compression == KafkaLink("none:1").compression == "gzip"


def test_a_codec_without_its_package_stops_the_start_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(batches.PACKAGES, "zstd", (lambda: False, "zstandard"))

    with pytest.raises(BrokerError, match=r"^HAMGATE_COMPRESSION=zstd needs a package: pip install zstandard"):
        KafkaLink("127.0.0.1:1", compression="zstd").connect(lambda **_: None)
