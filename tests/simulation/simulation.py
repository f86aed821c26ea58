"""Workers, brokers and whatever befalls them, one choice at a time; and the oracle that watches every commit."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING, Final, Self
from unittest import mock

from tests.simulation.cluster import DEAD_LETTERS, VERDICTS, Cluster
from tests.simulation.coroutines import Hub, installed
from tests.simulation.process import QUIET, SESSION_TIMEOUT, Parts, Process
from worker.broker import BrokerError
from worker.messages import decode_verdict
from worker.pipeline.ports import FencedError

if TYPE_CHECKING:
    from tests.simulation.clients import Request
    from tests.simulation.cluster import Transaction
    from tests.simulation.coroutines import Task
    from worker.messages import Outgoing, Record

NAMES: Final = ("a", "b")
_POISON: Final = b"not json"
_HEARTBEAT: Final = 0.5
# In place of a task's label: the brokers about to write one.
MARKER: Final = "marker"
# The requests of a transaction, as labels.
WRITES: Final = ("init", "add", "offsets", "produce", "end")
# Where a process may be stopped, frozen or killed: before each word to the brokers, each lock and each wait.
LABELS: Final = (
    "poll", "join", "committed", "lock", "take", "put", "get", "room",
    "find", "init", "add", "offsets", "produce", "end", "settling", "send", MARKER,
)  # fmt: skip
# Of a round in which everybody takes a step.
_ROUND: Final = 0.02
# Rounds in which everything that can happen happens once, until all is judged: after the longest timeouts, and more.
_ROUNDS: Final = 4000
# In so many rounds one late request arrives.
_STRAY_ROUNDS: Final = 7
# And so many more, in which what is still in a pipe must not come out again.
_QUIET: Final = 20


class ViolationError(AssertionError):
    """A violated invariant: lost, judged twice, out of order, stuck, or ended by a bug."""


class Oracle:
    """Collects the records of every transaction that was decided to commit."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.published: set[tuple[int, int]] = set()
        self.decided: dict[int, int] = dict.fromkeys(range(cluster.partitions), 0)
        self._last: dict[tuple[str, bytes | None], int] = {}
        cluster.decided = self.decide

    def decide(self, transaction: Transaction) -> None:
        """Look at a transaction in the moment that it becomes true."""
        for (topic, _), record in transaction.records:
            place = _answered(record)
            if place in self.published:
                message = f"judged twice: {place}"
                raise ViolationError(message)
            if place[1] <= self._last.get((topic, record.key), -1):
                message = f"out of order for its key: {place}"
                raise ViolationError(message)
            self.published.add(place)
            self._last[topic, record.key] = place[1]
        for (_, partition), at in transaction.offsets.items():
            for event in self._cluster.events[partition][self.decided[partition] : at]:
                if event.value is not None and (partition, event.offset) not in self.published:
                    message = f"lost: {(partition, event.offset)} is passed by"
                    raise ViolationError(message)
            self.decided[partition] = at

    def is_all_judged(self) -> bool:
        """Whether every event has its answer and no reader would be given one again."""
        ends = {number: len(log) for number, log in enumerate(self._cluster.events)}
        committed = {partition: at for (_, partition), at in self._cluster.group.committed.items()}
        return self.decided == ends and all(committed.get(number, 0) == end for number, end in ends.items())

    def compare(self) -> None:
        """A read_committed reader, at the end, sees each answer once."""
        seen = [_answered(record) for topic in (VERDICTS, DEAD_LETTERS) for record in self._cluster.committed(topic)]
        awaited = [
            (event.partition, event.offset) for log in self._cluster.events for event in log if event.value is not None
        ]
        if sorted(seen) != awaited:
            message = f"a reader sees {sorted(seen)}, and should {awaited}"
            raise ViolationError(message)


def _answered(record: Outgoing) -> tuple[int, int]:
    headers = dict(record.headers)
    if "source-partition" in headers:
        return int(headers["source-partition"] or b""), int(headers["source-offset"] or b"")
    source = decode_verdict(record.value or b"").source
    return source.partition, source.offset


class Simulation:
    """A context in which the worker's modules run on a hub of their own."""

    def __init__(
        self,
        parts: Parts | None = None,
        *,
        partitions: int = 2,
        is_cooperative: bool = False,
        is_static: bool = False,
        transaction_version: int = 1,
    ) -> None:
        self.hub = Hub()
        self.cluster = Cluster(
            lambda: self.hub.now, partitions, is_cooperative=is_cooperative, transaction_version=transaction_version
        )
        self._is_static = is_static
        self.oracle = Oracle(self.cluster)
        self.parts = parts or Parts()
        self.processes: list[Process] = []
        self.strays: list[Request] = []
        self.late = 0
        self._tasks: list[Task] = []
        self._fed = 0
        self._patches = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._patches.enter_context(installed(self.hub))
        network = lambda _: self.hub.process().network()  # noqa: E731
        self._patches.enter_context(mock.patch("worker.broker.transactions.Network", network))
        # So that what a poll brings is handed over in several parts, and others may go first between them.
        self._patches.enter_context(mock.patch("worker.pipeline.slices._SLICE", 2))
        for module in ("pipeline.accounts", "pipeline.service", "broker.sink", "broker.source"):
            self._patches.enter_context(mock.patch(f"worker.{module}.log", QUIET))
        return self

    def __exit__(self, *_: object) -> None:
        self.hub.is_closing = True
        self.hub.close([task for process in self.processes for task in process.tasks if not task.is_over])
        self._patches.close()

    # --- what may happen ----------------------------------------------------------------------------------------

    def feed(self, partition: int, kind: int) -> Record:
        """One event: mostly a message, now and then one that cannot be read, or a tombstone."""
        self._fed += 1
        key = b"%d-%d" % (partition, self._fed % 2)
        value = {0: _POISON, 1: None}.get(kind, b'{"text":"win %d"}' % self._fed)
        return self.cluster.feed(partition, key, value)

    def start(self, name: str) -> Process:
        """A new process of that instance; an older one of the same name is thereby a duplicate, or a zombie."""
        process = Process(self.hub, self.cluster, name, self.parts, self._is_static)
        self.processes.append(process)
        process.start()
        return process

    def alive(self) -> list[Process]:
        """Those that run."""
        return [process for process in self.processes if process.is_alive]

    def with_requests(self) -> list[Process]:
        """Those with a request on its way, the dead among them."""
        return [process for process in self.processes if process.in_flight]

    def run(self, task: Task) -> None:
        """Let one task go on; what ends a process by more than the brokers' word is a bug."""
        self.hub.run(task)
        failure = task.process.failure
        if failure is not None and not isinstance(failure, FencedError | BrokerError):
            message = f"{task.process.name} ended by a bug"
            raise ViolationError(message) from failure

    def deliver(self, process: Process, which: int = 0) -> None:
        """The first request of one of a process's connections arrives, also when its sender is no more."""
        request = _first(process, which)
        process.in_flight.remove(request)
        request.arrive()

    def cut(self, process: Process, *, arrives: bool, which: int = 0, is_late: bool = False) -> None:
        """A connection breaks: its first request has arrived, or has not, and none behind it; nobody is told which.

        `is_late`: those that have not arrived stay in the network, and `stray` delivers them at any time.
        """
        connection = _first(process, which).connection
        lost = [request for request in process.in_flight if request.connection == connection]
        if arrives:
            lost[0].arrive(is_heard=False)
        if is_late:
            self.strays += lost[1:] if arrives else lost
        for request in lost:
            process.in_flight.remove(request)
            request.cut()

    def stray(self, which: int = 0) -> None:
        """A late request arrives, whose sender has given it up: the first of one of the broken connections."""
        first = {request.connection: request for request in reversed(self.strays)}
        request = list(first.values())[which % len(first)]
        self.strays.remove(request)
        self.late += 1
        request.arrive(is_heard=False)

    def arrive_late(self, process: Process, connection: int, given_up_at: str, arrives_at: str, which: int = 0) -> None:
        """A transaction's request is given up by its sender, and arrives in the middle of what comes after it."""
        if self.let(process, given_up_at) and process.in_flight:
            self.cut(process, arrives=False, which=connection, is_late=True)
            self.let(process, arrives_at)
            if self.strays:
                self.stray(which)

    def heartbeat(self, process: Process) -> None:
        """The client's own thread speaks to the group."""
        if process.consumer and process.is_alive and not process.is_paused:
            process.consumer.heartbeat()

    def advance(self, seconds: float) -> None:
        """Time passes, with the heartbeats and the ends of patience that belong to it."""
        while seconds > 0:
            self.hub.now += min(seconds, _HEARTBEAT)
            seconds -= _HEARTBEAT
            for process in self.processes:
                self.heartbeat(process)
            self.cluster.expire()

    def mark(self, number: int) -> None:
        """One marker is written."""
        waiting = self.cluster.unmarked()
        self.cluster.mark(*waiting[number % len(waiting)])

    def transactions(self) -> set[Transaction]:
        """All that were ended."""
        return {transaction for transaction, _ in self.cluster.marked}

    # --- coarser ------------------------------------------------------------------------------------------------

    def let(self, process: Process, label: str, *, most: int = 80) -> bool:
        """Let one process and the brokers go on until one of its tasks is about to do what `label` says."""
        for _ in range(most):
            tasks = [task for task in self.hub.runnable() if task.process is process]
            for task in tasks:
                self.run(task)
                if task.label == label and not task.is_over:
                    return True
            served = self._serve(process, marks=label != MARKER)
            if label == MARKER and self.cluster.unmarked():
                return True
            if not tasks and not served:
                return False
        return False

    def _serve(self, process: Process, *, marks: bool = True) -> bool:
        is_busy = bool(process.in_flight)
        if process.in_flight:
            self.deliver(process)
        while marks and self.cluster.unmarked():
            self.mark(0)
            is_busy = True
        return is_busy

    def flow(self, rounds: int, *, but: Process, held_at: tuple[str, ...]) -> None:
        """Let everything go on, and time pass, but one process where it is about to do one of these."""
        for _ in range(rounds):
            for task in self.hub.runnable():
                is_held = task.process is but and task.label in held_at
                if not is_held and self.hub.is_runnable(task):
                    self.run(task)
            for process in self.with_requests():
                if process is not but or not any(task.label in held_at for task in process.tasks):
                    self._serve(process, marks=MARKER not in held_at)
            self.advance(_ROUND)

    def heal(self) -> None:
        """No more harm: what stopped is started, and all must come out right in bounded time."""
        for process in self.processes:
            process.is_paused = False
        quiet = 0
        for number in range(_ROUNDS):
            if self.strays and number % _STRAY_ROUNDS == 0:
                self.stray(number)
            for name in NAMES:
                if not any(process.name == name for process in self.alive()):
                    self.start(name)
            served = [self._serve(process) for process in self.processes]
            tasks = self.hub.runnable()
            for task in tasks:
                if self.hub.is_runnable(task):
                    self.run(task)
            self.advance(0.001 if any(served) or tasks else 0.1)
            # A zombie's records, which it is about to give up, hold up whoever reads what is committed.
            quiet = quiet + 1 if self.oracle.is_all_judged() and self.cluster.is_settled() else 0
            if quiet > _QUIET:
                break
        else:
            message = f"not all is judged after {_ROUNDS} rounds: {self.oracle.decided}"
            raise ViolationError(message)
        self.oracle.compare()


def _first(process: Process, which: int) -> Request:
    """The request that goes first on one of the connections that have any."""
    first = {request.connection: request for request in reversed(process.in_flight)}
    return list(first.values())[which % len(first)]


def wander(seed: int, parts: Parts | None = None, choices: int = 120) -> Simulation:
    """Random choices, all kinds of harm among them; then healing. Raises ViolationError."""
    chance = random.Random(seed)
    kind = {"is_cooperative": chance.random() < 0.5, "is_static": chance.random() < 0.3}
    with Simulation(parts, **kind, transaction_version=chance.choice((1, 2))) as simulation:
        for name in NAMES:
            simulation.start(name)
        # Each history has a temper of its own: what is rare in one is all that happens in another.
        weights = [weight * chance.choice(_TEMPERS) for weight in _CHANCES.values()]
        for draw in chance.choices(tuple(_CHANCES), weights, k=choices):
            draw(simulation, chance)
        simulation.heal()
    return simulation


def _run(simulation: Simulation, chance: random.Random) -> None:
    if tasks := simulation.hub.runnable():
        simulation.run(chance.choice(tasks))


def _deliver(simulation: Simulation, chance: random.Random) -> None:
    if waiting := simulation.with_requests():
        simulation.deliver(chance.choice(waiting), chance.randrange(4))


def _mark(simulation: Simulation, chance: random.Random) -> None:
    if simulation.cluster.unmarked():
        simulation.mark(chance.randrange(8))


def _feed(simulation: Simulation, chance: random.Random) -> None:
    simulation.feed(chance.randrange(simulation.cluster.partitions), chance.randrange(10))


def _advance(simulation: Simulation, chance: random.Random) -> None:
    simulation.advance(chance.choice((0.01, 0.15, 0.15, 1.0)))


def _heartbeat(simulation: Simulation, chance: random.Random) -> None:
    if alive := simulation.alive():
        simulation.heartbeat(chance.choice(alive))


def _cut(simulation: Simulation, chance: random.Random) -> None:
    if waiting := simulation.with_requests():
        simulation.cut(
            chance.choice(waiting),
            arrives=chance.random() < 0.5,
            which=chance.randrange(4),
            is_late=chance.random() < 0.5,
        )


def _stray(simulation: Simulation, chance: random.Random) -> None:
    if simulation.strays:
        simulation.stray(chance.randrange(8))


def _late(simulation: Simulation, chance: random.Random) -> None:
    if alive := simulation.alive():
        process = chance.choice(alive)
        simulation.arrive_late(
            process, chance.randrange(4), chance.choice(WRITES), chance.choice(WRITES), chance.randrange(8)
        )


def _freeze(simulation: Simulation, chance: random.Random) -> None:
    if alive := simulation.alive():
        process = chance.choice(alive)
        process.is_paused = not process.is_paused


def _outlast(simulation: Simulation, _: random.Random) -> None:
    simulation.advance(SESSION_TIMEOUT + 1)


def _kill(simulation: Simulation, chance: random.Random) -> None:
    if alive := simulation.alive():
        process = chance.choice(alive)
        process.is_alive = False
        simulation.start(process.name)


def _stop(simulation: Simulation, chance: random.Random) -> None:
    if alive := [process for process in simulation.alive() if process.service]:
        chance.choice(alive).stop()


def _let(simulation: Simulation, chance: random.Random) -> None:
    if alive := simulation.alive():
        simulation.let(chance.choice(alive), chance.choice(LABELS))


def _flow(simulation: Simulation, chance: random.Random) -> None:
    if alive := simulation.alive():
        simulation.flow(chance.randint(1, 40), but=chance.choice(alive), held_at=(chance.choice((*LABELS, *_MARKERS)),))


def _shake(simulation: Simulation, chance: random.Random) -> None:
    simulation.cluster.group.shake(chance.randrange(8))


def _duplicate(simulation: Simulation, chance: random.Random) -> None:
    simulation.start(chance.choice(NAMES))


# Markers are late more often than anything else: whole coordinators wait for them.
_MARKERS: Final = (MARKER,) * 4
_TEMPERS: Final = (0.1, 1, 1, 4)
_CHANCES: Final = {
    _run: 20, _deliver: 10, _mark: 4, _feed: 8, _advance: 2, _heartbeat: 3, _let: 8, _flow: 8,
    _cut: 1, _stray: 3, _late: 2, _freeze: 1, _outlast: 0.4, _kill: 1, _stop: 0.4, _duplicate: 0.2, _shake: 3,
}  # fmt: skip
