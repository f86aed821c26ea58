"""One worker: the project's own service, pipeline, inbox, source and sink, on simulated clients."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tests.fakes import FakeClassifier
from tests.pipelines import pipeline_of
from tests.simulation.clients import SimConsumer, SimNetwork
from tests.simulation.cluster import DEAD_LETTERS, INPUT, VERDICTS
from worker.broker import ExactlyOnceSink, KafkaLink, KafkaSource, Member
from worker.pipeline.batching import MicroBatcher
from worker.pipeline.service import Service
from worker.pipeline.slices import Limits
from worker.pipeline.verdicts import Verdicts
from worker.policy.bands import Policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.clients import Request
    from tests.simulation.cluster import Cluster
    from tests.simulation.coroutines import Hub, Task
    from worker.pipeline.batch import Waiting
    from worker.pipeline.stages import Pipeline

# The protocol's own times, short so that a schedule may pass them.
TRANSACTION_TIMEOUT, SESSION_TIMEOUT, MAX_POLL_INTERVAL, PATIENCE, GRACE = 2.0, 3.0, 30.0, 30.0, 5.0
# Of two messages, so that there is always a next batch to go wrong.
BATCH = 2


class Silent:
    """Metrics and log that nobody reads."""

    def __getattr__(self, _: str) -> Silent:
        return self

    def __call__(self, *_: Any, **__: Any) -> Silent:
        return self


@dataclass(frozen=True)
class Parts:
    """The classes a worker is made of; a planted bug replaces one of them."""

    source: type[KafkaSource] = KafkaSource
    sink: type[ExactlyOnceSink] = ExactlyOnceSink
    consumer: type[SimConsumer] = SimConsumer
    pipeline: Callable[[Pipeline], None] = lambda _: None


class SimLink(KafkaLink):
    """Connects to the simulation."""

    process: Process

    def connect(self, _: Callable[..., Any], *__: str, **configs: Any) -> Any:
        return self.process.parts.consumer(self.process, **configs)


@dataclass(eq=False)
class Process:
    """A worker's process: its tasks, its requests in flight, and how it ended."""

    hub: Hub
    cluster: Cluster
    name: str
    parts: Parts
    is_static: bool = False
    in_flight: list[Request] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    is_alive: bool = True
    is_paused: bool = False
    failure: BaseException | None = None
    consumer: SimConsumer | None = None
    service: Service | None = None

    def start(self) -> None:
        self.hub.spawn(self, "start", self._main)

    def stop(self) -> None:
        """SIGTERM."""
        if self.service:
            self.service.stop()

    def _main(self) -> None:
        try:
            self._run()
        except Exception as failure:  # noqa: BLE001 how it ended is the schedule's to judge
            self.failure = failure
        self.is_alive = False

    def _run(self) -> None:
        link = SimLink("sim:1", client_id=self.name, patience=PATIENCE)
        object.__setattr__(link, "process", self)
        sink = self.parts.sink(
            link,
            verdict_topic=VERDICTS,
            dead_letter_topic=DEAD_LETTERS,
            transactional_id=self.name,
            transaction_timeout=TRANSACTION_TIMEOUT,
        )
        source = self.parts.source(
            link,
            INPUT,
            "hamgate",
            session_timeout=SESSION_TIMEOUT,
            max_poll_interval=MAX_POLL_INTERVAL,
            member=Member(
                rebalance="cooperative" if self.cluster.group.is_cooperative else "eager",
                static_name=self.name if self.is_static else None,
            ),
        )
        classifier, now = FakeClassifier(), lambda: self.hub.now
        batcher: MicroBatcher[Waiting] = MicroBatcher(1000, BATCH, 0.1)
        policy = Policy.make(0.5, flag_from=None, block_from=None, on_unscored="unscored")
        pipeline = pipeline_of(
            source,
            sink,
            classifier,  # type: ignore[arg-type] # kept to the Classifier's contract by tests/contracts
            Verdicts(classifier.labels, policy, "fake@000000000000"),
            batcher,
            Silent(),  # type: ignore[arg-type]
            Limits(max_event_bytes=1000, deadline=None),
            clock=now,
        )
        self.parts.pipeline(pipeline)
        self.service = Service(pipeline, grace=GRACE, stall=MAX_POLL_INTERVAL)
        self.service.run()

    def network(self) -> SimNetwork:
        """The network of its transactions: patched into their module."""
        return SimNetwork(self)


QUIET = SimpleNamespace(info=lambda *_, **__: None, warning=lambda *_, **__: None, debug=lambda *_, **__: None)
