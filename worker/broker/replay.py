"""Dead letters back to the input, chosen by reason and range, byte for byte, in one transaction."""

from __future__ import annotations

import datetime as dt
import itertools
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from kafka import errors

from worker.broker.link import explained
from worker.broker.producer import Producer
from worker.broker.reader import Reader
from worker.messages import REASON, Unreadable, exhume

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.broker.link import KafkaLink
    from worker.messages import Record

_FAILED_AT: Final = "failed-at"
_CHUNK: Final = 4096
_TRANSACTION_TIMEOUT: Final = 60.0


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters: of any reason when none is named; times in Unix seconds; both ranges half-open."""

    reasons: frozenset[Unreadable] = field(default_factory=frozenset)
    since: float | None = None
    until: float | None = None
    partition: int | None = None
    from_offset: int = 0
    to_offset: int | None = None

    def takes(self, letter: Record) -> bool:
        """Whether this letter is chosen. One that is not ours never is."""
        try:
            exhume(letter)
        except ValueError:
            return False
        added = dict(letter.headers)
        failed_at = dt.datetime.fromisoformat((added[_FAILED_AT] or b"").decode()).timestamp()
        return (
            (not self.reasons or (added[REASON] or b"").decode() in self.reasons)
            and (self.partition is None or letter.partition == self.partition)
            and self.from_offset <= letter.offset
            and (self.to_offset is None or letter.offset < self.to_offset)
            and (self.since is None or failed_at >= self.since)
            and (self.until is None or failed_at < self.until)
        )


def replay(  # noqa: PLR0913 where from, where to, and as whom
    link: KafkaLink,
    selection: Selection,
    *,
    dead_letter_topic: str,
    input_topic: str,
    transactional_id: str,
    dry_run: bool = False,
) -> Counter[str]:
    """Send the chosen letters back as they first came; all of them are seen at once, or none. Returns counts by reason.

    Two replays under one transactional id cannot run at once: the later fences the earlier. Raises BrokerError.
    """
    counts: Counter[str] = Counter()
    with explained(link), Reader(link, dead_letter_topic) as reader:
        chosen = _counted((letter for letter in reader.to_end() if selection.takes(letter)), counts)
        if dry_run:
            for _ in chosen:
                pass
            return counts
        producer = Producer(link, transactional_id, _TRANSACTION_TIMEOUT)
        try:
            _send(producer, input_topic, chosen)
        finally:
            producer.close()  # what is not committed by now, the broker aborts
    return counts


def _send(producer: Producer, topic: str, letters: Iterator[Record]) -> None:
    until = time.monotonic() + _TRANSACTION_TIMEOUT
    producer.begin()
    try:
        while chunk := list(itertools.islice(letters, _CHUNK)):
            batches = producer.publish(topic, [exhume(letter) for letter in chunk], until=until)
            producer.settle(batches, until=until)
        producer.await_(producer.commit(), until=until)
    except errors.KafkaError as error:
        raise (producer.trouble or error) from None


def _counted(letters: Iterator[Record], counts: Counter[str]) -> Iterator[Record]:
    for letter in letters:
        counts[(dict(letter.headers)[REASON] or b"").decode()] += 1
        yield letter
