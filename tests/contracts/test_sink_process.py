"""A sink in a process of its own: what the worker hears of it, and when it ends. Its answers: test_stream."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from kafka.structs import ConsumerGroupMetadata

from tests.contracts.worlds import InKafka, events, positions, settled, take, until
from tests.processes import has_ended, watched
from worker.broker import BrokerError, KafkaLink, SinkProcess, SinkProcessError, Terms
from worker.messages import Outgoing
from worker.pipeline.ports import RolledBackError
from worker.process import signals

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.broker

TERMS = Terms("verdicts", "dead-letters", "group.one", 5.0)
NOBODY = KafkaLink("127.0.0.1:1", patience=0.2)
STALE: Any = ConsumerGroupMetadata("group", 7, "nobody", None)


@pytest.fixture
def sink(in_kafka: InKafka) -> Iterator[SinkProcess]:
    made = SinkProcess(in_kafka.place.as_client("one"), in_kafka.terms("one"))
    yield made
    made.close()


@contextmanager
def worker_that(does: str, world: InKafka) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A process that makes a sink of `one` and tells its id; and that sink's process, watched."""
    code = f"import os, sys\nbrokers, verdicts, letters, group = sys.argv[1:]\n{does}"
    arguments = [world.place.link.brokers, world.verdicts, world.dead_letters, world.place.group]
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE) as worker:
        assert worker.stdout
        with watched(int(worker.stdout.readline())) as process:
            yield worker, process


def test_what_keeps_it_from_connecting_is_said_in_the_same_words() -> None:
    with pytest.raises(BrokerError, match=r"HAMGATE_BROKERS=127\.0\.0\.1:1") as child:
        SinkProcess(NOBODY, TERMS)
    with pytest.raises(BrokerError) as here:
        TERMS.sink(NOBODY)

    assert str(child.value) == str(here.value)


def test_a_process_that_cannot_be_started_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")

    with pytest.raises(SinkProcessError, match=r"^the sink process cannot be started: No such file"):
        SinkProcess(NOBODY, TERMS)


def test_one_that_is_killed_is_named_with_how_it_ended(sink: SinkProcess) -> None:
    os.kill(sink.pid, signal.SIGKILL)

    with pytest.raises(SinkProcessError, match=r"^the sink process ended with -9 \(Killed\)$"):
        sink.write([], [], {}, STALE)


def test_no_secret_stands_where_other_users_see_it(in_kafka: InKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAMGATE_SASL_PASSWORD", "hunter2")
    link = dataclasses.replace(in_kafka.place.as_client("one"), sasl_password="hunter2")  # noqa: S106
    sink = SinkProcess(link, in_kafka.terms("one"))

    seen = b"".join(Path(f"/proc/{sink.pid}/{file}").read_bytes() for file in ("cmdline", "environ"))

    sink.close()
    assert b"worker.broker.sink_server" in seen
    assert b"hunter2" not in seen


@pytest.mark.parametrize("number", [*signals.ENDING, *signals.WITHOUT_A_MEANING])
def test_what_tells_the_worker_to_stop_does_not_stop_what_it_still_needs(
    sink: SinkProcess, in_kafka: InKafka, number: signal.Signals
) -> None:
    os.kill(sink.pid, number)

    with pytest.raises(RolledBackError):  # an answer
        sink.write([], [], {(in_kafka.input, 0): 1}, STALE)
    assert os.getsid(sink.pid) != os.getsid(0)


def test_that_it_begins_anew_is_seen_while_it_does(sink: SinkProcess, in_kafka: InKafka) -> None:
    seen: list[bool] = []
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(0.0005):
            seen.append(sink.is_rebuilding)

    looking = threading.Thread(target=look)
    looking.start()
    with pytest.raises(RolledBackError):
        sink.write(events(1), [], {(in_kafka.input, 0): 1}, STALE)
    is_over.set()
    looking.join()

    assert any(seen)
    assert not sink.is_rebuilding


def test_after_a_refusal_it_goes_on(sink: SinkProcess, in_kafka: InKafka) -> None:
    in_kafka.feed(*events(1, 2, 3))
    source = in_kafka.source()
    settled(in_kafka, source)
    taken = take(source, 3)
    with pytest.raises(RolledBackError):
        sink.write(events(1, 2, 3), [], positions(taken), STALE)

    sink.prepare(source.group_metadata())
    sink.write(events(1, 2, 3), [], positions(taken), source.group_metadata())

    assert [record.value for record in in_kafka.read(in_kafka.verdicts)] == [b"1", b"2", b"3"]


def test_what_it_fails_of_is_named_by_its_kind_and_not_by_what_it_was_given(
    in_kafka: InKafka, capfd: pytest.CaptureFixture[str]
) -> None:
    sink = SinkProcess(in_kafka.place.as_client("one"), in_kafka.terms("one"))  # tells what is captured here
    spam = Outgoing(b"k", b"win a prize", (("h", b"a number"),))

    with pytest.raises(SinkProcessError, match=r"^the sink process failed: error$"):
        sink.write([spam], [], {(in_kafka.input, 1 << 40): 1}, STALE)

    sink.close()
    said = capfd.readouterr().err
    assert "the sink failed" in said
    assert "win a prize" not in said
    assert "a number" not in said


def test_it_ends_with_close(sink: SinkProcess) -> None:
    with watched(sink.pid) as process:
        sink.close()

        assert has_ended(process, within=0)


def test_it_ends_when_the_worker_is_killed_even_while_it_waits_for_the_broker(in_kafka: InKafka) -> None:
    writes = (
        "from worker.broker import KafkaLink, SinkProcess, Terms\n"
        "from kafka.structs import ConsumerGroupMetadata\n"
        "sink = SinkProcess(KafkaLink(brokers), Terms(verdicts, letters, group + '.one', 5.0))\n"
        "print(sink.pid, flush=True)\n"
        "sink.write([], [], {('no such topic', 0): 1}, ConsumerGroupMetadata(group, 1, 'm', None))"
    )
    with worker_that(writes, in_kafka) as (worker, process):
        os.kill(worker.pid, signal.SIGKILL)

        assert has_ended(process, within=5)
    until(lambda: worker.poll() is not None)


def test_one_whose_worker_has_ended_before_it_was_there_leaves_the_name_to_the_next(in_kafka: InKafka) -> None:
    """The pipe holds all that it is to be made of, and only then does the worker end: nobody must be fenced by it."""
    ends = (
        "from worker.broker import KafkaLink, Terms, sink_process\n"
        "def told(process):\n"
        "    print(process.pid, flush=True)\n"
        "    os._exit(0)\n"
        "sink_process.SinkProcess._next = told\n"
        "sink_process.SinkProcess(KafkaLink(brokers), Terms(verdicts, letters, group + '.one', 5.0))"
    )
    with worker_that(ends, in_kafka) as (worker, process):
        worker.wait(10)
        successor = in_kafka.sink("one")
        assert has_ended(process, within=20)

    source = in_kafka.source()
    in_kafka.feed(*events(1))
    settled(in_kafka, source)
    taken = take(source, 1)
    successor.write(
        events(1), [], positions(taken), source.group_metadata()
    )  # FencedError, were it not the last of its name


def test_one_that_is_stopped_is_not_waited_for_for_ever(in_kafka: InKafka) -> None:
    link = dataclasses.replace(in_kafka.place.as_client("one"), patience=1.0)
    sink = SinkProcess(link, msgspec.structs.replace(in_kafka.terms("one"), transaction_timeout=1.0))
    sink._patience = 0.5
    os.kill(sink.pid, signal.SIGSTOP)

    with pytest.raises(SinkProcessError, match=r"^the sink process has not answered for 0\.5 s$"):
        sink.write([], [], {}, STALE)
    with watched(sink.pid) as process:
        assert has_ended(process, within=5)


def test_what_to_prepare_with_a_process_that_has_ended_is_left_to_the_write(sink: SinkProcess) -> None:
    with watched(sink.pid) as process:
        os.kill(sink.pid, signal.SIGKILL)
        assert has_ended(process, within=5)

    sink.prepare(STALE)

    with pytest.raises(SinkProcessError, match="Killed"):
        sink.write([], [], {}, STALE)
