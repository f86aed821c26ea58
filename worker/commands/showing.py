"""A dead letter for a person's eyes: why, where, and its shape. No text, no number, and nothing a terminal obeys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from worker.messages import BYTE, FIELD, Event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.broker import Letter

_AROUND: Final = 400
"""Bytes of the value that are shown on either side of the place."""
_WORD: Final = re.compile(rb"[A-Za-z_]+|[0-9]|[^ -~]", re.DOTALL)
# Words that any event may have; every other one may be the sender's.
_KNOWN: Final = frozenset(each.encode() for each in (*Event.__struct_fields__, "true", "false", "null"))


def lines(letter: Letter) -> Iterator[str]:
    """Yield what is to be shown of it."""
    record, original = letter.record, letter.original
    headers = dict(record.headers[len(original.headers) :])
    value = original.value or b""
    at = int(found) if (found := headers.get(BYTE)) else None
    yield f"letter       {record.name}"
    yield f"event        {':'.join(_text(headers[f'source-{part}']) for part in ('topic', 'partition', 'offset'))}"
    yield f"reason       {letter.reason}"
    yield f"failed at    {_text(headers['failed-at'])}"
    yield f"field        {_text(headers.get(FIELD)) or 'not known'}"
    yield f"byte         {'not known' if at is None else _byte(value, at)}"
    yield f"key          {'none' if original.key is None else f'{len(original.key):,} bytes'}"
    yield f"headers      {len(original.headers)} of its own"
    yield f"value        {len(value):,} bytes; letters as x, digits as 0, but for the names of fields"
    middle = min(at or 0, len(value))
    first, last = max(0, middle - _AROUND), middle + _AROUND
    if middle:
        yield ("... " if first else "    ") + _masked(value[first:middle])
    yield f"{'>>> ' if at is not None else '    '}{_masked(value[middle:last])}{' ...' if last < len(value) else ''}"


def _text(header: bytes | None) -> str:
    return ascii((header or b"").decode(errors="replace"))[1:-1]


def _byte(value: bytes, at: int) -> str:
    return f"{at:,}" + (f", which is 0x{value[at]:02x}" if at < len(value) else ", the end")


def _masked(part: bytes) -> str:
    return _WORD.sub(_mask, part).decode("ascii")


def _mask(found: re.Match[bytes]) -> bytes:
    word = found[0]
    if word in _KNOWN:
        return word
    if word.isdigit():
        return b"0"
    if word.isalpha() or b"_" in word:
        return b"x" * len(word)
    return b"?" if word[0] >= 0x80 else b"\\x%02x" % word[0]  # noqa: PLR2004 the first byte that is not ASCII
