"""Keyed hashes of what is personal: who has not the key cannot try all numbers against them.

HMAC-SHA-256 (RFC 2104), cut to 128 bits. A key file holds one key a line, the one in force first: after a change of key
what was hashed by the former ones is still found while their lines stay. Nothing is kept but hashes, so what was hashed
by a key that is gone can never be read again, nor be matched.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from pathlib import Path

LEAST_KEY: Final = 16
"""Characters of a key."""
_BYTES: Final = 16
_BLOCK: Final = 64


class HashKeyError(ValueError):
    """A key file that cannot be used; the text names it and says what is wrong, never what is in it."""


@dataclass(frozen=True, slots=True, repr=False)
class Hashing:
    """Hashes by the keys of one file, the key in force first."""

    keys: tuple[bytes, ...]

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read the keys. Raises HashKeyError."""
        try:
            lines = [line.strip() for line in file.read_bytes().splitlines()]
        except OSError as error:
            message = f"{file}: cannot be read ({error.strerror})"
            raise HashKeyError(message) from None
        keys = tuple(line for line in lines if line)
        if not keys or min(map(len, keys)) < LEAST_KEY:
            message = f"{file}: wants a key of at least {LEAST_KEY} characters a line; `openssl rand -hex 32` makes one"
            raise HashKeyError(message)
        return cls(keys)

    def of(self, kind: str, value: str) -> str:
        """Hash a value of a kind, by the key in force: 32 hexadecimal digits. Equal values of two kinds differ."""
        return _hash(self.keys[0], kind, value)

    def all(self, kind: str, value: str) -> tuple[str, ...]:
        """The hashes by every key: what may stand for it in what was written before."""
        return tuple([_hash(key, kind, value) for key in self.keys])


def _hash(key: bytes, kind: str, value: str) -> str:
    padded = _padded(key)
    inner, outer = padded[0].copy(), padded[1].copy()
    inner.update(f"{kind}\0{value}".encode("utf-8", "surrogatepass"))
    outer.update(inner.digest())
    digest: str = outer.hexdigest()
    return digest[: 2 * _BYTES]


@functools.cache
def _padded(key: bytes) -> tuple[Any, Any]:
    """What every hash by this key begins with (RFC 2104): copied, it saves more than half of the work."""
    key = hashlib.sha256(key).digest() if len(key) > _BLOCK else key
    key = key.ljust(_BLOCK, b"\0")
    return hashlib.sha256(bytes(each ^ 0x36 for each in key)), hashlib.sha256(bytes(each ^ 0x5C for each in key))
