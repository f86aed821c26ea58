"""The language of a text, by CLD2 (Compact Language Detector 2), whose tables are compiled into its package.

Asked of the normalised text: what is covered by disguises must not change the answer. None where CLD2 is not sure, and
for short texts, where it is sure and wrong too often.
"""

from __future__ import annotations

from typing import Final

import pycld2

_LEAST: Final = 24
"""Bytes of words that CLD2 must have found: 24 Latin letters, 8 Chinese ones."""
_SHORTEST: Final = 8
"""Characters below which it is not asked."""
_LOOKED_AT: Final = 600
"""Characters, from the start, that are looked at."""
_OLD: Final = {"iw": "he", "jw": "jv", "zh-Hant": "zh", "sr-ME": "sr"}
# ISO 639-1 without its withdrawn codes. Further codes of CLD2 are its own, or of ISO 639-2.
CODES: Final = (
    "aa", "ab", "af", "ak", "am", "ar", "as", "ay", "az", "ba", "be", "bg", "bi", "bn", "bo", "br", "bs", "ca", "co",
    "cs", "cy", "da", "de", "dv", "dz", "ee", "el", "en", "eo", "es", "et", "eu", "fa", "fi", "fj", "fo", "fr", "fy",
    "ga", "gd", "gl", "gn", "gu", "gv", "ha", "he", "hi", "hr", "ht", "hu", "hy", "ia", "id", "ie", "ig", "ik", "is",
    "it", "iu", "ja", "jv", "ka", "kk", "kl", "km", "kn", "ko", "ks", "ku", "ky", "la", "lb", "lg", "ln", "lo", "lt",
    "lv", "mg", "mi", "mk", "ml", "mn", "mr", "ms", "mt", "my", "na", "ne", "nl", "nn", "no", "nr", "ny", "oc", "om",
    "or", "os", "pa", "pl", "ps", "pt", "qu", "rm", "rn", "ro", "ru", "rw", "sa", "sd", "sg", "si", "sk", "sl", "sm",
    "sn", "so", "sq", "sr", "ss", "st", "su", "sv", "sw", "ta", "te", "tg", "th", "ti", "tk", "tl", "tn", "to", "tr",
    "ts", "tt", "tw", "ug", "uk", "ur", "uz", "ve", "vi", "vo", "wo", "xh", "yi", "yo", "za", "zh", "zu",
)  # fmt: skip
"""What `language_of` may answer, beside None."""
_KNOWN: Final = frozenset(CODES)


def language_of(plain: str) -> str | None:
    """ISO 639-1 code of the language that a normalised text is mostly written in; None where that is not clear."""
    if len(plain) < _SHORTEST:
        return None
    try:
        is_sure, found, ranked = pycld2.detect(plain[:_LOOKED_AT], isPlainText=True)
    except (pycld2.error, UnicodeEncodeError):  # it takes no control characters, noncharacters or lone surrogates
        return None
    code = _OLD.get(ranked[0][1], ranked[0][1])
    return code if is_sure and found >= _LEAST and code in _KNOWN else None
