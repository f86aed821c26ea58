"""Brokers on loopback that each may be killed, paused and restarted, with fault proxies before them if wanted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from deploy.kafka.node import LOOPBACK, Node, cluster_id, free_port
from deploy.kafka.toxiproxy import Link, Toxiproxy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
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
    """KRaft nodes; of three, topics have three replicas. `proxied` puts a second listener of each behind Toxiproxy.

    Brokers speak to each other directly, so a fault of the proxy is one of the network between clients and brokers.
    `in_front` starts one more proxy between the clients and Toxiproxy: it is called for each broker with the port that
    clients are told and the port to pass on to, before the brokers start. It is its giver's to stop.
    """

    folder: Path
    proxied: bool = False
    heap: str = "256m"
    owned: bool = True
    settings: Mapping[str, str] = field(default_factory=dict)
    brokers: int = BROKERS
    transaction_version: int | None = None
    in_front: Callable[[int, int], object] | None = None
    nodes: dict[int, Node] = field(init=False)
    links: dict[int, Link] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Choose the ports."""
        voters = {number: free_port() for number in range(1, self.brokers + 1)}
        name, self._proxy = cluster_id(), Toxiproxy(self.folder)
        self._listened = {number: free_port() for number in voters}  # by the brokers
        self._proxies = {number: free_port() for number in voters}
        self._advertised = {number: free_port() for number in voters} if self.in_front else self._proxies
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
                transaction_version=self.transaction_version,
            )
            for number in voters
        }
        if self.proxied:
            for number, node in self.nodes.items():
                ports = (voters[number], self._listened[number], self._advertised[number])
                node.settings = {**node.settings, **self._second_listener(node, *ports)}

    @staticmethod
    def _second_listener(node: Node, controller: int, listen: int, advertised: int) -> dict[str, str]:
        plain = f"PLAINTEXT://{node.bootstrap}"
        return {
            "listeners": f"{plain},PROXIED://{LOOPBACK}:{listen},CONTROLLER://{LOOPBACK}:{controller}",
            "advertised.listeners": f"{plain},PROXIED://{LOOPBACK}:{advertised}",
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
        return ",".join(f"{LOOPBACK}:{advertised}" for advertised in self._advertised.values())

    def start(self, wait: float = 120) -> Self:
        """Start all and return when all answer. Raises StartError, or java.MissingError."""
        with ThreadPoolExecutor(self.brokers) as pool:
            list(pool.map(Node.prepare, self.nodes.values()))
        try:
            if self.proxied:
                self._start_proxies()
            for node in self.nodes.values():
                node.launch()
            for node in self.nodes.values():
                node.await_answer(wait)
        except BaseException:
            self.stop()
            raise
        return self

    def _start_proxies(self) -> None:
        self._proxy.start()
        for number, listen in self._proxies.items():
            upstream = self._listened[number]
            self.links[number] = self._proxy.between(f"broker-{number}", listen=listen, upstream=upstream)
            if self.in_front:
                self.in_front(self._advertised[number], listen)

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
