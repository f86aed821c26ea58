"""Signals and exit statuses, both while the worker loads and while it runs."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol

from worker.process import output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

DONE, FAILED, USAGE, UNCOMMITTED = 0, 1, 2, 3
"""Done; failed; settings or usage are wrong; told to stop, but what was in flight could not be committed in time."""
BY_SIGNAL: Final = 128
"""Ended by a signal, as shells say it: this and the signal's number."""

ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
"""Each tells the worker to finish and leave."""
WITHOUT_A_MEANING: Final = (signal.SIGUSR1, signal.SIGUSR2)
"""Their default would end the process, uncommitted and without a word."""
# The second of these leaves at once. A hangup comes beside another signal: from systemd (SendSIGHUP), from a shell
# beside its terminal, from a session that ends. It never counts as the second.
_INSISTING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


@contextlib.contextmanager
def while_loading() -> Iterator[None]:
    """Within this block, until `stop_on_signals`, ENDING signals end the process, with 0: nothing is in flight.

    At once, and by a thread of its own. What a signal's handler raises is raised wherever the main thread is: a
    finaliser swallows it, and a Kafka client that is cut short while it starts fails to close and raises that instead.
    The first process of a container would, without a handler, not hear SIGTERM at all.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    threading.Thread(target=_leave_on_signal, args=(reading,), name="signals", daemon=True).start()
    before = {each: signal.getsignal(each) for each in (*ENDING, *WITHOUT_A_MEANING)}
    on_ending(lambda number, _: _leave_at_the_next(number))
    for each in WITHOUT_A_MEANING:
        if before[each] is signal.SIG_DFL:
            signal.signal(each, _ignore)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield
    finally:
        _close_the_pipe()
        for each, handler in before.items():
            signal.signal(each, handler)


@contextlib.contextmanager
def at_ctrl_c() -> Iterator[None]:
    """Within this block Ctrl-C ends the process, with 130 and a word: for commands that hold Kafka clients.

    At once: an exception could be swallowed by whatever the client is at, a finaliser or its own clearing up. Nothing
    is lost by it: what such a command has not committed the brokers abort, as they do when it is unwound.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # else whoever started us wants it ignored, as a shell does behind `&`
        signal.signal(signal.SIGINT, _interrupted)
    try:
        yield
    finally:
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, before)


def _interrupted(number: int, _: object) -> None:
    with contextlib.suppress(Exception):  # nobody reads, or the signal came while this very stream was written
        sys.stdout.flush()
    with contextlib.suppress(Exception):
        print("interrupted", file=sys.stderr)  # noqa: T201 for the person who typed it
    os._exit(BY_SIGNAL + number)


def _leave_on_signal(reading: int) -> None:
    with open(reading, "rb", buffering=0) as pipe:
        while number := pipe.read(1):
            if number[0] in ENDING:
                _log().info("stopped", cause="signal", signal=signal.Signals(number[0]).name, phase="loading")
                os._exit(DONE)


def _close_the_pipe() -> None:
    if (writing := signal.set_wakeup_fd(-1)) >= 0:
        os.close(writing)


class Stoppable(Protocol):
    """A service that can be stopped."""

    def stop(self) -> None:
        """Finish; may be called from a signal handler."""


def stop_on_signals(service: Stoppable) -> None:
    """First signal: finish and leave. Second: leave now, uncommitted."""

    def stop(number: int, _: object) -> None:
        service.stop()
        _leave_at_the_next(number)
        _log().info("stopping", signal=signal.Signals(number).name)

    on_ending(stop)
    _close_the_pipe()


def on_ending(handler: Callable[[int, FrameType | None], None]) -> None:
    """Handle every signal that tells the process to end; a hangup that is ignored, as under nohup, stays so."""
    for each in ENDING:
        if each is not signal.SIGHUP or signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, handler)


def _leave_at_the_next(number: int) -> None:
    """Leave at the next signal, unless this one was a hangup: then the next is the first."""
    if number in _INSISTING:
        for each in _INSISTING:
            signal.signal(each, lambda number, _: os._exit(BY_SIGNAL + number))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _ignore(number: int, _: object) -> None:
    _log().warning("signal ignored: it has no meaning here", signal=signal.Signals(number).name)


def _log() -> Any:  # noqa: ANN401 structlog's loggers are untyped
    import structlog  # noqa: PLC0415 subprocesses that never log do without

    return structlog.get_logger()


def nobody_reads() -> int:
    """Whoever read our output has gone, as `head` does: be silent, also at the interpreter's own last flush."""
    output.discard()
    return BY_SIGNAL + signal.SIGPIPE
