"""Standard output that may refuse what is written: letters it has no code for, a full disk, a reader who has gone."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

NAME: Final = "standard output"
"""The file name of an error of standard output, once it is guarded: the system gives none for a file that is open."""


class _Named(io.FileIO):
    """Standard output's file, whose errors name it."""

    def write(self, content: ReadableBuffer, /) -> int:
        """Write it. Raises OSError with a file name."""
        try:
            return super().write(content)
        except OSError as error:
            error.filename = NAME
            raise


def guard() -> None:
    r"""Write a letter that the terminal's encoding lacks as its \\x or \\u escape, and let errors name the output."""
    own = sys.__stdout__
    if own is not None and sys.stdout is own:  # else a test's, or a notebook's
        file = io.BufferedWriter(_Named(own.fileno(), "w", closefd=False))
        sys.stdout = io.TextIOWrapper(file, own.encoding, line_buffering=own.line_buffering)
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")


def flush() -> None:
    """Write out what waits, here where it can be seen that nobody reads, or that there is no room."""
    if sys.stdout:
        sys.stdout.flush()


def discard() -> None:
    """Let nothing more be written to standard output, also at the interpreter's own last flush."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
