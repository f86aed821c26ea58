"""Faults of a worker, a broker, the network between them or one request: each strikes once, and heals."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kafka import TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from deploy.kafka.cluster import BROKER_SESSION
from tests.delivery import request_faults
from tests.delivery.frames import Api
from tests.delivery.observed import SlowJudge, Tripwires
from tests.delivery.stage import SESSION_TIMEOUT, TRANSACTION_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.delivery.stage import Stage


# A place that every transaction comes by.
EVERY_TIME = "commit entered"


@dataclass(frozen=True)
class Fault:
    """A fault: how it strikes, how many workers there are, how often at least, and how the workers are changed for it.

    One that harms single requests is played for each transaction version that has them; others, for Kafka's own choice.
    """

    strike: Callable[[Stage], None]
    workers: int = 2
    times: int = 2
    has_more: Callable[[Stage], bool] = lambda _: False
    changes: tuple[Callable[[], None], ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    versions: tuple[int, ...] = ()


# --- the worker -----------------------------------------------------------------------------------------------------


def sigkill(stage: Stage) -> None:
    """Killed in the middle of its work; the supervisor starts it again under the same name."""
    stage.strike()
    stage.workers[stage.victim].send(signal.SIGKILL)
    stage.workers[stage.victim].ended()
    stage.start(stage.victim, ready=False)
    stage.flowing()


def sigterm(stage: Stage) -> None:
    """Told to stop, and started again."""
    stage.until(stage.workers[stage.victim].is_ready, 60, "the worker is at work, so that there is something to finish")
    stage.strike()
    status = stage.end(stage.victim, signal.SIGTERM)
    assert status == 0, f"a stop in order ended with {status}"
    stage.start(stage.victim, ready=False)
    stage.flowing()


def zombie(stage: Stage) -> None:
    """Stopped beyond its session, its partitions given away, then woken."""
    stage.strike()
    stage.workers[stage.victim].send(signal.SIGSTOP)
    stage.wait(SESSION_TIMEOUT + 3)
    stage.strike()
    stage.workers[stage.victim].send(signal.SIGCONT)
    stage.flowing()


def one_to_four_to_one(stage: Stage) -> None:
    """Three more join, then leave one after the other."""
    more = ("two", "three", "four")
    stage.strike()
    stage.start(*more)
    stage.flowing()
    for instance in more:
        stage.strike()
        assert stage.end(instance, signal.SIGTERM) == 0
        stage.flowing()


def slow_judge(stage: Stage) -> None:
    """The model takes longer than a transaction may last, now and then (see the fault's changes)."""
    stage.strike()
    stage.wait(TRANSACTION_TIMEOUT)
    stage.flowing()


def injected(stage: Stage) -> None:
    """Harm at the next place where the worker calls, or waits for, the broker; one place at a strike.

    Under a steady load it is killed there; under bursts the call fails, or its answer is lost.
    """
    tripwires = _tripwires(stage)
    trap = next(iter(_not_injected(stage)), f"kill {EVERY_TIME}")
    stage.strike()
    tripwires.arm(trap)
    stage.wait(0.3)
    if not tripwires.has_sprung():  # a place of the start, or of a rebalance: make one
        stage.workers[stage.victim].send(signal.SIGKILL)
        stage.workers[stage.victim].ended()
        stage.supervise()
    stage.flowing()
    with (stage.folder / "injected").open("a") as file:
        file.write(f"{trap}\n" if tripwires.has_sprung() else f"{trap} (not met)\n")
    tripwires.disarm()


def _tripwires(stage: Stage) -> Tripwires:
    return next(change for change in stage.changes if isinstance(change, Tripwires))


def _not_injected(stage: Stage) -> list[str]:
    """The traps not sprung yet: each harm at each place that the workers of this run have come by."""
    done = stage.folder / "injected"
    struck = {line.removesuffix(" (not met)") for line in done.read_text().splitlines()} if done.exists() else set()
    places = _tripwires(stage).places.read_text().splitlines()
    harm = "fail" if stage.load.bursts else "kill"
    return [trap for place in sorted(places) if (trap := f"{harm} {place}") not in struck]


# --- the brokers ----------------------------------------------------------------------------------------------------


def broker_stopped(stage: Stage) -> None:
    """One of the three is stopped in order, and comes back."""
    number = _turn(stage)
    stage.strike()
    stage.cluster.stop_one(number)
    stage.wait(2)
    stage.cluster.restart(number)
    stage.flowing()
    _in_sync(stage, number)


def broker_killed(stage: Stage) -> None:
    """One of the three is killed, taken for dead, and comes back."""
    _kill(stage, _turn(stage))


def coordinator_killed(stage: Stage) -> None:
    """The broker that coordinates the worker's transactions is killed; in turns the one that coordinates the group."""
    kind = ("transaction", "group")[len(stage.struck) % 2]
    name = f"{stage.place.group}.{stage.victim}" if kind == "transaction" else stage.place.group
    _kill(stage, _coordinator(stage, kind, name))


def leader_moved(stage: Stage) -> None:
    """Every partition of the three topics gets another leader, its replicas all well."""
    names = (stage.place.input, stage.place.verdicts, stage.place.dead_letters)
    with KafkaAdminClient(bootstrap_servers=stage.cluster.bootstrap) as admin:
        now = {
            TopicPartition(topic["name"], each["partition_index"]): each["replica_nodes"]
            for topic in admin.describe_topics(list(names))
            for each in topic["partitions"]
        }
        moved = {partition: [*replicas[1:], replicas[0]] for partition, replicas in now.items()}
        stage.strike()
        admin.alter_partition_reassignments(moved)
        by_topic: dict[str, list[int]] = {}
        for partition in moved:
            by_topic.setdefault(partition.topic, []).append(partition.partition)
        admin.elect_leaders(0, by_topic, raise_errors=False)
    stage.flowing()
    stage.wait(1)


def rolling_restart(stage: Stage) -> None:
    """All three are restarted, one after the other."""
    for number in stage.cluster.nodes:
        stage.strike()
        stage.cluster.stop_one(number)
        stage.wait(1)
        stage.cluster.restart(number)
        stage.flowing()
        _in_sync(stage, number)


def network_cut(stage: Stage) -> None:
    """The network to the brokers is cut, half-open, late, slow in turns: to all three, or under bursts to one."""
    links = list(stage.cluster.links.values())
    kind = ("cut", "silent", "late", "slow")[len(stage.struck) % 4]
    chosen = links[:1] if stage.load.bursts else links
    stage.strike()
    for link in chosen:
        {
            "cut": link.cut,
            "silent": link.silence,
            "late": lambda link=link: link.delay(0.15),
            "slow": lambda link=link: link.trickle(16 << 10),
        }[kind]()
    stage.wait(4)
    for link in chosen:
        link.heal()
    stage.flowing()


def _turn(stage: Stage) -> int:
    return 1 + len(stage.struck) % len(stage.cluster.nodes)


def _kill(stage: Stage, number: int) -> None:
    stage.strike()
    stage.cluster.kill(number)
    stage.wait(BROKER_SESSION + 2)
    stage.cluster.restart(number)
    stage.flowing()
    _in_sync(stage, number)


def _in_sync(stage: Stage, number: int) -> None:
    """Wait until a broker that came back holds its replicas again: two in sync are needed when the next one goes."""

    def all_in_sync() -> bool:
        try:
            with KafkaAdminClient(bootstrap_servers=stage.cluster.bootstrap) as admin:
                found = admin.describe_topics([stage.place.input, stage.place.verdicts, "__consumer_offsets"])
        except KafkaError:
            return False
        return all(number in each["isr_nodes"] for topic in found for each in topic["partitions"])

    stage.until(all_in_sync, 60, f"broker {number} in sync")


def _coordinator(stage: Stage, kind: str, name: str) -> int:
    from kafka.protocol.metadata import CoordinatorType  # noqa: PLC0415

    with KafkaAdminClient(bootstrap_servers=stage.cluster.bootstrap) as admin:
        kinds = {"transaction": CoordinatorType.TRANSACTION, "group": CoordinatorType.GROUP}
        return int(admin._manager.run(admin._find_coordinator_id, name, kinds[kind]))


def catalogue() -> dict[str, Fault]:
    """Every fault by its name in the report."""
    return _of_workers_and_brokers() | _of_requests()


def _of_workers_and_brokers() -> dict[str, Fault]:
    longer = TRANSACTION_TIMEOUT + 1
    return {
        "worker-sigkill": Fault(sigkill),
        "worker-sigterm": Fault(sigterm),
        "worker-zombie": Fault(zombie, times=1),
        "broker-stopped": Fault(broker_stopped),
        "broker-sigkill": Fault(broker_killed, times=1),
        "leader-moved": Fault(leader_moved, times=4),
        "coordinator-killed": Fault(coordinator_killed),
        "rolling-restart": Fault(rolling_restart, times=1),
        "workers-1-4-1": Fault(one_to_four_to_one, workers=1, times=1),
        "network-cut": Fault(network_cut, times=4),
        "slow-judge": Fault(slow_judge, changes=(SlowJudge(every=40, seconds=longer),)),
        "injected": Fault(
            injected,
            workers=1,
            times=1,
            has_more=lambda stage: bool(_not_injected(stage)),
            settings=(("membership", "static"),),  # else each restart waits for the session of the one before
        ),
    }


def _of_requests() -> dict[str, Fault]:
    late, both = request_faults.late, (1, 2)
    at_once = (("membership", "static"),)  # else each restart waits for the session of the one before
    patient = (("transaction_timeout", "15"), ("session_timeout", "20"))
    return {
        "late-add-partitions": Fault(late(Api.ADD_PARTITIONS_TO_TXN), versions=(1,)),
        "late-add-offsets": Fault(late(Api.ADD_OFFSETS_TO_TXN), versions=(1,)),
        "late-produce": Fault(late(Api.PRODUCE), versions=both),
        "late-offsets": Fault(request_faults.late_offsets, workers=1, times=6, settings=at_once, versions=both),
        "late-end": Fault(late(Api.END_TXN, request_faults.HELD_OFFSETS), versions=both),
        "late-init": Fault(request_faults.late_init, times=4, versions=both),
        "delayed-answer": Fault(request_faults.delayed_answer, times=3, settings=patient, versions=both),
        "reset-after-delivery": Fault(request_faults.reset_after_delivery, times=6, versions=both),
    }
