"""Processes that are not ours to wait for, by their file descriptors."""

from __future__ import annotations

import os
import select
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def watched(pid: int) -> Iterator[int]:
    """Hold on to a process, whatever its id is given to next."""
    process = os.pidfd_open(pid)
    try:
        yield process
    finally:
        os.close(process)


def has_ended(process: int, *, within: float) -> bool:
    """Whether a watched one has, or does in so many seconds."""
    return bool(select.select([process], [], [], within)[0])
