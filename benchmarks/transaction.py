"""How long a transaction takes from a writing thread, in turns on one broker.

Ours by both transaction versions (KIP-890), kafka-python's and librdkafka's.

    python -m benchmarks.transaction [--transactions 200] [--records 200] [--rounds 3] [--pause 0.01]

Each is that many records to eight partitions and the offsets of eight more; once with nothing beside it, and once with
two threads that run Python without end, as a worker's reader and judge do at their worst.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
import time
from statistics import median
from typing import TYPE_CHECKING, Any, Final, Protocol
from unittest import mock

import confluent_kafka
import numpy as np
from kafka import KafkaProducer, TopicPartition
from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata

from deploy.kafka import node, topics
from training import results
from worker.broker import KafkaLink
from worker.broker.transactions import Transactions
from worker.messages import Outgoing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_GROUP, _INPUT, _OUTPUT = "bench", "bench.events", "bench.verdicts"
_PARTITIONS: Final = 8
_TIMEOUT: Final = 30.0
_POSITIONS: Final = {(_INPUT, number): 1 for number in range(_PARTITIONS)}
# As the worker has it.
_SWITCH_INTERVAL: Final = 0.0005
_BUSY: Final = 2
_WARM_UP: Final = 20


class Writer(Protocol):
    """Writes records and positions in a transaction; returns when it is committed."""

    def write(self, records: list[Outgoing]) -> None: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


class Ours:
    """As the worker's sink does it: prepared, then sent."""

    name = "ours"

    def __init__(self, bootstrap: str) -> None:
        self._transactions = Transactions(KafkaLink(bootstrap, client_id=self.name), f"bench.{self.name}", _TIMEOUT)
        self._metadata = ConsumerGroupMetadata(_GROUP)

    def write(self, records: list[Outgoing]) -> None:  # noqa: D102
        until = time.monotonic() + _TIMEOUT
        self._transactions.prepare(_GROUP)
        self._transactions.send({_OUTPUT: records}, _POSITIONS, self._metadata, until=until)
        self._transactions.commit(until=until)

    def close(self) -> None:  # noqa: D102
        self._transactions.close()


class OursByVersion1(Ours):
    """The same by transaction version 1, as on a cluster that has not finalised version 2."""

    name = "ours-version-1"

    def __init__(self, bootstrap: str) -> None:
        with mock.patch("worker.broker.protocol.transaction_version", return_value=1):
            super().__init__(bootstrap)


class KafkaPython:
    """The client's own producer, with the shortest wait before it asks again."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = KafkaProducer(
            bootstrap_servers=bootstrap,
            transactional_id="bench.kafka-python",
            compression_type="lz4",
            batch_size=512 << 10,
            retry_backoff_ms=1,
        )
        self._producer.init_transactions()
        self._offsets = {TopicPartition(*place): OffsetAndMetadata(at, "", -1) for place, at in _POSITIONS.items()}

    def write(self, records: list[Outgoing]) -> None:  # noqa: D102
        self._producer.begin_transaction()
        for record in records:
            self._producer.send(_OUTPUT, key=record.key, value=record.value)
        self._producer.send_offsets_to_transaction(self._offsets, ConsumerGroupMetadata(_GROUP))
        self._producer.commit_transaction()

    def close(self) -> None:  # noqa: D102
        self._producer.close()


class Librdkafka:
    """confluent-kafka, which runs outside the interpreter."""

    def __init__(self, bootstrap: str) -> None:
        common = {"bootstrap.servers": bootstrap}
        self._producer = confluent_kafka.Producer(
            common | {"transactional.id": "bench.librdkafka", "compression.type": "lz4", "linger.ms": 0}
        )
        self._producer.init_transactions()
        self._consumer = confluent_kafka.Consumer(common | {"group.id": _GROUP})
        self._offsets = [confluent_kafka.TopicPartition(*place, at) for place, at in _POSITIONS.items()]

    def write(self, records: list[Outgoing]) -> None:  # noqa: D102
        self._producer.begin_transaction()
        for record in records:
            self._producer.produce(_OUTPUT, record.value, record.key)
        self._producer.send_offsets_to_transaction(self._offsets, self._consumer.consumer_group_metadata())
        self._producer.commit_transaction()

    def close(self) -> None:  # noqa: D102
        self._consumer.close()


WRITERS: Final[dict[str, type[Any]]] = {
    "ours": Ours,
    "ours-version-1": OursByVersion1,
    "kafka-python": KafkaPython,
    "librdkafka": Librdkafka,
}
Times = dict[tuple[str, str], list[list[float]]]


def main() -> int:
    """Measure, print, record."""
    options = _options()
    records = [Outgoing(b"%d" % (number % 997), bytes(range(200))) for number in range(options.records)]
    times: Times = {}
    sys.setswitchinterval(_SWITCH_INTERVAL)
    with node.temporary("hamgate-bench-", is_for_long=True) as broker:
        topics.create(broker.bootstrap, (_INPUT, _OUTPUT), _PARTITIONS)
        writers = {name: make(broker.bootstrap) for name, make in WRITERS.items()}
        for number in range(options.rounds):
            for beside in ("alone", "busy"):
                for name in sorted(writers, reverse=number % 2 == 1):
                    with _threads(_BUSY if beside == "busy" else 0):
                        took = _measure(writers[name], records, options)
                    times.setdefault((name, beside), []).append(took)
                    p50, p99 = 1000 * np.percentile(took, (50, 99))
                    print(f"{name:<15} {beside:<6} p50 {p50:6.2f} ms  p99 {p99:6.2f} ms", flush=True)
        for writer in writers.values():
            writer.close()
    print(_record(options, times))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transaction", description=__doc__)
    parser.add_argument("--transactions", type=int, default=200, help="of each writer, each time")
    parser.add_argument("--records", type=int, default=200, help="of each transaction")
    parser.add_argument("--rounds", type=int, default=3, help="of all; medians are recorded")
    parser.add_argument("--pause", type=float, default=0.01, help="seconds between two transactions")
    return parser.parse_args()


def _measure(writer: Writer, records: list[Outgoing], options: argparse.Namespace) -> list[float]:
    took = []
    for number in range(_WARM_UP + options.transactions):
        began = time.perf_counter()
        writer.write(records)
        if number >= _WARM_UP:
            took.append(time.perf_counter() - began)
        time.sleep(options.pause)
    return took


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads that never release the interpreter lock by themselves."""
    is_over = threading.Event()

    def spin() -> None:
        while not is_over.is_set():
            sum(range(1000))

    spinning = [threading.Thread(target=spin) for _ in range(count)]
    for thread in spinning:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in spinning:
            thread.join()


def _record(options: argparse.Namespace, times: Times) -> Path:
    extra = {name: getattr(options, name) for name in ("transactions", "records", "rounds", "pause")}
    entries = []
    for (name, beside), found in times.items():
        p50s, p99s = ([1000 * float(np.percentile(took, q)) for took in found] for q in (50, 99))
        against = [1000 * float(np.percentile(took, 50)) for took in times["ours", beside]]
        more: dict[str, Any] = {
            "p99_ms": round(median(p99s), 2),
            "times_ours": round(median(theirs / ours for theirs, ours in zip(p50s, against, strict=True)), 2),
        }
        spread = f"{min(p50s):.2f} to {max(p50s):.2f}"
        entries.append(
            results.Entry(f"transaction/{name}/{beside}/p50-ms", "ms", round(median(p50s), 3), spread, extra | more)
        )
    return results.record("transaction", entries)


if __name__ == "__main__":
    sys.exit(main())
