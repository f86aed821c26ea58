"""What the routes are given: the parts of one console."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import Request

    from console.access import Gate
    from console.changes import AuditLog
    from console.context import ConsoleContext
    from console.judging import Judge
    from console.live import Live
    from console.redriving import Redrive
    from console.window import VerdictWindow
    from worker.broker import Letter


@dataclass(slots=True)
class ConsoleParts:
    """Made by `serving`, and by tests."""

    gate: Gate
    changes: AuditLog
    window: VerdictWindow
    live: Live
    judge: Judge
    redrive: Redrive
    reading: Callable[[], dict[str, Any]]
    """The state of the thread that reads."""
    letter: Callable[[int, int], Letter | None]
    """Fetches a dead letter from the brokers. Raises BrokerError, TimeoutError."""
    context: ConsoleContext
    is_ending: Callable[[], bool] = lambda: False
    streams: int = 0
    """Pages that are sent live events now."""


def parts_of(request: Request) -> ConsoleParts:
    """The parts that serve a request."""
    return cast("ConsoleParts", request.app.state.parts)
