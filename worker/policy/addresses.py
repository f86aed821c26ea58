"""Senders and recipients as one spelling each, and what kind of address they are."""

from __future__ import annotations

import re
from typing import Final

from worker.messages import SenderType
from worker.policy.forms import nfkc

__all__ = ["SHORTEST_NUMBER", "SenderType", "normal", "sender_type"]

SHORTEST_NUMBER: Final = 7
"""Digits of a telephone number; what is shorter is a short code."""
_DIGITS: Final = re.compile(r"(?=[^\d]*\d)[+(]?[\d .()/-]+")
_SEPARATORS: Final = re.compile(r"[ .()/-]")


def sender_type(address: str) -> SenderType:
    """What kind of address it is, by its spelling alone."""
    digits = address[1:] if address[:1] == "+" else address
    if digits.isdecimal():  # as nearly all are: a tenth of the time of what follows
        return SenderType.NUMBER if len(digits) >= SHORTEST_NUMBER or digits is not address else SenderType.SHORT_CODE
    if _DIGITS.fullmatch(address):
        count = sum(each.isdigit() for each in address)
        return SenderType.NUMBER if count >= SHORTEST_NUMBER or address.startswith("+") else SenderType.SHORT_CODE
    return SenderType.EMAIL if "@" in address else SenderType.ALPHANUMERIC


def normal(address: str) -> str:
    """One spelling of an address: digits alone, without 00 or +; anything else in NFKC and without case.

    A number without its country's code stays without: two spellings of which only one has it are two addresses.
    """
    digits = address[1:] if address[:1] == "+" else address
    if digits.isdecimal() and digits.isascii() and digits[:2] != "00":  # as nearly all are: a tenth of the time
        return digits
    address = nfkc(address).strip()
    if not _DIGITS.fullmatch(address):
        return address.casefold()
    digits = _SEPARATORS.sub("", address).removeprefix("+")
    return digits.removeprefix("00") if len(digits) >= SHORTEST_NUMBER else digits
