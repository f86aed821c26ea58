"""One broker process: KRaft, loopback, settings for a laptop; a cluster is several of these with the same voters."""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from deploy.kafka import java

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

LOOPBACK: Final = "127.0.0.1"
_LOGGING: Final = Path(__file__).with_name("log4j2.properties")
_API_VERSIONS: Final = bytes.fromhex("0000000a 0012 0000 00000001 ffff")  # length, key, version, correlation, no client
_PR_SET_PDEATHSIG: Final = 1
# Compile quickly rather than well: in a minute's work the second compiler takes 9 s of CPU and never earns them back.
_QUICK: Final = "-XX:TieredStopAtLevel=1"

# A node that comes back from a crash leads by what it remembers until its controller, in the same process, finds the
# old session over and fences it. Transactions that were about to end may be loaded by then, and of a partition without
# a leader Kafka 4 drops the markers as of one that is gone: it hangs for ever. So the controller runs alone before.
_FENCING: Final = {"broker.session.timeout.ms": "250", "broker.heartbeat.interval.ms": "100"}
_OF_BROKERS: Final = ("advertised.listeners", "inter.broker.listener.name")  # no controller bears them
_ACTIVE, _FENCED = b"Performing controller activation", b"because its session has timed out"
# Seconds after which it has nothing to fence: the crash came before the node was there for anybody.
_FENCED_WITHIN: Final = 15.0
_NOTHING_FENCED: Final = b"The controller by itself has fenced nothing.\n"
# Seconds for Java to come up: 7 on idle cores, more than 60 where others take them. One that ends is noticed at once.
_UP_WITHIN: Final = 180.0


class StartError(RuntimeError):
    """The broker did not come up; the text holds the end of its log."""


def free_port() -> int:
    """Return a port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def cluster_id() -> str:
    """Return a new name for a cluster, in the form that Kafka asks for."""
    # On a command line, a name that begins with a dash is taken for an option.
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode().replace("-", "_")


@dataclass
class Node:
    """A broker that keeps its data, settings, log and pid in `folder`.

    `voters` are all nodes of the cluster, id to controller port; `settings` are Kafka's own names and win over ours.
    One that `is_for_long` is compiled as well as Java can, which pays on many cores, and after a minute.
    An `owned` node dies with the process that started it (Linux; elsewhere only when that process ends in order).
    `transaction_version` is the feature `transaction.version` of a new cluster (KIP-890); None: what Kafka chooses.
    """

    folder: Path
    port: int = field(default_factory=free_port)
    node_id: int = 1
    voters: Mapping[int, int] = field(default_factory=lambda: {1: free_port()})
    cluster: str = field(default_factory=cluster_id)
    settings: Mapping[str, str] = field(default_factory=dict)
    heap: str = "512m"
    is_for_long: bool = False
    owned: bool = True
    transaction_version: int | None = None
    _process: subprocess.Popen[bytes] | None = field(init=False, default=None, repr=False)
    _logged: int = field(init=False, default=0, repr=False)  # bytes in the log when the last process was started

    @property
    def bootstrap(self) -> str:
        """The address that clients are given."""
        return f"{LOOPBACK}:{self.port}"

    def start(self, wait: float = _UP_WITHIN) -> Self:
        """Start it and return when it answers. Raises StartError, or java.MissingError."""
        self.prepare()
        self.launch()
        return self.await_answer(wait)

    def prepare(self) -> None:
        """Write its settings, and make its folder ready where it is new, or left by a crash.

        Raises StartError, or java.MissingError.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        _write(self._settings_file, self._properties())
        if not (self.folder / "data" / "meta.properties").exists():
            self._format()
        elif self._has_crashed():
            self._fence()

    def launch(self) -> None:
        """Start the prepared process. By a thread that lives on: an owned process dies with the thread it is from."""
        self._process = self._run(self._settings_file, owned=self.owned)
        state = {"pid": self._process.pid, "bootstrap": self.bootstrap}
        (self.folder / "state.json").write_text(json.dumps(state))

    def await_answer(self, wait: float = _UP_WITHIN) -> Self:
        """Return when the launched process answers. Raises StartError, and then nothing is left running."""
        try:
            self._await_answer(wait)
        except BaseException:  # Ctrl-C while it starts leaves nothing behind either
            self.kill()
            raise
        return self

    def _await_answer(self, wait: float) -> None:
        name = f"the broker at {self.bootstrap}"
        if not self._await(self._process, name, lambda: answers(self.port), wait):
            message = self._with_log(f"{name} did not answer within {wait:g} s")
            raise StartError(message)

    def _await(self, process: subprocess.Popen[bytes], name: str, done: Callable[[], bool], within: float) -> bool:
        """Whether it is done within so many seconds. Raises StartError when the process ends before."""
        deadline = time.monotonic() + within
        while not done():
            if process.poll() is not None:
                message = self._with_log(f"{name} ended by itself")
                raise StartError(message)
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    def _with_log(self, what: str) -> str:
        lines = self._said_since(self._logged).decode(errors="replace").splitlines()
        if not lines:
            return f"{what}; it has logged nothing in {self._log}: is the machine busy?"
        return f"{what}; the end of {self._log}:\n" + "\n".join(lines[-20:])

    def _run(self, settings: Path, *options: str, owned: bool) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as output:
            self._logged = output.tell()
            return subprocess.Popen(
                [*self._machine(), *options, "kafka.Kafka", str(settings)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is its owner's to answer
                preexec_fn=die_with_parent() if owned else None,  # noqa: PLW1509 one prctl, made ready before the fork
            )

    @property
    def _log(self) -> Path:
        return self.folder / "log"

    @property
    def _settings_file(self) -> Path:
        return self.folder / "server.properties"

    def _machine(self) -> list[str]:
        program, jars = java.ready()
        least = min(self.heap, "256m", key=lambda size: int(size.removesuffix("m")))
        machine = [str(program), f"-Xmx{self.heap}", f"-Xms{least}"]
        machine += [] if self.is_for_long else ["-XX:+UseSerialGC", _QUICK]
        return [*machine, f"-Dlog4j2.configurationFile={_LOGGING}", "-cp", f"{jars}/*"]

    @property
    def pid(self) -> int:
        """The started broker's process."""
        return self._process.pid

    def exit_status(self) -> int | None:
        """Return how it ended, or None while it runs."""
        return self._process.poll()

    def terminate(self) -> None:
        """Tell it to stop in order, and do not wait; one that was never launched, or paused, is no trouble."""
        if self._process:
            self._process.terminate()
            self._process.send_signal(signal.SIGCONT)

    def stop(self, wait: float = 20) -> None:
        """Stop it in order, or after `wait` seconds at once."""
        if not self._process:
            return
        self.terminate()
        try:
            self._process.wait(wait)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """Stop its clock: connections stay open, nothing answers."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        """Start it."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    def _properties(self) -> dict[str, str]:
        copies = str(min(3, len(self.voters)))
        quorum = min(2, len(self.voters))
        return {
            "process.roles": "broker,controller",
            "node.id": str(self.node_id),
            "controller.quorum.voters": ",".join(f"{key}@{LOOPBACK}:{port}" for key, port in self.voters.items()),
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{LOOPBACK}:{self.voters[self.node_id]}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "log.dirs": str(self.folder.resolve() / "data"),
            # A topic nobody made is a mistake to be told of, not to be papered over.
            "auto.create.topics.enable": "false",
            "num.partitions": "6",
            "default.replication.factor": copies,
            "min.insync.replicas": str(quorum),
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": str(quorum),
            "share.coordinator.state.topic.replication.factor": copies,
            "share.coordinator.state.topic.min.isr": str(quorum),
            # A laptop shares its cores and memory with the worker: few threads, few files, small buffers.
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.num.partitions": "4",
            "num.network.threads": "2",
            "num.io.threads": "4",
            "log.cleaner.dedupe.buffer.size": str(8 << 20),
            # Nobody waits for more members, short sessions are allowed, dead transactions are found within a second.
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            # An offset is written at once, where the coordinator would wait 5 ms for more: a third of a small batch.
            "group.coordinator.append.linger.ms": "0",
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
            **self.settings,
        }

    def _controllers_properties(self) -> dict[str, str]:
        properties = {name: value for name, value in self._properties().items() if name not in _OF_BROKERS}
        own = [each for each in properties["listeners"].split(",") if each.startswith("CONTROLLER:")]
        return {**properties, **_FENCING, "process.roles": "controller", "listeners": ",".join(own)}

    def _fence(self, wait: float = _UP_WITHIN) -> None:
        """Let the controller, without a broker, end the session that a crash has left. Raises StartError."""
        name, settings = "the controller", self.folder / "controller.properties"
        _write(settings, self._controllers_properties())
        controller = self._run(settings, "-Dhamgate.fencing=info", owned=True)
        logged = self._logged
        try:
            if not self._await(controller, name, lambda: _ACTIVE in self._said_since(logged), wait):
                message = self._with_log(f"{name} was not active within {wait:g} s")
                raise StartError(message)
            if self._await(controller, name, lambda: _FENCED in self._said_since(logged), _FENCED_WITHIN):
                # What it says it does is in its log when that has got longer.
                size = self._size_of_metadata()
                self._await(controller, name, lambda: self._size_of_metadata() != size, _FENCED_WITHIN)
            else:
                with self._log.open("ab") as log:
                    log.write(_NOTHING_FENCED)
        finally:
            controller.kill()
            controller.wait()

    def _said_since(self, logged: int) -> bytes:
        with self._log.open("rb") as log:
            log.seek(logged)
            return log.read()

    def _size_of_metadata(self) -> int:
        return sum(each.stat().st_size for each in (self.folder / "data" / "__cluster_metadata-0").glob("*.log"))

    def _has_crashed(self) -> bool:
        """Whether a node of its own cluster alone was not stopped in order, the last time."""
        data = self.folder / "data"
        has_run = (data / "__cluster_metadata-0").exists()
        return len(self.voters) == 1 and has_run and not (data / ".kafka_cleanshutdown").exists()

    def _format(self) -> None:
        command = [*self._machine(), "kafka.tools.StorageTool", "format", "-t", self.cluster]
        command += ["-c", str(self._settings_file)]
        if self.transaction_version is not None:
            command += ["--feature", f"transaction.version={self.transaction_version}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            message = f"the broker's folder could not be made ready:\n{(done.stdout + done.stderr)[-2000:]}"
            raise StartError(message)


def _write(settings: Path, properties: Mapping[str, str]) -> None:
    settings.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))


def answers(port: int) -> bool:
    """Whether a broker on this port of loopback answers a request, not merely accepts a connection."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1) as link:
            link.sendall(_API_VERSIONS)
            return len(link.recv(8)) > 0
    except OSError:
        return False


def listening(port: int) -> bool:
    """Whether anything accepts connections on this port of loopback."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0


def running(folder: Path) -> tuple[int, str] | None:
    """Return pid and address of the node that was started in this folder, if it still runs."""
    try:
        state = json.loads((folder / "state.json").read_text())
    except (OSError, ValueError):
        return None
    # Pids are used again: only the process that runs these very settings is ours.
    return (state["pid"], state["bootstrap"]) if str(folder / "server.properties") in _command(state["pid"]) else None


def _command(pid: int) -> str:
    """Return the command line of a process, or nothing when there is none."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        except OSError:
            return ""
    return subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout


def stop_running(folder: Path, wait: float = 20) -> bool:
    """Stop the node that was started in this folder; whether there was one."""
    found = running(folder)
    if found is None:
        return False
    os.kill(found[0], signal.SIGTERM)
    deadline = time.monotonic() + wait
    while running(folder):
        if time.monotonic() > deadline:
            os.kill(found[0], signal.SIGKILL)
        time.sleep(0.1)
    (folder / "state.json").unlink(missing_ok=True)
    return True


@contextlib.contextmanager
def scratch(name: str) -> Iterator[Path]:
    """Name a folder for brokers, which begins with `name` and is yet to be made; at the end it is gone."""
    folder = java.CACHE / f"{name}-{uuid.uuid4().hex[:8]}"
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def temporary(name: str, **options: Any) -> Iterator[Node]:  # noqa: ANN401 Node's own
    """Start a node in a folder of its own that begins with `name`; at the end both are gone, however it comes."""
    with scratch(name) as folder, Node(folder, **options) as node:
        yield node


def die_with_parent() -> Callable[[], None] | None:
    """Make a `preexec_fn` by which a child ends, however its parent did; None where the system cannot promise that."""
    if sys.platform != "linux":
        return None
    system = ctypes.CDLL(None)

    def ask() -> None:
        system.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return ask
