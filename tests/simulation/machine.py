"""The simulation as hypothesis drives it: it chooses what happens, and shrinks what went wrong to a few steps."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.simulation.process import SESSION_TIMEOUT, TRANSACTION_TIMEOUT, Parts
from tests.simulation.simulation import LABELS, NAMES, WRITES, Simulation

if TYPE_CHECKING:
    from collections.abc import Iterator

INDEX: Final = st.integers(0, 7)


class Protocol(RuleBasedStateMachine):
    """Two instances of the worker, started anew whenever hypothesis likes; at the end, all must come out right."""

    parts = Parts()

    def __init__(self) -> None:
        super().__init__()
        self.is_violated = True

    @initialize(
        events=st.integers(2, 6), is_cooperative=st.booleans(), is_static=st.booleans(), version=st.sampled_from((1, 2))
    )
    def start(self, events: int, version: int, *, is_cooperative: bool, is_static: bool) -> None:
        made = Simulation(
            self.parts, is_cooperative=is_cooperative, is_static=is_static, transaction_version=version
        )  # fmt: skip
        self.simulation = made.__enter__()
        for number in range(events):
            self.simulation.feed(number % self.simulation.cluster.partitions, 2)
        for name in NAMES:
            self.simulation.start(name)
        self.is_violated = False

    @rule(which=INDEX, label=st.sampled_from(LABELS))
    def let(self, which: int, label: str) -> None:
        """Let a worker and the brokers go on until it is about to do that."""
        with self._watched():
            if alive := self.simulation.alive():
                self.simulation.let(alive[which % len(alive)], label)

    @rule(rounds=st.integers(1, 40), which=INDEX, label=st.sampled_from(LABELS))
    def flow(self, rounds: int, which: int, label: str) -> None:
        """Let all go on but one, held where it is about to do that."""
        with self._watched():
            if alive := self.simulation.alive():
                self.simulation.flow(rounds, but=alive[which % len(alive)], held_at=(label,))

    @rule(which=INDEX)
    def step(self, which: int) -> None:
        with self._watched():
            if tasks := self.simulation.hub.runnable():
                self.simulation.run(tasks[which % len(tasks)])

    @rule(which=INDEX, kind=st.integers(0, 5))
    def feed(self, which: int, kind: int) -> None:
        self.simulation.feed(which % self.simulation.cluster.partitions, kind)

    @precondition(lambda self: self.simulation.with_requests())
    @rule(which=INDEX, connection=INDEX, is_cut=st.booleans(), arrives=st.booleans(), is_late=st.booleans())
    def deliver(self, which: int, connection: int, *, is_cut: bool, arrives: bool, is_late: bool) -> None:
        """A request arrives, or its connection breaks before or after."""
        waiting = self.simulation.with_requests()
        process = waiting[which % len(waiting)]
        with self._watched():
            if is_cut:
                self.simulation.cut(process, arrives=arrives, which=connection, is_late=is_late)
            else:
                self.simulation.deliver(process, connection)

    @precondition(lambda self: self.simulation.strays)
    @rule(which=INDEX)
    def stray(self, which: int) -> None:
        """A request arrives that its sender has given up."""
        with self._watched():
            self.simulation.stray(which)

    @rule(which=INDEX, connection=INDEX, given_up_at=st.sampled_from(WRITES), arrives_at=st.sampled_from(WRITES))
    def late(self, which: int, connection: int, given_up_at: str, arrives_at: str) -> None:
        """A transaction's request is given up by its sender, and arrives in the middle of what comes after it."""
        with self._watched():
            if alive := self.simulation.alive():
                self.simulation.arrive_late(alive[which % len(alive)], connection, given_up_at, arrives_at)

    @precondition(lambda self: self.simulation.cluster.unmarked())
    @rule(which=INDEX)
    def mark(self, which: int) -> None:
        self.simulation.mark(which)

    @rule(rotation=INDEX)
    def rebalance(self, rotation: int) -> None:
        self.simulation.cluster.group.shake(rotation)

    @rule(seconds=st.sampled_from((0.01, 0.15, TRANSACTION_TIMEOUT + 0.5, SESSION_TIMEOUT + 1)))
    def advance(self, seconds: float) -> None:
        with self._watched():
            self.simulation.advance(seconds)

    @rule(which=INDEX, signal=st.sampled_from(("KILL", "TERM", "STOP", "CONT", "START")))
    def send(self, which: int, signal: str) -> None:
        """Send a process a signal; whatever ends is started again, a START may make a duplicate."""
        alive = self.simulation.alive()
        if signal == "START" or not alive:
            self.simulation.start(NAMES[which % len(NAMES)])
            return
        process = alive[which % len(alive)]
        if signal == "TERM":
            process.stop()
        elif signal == "KILL":
            process.is_alive = False
            self.simulation.start(process.name)
        else:
            process.is_paused = signal == "STOP"

    def teardown(self) -> None:
        try:
            if not self.is_violated:
                self.simulation.heal()
        finally:
            self.simulation.__exit__()

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Do not heal what has gone wrong already."""
        try:
            yield
        except BaseException:
            self.is_violated = True
            raise
