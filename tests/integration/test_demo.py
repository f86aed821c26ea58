"""`python -m demo` as a person runs it: it says that all is well, and leaves nothing running, however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.broker


class Demo:
    """A demo in a folder of its own, and what it has said so far."""

    def __init__(self, folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.said = ""
        command = [sys.executable, "-m", "demo", "--folder", str(folder), *arguments]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def until(self, words: str) -> Self:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if words in line:
                return self
        pytest.fail(f"ended without saying {words!r}:\n{self.said}")

    def pid(self, child: str) -> int:
        found = re.search(rf"^{child}: process (\d+)", self.said, re.MULTILINE)
        assert found is not None, self.said
        return int(found[1])

    def ended(self) -> int:
        assert self.process.stdout is not None
        with self.process.stdout as rest:
            self.said += rest.read()
        return self.process.wait(60)

    def close(self) -> None:
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Demo]:
    """A demo whose broker runs and whose worker is loading its model."""
    demo = Demo(tmp_path)
    try:
        yield demo.until("worker: process")
    finally:
        demo.close()


def runs(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state) and not state.startswith("Z")  # whoever inherits a child of ours may be slow to bury it


def assert_nothing_runs(demo: Demo, within: float = 0.0) -> None:
    deadline = time.monotonic() + within
    while (left := [child for child in ("broker", "worker") if runs(demo.pid(child))]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def test_the_demo_judges_all_loses_nothing_and_ends_by_itself(tmp_path: Path) -> None:
    # A person's own settings must not reach the demo's worker, even wrong ones.
    strays = {"HAMGATE_BROKERS": "127.0.0.1:1", "HAMGATE_NO_SUCH_SETTING": "1"}
    demo = Demo(tmp_path, "--rate", "1500", "--burst", "300", environment=strays)
    try:
        status = demo.ended()
    finally:
        demo.close()

    assert status == 0, demo.said
    assert "0 lost, 0 duplicated, 0 out of order" in demo.said
    assert re.search(r"300 at once: [\d,]+ messages a second", demo.said)
    assert re.search(r"^ *clean( +\d[\d,.]*){7} +\d+\.\d%", demo.said, re.MULTILINE)
    assert_nothing_runs(demo)
    assert not list(tmp_path.rglob("*.log.tmp"))
    assert not (tmp_path / "broker" / "data").exists()


def test_ctrl_c_while_the_worker_loads_leaves_nothing_running(started: Demo) -> None:
    started.process.send_signal(signal.SIGINT)

    assert started.ended() == 130
    assert_nothing_runs(started)
    assert "Traceback" not in started.said


@pytest.mark.long
def test_being_told_to_end_in_mid_stream_leaves_nothing_running(tmp_path: Path) -> None:
    demo = Demo(tmp_path)
    try:
        demo.until("answered")
        demo.process.send_signal(signal.SIGTERM)

        assert demo.ended() == 143
        assert_nothing_runs(demo)
        assert "Traceback" not in demo.said
    finally:
        demo.close()


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_killing_the_demo_ends_its_children(started: Demo) -> None:
    started.process.kill()

    assert_nothing_runs(started, within=10)


@pytest.mark.long
@pytest.mark.parametrize("child", ["broker", "worker"])
def test_a_child_that_dies_ends_the_demo_by_name_and_takes_the_other_along(started: Demo, child: str) -> None:
    os.kill(started.pid(child), signal.SIGKILL)

    assert started.ended() == 1
    assert f"the {child} ended by itself (killed by SIGKILL)" in started.said
    assert "the end of" in started.said
    assert_nothing_runs(started)


@pytest.mark.long
def test_a_second_demo_in_the_same_folder_is_refused_and_disturbs_nothing(started: Demo, tmp_path: Path) -> None:
    second = Demo(tmp_path)

    assert second.ended() == 1
    assert "another demo is running" in second.said
    assert runs(started.pid("broker"))
    assert runs(started.pid("worker"))


@pytest.mark.parametrize(("option", "value"), [("--rate", "0"), ("--rate", "fast"), ("--burst", "-1")])
def test_a_wrong_option_is_named(tmp_path: Path, option: str, value: str) -> None:
    demo = Demo(tmp_path, option, value)

    assert demo.ended() == 2
    assert option in demo.said
