"""Which input record a record of an output topic answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from worker.messages import RecordSource, decode_dead_letter

if TYPE_CHECKING:
    from worker.messages import Record


class Where(NamedTuple):
    """One record's place in Kafka."""

    topic: str
    partition: int
    offset: int


class _Answer(msgspec.Struct, gc=False):
    """All of a verdict that the audit reads."""

    source: RecordSource


_verdict: Final = msgspec.json.Decoder(_Answer)


def verdict_source(verdict: Record) -> Where | None:
    """Return which record a verdict is of; None when it does not say."""
    try:
        source = _verdict.decode(verdict.value or b"").source
    except msgspec.DecodeError:
        return None
    return Where(source.topic, source.partition, source.offset)


def dead_letter_source(letter: Record) -> Where | None:
    """Return which record a dead letter was made of; None when it does not say."""
    try:
        decode_dead_letter(letter)
        added = {name: (value or b"").decode() for name, value in letter.headers[-5:]}
        return Where(added["source-topic"], int(added["source-partition"]), int(added["source-offset"]))
    except ValueError:
        return None
