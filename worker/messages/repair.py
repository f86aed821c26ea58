"""Broken characters in an event's strings, repaired: a sender can make them at will, and must not escape judgement.

The structure of the JSON is never repaired. Half of a surrogate pair, escaped or as bytes, and bytes that are not UTF-8
become U+FFFD. A pair that was encoded half by half (CESU-8, as Java's writers and old gateways do) becomes its
character. A byte order mark before the event, which RFC 8259 lets a reader ignore, is dropped.
"""

from __future__ import annotations

import codecs
import re
from typing import Final

_CESU_8: Final = re.compile(rb"\xed[\xa0-\xaf][\x80-\xbf]\xed[\xb0-\xbf][\x80-\xbf]")
_HALF: Final = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
# Every escape is matched, so that none begins within another: of `\\ud83d` the text is a backslash and five letters.
_ESCAPE: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.", re.DOTALL
)
LOST: Final = "\ufffd"
"""What a lost character becomes."""


def repaired(value: bytes) -> tuple[bytes, bool]:
    """The event with readable strings, and whether a character was lost."""
    value = value.removeprefix(codecs.BOM_UTF8)
    value = _CESU_8.sub(_joined, value)
    readable = _HALF.sub(LOST.encode(), value).decode(errors="replace").encode()
    readable = _ESCAPE.sub(_escape, readable)
    return readable, readable != value


def _joined(pair: re.Match[bytes]) -> bytes:
    return pair[0].decode("utf-8", "surrogatepass").encode("utf-16", "surrogatepass").decode("utf-16").encode()


def _escape(found: re.Match[bytes]) -> bytes:
    return LOST.encode() if found[1] else found[0]
