"""A process that only runs the model on the CPU, so that its threads and the worker's never wait for one interpreter.

`EngineProcess` is the engine that the worker holds; `python -m worker.model.engine_process` is what it starts
(`worker.process.child`). The process loads the bundle itself, and says what it has loaded. Then come requests, as many
as are on their way at once, and answers in the same order: a batch's tokens, and its logits.
"""

from __future__ import annotations

import contextlib
import os
import select
import struct
import sys
import threading
from collections import deque
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import msgspec
import numpy as np

from worker.engine import load
from worker.engine.kinds import Engine, Kind, UnsupportedModelError
from worker.model.bundle import TOKENIZER, Bundle, BundleError
from worker.model.tokenizer import UnreadableTokenizerError, parse
from worker.process.child import Child, ChildError, Frames, framed, reply, served

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from worker.engine.kinds import Tokens

_COUNT: Final = struct.Struct("<q")
# What the pipe of requests holds, where the system lets it: a batch's tokens, so that the next batch is there when one
# is done.
_ROOM: Final = 1 << 20


class EngineProcessError(ChildError):
    """The engine process ended, failed, or could not be started. Says how, and never what it was given."""


class Loaded(msgspec.Struct, array_like=True, gc=False):
    """What the process has loaded; `unsupported` says why it cannot run the model, `failure` what else went wrong."""

    labels: int = 0
    token_budget: int = 0
    unsupported: str = ""
    failure: str = ""


class LogitsReply(msgspec.Struct, array_like=True, gc=False):
    """A batch's logits, float32 end to end; `failure` names what went wrong instead."""

    logits: bytes = b""
    failure: str = ""


_loaded: Final = msgspec.msgpack.Decoder(Loaded)
_logits: Final = msgspec.msgpack.Decoder(LogitsReply)


@dataclass(slots=True)
class _BatchAsked:
    """A request on its way, then its answer; none once the process is gone."""

    is_done: threading.Event = field(default_factory=threading.Event)
    answer: bytearray | None = None


@dataclass(slots=True)
class _AskedInOrder:
    """Who waits for an answer, in order. Closed once there will be no more."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    asked: deque[_BatchAsked] = field(default_factory=deque)
    is_closed: bool = False


@dataclass(frozen=True, slots=True)
class OnItsWay:
    """A batch that the process judges."""

    engine: EngineProcess
    asked: _BatchAsked

    @property
    def is_done(self) -> bool:
        """Whether its logits can be had without waiting."""
        return self.asked.is_done.is_set()

    def logits(self) -> NDArray[np.float32]:
        """Wait for it; its logits [n, labels], in the order given. Raises EngineProcessError."""
        self.asked.is_done.wait()
        return self.engine.read(self.asked.answer)


class EngineProcess(Child):
    """An `Engine` of the kind `cpu` in a process of its own. Raises EngineProcessError, UnsupportedModelError.

    It ends with `close`, with the last reference to this, or with this process.
    """

    kind = Kind.CPU
    halvings = 0
    shared_tokens = 0

    def __init__(self, bundle: Bundle, *, threads: int = 0, token_budget: int | None = None) -> None:
        arguments = (str(bundle.folder.absolute()), bundle.model, str(threads), str(token_budget or 0))
        super().__init__(__name__, *arguments, name="the engine process", error=EngineProcessError)
        with self.in_turn():
            loaded = _loaded.decode(self.next())
        if loaded.unsupported:
            raise UnsupportedModelError(loaded.unsupported)
        if loaded.failure:
            raise EngineProcessError(loaded.failure)
        self.labels, self.token_budget = loaded.labels, loaded.token_budget
        self._requests = self._process.stdin.fileno()  # type: ignore[union-attr] # it was asked for
        _make_room(self._requests)
        self._asked = _AskedInOrder()
        # The thread knows nothing of this object, which therefore ends with its last reference; and reads by a file of
        # its own, which nobody closes while it does.
        replies = FileIO(os.dup(self._process.stdout.fileno()))  # type: ignore[union-attr] # it was asked for
        threading.Thread(target=_take_answers, args=(replies, self._asked), name="answers", daemon=True).start()

    def begin(self, tokens: Sequence[Tokens]) -> OnItsWay:
        """Begin to judge messages; another batch may be begun before this one is done."""
        lengths = np.fromiter(map(len, tokens), dtype=np.int32, count=len(tokens))
        if not lengths.all():
            message = "a message without tokens"
            raise ValueError(message)
        flat = [np.asarray(each, dtype=np.int32) for each in tokens] or [lengths]
        request = b"".join((_COUNT.pack(len(tokens)), lengths.tobytes(), np.concatenate(flat).tobytes()))
        asked = _BatchAsked()
        with self._asked.lock:
            if self._asked.is_closed:
                raise self._ended()
            self._asked.asked.append(asked)
            self._write(request)
        return OnItsWay(self, asked)

    def logits(self, tokens: Sequence[Tokens]) -> NDArray[np.float32]:
        """Judge messages, as every engine does."""
        return self.begin(tokens).logits()

    def read(self, answer: bytearray | None) -> NDArray[np.float32]:
        """The logits of an answer. Raises EngineProcessError."""
        if answer is None:
            raise self._ended()
        found = _logits.decode(answer)
        if found.failure:
            message = f"the engine process failed: {found.failure}"
            raise EngineProcessError(message)
        return np.frombuffer(found.logits, dtype=np.float32).reshape(-1, self.labels)

    def _write(self, request: bytes) -> None:
        left = framed(request)
        while left:
            try:
                left = left[os.write(self._requests, left) :]
            except BlockingIOError:
                room = select.poll()
                room.register(self._requests, select.POLLOUT)
                room.poll()
            except BrokenPipeError:
                raise self._ended() from None
            except BaseException:  # of what is written in part nothing else can be read
                self._process.kill()
                raise


def _make_room(pipe: int) -> None:
    with contextlib.suppress(ImportError, AttributeError, OSError):  # Linux's alone
        import fcntl  # noqa: PLC0415

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _ROOM)


def _take_answers(replies: FileIO, waiting: _AskedInOrder) -> None:
    """Until the process is gone."""
    frames = Frames(replies)
    with replies, contextlib.suppress(EOFError):
        while True:
            answer = frames.next()
            asked = waiting.asked.popleft()
            asked.answer = answer
            asked.is_done.set()
    with waiting.lock:
        waiting.is_closed = True
        for asked in waiting.asked:
            asked.is_done.set()


# --- in the process -------------------------------------------------------------------------------------------------


def serve(folder: str, model: str, threads: int, token_budget: int) -> None:
    """Answer requests until there are no more."""
    with served() as requests:
        _serve(requests, _engine(Path(folder), model, threads, token_budget))


def _engine(folder: Path, model: str, threads: int, token_budget: int) -> Engine:
    try:
        bundle = Bundle.load(folder)
        if bundle.model != model:
            raise BundleError(folder, "it was changed while it was loaded")  # noqa: TRY301 said as any other
        tokenizer = parse(bundle.read(TOKENIZER))
        engine = load(bundle, tokenizer, Kind.CPU, threads=threads, token_budget=token_budget or None)
    except UnsupportedModelError as error:
        reply(msgspec.msgpack.encode(Loaded(unsupported=str(error))))
        raise EOFError from error  # nobody will ask
    except (BundleError, UnreadableTokenizerError) as error:
        reply(msgspec.msgpack.encode(Loaded(failure=str(error))))
        raise EOFError from error
    reply(msgspec.msgpack.encode(Loaded(engine.labels, engine.token_budget)))
    return engine


def _serve(requests: Frames, engine: Engine) -> NoReturn:
    while True:
        reply(msgspec.msgpack.encode(_answered(engine, requests.next())))


def _answered(engine: Engine, request: bytearray) -> LogitsReply:
    try:
        (count,) = _COUNT.unpack_from(request)
        lengths = np.frombuffer(request, dtype=np.int32, count=count, offset=_COUNT.size)
        flat = np.frombuffer(request, dtype=np.int32, offset=_COUNT.size + lengths.nbytes)
        return LogitsReply(engine.logits(np.split(flat, np.cumsum(lengths[:-1]))).tobytes() if count else b"")
    except BaseException as error:  # noqa: BLE001 whatever it is, the worker ends by it
        return LogitsReply(failure=type(error).__name__)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
