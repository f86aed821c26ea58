"""Nothing secret is logged, at any level and in either style."""

from __future__ import annotations

import io
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import kafka
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


def test_of_a_broker_that_is_away_the_client_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    for _ in range(3):
        logging.getLogger("kafka.net.manager").error("Connection failed: %s", "refused")
        logging.getLogger("kafka.coordinator").warning(
            "Marking the coordinator dead (node %s) for group %s: %s.", 1, 2, 3
        )
        logging.getLogger("kafka.net.selector").error("IO loop crashed (client_id=%s)", "a")

    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == [
        "IO loop crashed (client_id=a)"
    ]


@pytest.mark.parametrize("template", logs.OF_OUTAGES)
def test_each_line_that_is_held_back_is_the_clients(template: str) -> None:
    sources = "".join(path.read_text() for path in Path(kafka.__file__).parent.rglob("*.py"))

    assert template in sources


def test_what_a_library_repeats_is_said_once_a_minute_with_how_often(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.configure("info", "json")
    logger = logging.getLogger("opentelemetry.exporter")

    for attempt in range(5):
        logger.warning("no collector at attempt %d", attempt)
    logger.warning("another")
    monkeypatch.setattr(logs, "_REPEAT_EVERY", 0.0)
    logger.warning("no collector at attempt %d", 5)

    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in said] == ["no collector at attempt 0", "another", "no collector at attempt 5"]
    assert said[-1]["held_back"] == 4


def test_a_line_that_a_library_has_filled_in_itself_is_the_same_line_with_other_figures(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("info", "json")
    logger = logging.getLogger("kafka.net.selector")

    logger.warning("Task <Task object at 0x7f7c42de4110> ran for 0.117s (>0.100s threshold).")
    logger.warning("Task <Task object at 0x7f7c13b64e10> ran for 2.05s (>0.100s threshold).")

    said = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert said == ["Task <Task object at 0x7f7c42de4110> ran for 0.117s (>0.100s threshold)."]
