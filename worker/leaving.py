"""How a process is told to end, and what it answers: signals while it loads and while it works, exit statuses."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Final, NoReturn

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.service import Service

DONE, FAILED, USAGE, UNCOMMITTED = 0, 1, 2, 3
"""Done; failed; settings or usage are wrong; told to stop, but what was in flight could not be committed in time."""
BY_SIGNAL: Final = 128
"""Ended by a signal, as shells say it: this and the signal's number."""

_ENDING: Final = (signal.SIGTERM, signal.SIGINT)

log = structlog.get_logger()


class ToldToStopError(KeyboardInterrupt):
    """The first SIGTERM or SIGINT came while nothing was in flight: passes through all that would handle an error."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = signal.Signals(number).name


@contextlib.contextmanager
def told_to_stop() -> Iterator[None]:
    """Within this block SIGTERM and SIGINT raise ToldToStopError; after it they do what they did before.

    What needs a moment to unwind is left at the second one. As the first process of a container it would else not
    hear SIGTERM at all until the worker had loaded.
    """

    def stop(number: int, _: object) -> NoReturn:
        _leave_at_the_next()
        raise ToldToStopError(number)

    before = {each: signal.signal(each, stop) for each in _ENDING}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def stop_on_signals(service: Service) -> None:
    """First signal: finish and leave. Second: leave now, uncommitted."""

    def stop(number: int, _: object) -> None:
        log.info("stopping", signal=signal.Signals(number).name)
        service.stop()
        _leave_at_the_next()

    for each in _ENDING:
        signal.signal(each, stop)


def _leave_at_the_next() -> None:
    for each in _ENDING:
        signal.signal(each, lambda number, _: os._exit(BY_SIGNAL + number))


def nobody_reads() -> int:
    """Whoever read our output has gone, as `head` does: be silent, also at the interpreter's own last flush."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BY_SIGNAL + signal.SIGPIPE
