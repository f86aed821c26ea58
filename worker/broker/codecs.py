"""The records of a batch, decompressed: with every codec that Kafka knows, and never to more than a worker can hold."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Final

import lz4.frame
import snappy
import zstandard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST: Final = 64 << 20
"""Bytes of a batch's records, decompressed. A batch has 1 MiB compressed, by Kafka's default; a hostile one of that
size is gigabytes of zeros, and would end every worker that reads it."""
_CHUNK: Final = 1 << 20
NAMES: Final = ("none", "gzip", "snappy", "lz4", "zstd")
"""By the number that a batch's attributes have for them."""
# How xerial's snappy streams begin, which is what Kafka's clients write; librdkafka writes the bare format.
_XERIAL, _XERIAL_HEADER = b"\x82SNAPPY\0", 16
_LENGTH: Final = struct.Struct(">i")
# A bare block of snappy says first how long it is, in seven bits a byte; no block of this many bytes says it truly.
_SEVEN, _MORE, _LENGTH_BYTES = 0x7F, 0x80, 5
_GZIP: Final = 31  # as zlib has it: a header and a checksum of gzip around the largest window
_UNKNOWN: Final = "its codec is number %d, which this version of hamgate does not know"
_CUT: Final = "its %s ends too early"
_TOO_LARGE: Final = f"its records are more than {MOST >> 20} MiB once decompressed"


class CodecError(ValueError):
    """A batch whose records cannot be read; the text says why."""


def decompressed(codec: int, data: bytes) -> bytes:
    """Return the records of a batch. Raises CodecError."""
    if not 0 < codec < len(NAMES):
        raise CodecError(_UNKNOWN % codec)
    try:
        return b"".join(_within_limit(_PARTS[codec](data)))
    except CodecError:
        raise
    except Exception as error:  # each codec has its own
        message = f"it cannot be decompressed as {NAMES[codec]}"
        raise CodecError(message) from error


def _within_limit(parts: Iterator[bytes]) -> Iterator[bytes]:
    size = 0
    for part in parts:
        size += len(part)
        if size > MOST:
            raise CodecError(_TOO_LARGE)
        yield part


def _gzip(data: bytes) -> Iterator[bytes]:
    while data:  # of several members, one after the other
        member = zlib.decompressobj(_GZIP)
        yield member.decompress(data, MOST + 1)
        if not (member.eof or member.unconsumed_tail):
            raise CodecError(_CUT % "gzip")
        data = member.unused_data


def _lz4(data: bytes) -> Iterator[bytes]:
    frame = lz4.frame.LZ4FrameDecompressor()
    yield frame.decompress(data, MOST + 1)
    if not frame.eof:
        raise CodecError(_CUT % "lz4")


def _zstd(data: bytes) -> Iterator[bytes]:
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as stream:
        while part := stream.read(_CHUNK):
            yield part


def _snappy(data: bytes) -> Iterator[bytes]:
    blocks = _xerial_blocks(data) if data.startswith(_XERIAL) else iter((data,))
    for block in blocks:
        if _said_length(block) > MOST:
            raise CodecError(_TOO_LARGE)
        yield snappy.decompress(block)


def _xerial_blocks(data: bytes) -> Iterator[bytes]:
    at = _XERIAL_HEADER
    while at < len(data):
        (size,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if not 0 < size <= len(data) - at:
            raise CodecError(_CUT % "snappy")
        yield data[at : at + size]
        at += size


def _said_length(block: bytes) -> int:
    length = 0
    for index, byte in enumerate(block[:_LENGTH_BYTES]):
        length |= (byte & _SEVEN) << (7 * index)
        if byte < _MORE:
            break
    return length


_PARTS: Final[dict[int, Callable[[bytes], Iterator[bytes]]]] = {1: _gzip, 2: _snappy, 3: _lz4, 4: _zstd}
