"""Sending and reading back, each with a Kafka client of its own that knows nothing of the worker."""

from __future__ import annotations

import random
import threading
import time
from array import array
from typing import TYPE_CHECKING, Final, Protocol, Self

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from demo.stream import UNSCORED, VERDICT
from demo.tally import Answer
from deploy.kafka.topics import DEAD_LETTERS, EVENTS, VERDICTS
from worker.messages import REASON

if TYPE_CHECKING:
    from collections.abc import Sequence

    from demo.stream import Event

_LINGER: Final = 0.01
_POLL_AT_MOST: Final = 5000
_SEED: Final = 11
_HEADER: Final = "demo-event"
"""Carries the event's number, for when its id cannot be read: a dead letter keeps its event's headers."""


class SendError(RuntimeError):
    """The broker did not take what the demo sent."""


class Sender:
    """Sends events from a thread of its own, and remembers when each was handed over (by time.monotonic)."""

    def __init__(self, bootstrap: str, events: int) -> None:
        self.sent_at = array("d", bytes(8 * events))
        self.sent = 0
        self._producer = KafkaProducer(
            bootstrap_servers=bootstrap,
            client_id="demo-sender",
            linger_ms=round(_LINGER * 1000),
            batch_size=1 << 16,
            retry_backoff_ms=1,
        )
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None

    def start(self, events: Sequence[Event], rate: float | None = None) -> None:
        """Send these, at random moments and `rate` a second in the mean, as strangers write; or all at once."""
        self.sent = 0
        self._thread = threading.Thread(target=self._run, args=(events, rate), name="sender", daemon=True)
        self._thread.start()

    @property
    def is_sending(self) -> bool:
        """Whether there is more to come."""
        return self._thread is not None and self._thread.is_alive()

    def check(self) -> None:
        """Raise SendError when something could not be sent."""
        if self._failure:
            message = f"sending failed: {self._failure!r}"
            raise SendError(message)

    def close(self) -> None:
        """Stop where it is."""
        self._stopping.set()
        if self._thread:
            self._thread.join()
        self._producer.close(timeout=1)

    def __enter__(self) -> Self:
        """Ready to send."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop where it is."""
        self.close()

    def _run(self, events: Sequence[Event], rate: float | None) -> None:
        dice, due = random.Random(_SEED), time.monotonic()
        try:
            for event in events:
                if rate:
                    due += dice.expovariate(rate)
                    self._stopping.wait(max(0.0, due - time.monotonic()))
                if self._stopping.is_set():
                    return
                self._send(event)
            self._producer.flush()
        except Exception as failure:  # noqa: BLE001 raised again by check(), on the main thread
            self._failure = failure

    def _send(self, event: Event) -> None:
        headers = [(_HEADER, str(event.number).encode())]
        self.sent_at[event.number] = time.monotonic()
        sending = self._producer.send(EVENTS, value=event.value, key=event.key, headers=headers)
        sending.add_errback(self._refused)
        self.sent += 1

    def _refused(self, failure: BaseException) -> None:
        self._failure = failure


class _Record(Protocol):
    """The fields of the client's records that are used here."""

    key: bytes | None
    value: bytes
    headers: Sequence[tuple[str, bytes]]


class _Verdict(msgspec.Struct, gc=False):
    """The fields of a verdict that are used here."""

    id: str
    label: str | None
    score: float | None
    model: str
    action: str


class Reader:
    """Reads verdicts and dead letters from their beginning, and only what is committed.

    `sent_at` is the sender's: when each event was handed over.
    """

    def __init__(self, bootstrap: str, sent_at: Sequence[float]) -> None:
        self.model = ""
        self._sent_at = sent_at
        self._decode = msgspec.json.Decoder(_Verdict).decode
        self._consumer = KafkaConsumer(
            bootstrap_servers=bootstrap,
            client_id="demo-reader",
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            max_poll_records=_POLL_AT_MOST,
            metrics_enabled=False,
        )
        self._partitions = [
            TopicPartition(topic, partition)
            for topic in (VERDICTS, DEAD_LETTERS)
            for partition in sorted(self._consumer.partitions_for_topic(topic) or ())
        ]
        self._consumer.assign(self._partitions)

    def read(self, wait: float) -> list[Answer]:
        """Return the answers committed since the last call, in order for each partition; none after `wait` seconds."""
        polled = self._consumer.poll(timeout_ms=round(wait * 1000))
        now = time.monotonic()
        return [
            self._verdict(record, now) if place.topic == VERDICTS else self._dead_letter(record, now)
            for place, records in polled.items()
            for record in records
        ]

    def is_at_end(self) -> bool:
        """Whether all that was committed up to now has been read."""
        ends = self._consumer.end_offsets(self._partitions)
        return all(self._consumer.position(partition) >= end for partition, end in ends.items())

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()

    def __enter__(self) -> Self:
        """Ready to read."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()

    def _verdict(self, record: _Record, now: float) -> Answer:
        verdict = self._decode(record.value)
        self.model = verdict.model
        outcome = VERDICT if verdict.label else UNSCORED
        number = _number(verdict.id)
        seconds = now - self._sent(number, now)
        return Answer(number, record.key, outcome, verdict.label, verdict.score, seconds, verdict.action)

    def _dead_letter(self, record: _Record, now: float) -> Answer:
        headers = dict(record.headers)
        number = _number(headers.get(_HEADER, b"").decode())
        return Answer(number, record.key, headers[REASON].decode(), seconds=now - self._sent(number, now))

    def _sent(self, number: int, now: float) -> float:
        return self._sent_at[number] if 0 <= number < len(self._sent_at) else now


def _number(text: str) -> int:
    """The number of the event that is answered; -1 for none of ours."""
    return int(text) if text.isdecimal() else -1
