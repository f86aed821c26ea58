"""Characters that pass for Latin letters, and other disguises one character wide; a table and nothing else.

Each line names an ASCII text and the characters drawn like it, one for one. Only those that survive NFKD are here:
full-width, mathematical, circled and superscript letters are undone by Unicode itself.
"""

from __future__ import annotations

import string
from typing import Final

_ALPHABETS: Final = (
    # Greek, then Cyrillic and Cyrillic's extensions, then Armenian.
    ("ABEZHIKMNOPTYXaeiknvoptuxywsc", "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧαεικηνορτυχγωσς"),
    ("ABEKMHOPCTYXaeopcyxkmtrnhb", "АВЕКМНОРСТУХаеорсухкмтгпнв"),
    ("IJSQWGDiisjhqwdvlyyYbee", "ІЈЅԚԜԌԀіїѕјһԛԝԁѵӏүұҮьҽҿ"),
    ("onuhgqjwfLSUO", "օոսհցզյաֆԼՏՍՕ"),
    # Cherokee and Lisu.
    ("ABCDEGHJKLMPRSTVWZiy", "ᎪᏴᏟᎠᎬᏀᎻᎫᏦᏞᎷᏢᎡᏚᎢᏙᎳᏃᎥᎩ"),
    ("ABCDEFGHIJKLMNOPRSTUVWXYZ", "ꓮꓐꓚꓓꓰꓝꓖꓧꓲꓙꓗꓡꓟꓠꓳꓑꓣꓢꓔꓴꓦꓪꓫꓬꓜ"),
    # Small capitals and the phonetic alphabet.
    ("abcdefghijklmnopqrstuvwyz", "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘꞯʀꜱᴛᴜᴠᴡʏᴢ"),
    ("agiveabdhnrtuyz", "ɑɡɩʋɛəɓɖɦɲɾʈʉʎʐ"),
    # Latin letters with a stroke, a hook or no dot: Unicode does not decompose these.
    ("OoLlDdHhTtijFfBbGgIKkPpYyZzEeAaSCc", "ØøŁłĐđĦħŦŧıȷƑƒɃƀǤǥƗƘƙƤƥƳƴƵƶɆɇȺⱥꞨȻȼ"),
)
_MARKS: Final = (
    ("'''''\"\"\"\"", "‘’‚‛′“”„‟"),
    ("------~", "‐‑‒–—―∼"),
    ("..../:,|", "·•∙・⁄∶‚ǀ"),
)
_DELETED: Final = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
"""Blank or invisible, though Unicode files them under letters, marks and symbols rather than under formats."""

_ENCLOSED_ALPHABETS: Final = (0x1F150, 0x1F170, 0x1F1E6)
"""White on black letters in circles and squares, and the letters that flags are spelt with."""


def _paired(*rows: tuple[str, str]) -> dict[int, str]:
    return {ord(drawn): plain for plains, drawns in rows for plain, drawn in zip(plains, drawns, strict=True)}


LETTERS: Final[dict[int, str]] = _paired(*_ALPHABETS) | {
    start + index: letter for start in _ENCLOSED_ALPHABETS for index, letter in enumerate(string.ascii_uppercase)
}
"""Look-alike letter to the ASCII letter it is drawn like."""

MARKS: Final[dict[int, str | None]] = {**_paired(*_MARKS), **dict.fromkeys(map(ord, _DELETED))}
"""Typographic punctuation to ASCII; blank characters to nothing."""
