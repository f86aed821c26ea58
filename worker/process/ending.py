"""The way out, bounded: a clean-up that hangs is left behind, as is a thread for which the interpreter would wait."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

# What the interpreter's own end may take, however little is left.
_LEAST: Final = 1.0

log = structlog.get_logger()


def clean_up(name: str, how: Callable[[], object], *, until: float) -> None:
    """Do it on a thread of its own, and wait for that until then (monotonic). Its failure is a line, and no more.

    Nothing may be left to it that matters: what is to be committed is committed before.
    """

    def do() -> None:
        try:
            how()
        except Exception as error:  # noqa: BLE001 whatever a clean-up fails for, the process ends all the same
            log.warning("a clean-up failed", part=name, cause=f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=do, name=f"close {name}", daemon=True)
    thread.start()
    thread.join(max(0.0, until - time.monotonic()))
    if thread.is_alive():
        log.warning("a clean-up is left behind", part=name)


def leave(status: int, *, by: float) -> int:
    """Return the status, and have the process end with it by then (monotonic), if it has not ended by itself."""

    def end() -> None:
        time.sleep(max(_LEAST, by - time.monotonic()))
        os._exit(status)

    threading.Thread(target=end, name="leave", daemon=True).start()
    return status
