"""Files that are written whole or not at all: under another name, onto the disk, and only then in their place."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A path to write what shall stand at `path`. Where writing fails, what stood there stays, and no part is left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    making = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield making
        sync(making)
        making.replace(path)
    finally:
        making.unlink(missing_ok=True)
    sync(path.parent)


def write(path: Path, content: str) -> None:
    """Write a text, in UTF-8."""
    with writing(path) as making:
        making.write_text(content, encoding="utf-8", newline="")


def move(made: Path, place: Path) -> None:
    """Put a folder that has been written where nothing stands, once all of it is on the disk."""
    for path in (*made.rglob("*"), made):
        sync(path)
    made.replace(place)
    sync(place.parent)


def sync(path: Path) -> None:
    """Have a file's content, or a folder's names, on the disk: a crash after that takes none of it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
