"""Processes that are not ours to wait for, by their file descriptors."""

from __future__ import annotations

import os
import select
import socket
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
    waiting = select.poll()  # `select` takes no descriptor from 1,024 on, which a long run of tests may reach
    waiting.register(process, select.POLLIN)
    return bool(waiting.poll(1000 * within))


def is_gone(pid: int) -> bool:
    """Whether there is no such process, not even one that nobody has waited for."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def phase(port: int) -> str:
    """What /readyz of a worker on loopback says last, or that nobody answers yet."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)):
            return "not up yet"
        probe.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        return probe.makefile().read().splitlines()[-1]
