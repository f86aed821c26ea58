"""Dead letters back to the input, chosen by reason and range, byte for byte, and none a second time unless asked."""

from __future__ import annotations

import datetime as dt
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from kafka import errors
from kafka.structs import ConsumerGroupMetadata

from worker.broker import incarnation
from worker.broker.client.network import UnknownOutcomeError
from worker.broker.link import BrokerError, explain, explained
from worker.broker.reader import Reader
from worker.broker.sentback import NoteError, SentBack
from worker.broker.transactions import Transactions
from worker.messages import REASON, Unreadable, decode_dead_letter, is_truncated

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.broker.link import KafkaLink
    from worker.messages import Outgoing, Record

_FAILED_AT: Final = "failed-at"
_REASON: Final = re.compile(r"[a-z0-9-]+")
# What one transaction takes: whichever is reached first.
_LETTERS: Final = 4096
_BYTES: Final = 16 << 20
_TRANSACTION_TIMEOUT: Final = 60.0
_SAY_EVERY: Final = 1.0
# How often a replay goes on by itself after an answer was lost.
_ATTEMPTS: Final = 10


@dataclass(frozen=True, slots=True)
class Selection:
    """The dead letters to replay: of any reason when none is named; times in Unix seconds; both ranges half-open.

    Offsets are counted in each partition by itself. Raises ValueError when they are given without one.
    """

    reasons: frozenset[Unreadable] = field(default_factory=frozenset)
    since: float | None = None
    until: float | None = None
    partition: int | None = None
    from_offset: int | None = None
    to_offset: int | None = None

    def __post_init__(self) -> None:
        """Refuse what could only be meant otherwise, by the option's name."""
        for option, given in (("--from-offset", self.from_offset), ("--to-offset", self.to_offset)):
            if given is not None and self.partition is None:
                message = f"{option} needs --partition: offsets are counted in each partition by itself"
                raise ValueError(message)

    def takes(self, letter: Letter) -> bool:
        """Whether this letter is chosen."""
        record = letter.record
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (self.partition is None or record.partition == self.partition)
            and (self.from_offset is None or record.offset >= self.from_offset)
            and (self.to_offset is None or record.offset < self.to_offset)
            and (self.since is None or letter.failed_at >= self.since)
            and (self.until is None or letter.failed_at < self.until)
        )


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter as it lies there, why and when (Unix seconds) it became one, and the record that it was made of."""

    record: Record
    reason: str
    failed_at: float
    original: Outgoing
    is_truncated: bool

    @classmethod
    def of(cls, record: Record) -> Letter | None:
        """Read one; None when it is not one of ours."""
        try:
            original = decode_dead_letter(record)
            added = dict(record.headers)
            reason = (added[REASON] or b"").decode()
            failed_at = dt.datetime.fromisoformat((added[_FAILED_AT] or b"").decode()).timestamp()
        except ValueError:
            return None
        return cls(record, reason, failed_at, original, is_truncated(record)) if _REASON.fullmatch(reason) else None


@dataclass(slots=True)
class Replayed:
    """Counts by reason: dead letters sent back now, those left because an earlier replay had sent them, and truncated.

    A truncated one is never sent: it is not what its sender wrote.
    """

    sent: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    truncated: Counter[str] = field(default_factory=Counter)
    last: dict[str, tuple[int, int]] = field(default_factory=dict, compare=False)
    """Partition and offset of the last letter that was sent, by reason."""


def letter_at(link: KafkaLink, topic: str, partition: int, offset: int) -> Letter | None:
    """Return the dead letter at this place; None where there is none of ours. Raises BrokerError, TimeoutError."""
    with explained(link), Reader(link, topic) as reader:
        if partition not in (known := reader.partitions(topic)):
            message = f"topic {topic} has no partition {partition}; it has {known}"
            raise BrokerError(message)
        record = reader.record_at(topic, partition, offset)
    return Letter.of(record) if record else None


def replay(  # noqa: PLR0913 where from, where to, as whom, and how
    link: KafkaLink,
    selection: Selection,
    *,
    dead_letter_topic: str,
    input_topic: str,
    name: str,
    again: bool = False,
    dry_run: bool = False,
    say: Callable[[str], None] | None = None,
) -> Replayed:
    """Send the chosen letters back as they first came, but those that a replay of this name has sent; `again`: all.

    Each transaction takes some thousands, and with them the note that they were sent, beside the offsets of the
    group `name`: a replay that was cut short is ended by another. `name` is the transactional id too, so that the
    later of two at once fences the earlier. When an answer is lost, the notes are read again and the replay goes on;
    not with `again`, since the notes then cannot tell. Raises BrokerError, or TimeoutError when reading gets nowhere.
    """
    work = _Replay(link, selection, dead_letter_topic, input_topic, name, again)
    with explained(link):
        for attempts_left in reversed(range(_ATTEMPTS)):
            # Before the notes are read: whoever replays besides is fenced by now, and what it left open is aborted.
            transactions = None if dry_run else Transactions(link, name, _TRANSACTION_TIMEOUT)
            try:
                with Reader(link, dead_letter_topic, group_id=name) as reader:
                    for topic, partition in ((dead_letter_topic, selection.partition), (input_topic, None)):
                        if partition not in (None, *(known := reader.partitions(topic))):
                            message = f"topic {topic} has no partition {partition}; it has {known}"
                            raise BrokerError(message)
                    return work.run(reader, transactions, say)
            except UnknownOutcomeError as error:
                if again or not attempts_left:
                    raise BrokerError(work.interrupted(error)) from error
            finally:
                if transactions:
                    transactions.close()  # what is not committed by now, the broker aborts
    raise AssertionError


@dataclass(slots=True)
class _Replay:
    link: KafkaLink
    selection: Selection
    letters: str
    """The topic of dead letters."""
    input_topic: str
    name: str
    again: bool
    done: Replayed = field(default_factory=Replayed)
    transactions: Transactions | None = None
    _met: dict[tuple[str, int], int] = field(default_factory=dict)
    _unsure: dict[tuple[str, int], str] = field(default_factory=dict)
    _notes: dict[tuple[str, int], str] = field(default_factory=dict)
    _topic_id: str = ""
    _sent_back: dict[tuple[str, int], SentBack] = field(default_factory=dict)
    _waiting: list[Letter] = field(default_factory=list)
    _bytes: int = 0

    def run(self, reader: Reader, transactions: Transactions | None, say: Callable[[str], None] | None) -> Replayed:
        """Read to the end, and send as it goes; or go on so where an answer was lost."""
        self.transactions, self._notes, self._topic_id = transactions, reader.notes(), reader.topic_id(self.letters)
        self._settle()
        said = time.monotonic()
        for read, record in enumerate(reader.to_end(), 1):
            self._take(record)
            if len(self._waiting) >= _LETTERS or self._bytes >= _BYTES:
                self._send()
            if say and time.monotonic() - said >= _SAY_EVERY:
                said = time.monotonic()
                say(f"{read:,} read, {self.done.sent.total():,} sent back")
        self._send()
        return self.done

    def _take(self, record: Record) -> None:
        place = record.topic, record.partition
        if place not in self._sent_back:
            try:
                # The first record that a partition still has: what lay before it need not be remembered.
                self._sent_back[place] = SentBack.read(self._note(place), begins=record.offset)
            except NoteError as error:
                message = f"group {self.name}, partition {record.partition}: {error}; delete the group to forget it"
                raise BrokerError(message) from error
        # Of a batch that could not be read there is nothing to send: its bytes are still in the input.
        if (letter := Letter.of(record)) is None or letter.reason == Unreadable.UNREADABLE_BATCH:
            return
        sent_back, is_chosen = self._sent_back[place], self.selection.takes(letter)
        is_new = record.offset >= self._met.get(place, 0)
        is_sent = (
            is_chosen and not letter.is_truncated and (self.again or not sent_back.holds(letter.reason, record.offset))
        )
        sent_back.meet(letter.reason, record.offset, is_sent=is_sent)
        if is_sent:
            self._waiting.append(letter)
            self._bytes += len(record.value or b"") + len(record.key or b"")
        elif is_chosen and is_new:
            (self.done.truncated if letter.is_truncated else self.done.left)[letter.reason] += 1
        self._met[place] = max(record.offset + 1, self._met.get(place, 0))

    def _note(self, place: tuple[str, int]) -> str:
        """Return what is noted of a partition; nothing where that was a topic that was deleted since."""
        topic_id, note = incarnation.read(self._notes.get(place, ""))
        return "" if incarnation.is_another(topic_id, self._topic_id) else note

    def _send(self) -> None:
        """Send the waiting letters, and the notes that they were sent, in one transaction."""
        if self.transactions and self._waiting:
            try:
                self._commit(self.transactions)
            except UnknownOutcomeError:
                raise
            except (errors.KafkaError, NoteError) as error:
                raise BrokerError(self.interrupted(error)) from error
        self._count()

    def interrupted(self, error: Exception) -> str:
        """Say what stopped it and how far it had come."""
        cause = error if isinstance(error, NoteError) else explain(error, self.link)
        sent = f"{self.done.sent.total():,} were sent back before that, and will not be sent again"
        return f"{cause}; {sent}" if not self._unsure else f"{cause}; {sent}; {len(self._waiting):,} more may be"

    def _count(self) -> None:
        """Count what waits as sent."""
        self.done.sent.update(letter.reason for letter in self._waiting)
        self.done.last.update(
            {letter.reason: (letter.record.partition, letter.record.offset) for letter in self._waiting}
        )
        self._waiting, self._bytes, self._unsure = [], 0, {}

    def _settle(self) -> None:
        """After a lost answer, the notes say whether the transaction was committed; either way all is read again."""
        if self._unsure and all(self._notes.get(place) == note for place, note in self._unsure.items()):
            self._count()
        self._waiting, self._bytes, self._unsure, self._sent_back = [], 0, {}, {}

    def _commit(self, transactions: Transactions) -> None:
        until = time.monotonic() + _TRANSACTION_TIMEOUT
        places = {(letter.record.topic, letter.record.partition) for letter in self._waiting}
        ends = {place: self._sent_back[place].end for place in places}
        notes = {place: incarnation.note(self._topic_id, self._sent_back[place].note()) for place in places}
        letters, self._unsure = [letter.original for letter in self._waiting], notes
        transactions.send({self.input_topic: letters}, ends, ConsumerGroupMetadata(self.name), notes, until=until)
        transactions.commit(until=until)
