"""A process that only makes texts ready for the model, so that the worker's threads need not share its interpreter.

`TokenizerProcesses` is what the worker holds, as many `TokenizerProcess` as its settings say; `python -m
worker.model.tokenizer_process` is what each of these starts (`worker.process.child`).
What is said between them is first the tokenizer, then, in msgpack, requests, as many as are on their way at once, and
answers in the same order. The process keeps nothing but words it has cut before.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

import msgspec
import numpy as np

from worker.model.bundle import Coverage
from worker.model.tokenizer import TextTokenizer, Tokenised, UnreadableTokenizerError, parse
from worker.process.child import Child, ChildError, Frames, reply, served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

# How text travels: a lone surrogate, which UTF-8 has no place for, too.
_UTF8: Final = ("utf-8", "surrogatepass")
# The process logs its errors here.
_ERRORS: Final = 2
# For fewer texts than this no further process is woken.
_SHARE: Final = 8


class TokenizerProcessError(ChildError):
    """The tokenizer process ended, failed, or could not be started. Says how, and never what it was given."""


class Reply(msgspec.Struct, array_like=True, gc=False):
    """Tokens of all texts end to end (int32), how many each has, and a byte each: indexes into FLAGS and LANGUAGES.

    `plain` has what is handed on of those normalised, by their place. `failure` names what went wrong instead.
    """

    tokens: bytes = b""
    lengths: list[int] = []
    flags: bytes = b""
    languages: bytes = b""
    plain: dict[int, bytes] = {}
    failure: str = ""


_request = msgspec.msgpack.Decoder(list[bytes])
_reply = msgspec.msgpack.Decoder(Reply)


@dataclass(slots=True)
class _Asked:
    """A request on its way, then its answer. It does not know the process: what nobody waits for keeps none alive."""

    reply: Reply | None = None


class TokenizerProcess(Child):
    """A `TextTokenizer` in a process of its own, with the same answers, from `give` and `wait` on. Threads take turns.

    It ends with `close`, with the last reference to this, or with this process. Raises TokenizerProcessError.
    """

    def __init__(self, max_tokens: int, covered: Coverage | None = None) -> None:
        covered_json = msgspec.json.encode(covered).decode()
        super().__init__(
            __name__, str(max_tokens), covered_json, name="the tokenizer process", error=TokenizerProcessError
        )
        self._unanswered: deque[_Asked] = deque()

    def give(self, description: bytes) -> None:
        """Hand it its tokenizer, the bytes of a tokenizer.json."""
        with self.in_turn():
            self.send(description)

    def wait(self) -> None:
        """Wait until it has made it. Raises UnreadableTokenizerError."""
        with self.in_turn():
            failure = self._next().failure
        if failure:
            raise UnreadableTokenizerError(failure)

    def begin(self, texts: Sequence[str]) -> Callable[[], Iterable[Tokenised]]:
        """As TextTokenizer does, and meanwhile it is done. Raises TokenizerProcessError, as does what is returned.

        Another may be begun before this one's answer is asked for, and an answer need not be asked for.
        """
        request, asked = msgspec.msgpack.encode([text.encode(*_UTF8) for text in texts]), _Asked()
        with self.in_turn():
            self.send(request)
            self._unanswered.append(asked)
        return lambda: _tokens(self._answer(asked))

    def _answer(self, asked: _Asked) -> Reply:
        with self.in_turn():
            while asked.reply is None:
                self._unanswered[0].reply = self._next()
                self._unanswered.popleft()
        if asked.reply.failure:
            message = f"the tokenizer process failed: {asked.reply.failure}"
            raise TokenizerProcessError(message)
        return asked.reply

    def _next(self) -> Reply:
        return _reply.decode(self.next())


class TokenizerProcesses:
    """A `TextTokenizer` in `count` processes, each of which takes a part of every larger request. Threads take turns.

    They end with `close`, with the last reference to this, or with this process. Raises UnreadableTokenizerError,
    TokenizerProcessError.
    """

    def __init__(self, description: bytes, max_tokens: int, count: int = 1, covered: Coverage | None = None) -> None:
        self._processes: list[TokenizerProcess] = []
        try:  # each takes most of a second, all at once
            for _ in range(count):
                self._processes.append(TokenizerProcess(max_tokens, covered))
            for process in self._processes:
                process.give(description)
            for process in self._processes:
                process.wait()
        except BaseException:  # told to stop meanwhile, too
            self.close()
            raise

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes' ids."""
        return tuple(process.pid for process in self._processes)

    @property
    def has_ended(self) -> bool:
        """Whether one of them is gone, so that whoever asks next may fail. May be asked by any thread."""
        return any(process.has_ended for process in self._processes)

    def close(self) -> None:
        """End them, whatever they are at."""
        for process in self._processes:
            process.close()

    def begin(self, texts: Sequence[str]) -> Callable[[], Iterable[Tokenised]]:
        """As TokenizerProcess does."""
        parts = max(1, min(len(self._processes), len(texts) // _SHARE))
        for idle in self._processes[parts:]:
            idle.require()  # that one of them is gone must not depend on how much comes
        ends = [len(texts) * part // parts for part in range(parts + 1)]
        waits = [
            process.begin(texts[first:end])
            for process, (first, end) in zip(self._processes, itertools.pairwise(ends), strict=False)
        ]
        return lambda: itertools.chain.from_iterable([wait() for wait in waits])


def _tokens(reply: Reply) -> Iterable[Tokenised]:
    tokens = np.frombuffer(reply.tokens, dtype=np.int32)
    ends = itertools.accumulate(reply.lengths, initial=0)
    parts = [tokens[start:end] for start, end in itertools.pairwise(ends)]
    plain: list[str | None] = [None] * len(parts)
    for place, text in reply.plain.items():
        plain[place] = str(text, *_UTF8)
    return map(Tokenised, parts, reply.flags, reply.languages, plain)


def serve(max_tokens: int, covered: Coverage | None = None) -> None:
    """Answer requests until there are no more."""
    with served() as requests:
        _serve(requests, max_tokens, covered)


def _serve(requests: Frames, max_tokens: int, covered: Coverage | None) -> NoReturn:
    try:
        tokenizer = TextTokenizer(parse(bytes(requests.next())), max_tokens, covered)
    except UnreadableTokenizerError as error:
        _reply_with(Reply(failure=str(error)))
        raise EOFError from error  # nobody will ask
    _reply_with(Reply())
    # What a library says of a text that it fails on may hold the text: from here on nobody hears it.
    os.dup2(os.open(os.devnull, os.O_WRONLY), _ERRORS)
    while True:
        _reply_with(_answered(tokenizer, requests.next()))


def _reply_with(answer: Reply) -> None:
    reply(msgspec.msgpack.encode(answer))


def _answered(tokenizer: TextTokenizer, request: bytes | bytearray) -> Reply:
    try:
        texts = [str(text, *_UTF8) for text in _request.decode(request)]
        made = list(tokenizer.tokenise(texts))
    except BaseException as error:  # noqa: BLE001 # a panic of the tokenizer's is no Exception; the worker ends by it
        return Reply(failure=type(error).__name__)
    return Reply(
        b"".join([each.tokens.tobytes() for each in made]),
        [len(each.tokens) for each in made],
        bytes([each.flags for each in made]),
        bytes([each.language for each in made]),
        {place: each.plain.encode(*_UTF8) for place, each in enumerate(made) if each.plain is not None},
    )


if __name__ == "__main__":
    serve(int(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=Coverage | None))
