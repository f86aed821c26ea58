"""Standard streams that cannot break the process: a line that standard error does not take is dropped and counted."""

from __future__ import annotations

import io
import os
import select
import stat
import sys
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_ERRORS: Final = 2
_STREAMS: Final = (0, 1, _ERRORS)
# How long a reader who is slow may hold up whoever logs, once; then lines are dropped until it reads again.
_PATIENCE: Final = 0.1


def secure() -> None:
    """Open what is closed of the three streams on nothing, and have standard error drop what it cannot write.

    Of a closed stream the number would go to the next file or socket that is opened, and a library's warning into it.
    """
    for number in _STREAMS:
        try:
            os.fstat(number)
        except OSError:
            if (opened := os.open(os.devnull, os.O_RDWR)) != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)  # noqa: FBT003 it takes no keyword
    if sys.stderr is sys.__stderr__:  # else it is somebody's own, as a test's
        sys.stderr = LogStream(_ERRORS, encoding=sys.stderr.encoding if sys.stderr else "utf-8")


def report_dropped(count: Callable[[int], object]) -> None:
    """Tell how many lines standard error has dropped by now, and from now on."""
    if isinstance(sys.stderr, LogStream):
        sys.stderr.report_to(count)


class LogStream(io.TextIOBase):
    """Writes whole lines to a descriptor. Never raises, and never waits for a reader longer than a moment.

    `dropped` is how many lines were lost; once there is room again, a line in `told`'s words says how many.
    """

    def __init__(self, descriptor: int, encoding: str = "utf-8") -> None:
        self._descriptor, self._encoding = descriptor, encoding
        self._turn = threading.RLock()  # reentrant: a signal's handler logs within whatever the main thread is at
        self._unwritten = ""
        self._untold = 0
        self._is_cut = self._is_stuck = False
        self._reports: Callable[[int], object] | None = None
        self.dropped = 0
        self.told: Callable[[int], str] = lambda count: f"{count} lines could not be written\n"

    @property
    def encoding(self) -> str:  # type: ignore[override] # an attribute in the base class
        """Of the bytes; what it has no place for is escaped."""
        return self._encoding

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """Yes."""
        return True

    def report_to(self, count: Callable[[int], object]) -> None:
        """Call this with the number of lines dropped so far, and with that of each further loss."""
        with self._turn:
            self._reports = count
            if self.dropped:
                count(self.dropped)

    def write(self, text: str, /) -> int:
        """Write up to the last line's end; the rest waits for its own."""
        with self._turn:
            self._unwritten += text
            if "\n" in text or "\r" in text:
                self.flush()
        return len(text)

    def flush(self) -> None:
        """Write what waits, too."""
        with self._turn:
            text, self._unwritten = self._unwritten, ""
            if not text:
                return
            first = "\n" * self._is_cut + (self.told(self._untold) if self._untold else "")
            if (not first or self._is_written(first)) and self._is_written(text):
                return
            lost = max(1, text.count("\n"))
            self.dropped += lost
            self._untold += lost
            if self._reports:
                self._reports(lost)

    def _is_written(self, text: str) -> bool:
        left, has_begun = memoryview(text.encode(self._encoding, "backslashreplace")), False
        try:
            # Of as many bytes a pipe that is ready takes all, and what writes does not wait.
            most = len(left) if stat.S_ISREG(os.fstat(self._descriptor).st_mode) else select.PIPE_BUF
            while left:
                if not self._has_room():
                    break
                left, has_begun = left[os.write(self._descriptor, left[:most]) :], True
        except OSError:
            pass
        if has_begun:
            self._is_cut = bool(left)
            if not left:
                self._untold = 0
        return not left

    def _has_room(self) -> bool:
        waiting = select.poll()
        waiting.register(self._descriptor, select.POLLOUT)
        self._is_stuck = not waiting.poll(0 if self._is_stuck else 1000 * _PATIENCE)
        return not self._is_stuck
