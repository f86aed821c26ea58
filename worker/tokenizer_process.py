"""A process that only makes texts ready for the model, so that the worker's threads need not share its interpreter.

`TokenizerProcess` is what the worker holds; `python -m worker.tokenizer_process` is what it starts. Between them go
frames over two pipes, 8 bytes of length, then what is said: first the tokenizer, then, in msgpack, requests, as many
as are on their way at once, and answers in the same order. The process keeps nothing but words it has cut before, and
ends when its pipe does: however the worker ends, it does not outlive it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import signal
import subprocess
import sys
import threading
import weakref
from collections import deque
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import msgspec
import numpy as np

from worker.tokenizing import TextTokenizer, UnreadableTokenizerError, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

# How text travels: a lone surrogate, which UTF-8 has no place for, too.
_UTF8: Final = ("utf-8", "surrogatepass")
_LENGTH_BYTES: Final = 8
# What is asked of a pipe at once, which is as much as it holds: one wait for an answer, or for two that are there.
_AT_ONCE: Final = 1 << 16
# How long a process that has closed its pipe may take to end.
_END: Final = 5.0
# Where the frames go, in the process.
_REQUESTS, _REPLIES, _ERRORS = 0, 1, 2


class TokenizerProcessError(Exception):
    """The tokenizer process ended, failed, or could not be started. Says how, and never what it was given."""


class Reply(msgspec.Struct, array_like=True, gc=False):
    """Tokens of all texts end to end (int32), how many each has, a byte each that is its index into FLAGS.

    `failure` names what went wrong instead.
    """

    tokens: bytes = b""
    lengths: list[int] = []
    flags: bytes = b""
    failure: str = ""


_request = msgspec.msgpack.Decoder(list[bytes])
_reply = msgspec.msgpack.Decoder(Reply)


@dataclass(slots=True)
class _Asked:
    """A request on its way, then its answer. It does not know the process: what nobody waits for keeps none alive."""

    reply: Reply | None = None


class TokenizerProcess:
    """A `TextTokenizer` in a process of its own, with the same answers. Threads take turns.

    It ends with `close`, with the last reference to this, or with this process. Raises UnreadableTokenizerError,
    TokenizerProcessError.
    """

    def __init__(self, description: bytes, max_tokens: int) -> None:
        command = [sys.executable, "-P", "-m", __name__, str(max_tokens)]
        try:
            # A session of its own: a terminal's Ctrl-C is meant for the worker, which finishes what it has.
            self._process = subprocess.Popen(  # noqa: S603 # our own program
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                env=_environment(),
                start_new_session=True,
            )
        except OSError as error:
            message = f"the tokenizer process cannot be started: {error.strerror}"
            raise TokenizerProcessError(message) from error
        self._turn = threading.Lock()
        self.close = weakref.finalize(self, _end, self._process, self._turn)
        self._unanswered: deque[_Asked] = deque()
        self._replies = _Frames(self._process.stdout)  # type: ignore[arg-type] # bare, as asked for
        os.set_blocking(self._process.stdin.fileno(), False)  # type: ignore[union-attr] # it was asked for
        try:
            with self._in_turn():
                self._send(description)
                failure = self._next().failure
        except BaseException:  # told to stop meanwhile, too
            self.close()
            raise
        if failure:
            self.close()
            raise UnreadableTokenizerError(failure)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def tokenise(self, texts: Sequence[str]) -> Iterable[tuple[NDArray[np.int32], int]]:
        """As TextTokenizer does. Raises TokenizerProcessError."""
        return self.begin(texts)()

    def begin(self, texts: Sequence[str]) -> Callable[[], Iterable[tuple[NDArray[np.int32], int]]]:
        """As TextTokenizer does, and meanwhile it is done. Raises TokenizerProcessError, as does what is returned.

        Another may be begun before this one's answer is asked for, and an answer need not be asked for.
        """
        request, asked = msgspec.msgpack.encode([text.encode(*_UTF8) for text in texts]), _Asked()
        with self._in_turn():
            self._send(request)
            self._unanswered.append(asked)
        return lambda: _tokens(self._answer(asked))

    def _answer(self, asked: _Asked) -> Reply:
        with self._in_turn():
            while asked.reply is None:
                self._unanswered[0].reply = self._next()
                self._unanswered.popleft()
        if asked.reply.failure:
            message = f"the tokenizer process failed: {asked.reply.failure}"
            raise TokenizerProcessError(message)
        return asked.reply

    def _send(self, request: bytes) -> None:
        """Write a request; while there is no room for it, take answers: the process may wait for that to go on."""
        pipe = self._process.stdin.fileno()  # type: ignore[union-attr] # it was asked for
        left = _frame(request)
        while left:
            try:
                left = left[os.write(pipe, left) :]
            except BlockingIOError:
                self._replies.read_until_writable(pipe)

    def _next(self) -> Reply:
        return _reply.decode(self._replies.next())

    @contextlib.contextmanager
    def _in_turn(self) -> Iterator[None]:
        """One thread at a time. What is not done to its end ends the process: else a frame would be read amiss."""
        with self._turn:
            try:
                yield
            except (BrokenPipeError, EOFError):
                raise self._ended() from None
            except BaseException:
                self._process.kill()
                raise

    def _ended(self) -> TokenizerProcessError:
        try:
            status = self._process.wait(_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        by = f" ({signal.strsignal(-status)})" if status < 0 else ""
        return TokenizerProcessError(f"the tokenizer process ended with {status}{by}")


def _end(process: subprocess.Popen[bytes], turn: threading.Lock) -> None:
    """End it, whatever it is at: it holds nothing that could be lost."""
    process.kill()
    process.wait()
    # Whoever still waits for its answer has none now; it must not go on with another file of the pipe's number.
    with turn:
        for pipe in (process.stdin, process.stdout):
            pipe.close()  # type: ignore[union-attr] # both were asked for


def _environment() -> dict[str, str]:
    """Where the worker has its modules from, wherever that is; none of its settings, among which are secrets."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("HAMGATE_")}
    return kept | {"PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}


def _tokens(reply: Reply) -> Iterable[tuple[NDArray[np.int32], int]]:
    tokens = np.frombuffer(reply.tokens, dtype=np.int32)
    ends = itertools.accumulate(reply.lengths, initial=0)
    return zip([tokens[start:end] for start, end in itertools.pairwise(ends)], reply.flags, strict=True)


def _frame(content: bytes) -> memoryview:
    return memoryview(len(content).to_bytes(_LENGTH_BYTES, "little") + content)


class _Frames:
    """The frames that come through a pipe, of which one read may bring several, or a part. Raises EOFError."""

    def __init__(self, pipe: FileIO) -> None:
        self._pipe = pipe
        self._found = bytearray()

    def next(self) -> bytearray:
        """Wait for the next frame."""
        while len(self._found) < (end := self._end()):
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

    def _end(self) -> int:
        """Where the next frame ends, as far as is known."""
        length = self._found[:_LENGTH_BYTES]
        return _LENGTH_BYTES + (int.from_bytes(length, "little") if len(length) == _LENGTH_BYTES else 0)

    def _read(self) -> None:
        part = self._pipe.read(_AT_ONCE)
        if not part:
            raise EOFError
        self._found += part


def serve(max_tokens: int) -> None:
    """Answer requests until there are no more."""
    with contextlib.suppress(EOFError, BrokenPipeError):
        _serve(_Frames(FileIO(_REQUESTS, closefd=False)), max_tokens)


def _serve(requests: _Frames, max_tokens: int) -> NoReturn:
    for each in (signal.SIGINT, signal.SIGTERM):  # a supervisor tells all of a group; the worker is not done with us
        signal.signal(each, signal.SIG_IGN)
    sys.stdout = sys.stderr  # what anything prints is no frame
    try:
        tokenizer = TextTokenizer(parse(bytes(requests.next())), max_tokens)
    except UnreadableTokenizerError as error:
        _reply_with(Reply(failure=str(error)))
        raise EOFError from error  # nobody will ask
    _reply_with(Reply())
    # What a library says of a text that it fails on may hold the text: from here on nobody hears it.
    os.dup2(os.open(os.devnull, os.O_WRONLY), _ERRORS)
    while True:
        _reply_with(_answered(tokenizer, requests.next()))


def _reply_with(reply: Reply) -> None:
    left = _frame(msgspec.msgpack.encode(reply))
    while left:
        left = left[os.write(_REPLIES, left) :]


def _answered(tokenizer: TextTokenizer, request: bytes | bytearray) -> Reply:
    try:
        texts = [str(text, *_UTF8) for text in _request.decode(request)]
        made = list(tokenizer.tokenise(texts))
    except BaseException as error:  # noqa: BLE001 # a panic of the tokenizer's is no Exception; the worker ends by it
        return Reply(failure=type(error).__name__)
    rows = [tokens.tobytes() for tokens, _ in made]
    return Reply(b"".join(rows), [len(tokens) for tokens, _ in made], bytes(flag for _, flag in made))


if __name__ == "__main__":
    serve(int(sys.argv[1]))
