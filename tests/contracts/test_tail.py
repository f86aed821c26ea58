"""`hamgate tail` on a real broker: what is committed, filtered; never a text, a number, or what steers a terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from worker.broker import Publisher
from worker.messages import (
    Action,
    DeadLetter,
    Latency,
    Outgoing,
    Record,
    RecordSource,
    Unreadable,
    Verdict,
    encode_dead_letter,
    encode_verdict,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.contracts.worlds import InKafka

KEY = b"+447700900123"
TEXT = b"WINNER!! call 09061701461"
LONG_AGO = "2020-01-31T08:00:00Z"
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("HAMGATE_")}


def verdict(name: str, action: Action, score: float, **decided: str) -> Outgoing:
    made = Verdict(
        id=name, label="spam" if score > 0.5 else "ham", score=score, threshold=0.5, action=action,
        reason=decided.get("reason"), rule=decided.get("rule", msgspec.UNSET),
        flags=("outside",), model="tiny@0123", source=RecordSource("sms.events", 3, 7, 1_769_846_400_000),
        scored_at="2026-01-31T08:00:00.000Z", latency_ms=Latency(1, 2, 3, 12.4), language="en",
    )  # fmt: skip
    return Outgoing(KEY, encode_verdict(made))


def dead_letter() -> Outgoing:
    record = Record("sms.events", 3, 8, 1_769_846_400.0, KEY, TEXT, (("reason", b"its sender's own"),))
    return encode_dead_letter(DeadLetter(record, Unreadable.WRONG_TYPE, 1_769_846_400.5))


@pytest.fixture
def filled(in_kafka: InKafka) -> InKafka:
    with Publisher(in_kafka.place.link) as publisher:
        publisher.publish(
            in_kafka.verdicts,
            [
                verdict("m-1", Action.DELIVER, 0.02),
                verdict("m-2\x1b[2J", Action.BLOCK, 0.99),
                Outgoing(KEY, b"no verdict"),
                verdict("m-3", Action.FLAG, 0.7),
                verdict("m-4", Action.BLOCK, 0.1, reason="list", rule="list:sender:3f9c0a12b4de"),
            ],
        )
        publisher.publish(in_kafka.dead_letters, [dead_letter()])
    return in_kafka


def tail(world: InKafka, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    place = world.place
    command = [sys.executable, "-m", "worker", "tail", "--brokers", place.link.brokers, *options]
    command += ["--verdict-topic", world.verdicts, "--dead-letter-topic", world.dead_letters]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=folder, env=ENVIRONMENT)


def test_everything_since_a_time_is_shown_without_text_number_or_control_characters(
    filled: InKafka, tmp_path: Path
) -> None:
    done = tail(filled, tmp_path, "--since", LONG_AGO, "--messages", "5")

    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert len(lines) == 5
    assert any(
        "block    spam 0.990  outside  en  12 ms  tiny@0123  sms.events:3:7  id=m-2\ufffd[2J" in x for x in lines
    )
    assert any("block    ham 0.100  by list:sender:3f9c0a12b4de  outside" in each for each in lines)
    assert any("dead     wrong-type  sms.events:3:8" in each for each in lines)
    assert KEY.decode() not in done.stdout
    assert "WINNER" not in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (["--action", "block", "--action", "flag", "--messages", "3"], ["m-2\x1b[2J", "m-3", "m-4"]),
        (["--reason", "list", "--messages", "1"], ["m-4"]),
        (["--min-score", "0.9", "--messages", "1"], ["m-2\x1b[2J"]),
        (["--label", "ham", "--messages", "2"], ["m-1", "m-4"]),
        (["--id", "m-3", "--messages", "1"], ["m-3"]),
        (["--only", "dead-letters", "--messages", "1"], ["wrong-type"]),
        (["--reason", "wrong-type", "--messages", "1"], ["wrong-type"]),
    ],
)
def test_a_filter_shows_what_it_names_as_json_lines(
    options: list[str], shown: list[str], filled: InKafka, tmp_path: Path
) -> None:
    done = tail(filled, tmp_path, "--json", "--since", LONG_AGO, *options)

    found: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert sorted(
        each["verdict"]["id"] if "verdict" in each else each["dead_letter"]["reason"] for each in found
    ) == sorted(shown)
    for each in found:
        if "verdict" in each:
            msgspec.convert(each["verdict"], Verdict)


def test_a_topic_that_is_missing_is_named_and_a_wrong_option_is_usage(in_kafka: InKafka, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "worker", "tail", "--brokers", in_kafka.place.link.brokers]

    missing = subprocess.run(
        [*command, "--verdict-topic", "no.such.topic"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=ENVIRONMENT,
    )
    wrong = subprocess.run(
        [*command, "--since", "noon"], capture_output=True, text=True, check=False, cwd=tmp_path, env=ENVIRONMENT
    )

    assert (missing.returncode, wrong.returncode) == (1, 2)
    assert "topic no.such.topic does not exist" in missing.stderr
    assert "--since noon: allowed: an RFC 3339 time" in wrong.stderr
