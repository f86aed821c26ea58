"""By whatever signal a process ends, it ends in order, logs it in a line, and has a distinct exit status."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from deploy.kafka.node import free_port
from tests.processes import phase
from tests.unit.test_service import until
from worker import commands
from worker.__main__ import main
from worker.process import signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ENDING = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT]
IGNORED = [signal.SIGUSR1, signal.SIGUSR2]


@pytest.fixture(autouse=True)
def not_under_nohup() -> Iterator[None]:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(autouse=True)
def _handlers_as_they_were() -> Iterator[None]:
    before = {each: signal.getsignal(each) for each in (*ENDING, *IGNORED)}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Callable[[], object]], None]:
    """Have `hamgate run`, `check` and `predict` do something else."""
    monkeypatch.chdir(tmp_path)

    def does(what: Callable[[], object]) -> None:
        for name in ("run", "check", "predict"):
            monkeypatch.setitem(commands.COMMANDS, name, lambda *_: 0 if what() is None else 1)

    return does


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> queue.Queue[int]:
    """The statuses that this process would have been left with, had it been let."""
    statuses: queue.Queue[int] = queue.Queue()
    monkeypatch.setattr(os, "_exit", statuses.put)
    return statuses


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_while_the_worker_loads_ends_it_in_order(
    number: signal.Signals, command: Callable[..., Any], left: queue.Queue[int], capsys: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(each) for each in ENDING]
    statuses = []

    def load() -> None:
        signal.raise_signal(number)
        statuses.append(left.get(timeout=5))

    command(load)
    main(["run"])

    assert statuses == [signals.DONE]
    [line] = capsys.readouterr().err.splitlines()
    assert '"event": "stopped"' in line
    assert number.name in line
    assert [signal.getsignal(each) for each in ENDING] == before


def test_a_second_signal_does_not_wait_for_the_line_that_the_first_is_told_by(
    command: Callable[..., Any], left: queue.Queue[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stuck(reading: int) -> None:
        with open(reading, "rb") as pipe:
            pipe.read()

    monkeypatch.setattr(signals, "_leave_on_signal", stuck)

    def load() -> None:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)

    command(load)
    main(["run"])

    assert list(left.queue) == [128 + signal.SIGINT]


def test_once_it_works_the_first_signal_stops_the_service_and_the_second_does_not_wait(
    command: Callable[..., Any], left: queue.Queue[int]
) -> None:
    service = Mock()

    def work() -> None:
        signals.stop_on_signals(service)
        signal.raise_signal(signal.SIGTERM)
        service.stop.assert_called_once()
        signal.raise_signal(signal.SIGINT)

    command(work)
    main(["run"])

    assert list(left.queue) == [128 + signal.SIGINT]
    for each in threading.enumerate():
        if each.name == "signals":
            each.join(5)
            assert not each.is_alive()


@pytest.mark.parametrize("number", ENDING)
def test_each_of_the_ending_signals_stops_the_service(
    number: signal.Signals, command: Callable[..., Any], left: queue.Queue[int], capsys: pytest.CaptureFixture[str]
) -> None:
    service = Mock()

    def work() -> None:
        signals.stop_on_signals(service)
        signal.raise_signal(number)
        service.stop.assert_called_once()

    command(work)
    main(["run"])

    assert left.empty()
    assert f'"signal": "{number.name}"' in capsys.readouterr().err


def test_a_hangup_beside_another_signal_is_no_second_one(command: Callable[..., Any], left: queue.Queue[int]) -> None:
    """As of systemd with SendSIGHUP, of a shell beside its terminal, and of a session that ends."""
    service = Mock()

    def work() -> None:
        signals.stop_on_signals(service)
        for each in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):
            signal.raise_signal(each)
        assert left.empty()
        signal.raise_signal(signal.SIGQUIT)

    command(work)
    main(["run"])

    assert list(left.queue) == [128 + signal.SIGQUIT]


@pytest.mark.parametrize("number", IGNORED)
@pytest.mark.parametrize("is_loading", [True, False])
def test_a_signal_without_a_meaning_is_a_line_and_nothing_more(
    number: signal.Signals,
    command: Callable[..., Any],
    left: queue.Queue[int],
    capsys: pytest.CaptureFixture[str],
    *,
    is_loading: bool,
) -> None:
    service = Mock()

    def work() -> None:
        if not is_loading:
            signals.stop_on_signals(service)
        signal.raise_signal(number)

    command(work)
    assert main(["run"]) == 0

    assert left.empty()
    service.stop.assert_not_called()
    assert [json.loads(line)["signal"] for line in capsys.readouterr().err.splitlines()] == [number.name]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_what_is_ignored_already_stays_so_as_under_nohup(
    number: signal.Signals, command: Callable[..., Any], left: queue.Queue[int]
) -> None:
    service = Mock()
    signal.signal(number, signal.SIG_IGN)

    def work() -> None:
        signals.stop_on_signals(service)
        signal.raise_signal(number)

    command(work)
    main(["run"])

    service.stop.assert_not_called()
    assert left.empty()


def test_output_that_nobody_reads_is_no_error(tmp_path: Path) -> None:
    """As under `| head -1`; `yes` never ends by itself."""
    command = (
        f"yes 'win a prize' | {sys.executable} -m worker predict | head -1; echo ${{PIPESTATUS[1]}};"
        f"{sys.executable} -m worker print-settings | sleep 0; echo ${{PIPESTATUS[0]}}"
    )

    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=60, cwd=tmp_path)

    answer, *statuses = done.stdout.splitlines()
    assert json.loads(answer)["label"] in {"ham", "spam"}
    assert (statuses, done.stderr) == ([str(128 + signal.SIGPIPE)] * 2, "")


def test_standard_input_that_is_closed_is_said_where_it_is_needed_and_else_no_matter(tmp_path: Path) -> None:
    command = f"{sys.executable} -m worker predict 'win a prize' <&-; {sys.executable} -m worker predict <&-"

    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path
    )

    assert "probability" in done.stdout
    assert done.stderr == "predict: no text given, and standard input is closed\n"
    assert done.returncode == signals.USAGE


@pytest.fixture
def heard() -> Iterator[None]:
    """Ctrl-C as a terminal's foreground has it, which a process in the background may lack."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_ctrl_c_ends_a_command_that_has_no_clients_in_a_line(
    command: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    command(lambda: signal.raise_signal(signal.SIGINT))

    assert main(["predict"]) == 130

    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.usefixtures("heard")
def test_ctrl_c_ends_a_command_that_has_clients_at_once_wherever_it_is(
    command: Callable[..., Any], left: queue.Queue[int], capsys: pytest.CaptureFixture[str]
) -> None:
    class Client:
        """As the real one, in a place where no exception gets out."""

        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    def connect() -> None:
        sys.stdout.write("ok   settings")
        Client()

    command(connect)
    main(["check"])

    assert list(left.queue) == [130]
    assert capsys.readouterr() == ("ok   settings", "interrupted\n")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_where_ctrl_c_is_ignored_it_stays_so(command: Callable[..., Any], left: queue.Queue[int]) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    command(lambda: signal.raise_signal(signal.SIGINT))

    try:
        assert main(["check"]) == 0
    finally:
        signal.signal(signal.SIGINT, before)

    assert left.empty()


def test_a_worker_that_waits_for_its_brokers_leaves_at_once_when_told(tmp_path: Path) -> None:
    port = free_port()
    options = ["--brokers", f"127.0.0.1:{free_port()}", "--metrics-port", str(port), "--log-format", "json"]

    with subprocess.Popen(
        [sys.executable, "-m", "worker", "run", *options], stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as worker:
        try:
            until(lambda: phase(port) == "connecting to the brokers", within=60)
            worker.send_signal(signal.SIGINT)
            _, said = worker.communicate(timeout=10)
        finally:
            worker.kill()

    assert worker.returncode == signals.DONE
    assert "Traceback" not in said
    assert [line for line in said.splitlines() if json.loads(line)["event"] == "stopped"]
