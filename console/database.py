"""Where the console keeps what it has read: a file of SQLite, or PostgreSQL by URL. One set of statements for both.

Statements are SQLite's, with `?` for values and `"offset"` in quotes; a schema has `{whole}`, `{real}`, `{bytes}` and
`{serial}` for the types that differ. One thread writes at a time, any may ask; a question that takes too long is ended.
"""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

PATIENCE: Final = 5.0
"""Seconds that a question may take."""
READERS: Final = 4
"""Connections to ask by: of more askers than these the others wait."""


class DatabaseError(Exception):
    """The database cannot be used; says where it is and why, never with a password."""


class TooLongError(Exception):
    """A question was ended: it took too long."""


class Statements(Protocol):
    """What is written, in one transaction."""

    def execute(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        """Run one; returns its rows."""

    def executemany(self, statement: str, rows: Iterable[Sequence[object]]) -> int:
        """Run it for each row; returns how many rows of the database are new or changed."""


class Database(Protocol):
    """What a window is kept in."""

    def prepare(self, schema: str, version: int) -> None:
        """Make the tables. Raises DatabaseError, also where they are of another version."""

    def ask(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        """Return the rows. Raises TooLongError, DatabaseError."""

    def writing(self) -> contextlib.AbstractContextManager[Statements]:
        """Begin a transaction, and commit it. Raises DatabaseError: nothing is kept then."""

    def close(self) -> None:
        """Close every connection; the next question opens one."""


class _Closable(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=_Closable)


class Connections(Generic[C]):
    """Connections to ask by, made when they are needed, READERS at most; the last one used goes out first."""

    def __init__(self, connect: Callable[[], C]) -> None:
        self._connect = connect
        self._idle: queue.LifoQueue[C | None] = queue.LifoQueue()
        self._put_back_none()

    @contextlib.contextmanager
    def one(self, is_usable: Callable[[C], bool] = lambda _: True) -> Iterator[C]:
        """Lend one. Raises what connecting raises. One that is not usable afterwards is not lent again."""
        lent = self._idle.get()
        try:
            lent = lent or self._connect()
            yield lent
        finally:
            self._idle.put(lent if lent is not None and is_usable(lent) else None)

    def close(self) -> None:
        """Close all of them, once nobody asks; the next question opens one."""
        for connection in filter(None, [self._idle.get() for _ in range(READERS)]):
            connection.close()
        self._put_back_none()

    def _put_back_none(self) -> None:
        for _ in range(READERS):
            self._idle.put(None)


class SqliteFile:
    """A file that its owner alone may read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._readers = Connections(self._connected)

    def prepare(self, schema: str, version: int) -> None:
        """Make the tables. Raises DatabaseError."""
        try:
            self._path.touch(mode=0o600)
            with self._lock:
                writer = self._writer = self._writer or self._connected()
                [found] = writer.execute("PRAGMA user_version").fetchone()
                if found not in (0, version):
                    message = f"{self._path}: of another version of hamgate; remove it, and it is filled again"
                    raise DatabaseError(message)
                writer.execute("PRAGMA journal_mode = WAL")
                with writer:
                    serial = "INTEGER PRIMARY KEY"
                    writer.executescript(schema.format(whole="INTEGER", real="REAL", bytes="BLOB", serial=serial))
                    writer.execute(f"PRAGMA user_version = {version}")
        except (OSError, sqlite3.Error) as error:
            message = f"{self._path}: {error}; name another folder in HAMGATE_CONSOLE_FOLDER, or remove the file"
            raise DatabaseError(message) from error

    def ask(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        """Return the rows. Raises TooLongError, DatabaseError."""
        try:
            with self._readers.one() as reader:
                until = time.monotonic() + PATIENCE
                reader.set_progress_handler(lambda: time.monotonic() > until, 10_000)
                return reader.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            if "interrupted" in str(error):
                raise TooLongError from error
            raise self._fault(error) from error

    @contextlib.contextmanager
    def writing(self) -> Iterator[Statements]:
        """Begin a transaction, and commit it. Raises DatabaseError."""
        with self._lock:
            try:
                writer = self._writer = self._writer or self._connected()
                with writer:
                    yield _SqliteStatements(writer)
            except sqlite3.Error as error:  # a full disk, for one
                raise self._fault(error) from error

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            if self._writer:
                self._writer.close()
            self._writer = None
        self._readers.close()

    def _fault(self, error: sqlite3.Error) -> DatabaseError:
        return DatabaseError(f"{self._path}: {error}")

    def _connected(self) -> sqlite3.Connection:
        made = sqlite3.connect(self._path, timeout=10, check_same_thread=False)
        made.execute("PRAGMA synchronous = NORMAL")
        made.execute("PRAGMA cache_size = -16384")  # 16 MiB
        made.execute("PRAGMA secure_delete = ON")  # what is erased is overwritten
        return made


class _SqliteStatements:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        return self._connection.execute(statement, values).fetchall()

    def executemany(self, statement: str, rows: Iterable[Sequence[object]]) -> int:
        return self._connection.executemany(statement, rows).rowcount
