"""Texts of the input, kept for some days where the operator has turned it on: encrypted, shown by role.

Each row is sealed by AES-256-GCM under a key of its batch, which is derived (HKDF, RFC 5869) from a line of the key
file and a random salt: so no number of messages wears a key out. The row's place, time and sender's hash are
authenticated with it: a row that is moved or changed cannot be opened. Nothing is searched for in a text.

    look        the one way by which a page gets texts: it knows the roles, and notes each look in the audit log
    take        what the thread that reads has read
    erase, erase_sender    before their time
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from console.access import UserRole
from console.window import VERSION, is_place, keep_positions
from worker.messages import UnreadableError, decode
from worker.policy.addresses import normal
from worker.policy.hashing import Hashing, HashKeyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from console.access import Visitor
    from console.changes import AuditLog
    from console.database import Database, Statements
    from worker.messages import Record, TopicPartition

ROWS: Final = 1_000_000
"""Texts that are kept; the oldest go first."""
SHORTEST_KEY: Final = 32
"""Characters of a line of the key file."""
SHAPE: Final = 400
"""Characters of a text that are shown masked."""
_PRUNED: Final = 20_000
PRUNE_EVERY: Final = 5.0
_PORTION: Final = 500
"""Texts that the database is asked for at once."""
_SALT, _NONCE = 16, 12
_LETTER: Final = re.compile(r"[^\W\d_]")
_DIGIT: Final = re.compile(r"\d")
_OTHER: Final = re.compile(r"[^x0\s!-/:-@\[-`{-~]")
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS texts (
    seq {serial}, topic TEXT NOT NULL, partition {whole} NOT NULL, "offset" {whole} NOT NULL, at {real} NOT NULL,
    key TEXT NOT NULL, sender TEXT NOT NULL, sealed {bytes} NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS texts_by_place ON texts (topic, partition, "offset");
CREATE INDEX IF NOT EXISTS texts_by_time ON texts (at);
CREATE INDEX IF NOT EXISTS texts_by_sender ON texts (sender);
CREATE INDEX IF NOT EXISTS texts_by_key ON texts (key);
"""

TextPlace: TypeAlias = tuple[str, int, int]
"""Where a message lies in the input: topic, partition, offset."""


@dataclass(frozen=True, slots=True)
class ShownText:
    """What one visitor may see of a message. Strangers' words: show them by `visible`.

    `fault` says why there is no text to show; of a masked one letters are x and digits 0.
    """

    at: float
    text: str = ""
    sender: str | None = None
    recipient: str | None = None
    length: int = 0
    is_masked: bool = False
    fault: str | None = None


class TextKeys:
    """The keys of a file, the one in force first. Raises HashKeyError, which names the file and never what is in it."""

    def __init__(self, file: Path) -> None:
        self.hashing = Hashing.read(file)
        if min(map(len, self.hashing.keys)) < SHORTEST_KEY:
            message = f"{file}: wants keys of at least {SHORTEST_KEY} characters; `openssl rand -hex 32` makes one"
            raise HashKeyError(message)
        if file.stat().st_mode & 0o007:
            message = f"{file}: everybody on this host may read or change it; chmod 640"
            raise HashKeyError(message)
        self._by_name = {self._name(key): key for key in self.hashing.keys}
        self.in_force = next(iter(self._by_name))

    @property
    def names(self) -> list[str]:
        """What rows and messages call the keys: eight digits of a hash."""
        return list(self._by_name)

    def has(self, name: str) -> bool:
        """Whether a key is in the file."""
        return name in self._by_name

    def cipher(self, name: str, salt: bytes) -> AESGCM:
        """Of a batch."""
        return AESGCM(HKDF(SHA256(), 32, salt, b"hamgate retained text v1").derive(self._by_name[name]))

    @staticmethod
    def _name(key: bytes) -> str:
        return hashlib.sha256(b"hamgate name of a text key\0" + key).hexdigest()[:8]


class RetainedTexts:
    """The texts of one console. Raises DatabaseError by each of its methods."""

    def __init__(  # noqa: PLR0913 where, by what, of what, how much and how long
        self, database: Database, changes: AuditLog, keys: TextKeys, *, topic: str, max_bytes: int, days: float,
        share: float = 1.0, rows: int = ROWS,
    ) -> None:  # fmt: skip
        self._database, self._changes, self.keys = database, changes, keys
        self.topic, self.days, self.share, self.rows = topic, days, share, rows
        self._max_bytes = max_bytes
        self._pruned_at, self._pruning = 0.0, threading.Lock()
        database.prepare(_SCHEMA, VERSION)

    def look(self, visitor: Visitor, places: Sequence[TextPlace], page: str) -> dict[TextPlace, ShownText]:
        """Return what the visitor may see of the messages at these places; a place of which nothing is kept is absent.

        An analyst or operator sees the text, a viewer its length and shape. Each look at something is noted, with the
        page it was on. Raises OSError where it cannot be: then nothing is shown.
        """
        found = self._rows(places)
        if not found:
            return {}
        is_masked = not visitor.role.may(UserRole.ANALYST)
        said = [":".join(map(str, place)) for place in found]
        self._changes.write(visitor, "text shown", page=page, masked=is_masked, places=said)
        return {place: self._shown(row, place, is_masked=is_masked) for place, row in found.items()}

    def one(self, visitor: Visitor, place: TextPlace, page: str) -> ShownText | None:
        """The same for one place; None where nothing of it is kept."""
        return self.look(visitor, [place], page).get(place)

    def erase(self, visitor: Visitor, place: TextPlace) -> int:
        """Erase a message; returns how many there were. Raises OSError where it cannot be noted."""
        self._changes.write(visitor, "text erased", place=":".join(map(str, place)))
        return self._erased('topic = ? AND partition = ? AND "offset" = ?', place)

    def erase_sender(self, visitor: Visitor, sender: str) -> int:
        """Erase all of a sender, whichever key was in force. Raises OSError where it cannot be noted."""
        hashes = self._hashes(sender)
        self._changes.write(visitor, "texts of a sender erased", sender=hashes[0][:12])
        return self._erased(f"sender IN ({', '.join('?' * len(hashes))})", hashes)

    def erase_sender_of(self, visitor: Visitor, place: TextPlace) -> int:
        """Erase all of the sender of a message, and the message. Raises OSError where it cannot be noted."""
        if (row := self._row(place)) is None:
            return 0
        opened = self._opened(row, place)
        if not isinstance(opened, str):
            count = self.erase_sender(visitor, opened[1]) if opened[1] else 0
            return count or self.erase(visitor, place)
        self._changes.write(visitor, "texts of a sender erased", sender=row[2][:12])
        return self._erased("sender = ? AND sender <> ''", (row[2],)) or self.erase(visitor, place)

    def state(self) -> dict[str, Any]:
        """Return how many are kept, since when, and how many by which key; a key that the file has not is marked."""
        [[count, oldest]] = self._database.ask("SELECT count(*), min(at) FROM texts")
        by_key = dict(self._database.ask("SELECT key, count(*) FROM texts GROUP BY key ORDER BY key"))
        return {
            "count": count,
            "oldest": oldest,
            "keys": [{"name": name, "count": n, "is_here": self.keys.has(name)} for name, n in by_key.items()],
        }

    def take(self, records: Iterable[Record], positions: Mapping[TopicPartition, tuple[int, str]]) -> None:
        """Keep what was read, and how far, in one transaction. What is no readable event is not kept."""
        salt = os.urandom(_SALT)
        cipher = self.keys.cipher(self.keys.in_force, salt)
        now = time.time()
        rows = [row for record in records if (row := self._sealed(record, cipher, salt, now))]
        with self._database.writing() as statements:
            statements.executemany(
                'INSERT INTO texts (topic, partition, "offset", at, key, sender, sealed) '
                "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                rows,
            )
            keep_positions(statements, positions)
        self.prune()

    def prune(self) -> None:
        """Erase what is too old or too much; every few seconds, also while nothing comes."""
        if time.monotonic() - self._pruned_at < PRUNE_EVERY or not self._pruning.acquire(blocking=False):
            return
        try:
            with self._database.writing() as statements:
                oldest = time.time() - self.days * 86_400
                _prune(statements, "at < ? ORDER BY at", (oldest,))
                _prune(statements, "seq <= (SELECT max(seq) FROM texts) - ? ORDER BY seq", (self.rows,))
            self._pruned_at = time.monotonic()
        finally:
            self._pruning.release()

    def _row(self, place: TextPlace) -> tuple[float, str, str, bytes] | None:
        return self._rows([place]).get(place)

    def _rows(self, places: Sequence[TextPlace]) -> dict[TextPlace, tuple[float, str, str, bytes]]:
        """The rows of these places, in their order: many are asked for at once."""
        by_partition: dict[tuple[str, int], list[int]] = {}
        for topic, partition, offset in dict.fromkeys(places):
            if is_place(partition, offset):
                by_partition.setdefault((topic, partition), []).append(offset)
        oldest = time.time() - self.days * 86_400
        found: dict[TextPlace, tuple[float, str, str, bytes]] = {}
        for of, offsets in by_partition.items():
            for first in range(0, len(offsets), _PORTION):
                portion = offsets[first : first + _PORTION]
                rows = self._database.ask(
                    'SELECT "offset", at, key, sender, sealed FROM texts WHERE topic = ? AND partition = ? '
                    f'AND "offset" IN ({", ".join("?" * len(portion))}) AND at >= ?',
                    (*of, *portion, oldest),
                )
                found |= {(*of, offset): tuple(row) for offset, *row in rows}
        return {place: found[place] for place in places if place in found}

    def _shown(self, row: tuple[float, str, str, bytes], place: TextPlace, *, is_masked: bool) -> ShownText:
        opened = self._opened(row, place)
        if isinstance(opened, str):
            return ShownText(row[0], is_masked=is_masked, fault=opened)
        text, sender, recipient = opened
        if is_masked:
            return ShownText(row[0], shape(text), length=len(text), is_masked=True)
        return ShownText(row[0], text, sender, recipient, len(text))

    def _opened(self, row: tuple[float, str, str, bytes], place: TextPlace) -> tuple[str, str | None, str | None] | str:
        """Text, sender and recipient; or why they cannot be read."""
        at, key, sender, sealed = row
        if not self.keys.has(key):
            return f"It was kept under the key {key}, which HAMGATE_CONSOLE_TEXT_KEY_FILE has no longer."
        salt, nonce, rest = sealed[:_SALT], sealed[_SALT : _SALT + _NONCE], sealed[_SALT + _NONCE :]
        try:
            opened = self.keys.cipher(key, salt).decrypt(nonce, rest, _bound(place, at, key, sender))
        except (InvalidTag, ValueError):
            return f"It does not fit its place and the key {key}: somebody has changed or moved it."
        found: tuple[str, str | None, str | None] = msgspec.json.decode(opened, type=tuple[str, str | None, str | None])
        return found

    def _sealed(self, record: Record, cipher: AESGCM, salt: bytes, now: float) -> tuple[object, ...] | None:
        place = (record.topic, record.partition, record.offset)
        if record.is_tombstone or not self._is_chosen(place):
            return None
        try:
            sms = decode(record, max_bytes=self._max_bytes)
        except UnreadableError:  # its dead letter is its own page
            return None
        at, key = min(record.timestamp, now), self.keys.in_force
        sender = self._hashes(sms.sender)[0] if sms.sender else ""
        content = msgspec.json.encode((sms.text, sms.sender, sms.recipient))
        nonce = os.urandom(_NONCE)
        sealed = cipher.encrypt(nonce, content, _bound(place, at, key, sender))
        return *place, at, key, sender, salt + nonce + sealed

    def _is_chosen(self, place: TextPlace) -> bool:
        """Whether it belongs to the share: by its place alone, so that reading it again changes nothing."""
        if self.share >= 1:
            return True
        digest = hashlib.blake2b("\0".join(map(str, place)).encode(), digest_size=8).digest()
        return int.from_bytes(digest) < self.share * 2**64

    def _hashes(self, sender: str) -> tuple[str, ...]:
        return self.keys.hashing.all("retained text's sender", normal(sender))

    def _erased(self, where: str, values: Sequence[object]) -> int:
        with self._database.writing() as statements:
            count = len(statements.execute(f"SELECT seq FROM texts WHERE {where}", values))
            statements.execute(f"DELETE FROM texts WHERE {where}", values)
        return count


def forget_all(database: Database) -> int:
    """Erase every text: it is not kept any more. Returns how many there were."""
    database.prepare(_SCHEMA, VERSION)
    [[count]] = database.ask("SELECT count(*) FROM texts")
    if count:
        with database.writing() as statements:
            statements.execute("DELETE FROM texts")
    return int(count)


def shape(text: str) -> str:
    """A text's form without its words: letters as x, digits as 0, signs and spaces as they are."""
    masked = _OTHER.sub("?", _DIGIT.sub("0", _LETTER.sub("x", text[:SHAPE])))
    return masked + (" …" if len(text) > SHAPE else "")


def _prune(statements: Statements, which: str, values: Sequence[object]) -> None:
    statements.execute(f"DELETE FROM texts WHERE seq IN (SELECT seq FROM texts WHERE {which} LIMIT {_PRUNED})", values)


def _bound(place: TextPlace, at: float, key: str, sender: str) -> bytes:
    """What is authenticated with a row's content."""
    return "\0".join((*map(str, place), repr(at), key, sender)).encode()
