"""A log that cannot be written costs its lines, never the worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
import structlog

from deploy.kafka.node import free_port
from tests.processes import phase
from tests.unit.test_service import until
from worker.process import logs, signals
from worker.process.streams import LogStream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOGS = {
    "its reader is gone": "exec 2> >(exec true); sleep 0.2;",
    "its disk is full": "exec 2>/dev/full;",
    "it is closed": "exec 2>&-;",
    "all three are closed": "exec 0<&- 1>&- 2>&-;",
    "its reader is stuck": "exec 2> >(exec sleep 60);",
}


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    try:
        yield reading, writing
    finally:
        for each in (reading, writing):
            with suppress(OSError):
                os.close(each)


# Each starts a whole worker: what is alike in effect waits for `make test-long`.
@pytest.mark.parametrize(
    "log",
    [
        pytest.param(log, marks=[pytest.mark.long] if log in {"its disk is full", "all three are closed"} else [])
        for log in LOGS
    ],
)
def test_a_worker_whose_log_cannot_be_written_starts_and_ends_as_it_is_told(log: str, tmp_path: Path) -> None:
    port = free_port()
    worker = f"exec {sys.executable} -m worker run --brokers 127.0.0.1:{free_port()} --metrics-port {port}"
    fill = 'python3 -c "import os; os.set_blocking(2, False); os.write(2, bytes(1 << 20))";' if "stuck" in log else ""
    if fill:  # the descriptor is shared, so it is set back for the worker
        fill += 'python3 -c "import os; os.set_blocking(2, True)";'

    with subprocess.Popen(["bash", "-c", LOGS[log] + fill + worker], cwd=tmp_path) as process:
        try:
            until(lambda: phase(port) == "connecting to the brokers" or process.poll() is not None, within=60)
            process.send_signal(signal.SIGTERM)
            status = process.wait(10)
        finally:
            process.kill()

    assert status == signals.DONE


def test_lines_that_nobody_takes_are_counted_and_the_count_is_told_once_there_is_room() -> None:
    with pipe() as (reading, writing):
        stream = LogStream(writing)
        stream.write("first\n")
        os.set_blocking(writing, False)
        with suppress(BlockingIOError):
            while os.write(writing, b"." * 4096):
                pass
        os.set_blocking(writing, True)
        began = time.monotonic()
        for _ in range(50):
            stream.write("lost\n")
        assert time.monotonic() - began < 1, "each waited for its own"
        assert stream.dropped == 50

        os.read(reading, 1 << 20)
        stream.write("last\n")
        *_, told, last = os.read(reading, 1 << 20).decode().splitlines()

    assert (told, last) == ("50 lines could not be written", "last")
    assert stream.dropped == 50


def test_what_is_lost_is_reported_from_the_first_line_on() -> None:
    with pipe() as (reading, writing):
        os.close(reading)
        stream = LogStream(writing)
        stream.write("one\n")
        counted: list[int] = []
        stream.report_to(counted.append)
        stream.write("two\nthree\n")

    assert counted == [1, 2]


def test_the_log_tells_in_its_own_style_how_many_lines_it_lost(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file, pipe() as (reading, writing):
        os.close(reading)
        stream = LogStream(writing)
        monkeypatch.setattr(sys, "stderr", stream)
        logs.configure("info", "json")
        structlog.get_logger().info("lost")
        os.dup2(file.fileno(), writing)
        structlog.get_logger().info("kept")

    told, kept = map(json.loads, (tmp_path / "log").read_text().splitlines())
    assert (told["event"], told["level"], told["count"]) == ("log lines dropped", "warning", 1)
    assert (kept["event"], kept["timestamp"][:4]) == ("kept", told["timestamp"][:4])


def test_a_line_that_is_longer_than_a_pipe_takes_at_once_is_written_whole_to_a_reader_who_reads() -> None:
    with subprocess.Popen([sys.executable, "-c", "print(len(input()))"], stdin=-1, stdout=-1) as reader:
        assert reader.stdin
        assert reader.stdout
        stream = LogStream(reader.stdin.fileno())
        stream.write("x" * 300_000 + "\n")
        reader.stdin.close()
        assert reader.stdout.read() == b"300000\n"
    assert stream.dropped == 0


@pytest.mark.parametrize("text", ["caf\u00e9 \ud83d\n", "\udcff\n"])
def test_what_has_no_place_in_the_encoding_is_escaped(text: str, tmp_path: Path) -> None:
    file = tmp_path / "log"
    with file.open("wb") as log:
        LogStream(log.fileno(), encoding="ascii").write(text)

    assert file.read_text(encoding="ascii") == text.encode("ascii", "backslashreplace").decode()


def test_a_line_that_a_full_disk_cut_short_does_not_run_into_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    answers = iter([3, OSError(28, "No space left on device"), None, None])

    def write(_: int, line: bytes) -> int:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        written.append(bytes(line[:answer]))
        return len(written[-1])

    monkeypatch.setattr(os, "write", write)
    stream = LogStream(2)
    stream.write("first\n")
    stream.write("second\n")

    lines = b"".join(written).decode().splitlines()
    assert lines == ["fir", "1 lines could not be written", "second"]


def test_answers_for_which_there_is_no_room_are_a_line_and_a_failure(tmp_path: Path) -> None:
    command = f"{sys.executable} -m worker print-settings >/dev/full"

    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, cwd=tmp_path)

    assert done.stderr == "standard output: No space left on device\n"
    assert done.returncode == signals.FAILED


def test_what_is_wrong_never_goes_among_the_answers_where_standard_error_is_closed(tmp_path: Path) -> None:
    command = f"{sys.executable} -m worker print-settings --threads none 2>&-"

    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, cwd=tmp_path)

    assert (done.stdout, done.returncode) == ("", signals.USAGE)
