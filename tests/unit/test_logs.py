"""Nothing secret is logged, at any level and in either style."""

from __future__ import annotations

import io
import json
import logging
import sys
from typing import TYPE_CHECKING

import pytest
import structlog

from worker.process import logs

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = "dinner at eight, call +447700900123"


@pytest.fixture(autouse=True)
def _handlers_as_they_were() -> Iterator[None]:
    root = logging.getLogger()
    handlers = list(root.handlers)
    yield
    root.handlers[:] = handlers


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_traceback_says_where_and_never_what_the_variables_held(
    style: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("debug", style)

    def judge(text: str) -> int:
        return len(text) // 0

    try:
        judge(TEXT)
    except ZeroDivisionError:
        structlog.get_logger().exception("stopped uncommitted")
        logging.getLogger("library").exception("it broke")

    said = capsys.readouterr().err
    assert said.count("in judge") == 2
    assert "+447700900123" not in said


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_line_is_one_write_so_that_two_threads_never_share_one(style: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    stream = io.StringIO()
    monkeypatch.setattr(stream, "write", written.append)
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure("info", style)

    structlog.get_logger().info("ours")
    logging.getLogger("library").warning("theirs")

    assert [line.count("\n") for line in written] == [1, 1]
    assert all(line.endswith("\n") for line in written)


@pytest.mark.parametrize("name", ["kafka.protocol.parser", "kafka.net.connection", "kafka.producer.kafka"])
def test_the_client_never_logs_what_it_sends(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug", "json")

    logging.getLogger(name).debug("Send: %r", TEXT)
    logging.getLogger(name).info("connected")

    said = capsys.readouterr().err
    assert TEXT not in said
    assert "connected" in said


@pytest.mark.parametrize(("level", "heard"), [("info", ["warning", "error"]), ("error", ["error"]), ("critical", [])])
def test_libraries_are_heard_from_the_level_on_that_is_set(
    level: str, heard: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(level, "json")

    for each in ("info", "warning", "error"):
        getattr(logging.getLogger("kafka.net.manager"), each)("no connection")

    assert [json.loads(line)["level"] for line in capsys.readouterr().err.splitlines()] == heard
