"""A dead letter as it is shown, and options that are wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.__main__ import main
from worker.broker import Letter
from worker.commands import showing
from worker.messages import DeadLetter, Record, UnreadableError, decode, encode_dead_letter
from worker.process import signals

if TYPE_CHECKING:
    from pathlib import Path

NOON = 1_764_000_000.0


def shown(value: bytes, key: bytes | None = b"+447700900123") -> list[str]:
    event = Record("sms.events", 3, 7, NOON, key, value, (("from +447700900123", b"hello"),))
    with pytest.raises(UnreadableError) as caught:
        decode(event, max_bytes=65_536)
    fault = caught.value.fault
    buried = encode_dead_letter(DeadLetter(event, fault.reason, NOON, fault.field, fault.at))
    letter = Letter.of(Record("sms.dead-letters", 2, 41, NOON, buried.key, buried.value, buried.headers))
    assert letter
    return list(showing.lines(letter))


def test_it_is_shown_why_and_where_with_its_shape_and_not_its_text() -> None:
    assert shown(b'{"id": "m-1", "text": 5, "sender": "+447700900123", "name": "Ann"}') == [
        "letter       sms.dead-letters:2:41",
        "event        sms.events:3:7",
        "reason       wrong-type",
        "failed at    2025-11-24T16:00:00.000Z",
        "field        text",
        "byte         22, which is 0x35",
        "key          13 bytes",
        "headers      1 of its own",
        "value        66 bytes; letters as x, digits as 0, but for the names of fields",
        '    {"id": "x-0", "text": ',
        '>>> 0, "sender": "+000000000000", "xxxx": "xxx"}',
    ]


def test_of_a_long_value_only_what_is_around_the_place_is_shown() -> None:
    *_, before, after = shown(b'{"more": "' + b"x" * 30_000 + b'", }' + b" " * 30_000)

    assert before.startswith("... x")
    assert before.endswith('", ')
    assert after.startswith(">>> }")
    assert after.endswith(" ...")
    assert max(len(before), len(after)) < 1000


@given(st.binary(max_size=200))
def test_nothing_that_a_terminal_obeys_and_nothing_that_was_written_is_shown(value: bytes) -> None:
    try:
        lines = shown(b"\x1b]0;Meet Ann at +447700900123\x07" + value, key=None)
    except pytest.fail.Exception:
        return

    text = "\n".join(lines)
    assert text.isascii()
    assert text.replace("\n", "").isprintable()
    assert "Ann" not in text
    assert "4477" not in text


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["replay", "--reason", "nonsense"], "--reason nonsense: no such reason"),
        (["replay", "--since", "yesterday"], "--since yesterday: allowed"),
        (["replay", "--from-offset", "5"], "--from-offset needs --partition"),
        (["replay", "--show", "5"], "--show needs --partition"),
        (["compare", "--since", "yesterday"], "--since yesterday: allowed"),
        (["simulate", "--texts", "gone.txt"], "--texts: "),
        (["audit", "--from-time", "yesterday"], "--from-time yesterday: allowed"),
        (["calibrate", "x", "--flagged", "2"], "--flagged and --blocked must hold"),
        (["replay", "--partition", "x"], "argument --partition: invalid int value"),
    ],
)
def test_a_wrong_option_is_named_with_the_status_of_usage(
    arguments: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)

    try:
        status: object = main(arguments)
    except SystemExit as ended:  # by argparse
        status = ended.code

    assert status == signals.USAGE
    assert complaint in capsys.readouterr().err
