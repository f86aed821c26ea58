"""A subprocess that answers requests, so that its work leaves the interpreter to the worker's threads.

Both send frames over two pipes: 8 bytes of length, then the content. The subprocess ends when its pipe is closed. So it
outlives the worker, however that ended, by one request at most.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

from worker.process import signals, streams

if TYPE_CHECKING:
    from collections.abc import Iterator

_LENGTH_BYTES: Final = 8
# What is asked of a pipe at once, which is as much as it holds: one wait for an answer, or for two that are there.
_AT_ONCE: Final = 1 << 16
# How long a process that has closed its pipe may take to end.
_END: Final = 5.0
# Where the frames go, in the process.
_REQUESTS, _REPLIES = 0, 1


class ChildError(Exception):
    """The process ended, failed, or could not be started. Says how, and never what it was given."""


class GoneError(Exception):
    """In the child process: the worker is gone, and nobody is left to answer."""


class Child:
    """The process, as the worker holds it: `python -m module arguments`; `name` is what it is called in errors.

    What it is for is a subclass's to say, by `send` and `next`, in turn.

    It ends with `close`, with the last reference to this, or with this process. Everything raises `error`.
    """

    def __init__(self, module: str, *arguments: str, name: str, error: type[ChildError]) -> None:
        self._name, self._error = name, error
        command = [sys.executable, "-P", "-m", module, *arguments]
        try:
            # A session of its own: a terminal's Ctrl-C is meant for the worker, which finishes what it has.
            self._process = subprocess.Popen(  # noqa: S603 # our own program
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                env=environment(),
                start_new_session=True,
            )
        except OSError as cause:
            message = f"{name} cannot be started: {cause.strerror}"
            raise error(message) from cause
        self._turn = threading.Lock()
        self._close = weakref.finalize(self, _end, self._process, self._turn)
        self._replies = Frames(self._process.stdout)  # type: ignore[arg-type] # bare, as asked for
        os.set_blocking(self._process.stdin.fileno(), False)  # type: ignore[union-attr] # it was asked for

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it is gone, so that whoever asks it next will fail. May be asked by any thread."""
        return self._process.poll() is not None

    def require(self) -> None:
        """Raise what asking it would, where it has ended."""
        if self.has_ended:
            raise self._ended()

    def close(self) -> None:
        """End it, whatever it is at."""
        self._close()

    @contextlib.contextmanager
    def in_turn(self) -> Iterator[None]:
        """One thread at a time. What is not done to its end ends the process: else a frame would be read amiss."""
        with self._turn:
            try:
                yield
            except (BrokenPipeError, EOFError):
                raise self._ended() from None
            except BaseException:
                self._process.kill()
                raise

    def send(self, request: bytes) -> None:
        """Write a frame; while there is no room for it, take replies: the process may wait for that to go on."""
        pipe = self._process.stdin.fileno()  # type: ignore[union-attr] # it was asked for
        left = framed(request)
        while left:
            try:
                left = left[os.write(pipe, left) :]
            except BlockingIOError:
                self._replies.read_until_writable(pipe)

    def next(self, within: float | None = None) -> bytearray:
        """Wait for the next reply; one that does not come within so many seconds counts as a failure."""
        try:
            return self._replies.next(within)
        except TimeoutError:
            message = f"{self._name} has not answered for {within:g} s"
            raise self._error(message) from None

    def _ended(self) -> ChildError:
        try:
            status = self._process.wait(_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        by = f" ({signal.strsignal(-status)})" if status < 0 else ""
        return self._error(f"{self._name} ended with {status}{by}")


def _end(process: subprocess.Popen[bytes], turn: threading.Lock) -> None:
    """End it, whatever it is at: it holds nothing that could be lost."""
    process.kill()
    process.wait()
    # Whoever still waits for its answer has none now; it must not go on with another file of the pipe's number.
    with turn:
        for pipe in (process.stdin, process.stdout):
            pipe.close()  # type: ignore[union-attr] # both were asked for


def environment() -> dict[str, str]:
    """A child's environment: the worker's module path, and none of its settings, among which are secrets."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("HAMGATE_")}
    return kept | {"PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}


class Frames:
    """The frames that come through a pipe, of which one read may bring several, or a part. Raises EOFError."""

    def __init__(self, pipe: FileIO) -> None:
        self._pipe = pipe
        self._found = bytearray()

    def next(self, within: float | None = None) -> bytearray:
        """Wait for the next frame. Raises TimeoutError after so many seconds."""
        deadline = None if within is None else time.monotonic() + within
        while len(self._found) < (end := self._end()):
            if deadline is not None:
                self._wait(deadline - time.monotonic())
            self._read()
        frame = self._found[_LENGTH_BYTES:end]
        del self._found[:end]
        return frame

    def read_until_writable(self, other: int) -> None:
        """Wait for room in another pipe; keep what comes through this one meanwhile."""
        either = select.poll()
        either.register(other, select.POLLOUT)
        either.register(self._pipe, select.POLLIN)
        while other not in (ready := dict(either.poll())):
            if ready:
                self._read()

    def _wait(self, seconds: float) -> None:
        waiting = select.poll()
        waiting.register(self._pipe, select.POLLIN)
        if not waiting.poll(max(0.0, 1000 * seconds)):
            raise TimeoutError

    def _end(self) -> int:
        """Bytes up to the end of the next frame, as far as is known."""
        length = self._found[:_LENGTH_BYTES]
        return _LENGTH_BYTES + (int.from_bytes(length, "little") if len(length) == _LENGTH_BYTES else 0)

    def _read(self) -> None:
        part = self._pipe.read(_AT_ONCE)
        if not part:
            raise EOFError
        self._found += part


def framed(content: bytes) -> memoryview:
    """Return content as a frame."""
    return memoryview(len(content).to_bytes(_LENGTH_BYTES, "little") + content)


# --- in the process -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def served() -> Iterator[Frames]:
    """Yield the frames of the requests; ends when the worker closes the pipe."""
    for each in (*signals.ENDING, *signals.WITHOUT_A_MEANING):  # a supervisor tells all of a group; we are still needed
        signal.signal(each, signal.SIG_IGN)
    streams.secure()
    sys.stdout = sys.stderr  # what anything prints is no frame
    with contextlib.suppress(EOFError, GoneError):
        yield Frames(FileIO(_REQUESTS, closefd=False))


def reply(content: bytes) -> None:
    """Answer. Raises GoneError."""
    left = framed(content)
    while left:
        try:
            left = left[os.write(_REPLIES, left) :]
        except BrokenPipeError as error:
            raise GoneError from error
