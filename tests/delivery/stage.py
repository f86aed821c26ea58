"""One run against the cluster: topics of its own, traffic, workers that are restarted when they end, and the watch."""

from __future__ import annotations

import signal
import time
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from deploy.kafka import topics
from tests.conftest import Place
from tests.delivery import oracle
from tests.delivery.observed import OUTCOMES, Counted
from tests.delivery.readers import Watch
from tests.delivery.traffic import Feed, expected, poisoned
from tests.integration.harness import WorkerProcess
from tests.integration.parts import Parts
from worker.broker import KafkaLink
from worker.messages import decode_verdict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from deploy.kafka.cluster import Cluster
    from tests.delivery.frames import FrameProxy

PARTITIONS = 6
TRANSACTION_TIMEOUT, SESSION_TIMEOUT = 5.0, 8.0
# Beyond the session timeout, what a stall may take: an election, a coordinator that loads, a broker's own session.
LEEWAY = 10.0
READY_WITHIN = 90.0
BATCHES = Parts(batch_messages=250)


@dataclass(frozen=True)
class Load:
    """How events come: `rate` a second in the mean, evenly or in bursts, at least `total` of them."""

    total: int = 25_000
    rate: int = 1000
    bursts: bool = False


@dataclass
class Stage:
    """Everything that stands while a fault plays on it. Every broker and worker is touched from one thread only.

    `proxy` is the frame proxy before the cluster, where there is one.
    """

    cluster: Cluster
    bundle: Path
    folder: Path
    load: Load
    settings: dict[str, str]
    changes: tuple[Callable[[], None], ...] = ()
    victim: str = "one"
    proxy: FrameProxy | None = None
    parts: Parts = BATCHES
    workers: dict[str, WorkerProcess] = field(default_factory=dict)
    struck: list[float] = field(default_factory=list)
    ended_by_themselves: int = 0
    exits: list[str] = field(default_factory=list)
    every_tick: Callable[[], object] = lambda: None
    _latest: dict[int, float] = field(default_factory=dict)
    _looked_at: int = 0

    def __enter__(self) -> Self:
        name = f"d{uuid.uuid4().hex[:8]}"
        direct = self.cluster.bootstrap
        self.folder.mkdir(parents=True, exist_ok=True)
        link = KafkaLink(self.cluster.proxied_bootstrap, client_id=name)
        self.place = Place(link, f"{name}.group", f"{name}.in", f"{name}.out", f"{name}.dead", PARTITIONS)
        topics.create(direct, (self.place.input, self.place.verdicts, self.place.dead_letters), PARTITIONS)
        for topic in {value for name, value in self.settings.items() if name.endswith("_topic")}:
            topics.create_compacted(direct, topic)  # or a cell before this one has
        self.watch = Watch(direct, self.place.verdicts, self.place.dead_letters)
        self.feed = Feed(
            direct, self.place.input, rate=self.load.rate, bursts=self.load.bursts, total=self.load.total
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers.values():
            worker.kill()
        self.watch.close()

    # --- workers ------------------------------------------------------------------------------------------------

    def start(self, *instances: str, ready: bool = True, changes: tuple[Callable[[], None], ...] | None = None) -> None:
        """Start workers under these names, each again if it ran before, and wait until each has partitions.

        `changes` are those of the stage unless others are given.
        """
        changes = self.changes if changes is None else changes
        for instance in instances:
            counted = Counted(self.folder / f"{instance}.counts")
            settings = {"transaction_timeout": str(TRANSACTION_TIMEOUT), "session_timeout": str(SESSION_TIMEOUT)}
            settings |= self.settings
            self.workers[instance] = WorkerProcess(
                self.place,
                self.bundle,
                self.folder / f"{instance}.log",
                instance,
                settings,
                self.parts,
                counted,
                *changes,
            )
        if ready:
            self.until(lambda: all(self.workers[name].is_ready() for name in instances), READY_WITHIN, "workers ready")

    def end(self, instance: str, number: signal.Signals) -> int:
        """Send a signal that ends it, and return its exit status."""
        worker = self.workers.pop(instance)
        worker.send(number)
        return worker.ended(60)

    def supervise(self) -> None:
        """Start again whatever has ended by itself, as a supervisor would."""
        self.every_tick()
        for instance, worker in list(self.workers.items()):
            if not worker.is_running():
                self.ended_by_themselves += 1
                self.exits.append(f"{instance}: {worker.said()[-1500:]}")
                self.start(instance, ready=False)

    # --- time ---------------------------------------------------------------------------------------------------

    def strike(self) -> None:
        """Note that the fault begins now."""
        self.struck.append(time.time())

    def wait(self, seconds: float) -> None:
        """Let time pass, with somebody looking after the workers."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.supervise()
            time.sleep(0.05)

    def until(self, what: Callable[[], bool], within: float, why: str) -> None:
        """Wait for something. Fails when it does not come about."""
        deadline = time.monotonic() + within
        while not what():
            assert time.monotonic() < deadline, f"not within {within:g} s: {why}"
            self.supervise()
            time.sleep(0.05)

    def flowing(self, within: float = 90.0) -> None:
        """Wait until verdicts flow again in every partition: of messages that are sent from now on."""
        now = time.time()

        def all_flow() -> bool:
            for seen in self.watch.records[self._looked_at :]:
                self._looked_at += 1
                if seen.topic == self.place.verdicts:
                    source = decode_verdict(seen.value or b"").source
                    self._latest[source.partition] = source.timestamp / 1000
            return len(self._latest) == PARTITIONS and min(self._latest.values()) > now

        self.until(all_flow, within, "verdicts flow again in every partition")

    def finish(self) -> dict[str, Any]:
        """End the traffic, wait for the last verdict, stop the workers, and say what it all came to."""
        total = self.feed.finish()
        awaited = sum(1 for _ in expected(total)) + sum(1 for _ in poisoned(total))
        seen, patience = -1, time.monotonic()
        while len(self.watch.records) < awaited and time.monotonic() - patience < 60:
            self.supervise()
            if len(self.watch.records) != seen:
                seen, patience = len(self.watch.records), time.monotonic()
            time.sleep(0.1)
        for instance in list(self.workers):
            self.end(instance, signal.SIGTERM)
        time.sleep(0.5)  # whatever comes too often would come now
        findings = oracle.judge(
            self.cluster.bootstrap,
            self.place.input,
            self.place.verdicts,
            self.place.dead_letters,
            watch=self.watch,
            total=total,
            struck=self.struck,
        )
        return findings.as_dict() | {
            "exactly_once": findings.is_exactly_once,
            "transactions": self._transactions(),
            "ended_by_themselves": self.ended_by_themselves,
            "exits": self.exits,
        }

    def _transactions(self) -> dict[str, int]:
        counts = [Counted(path).read() for path in self.folder.glob("*.counts")]
        return {outcome: sum(count[outcome] for count in counts) for outcome in OUTCOMES}

    @property
    def frames(self) -> FrameProxy:
        """The frame proxy, for a fault that needs it."""
        assert self.proxy, "this cluster has no frame proxy"
        return self.proxy

    @property
    def direct(self) -> KafkaLink:
        """The brokers without the proxy."""
        return replace(self.place.link, brokers=self.cluster.bootstrap)
