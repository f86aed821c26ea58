"""A bounded sample of the last hour's messages, as rules see them: held while a command runs, and no longer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from worker.audit.brokers import AwayError
from worker.broker import BrokerError
from worker.broker.audit import KafkaTail
from worker.messages import UnreadableError, decode
from worker.policy.facts import Facts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.broker import KafkaLink
    from worker.messages import Record, TopicPartition

SAMPLE: Final = 20_000
"""Messages at most."""
_HOUR: Final = 3600.0
_SLICES: Final = 8
_WAIT: Final = 0.5
_READ_WITHIN: Final = 30.0


def sample(link: KafkaLink, topic: str, *, max_bytes: int, now: float) -> list[Facts]:
    """Messages of the last hour, from several stretches of each partition, SAMPLE at most. Raises BrokerError."""
    try:
        with KafkaTail(link, topic) as tail:
            begins, ends = tail.at(now - _HOUR), tail.ends()
            each = max(1, SAMPLE // (_SLICES * len(begins)))
            return [
                facts
                for part in range(_SLICES)
                for record in _stretch(tail, {
                    place: (begin + (ends[place] - begin) * part // _SLICES, each,
                            begin + (ends[place] - begin) * (part + 1) // _SLICES)
                    for place, begin in begins.items()
                })
                if (facts := _facts(record, max_bytes))
            ]  # fmt: skip
    except AwayError as error:
        raise BrokerError(str(error)) from error


def _stretch(tail: KafkaTail, wanted: dict[TopicPartition, tuple[int, int, int]]) -> Iterator[Record]:
    """Some records of each place: from an offset on, as many at most, up to another offset."""
    left = {place: most for place, (begin, most, stop) in wanted.items() if begin < stop}
    for place in left:
        tail.seek(place, wanted[place][0])
    until = time.monotonic() + _READ_WITHIN
    while left:
        if time.monotonic() > until:
            message = f"could not read a sample of the last hour within {_READ_WITHIN:g} s; nothing is written"
            raise BrokerError(message)
        tail.only(left)
        for chunk in tail.chunks(_WAIT):
            stop = wanted[chunk.place][2]
            some = [record for record in chunk.records if record.offset < stop][: left[chunk.place]]
            left[chunk.place] -= len(some)
            yield from some
        left = {place: most for place, most in left.items() if most and tail.position(place) < wanted[place][2]}


def _facts(record: Record, max_bytes: int) -> Facts | None:
    if record.is_tombstone:
        return None
    try:
        sms = decode(record, max_bytes=max_bytes)
    except UnreadableError:
        return None
    place = (record.topic, record.partition)
    return Facts(sms.text, sms.sender, sms.recipient, sms.received_at, place, record.offset)
