"""No level of ours makes a library say what nobody may read."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import structlog

from worker import logs

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    root, kafka = logging.getLogger(), logging.getLogger("kafka")
    before = root.handlers[:], root.level, kafka.level
    yield
    root.handlers[:], root.level = before[0], before[1]
    kafka.setLevel(before[2])
    structlog.reset_defaults()


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_the_client_never_says_its_settings_or_what_it_sends(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(level, "json")

    logging.getLogger("kafka.producer.kafka").debug("configuration: %s", {"sasl_plain_password": "hunter2"})
    logging.getLogger("kafka.protocol.parser").debug("Send: %r", b"WINNER!! call now")
    logging.getLogger("kafka.net.manager").error("said")

    said = capsys.readouterr().err
    assert "said" in said
    assert "hunter2" not in said
    assert "WINNER" not in said
