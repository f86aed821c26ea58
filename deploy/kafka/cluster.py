"""Three brokers on loopback that each may be killed, paused and restarted, with a fault proxy before them if wanted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from deploy.kafka.node import LOOPBACK, Node, cluster_id, free_port
from deploy.kafka.toxiproxy import Link, Toxiproxy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

BROKERS: Final = 3
# A broker that is silent for so long is taken for dead and its partitions move: Kafka's own default, said because
# tests wait for it.
BROKER_SESSION: Final = 9.0
# How long a coordinator waits for its own append to be replicated. At Kafka's 30 s a transaction that was pending when
# a broker died keeps its writer's next producer waiting until then, in one such death of three.
BROKER_REQUEST: Final = 9.0


@dataclass
class Cluster:
    """Three KRaft nodes, replication 3, two in sync; `proxied` puts a listener behind Toxiproxy before each.

    Brokers speak to each other directly, so a fault of the proxy is one of the network between clients and brokers.
    """

    folder: Path
    proxied: bool = False
    heap: str = "256m"
    owned: bool = True
    settings: Mapping[str, str] = field(default_factory=dict)
    nodes: dict[int, Node] = field(init=False)
    links: dict[int, Link] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Choose the ports."""
        voters = {number: free_port() for number in range(1, BROKERS + 1)}
        name, self._proxy = cluster_id(), Toxiproxy(self.folder)
        self._behind = {number: (free_port(), free_port()) for number in voters}  # what is listened to, what is told
        self.nodes = {
            number: Node(
                self.folder / str(number),
                node_id=number,
                voters=voters,
                cluster=name,
                settings={
                    "broker.session.timeout.ms": str(round(BROKER_SESSION * 1000)),
                    "request.timeout.ms": str(round(BROKER_REQUEST * 1000)),
                    **self.settings,
                },
                heap=self.heap,
                owned=self.owned,
            )
            for number in voters
        }
        if self.proxied:
            for number, node in self.nodes.items():
                node.settings = {**node.settings, **self._second_listener(node, voters[number], *self._behind[number])}

    @staticmethod
    def _second_listener(node: Node, controller: int, listen: int, told: int) -> dict[str, str]:
        plain = f"PLAINTEXT://{node.bootstrap}"
        return {
            "listeners": f"{plain},PROXIED://{LOOPBACK}:{listen},CONTROLLER://{LOOPBACK}:{controller}",
            "advertised.listeners": f"{plain},PROXIED://{LOOPBACK}:{told}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
        }

    @property
    def bootstrap(self) -> str:
        """The brokers' own addresses."""
        return ",".join(node.bootstrap for node in self.nodes.values())

    @property
    def proxied_bootstrap(self) -> str:
        """The addresses behind which the proxy stands."""
        return ",".join(f"{LOOPBACK}:{told}" for _, told in self._behind.values())

    def start(self, wait: float = 120) -> Self:
        """Start all and return when all answer. Raises StartError, or java.MissingError."""
        with ThreadPoolExecutor(BROKERS) as pool:
            list(pool.map(Node.prepare, self.nodes.values()))
        if self.proxied:
            self._proxy.start()
            for number, (listen, told) in self._behind.items():
                self.links[number] = self._proxy.between(f"broker-{number}", listen=told, upstream=listen)
        try:
            for node in self.nodes.values():
                node.launch()
            for node in self.nodes.values():
                node.await_answer(wait)
        except BaseException:
            self.stop()
            raise
        return self

    def kill(self, number: int) -> None:
        """End one at once, as a power cut would."""
        self.nodes[number].kill()
        self._refuse(number)

    def stop_one(self, number: int) -> None:
        """Stop one in order."""
        self.nodes[number].stop()
        self._refuse(number)

    def restart(self, number: int, wait: float = 90) -> None:
        """Start one again that was killed or stopped, and return when it answers."""
        self.nodes[number].start(wait)
        if link := self.links.get(number):
            link.heal()

    def _refuse(self, number: int) -> None:
        """Have the proxy refuse connections for a broker that is gone, as its host would; not take them and hang up."""
        if link := self.links.get(number):
            link.cut()

    def stop(self) -> None:
        """Stop all, together: one alone, left last, would wait for a quorum to say goodbye to."""
        for node in self.nodes.values():
            node.terminate()
        for node in self.nodes.values():
            node.stop()
        if self.links:
            self._proxy.stop()

    def __enter__(self) -> Self:
        """Start it."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()
