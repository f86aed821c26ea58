"""Events as an enemy would send them, each made from its number alone."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from worker.messages import Record

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_BYTES: Final = 8_192
"""The fuzzed worker's limit of an event, in bytes; some cases are larger."""
_NOW: Final = 1_764_000_000.0
_COLLECTION: Final = Path(__file__).parents[2] / "data" / "uci" / "SMSSpamCollection"
_TEXTS: Final = [line.partition("\t")[2] for line in _COLLECTION.read_text(encoding="utf-8").split("\n") if line]
_ALPHABETS: Final = (
    *("\u0300\u0301\u0336\u20dd\ufe0f", "\u200b\u200d\u2060\ufeff\u00ad", "\u202a\u202e\u2066\u2069", "аеорсухАВЕ"),
    *(
        "&#;amplt0x1f",
        ".-_*~a",
        " a\t\u2003\u00a0",
        "013457@$!|€abc",
        "\u2581<s>/unk",
        "日本語😀👍🏽\U0001f1e6\U0001f1ff",
    ),
    *("\x00\x01\x1b\x7f\x85\x9f", "\U0001d400\U0001d7ff\u24b6\uff21ﬁ", "".join(map(chr, range(32, 127)))),
)
_ODD: Final = (
    *(
        None,
        True,
        0,
        -1,
        2**63,
        2**64,
        10**400,
        1e308,
        0.1,
        "",
        "x",
        [],
        {},
        [[]],
        {"text": "x"},
        "2026-01-31T08:00:00Z",
    ),
    *("0000-00-00T00:00:00Z", "9999-12-31T23:59:60+99:99", "2026-01-31T08:00:00", 1_764_000_000_000, -(10**20)),
)
_FIELDS: Final = ("text", "id", "sender", "recipient", "received_at", "direction", "lang", "network", "more", "\u0000")


def case(number: int) -> Record:
    """One record: of any number, always the same."""
    dice = random.Random(number)
    value = dice.choices(_KINDS, _WEIGHTS)[0](dice)
    headers = tuple((dice.choice(("reason", "trace", "")), dice.choice((None, b"", b"x"))) for _ in range(_few(dice)))
    key = dice.choice((None, b"", b"+447700900123", dice.randbytes(8)))
    at = dice.choice((_NOW, 0.0, -1.0, 4e9))
    return Record("sms.events", number % 6, number, at, key, value, headers)


def _few(dice: random.Random) -> int:
    return dice.choice((0, 0, 0, 0, 1, 3, 64, 65, 200)) if dice.random() < 0.2 else 0


def _text(dice: random.Random) -> str:
    draw = dice.random()
    if draw < 0.4:
        return dice.choice(_TEXTS)
    if draw < 0.7:
        pieces = [dice.choice(_ALPHABETS) for _ in range(dice.randint(1, 4))]
        return "".join(dice.choice(piece) for piece in pieces for _ in range(dice.randint(0, 30)))
    if draw < 0.9:
        return "".join(dice.choice((*word, dice.choice(dice.choice(_ALPHABETS)))) for word in dice.choice(_TEXTS))
    if draw < 0.98:
        return (dice.choice(dice.choice(_ALPHABETS)) + dice.choice(("", " ", ".", "&"))) * dice.randint(1, 400)
    return dice.choice(dice.choice(_ALPHABETS)) * dice.randint(1, 9_000)


def _event(dice: random.Random) -> bytes:
    event: dict[str, Any] = {"text": _text(dice), "id": f"m-{dice.randrange(10**9)}"}
    return json.dumps(event, ensure_ascii=dice.random() < 0.3).encode("utf-8", "surrogatepass")


def _typed(dice: random.Random) -> bytes:
    event = {dice.choice(_FIELDS): dice.choice((*_ODD, _text(dice))) for _ in range(dice.randint(0, 6))}
    return json.dumps(event, ensure_ascii=dice.random() < 0.5).encode("utf-8", "surrogatepass")


def _mutant(dice: random.Random) -> bytes:
    value = bytearray(_event(dice))
    for _ in range(dice.randint(1, 6)):
        at = dice.randrange(len(value) + 1)
        draw = dice.random()
        if draw < 0.3 and at < len(value):
            value[at] = dice.randrange(256)
        elif draw < 0.5:
            value[at:at] = dice.randbytes(dice.randint(1, 4))
        elif draw < 0.7:
            del value[at : at + dice.randint(1, 9)]
        elif draw < 0.85:
            value[at:at] = dice.choice(
                (b"\\ud800", b"\\u0000", b"\xed\xa0\x80", b"\xc0\x80", b'"', b"\\", b"[" * 40, b"{}")
            )
        else:
            value[at:at] = value[at : at + dice.randint(1, 40)] * dice.randint(1, 5)
    return bytes(value)


def _deep(dice: random.Random) -> bytes:
    depth, pair = dice.choice((1, 31, 32, 33, 500, 1500, 3000)), dice.choice(((b"[", b"]"), (b'{"a":', b"}")))
    closing = pair[1] * dice.choice((depth, depth, depth - 1))
    return b'{"text":"[{","more":' + pair[0] * depth + b"1" + closing + b"}"


def _large(dice: random.Random) -> bytes:
    room = MAX_BYTES + dice.choice((-20, -1, 0, 1, 5_000))
    pattern = dice.choice((b"a", b"a ", b"a.", b"&amp;", b"1a", "é".encode(), "\u0336".encode(), b"x" * 31 + b" "))
    value = b'{"text":"' + pattern * (room // len(pattern))
    return value[: room - 2] + b'"}'


_WEIGHTED: Final[dict[Callable[[random.Random], bytes | None], float]] = {
    _event: 40, _mutant: 25, _typed: 22, _deep: 3, _large: 0.5,
    (lambda dice: dice.randbytes(dice.randint(0, 300))): 5, (lambda _: None): 1, (lambda _: b""): 0.5,
}  # fmt: skip
_KINDS: Final = tuple(_WEIGHTED)
_WEIGHTS: Final = tuple(_WEIGHTED.values())
