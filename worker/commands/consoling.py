"""`hamgate console`, and the line of its file of users."""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING

import structlog

from worker.process import signals

if TYPE_CHECKING:
    import argparse

    from worker.settings import Settings

_EXTRA = "the console needs the extra `console` (pip install 'hamgate[console]'): "

log = structlog.get_logger()


def console(settings: Settings, options: argparse.Namespace) -> int:
    """Serve until a signal ends it; with `passwd NAME ROLE` print a user's line."""
    if options.words:
        return _passwd(options.words)
    from worker.app import StartRefused  # noqa: PLC0415 for this command alone

    try:
        from console.serving import Console  # noqa: PLC0415 an extra, for those who ask for it
    except ModuleNotFoundError as error:
        return _fail(f"{_EXTRA}{error}")
    try:
        made = Console(settings)
    except StartRefused as error:
        return _fail(str(error))
    # The server takes SIGTERM and SIGINT over while it serves, and hands them back at its end: for this.
    signals.on_ending(lambda *_: made.stop())
    made.run(
        lambda: log.info("console", address=made.address, users=str(settings.console_users or "none: loopback only"))
    )
    return signals.DONE


def _passwd(words: list[str]) -> int:
    from console.access import LONGEST, SHORTEST, UserRole, hashed, is_name  # noqa: PLC0415 for this command alone

    roles = [str(role) for role in UserRole]
    if len(words) != 3 or words[0] != "passwd" or words[2] not in roles or not is_name(words[1]):  # noqa: PLR2004
        return _fail(
            f"allowed: hamgate console, or hamgate console passwd NAME ROLE; a role is one of {', '.join(roles)}, "
            "a name has letters, digits and . _ @ -",
            signals.USAGE,
        )
    if sys.stdin.isatty():
        password = getpass.getpass("password: ")
        if password != getpass.getpass("once more: "):
            return _fail("the two differ")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if not SHORTEST <= len(password) <= LONGEST:
        return _fail(f"a password has {SHORTEST} to {LONGEST} characters")
    print(words[1], words[2], hashed(password))  # noqa: T201 the answer
    return signals.DONE


def _fail(why: str, status: int = signals.FAILED) -> int:
    print(why, file=sys.stderr)  # noqa: T201 for the person who typed the command
    return status
