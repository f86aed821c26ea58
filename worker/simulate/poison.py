"""Unreadable events, one kind for each reason a dead letter may have; and odd ones that can be read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from worker.messages import Unreadable

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

_TOO_LARGE: Final = 70_000  # above the default of HAMGATE_MAX_EVENT_BYTES
_TOO_DEEP: Final = 20_000

UNREADABLE: Final[dict[Unreadable, Callable[[random.Random], bytes]]] = {
    Unreadable.INVALID_JSON: lambda dice: b"WINNER!! reply now " + dice.randbytes(8).hex().encode(),
    Unreadable.INVALID_UTF8: lambda dice: json.dumps({"text": f"{dice.random()}"}).encode("utf-16"),
    Unreadable.NOT_AN_OBJECT: lambda dice: json.dumps([dice.random()]).encode(),
    Unreadable.MISSING_TEXT: lambda dice: json.dumps({"id": f"no-text-{dice.randrange(10**9)}"}).encode(),
    Unreadable.WRONG_TYPE: lambda dice: json.dumps({"text": dice.randrange(10**9)}).encode(),
    Unreadable.BAD_TIMESTAMP: lambda dice: json.dumps({"text": "hello", "received_at": -dice.random()}).encode(),
    Unreadable.TOO_DEEP: lambda _: b'{"text": "x", "more": ' + b"[" * _TOO_DEEP + b"]" * _TOO_DEEP + b"}",
    Unreadable.TOO_LARGE: lambda _: b'{"text": "' + b"x" * _TOO_LARGE + b'"}',
}

ODD: Final[tuple[Callable[[random.Random], str], ...]] = (
    lambda _: "",
    lambda _: " \u200b\u2060\ufeff ",
    lambda dice: "ha" * dice.randint(200, 2000),
    lambda dice: "".join(chr(dice.randrange(0x20, 0xD7FF)) for _ in range(dice.randint(1, 160))),
    lambda dice: "z" + "".join(chr(dice.randrange(0x300, 0x36F)) for _ in range(60)),  # marks piled on one letter
    lambda dice: "\u202e" + "".join(chr(dice.randrange(0x5D0, 0x5EA)) for _ in range(40)),  # right to left
    lambda dice: "🎁" * dice.randint(1, 200),
    lambda _: "\x00\x1b[2J\r\n\t",
    lambda dice: '# HELP hamgate_evil_total\nhamgate_evil_total{label="' + str(dice.random()) + '"} 1',
)
"""Texts that a strict reader takes and a careless program trips over."""
