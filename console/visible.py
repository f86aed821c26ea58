"""Strangers' text and bytes, harmless to look at: what cannot be seen, or steers what is beside it, is spelt out."""

from __future__ import annotations

import unicodedata
from typing import Final

MOST: Final = 4096
"""Characters or bytes that are shown of one thing."""
_PILE: Final = 3
"""Combining marks on one letter; further ones would be painted over the lines above and below."""
_ROW: Final = 16


def visible(text: str, most: int = MOST) -> str:
    """Spell controls, direction marks, spaces that are none, and piles of accents as `⟨U+202E⟩`; cut what is long."""
    shown, pile = [], 0
    for character in text[:most]:
        pile = pile + 1 if unicodedata.combining(character) or unicodedata.category(character) == "Me" else 0
        if character == "\n":
            shown.append("↵\n")
        elif character.isprintable() and pile <= _PILE:
            shown.append(character)
        else:
            shown.append(f"⟨U+{ord(character):04X}⟩")
    if len(text) > most:
        shown.append(f" … and {len(text) - most:,} characters more")
    return "".join(shown)


def in_line(text: str | None, most: int = 80) -> str:
    """The same for a cell of a table: on one line."""
    return visible(text or "", most).replace("↵\n", "↵")


def escaped(value: bytes, most: int = MOST) -> str:
    r"""Bytes as text, where they are text; else as `\xff`."""
    rest = f" … and {len(value) - most:,} bytes more" if len(value) > most else ""
    return visible(value[:most].decode("utf-8", "backslashreplace"), 4 * most) + rest


def hexadecimal(value: bytes, most: int = MOST) -> str:
    """Bytes as `xxd` shows them."""
    lines = []
    for at in range(0, min(len(value), most), _ROW):
        row = value[at : min(at + _ROW, most)]
        plain = "".join(chr(each) if 0x20 <= each < 0x7F else "." for each in row)  # noqa: PLR2004 ASCII's own bounds
        lines.append(f"{at:08x}  {row.hex(' '):<{3 * _ROW - 1}}  {plain}")
    return "\n".join(lines)
