"""One spelling for all texts that look alike: compared are skeletons, never shown (as in Unicode's UTS #39).

Capitals, accents, invisible characters, look-alikes of other scripts, digits for letters, I for l, rn for m.
"""

from __future__ import annotations

import string
from typing import Final

from worker.lookalikes import LETTERS, MARKS
from worker.policy.forms import nfkd
from worker.policy.links import INVISIBLE

_ACCENTS: Final = dict.fromkeys(
    (*range(0x300, 0x370), *range(0x483, 0x48A), *range(0x1AB0, 0x1B00), *range(0x1DC0, 0x1E00))
)
# What stays as it is stands here too, for nearly all letters there are: to miss costs ten times a hit.
_STAYS: Final = {code: code for code in (*range(0x3400), *range(0x4E00, 0xA000))}
_FOLDED: Final[dict[int, str | int | None]] = {**_STAYS, **_ACCENTS, **LETTERS, **MARKS, **INVISIBLE}
_BYTES: Final = bytes.maketrans(
    (string.ascii_uppercase + "013457@$|i\t\n\r").encode(),
    (string.ascii_lowercase.replace("i", "l") + "oleastasll   ").encode(),
)


def skeleton(text: str) -> bytes:
    """The skeleton, in UTF-8. Never raises."""
    if not text.isascii():
        # Decomposed again: a look-alike may have stood for what decomposes, and to fold a case can compose.
        text = nfkd(text).translate(_FOLDED).casefold()
    folded = text.encode("utf-8", "surrogatepass").translate(_BYTES)
    return folded.replace(b"rn", b"m").replace(b"vv", b"w")
