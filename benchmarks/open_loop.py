"""Load that does not wait for its answers: events sent when they are due, verdicts as a reader has them.

    python -m benchmarks.open_loop BROKERS TOPIC RATE COUNT FIRST BEGAN      the sending half, as `latencies` starts it

Both halves are librdkafka's, the sending one in a process of its own, since what they take counts against the worker.
Latency counts from the time an event was due, not from the time it got through, so that a stall counts against every
message that had to wait for it (coordinated omission). Events are due at even intervals: traffic that comes by chance
has longer tails.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from confluent_kafka import OFFSET_END, Consumer, Producer, TopicPartition

from benchmarks import texts
from worker.messages import decode_verdict

if TYPE_CHECKING:
    from confluent_kafka import KafkaError
    from numpy.typing import NDArray

_TICK: Final = 0.0005
# With none there would be a request for nearly every event, and it would be the broker that is measured; so there are
# a thousand a second for each partition at most.
_LINGER_MS: Final = 1
_PATIENCE: Final = 0.1
# Until the sending process has made its events.
_HEAD_START: Final = 3.0
_KEYS: Final = 997


class Latencies(NamedTuple):
    """Of each event: when it was due, in Unix seconds, and milliseconds from then until a reader had its verdict."""

    due: NDArray[np.float64]
    ms: NDArray[np.float64]


def event(number: int, text: str) -> tuple[bytes, bytes]:
    """Key and value of an event."""
    return f"+{number % _KEYS}".encode(), json.dumps({"id": str(number), "text": text}).encode()


def latencies(  # noqa: PLR0913, PLR0917 # what makes a load
    brokers: str, events: str, verdicts: str, rate: float, count: int, first: int
) -> Latencies:
    """Latency of each of `count` events, from when it was due until a read_committed reader had its verdict.

    Events are numbered from `first`. Raises RuntimeError when verdicts are missing, or the sender failed.
    """
    reader = Consumer(
        {"bootstrap.servers": brokers, "group.id": "open-loop", "isolation.level": "read_committed",
         "enable.auto.commit": False, "fetch.wait.max.ms": 100}
    )  # fmt: skip
    partitions = reader.list_topics(verdicts, timeout=10).topics[verdicts].partitions
    reader.assign([TopicPartition(verdicts, partition, OFFSET_END) for partition in partitions])
    reader.poll(_HEAD_START / 2)  # whereupon it knows where the end was
    began = time.time() + _HEAD_START
    command = [sys.executable, "-m", __name__, brokers, events, str(rate), str(count), str(first), str(began)]
    sender = subprocess.Popen(command)  # noqa: S603 # ourselves
    had = np.full(count, np.nan)
    left = count
    try:
        while left:
            message = reader.poll(_PATIENCE)
            if message is not None and not message.error():
                now, number = time.time(), int(decode_verdict(message.value() or b"").id) - first
                if 0 <= number < count and np.isnan(had[number]):  # at least once, one may come twice
                    had[number], left = now, left - 1
            elif sender.poll() or time.time() - began > 3 * count / rate + 60:
                error = f"{left} verdicts are missing"
                raise RuntimeError(error)
    finally:
        sender.kill()
        sender.wait()
        reader.close()
    due = _due(began, rate, count)
    return Latencies(due, (had - due) * 1000)


def _due(began: float, rate: float, count: int) -> NDArray[np.float64]:
    return began + np.arange(count) / rate


def _send(  # noqa: PLR0913, PLR0917 # what makes a load
    brokers: str, topic: str, rate: float, count: int, first: int, began: float
) -> int:
    """Send each event when it is due, give or take a tick."""
    refused: list[KafkaError] = []
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": _LINGER_MS, "partitioner": "murmur2_random"})
    producer.list_topics(topic, timeout=10)
    made = [event(number, text) for number, text in enumerate(texts.stream(count), first)]
    due, sent = _due(began, rate, count), 0
    if time.time() > began:
        print("the events were not made in time", file=sys.stderr)
        return 1
    while sent < count:
        ready = int(np.searchsorted(due, time.time(), side="right"))
        for number in range(sent, ready):
            key, value = made[number]
            producer.produce(
                topic,
                value,
                key,
                timestamp=int(due[number] * 1000),
                on_delivery=lambda error, _: refused.append(error) if error else None,
            )
        sent = max(sent, ready)
        producer.poll(0)
        time.sleep(_TICK)
    left = producer.flush(30)
    if refused or left:
        print(f"{left + len(refused)} events were not sent; {refused[:1]}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    _, brokers_, topic_, rate_, count_, first_, began_ = sys.argv
    sys.exit(_send(brokers_, topic_, float(rate_), int(count_), int(first_), float(began_)))
