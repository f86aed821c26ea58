"""Numbered events at a pace, poison among them, published by librdkafka: what went in is known from the count alone."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Final

from confluent_kafka import Producer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from confluent_kafka import KafkaError, Message

KEYS: Final = 97
POISON_EVERY, POISON_AT = 100, 37
TOMBSTONE_EVERY, TOMBSTONE_AT = 500, 11
SENDERS: Final = ("NORTHWIND", "+447700900100", "MyBank", "60123", *(f"+4477009002{each:02}" for each in range(27)))
"""A registered one, one of a brand, a short code, and people; with lists of tests/delivery/context.py, some of them."""
RECIPIENTS: Final = tuple(f"+4477009003{each:02}" for each in range(89))
_LINKED: Final = 5
_TICK: Final = 0.02
# A burst is so many seconds' worth at once, then nothing for as long.
_BURST: Final = 2.0
_POISON: Final = (b"\xff\xfe %d", b"not json %d", b'{"id": "x-%d"}', b'{"text": %d}', b"[%d]")


def is_poison(number: int) -> bool:
    return number % POISON_EVERY == POISON_AT


def is_tombstone(number: int) -> bool:
    return number % TOMBSTONE_EVERY == TOMBSTONE_AT


def key(number: int) -> bytes:
    return b"+4477009%05d" % (number % KEYS)


def name(number: int) -> str:
    return f"m-{number:08d}"


def poison(number: int) -> bytes:
    """Unreadable, and different from every other."""
    return _POISON[number // POISON_EVERY % len(_POISON)] % number


def value(number: int) -> bytes | None:
    if is_poison(number):
        return poison(number)
    if is_tombstone(number):
        return None
    text = f"win a prize number {number}"
    if number % _LINKED == 1:
        text += f" at https://{host(number)}/win"
    elif number % _LINKED == 2:
        text += f", call {number_to_call(number)} now"
    event = {"id": name(number), "text": text, "sender": SENDERS[number % len(SENDERS)]}
    return json.dumps(event | {"recipient": RECIPIENTS[number % len(RECIPIENTS)]}).encode()


def host(number: int) -> str:
    """The host of a link, one of two."""
    return ("claim.evil.example", "win.evil.example")[number % 2]


def number_to_call(number: int) -> str:
    """A number in a text, one of two."""
    return ("+44 9061 701461", "+44 7700 900123")[number % 2]


class Feed:
    """Publishes events 0, 1, 2, ... from a thread of its own until `total` are sent, then until it is stopped."""

    def __init__(self, brokers: str, topic: str, *, rate: int, bursts: bool, total: int) -> None:
        self.sent = 0
        self.refused: list[str] = []
        self._topic, self._rate, self._bursts, self._total = topic, rate, bursts, total
        self._extra = threading.Event()
        self._producer = Producer(
            {
                "bootstrap.servers": brokers,
                "enable.idempotence": True,
                "partitioner": "murmur2_random",  # as Kafka's own clients
                "linger.ms": 5,
                "message.timeout.ms": 120_000,
                "queue.buffering.max.messages": 1_000_000,
                "log_level": 2,
            }
        )
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def is_flowing(self) -> bool:
        return self.sent < self._total

    def finish(self) -> int:
        """Send what is left, wait until all is acknowledged, and return how many events went in."""
        self._extra.set()
        self._thread.join()
        assert not self.refused, f"the input itself was refused: {self.refused[:3]}"
        return self.sent

    def _run(self) -> None:
        began = time.monotonic()
        # Once `total` are out, a fault that is still going on gets more, so that it never meets an idle worker.
        while not (self._extra.is_set() and self.sent >= self._total):
            for _ in range(self._due(time.monotonic() - began) - self.sent):
                event, subscriber = value(self.sent), key(self.sent)
                self._producer.produce(self._topic, event, subscriber, on_delivery=self._acknowledged)
                self.sent += 1
            self._producer.poll(_TICK)
        if unacknowledged := self._producer.flush(150):
            self.refused.append(f"{unacknowledged} not acknowledged in time")

    def _due(self, elapsed: float) -> int:
        if not self._bursts:
            return round(elapsed * self._rate)
        return (int(elapsed / _BURST) + 1) * round(self._rate * _BURST)

    def _acknowledged(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self.refused.append(str(error))


def expected(total: int) -> Iterator[tuple[str, bytes]]:
    """Name and key of every event that must have a verdict."""
    return ((name(n), key(n)) for n in range(total) if not is_poison(n) and not is_tombstone(n))


def poisoned(total: int) -> Iterator[bytes]:
    return (poison(n) for n in range(total) if is_poison(n))
