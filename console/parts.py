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
    from console.evaluation import ResultFiles
    from console.judging import Judge
    from console.live import Live
    from console.redriving import Redrive
    from console.reviewing import ReviewQueue
    from console.shadowing import ShadowReports
    from console.shelf import BundleShelf, Promotion
    from console.window import VerdictWindow
    from worker.broker import Letter
    from worker.feedback.reports import ReportedPlace


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
    shelf: BundleShelf
    promotion: Promotion
    results: ResultFiles
    shadow: ShadowReports | None = None
    review: ReviewQueue | None = None
    """Decisions on reports; None: there is no topic of reports."""
    text_of: Callable[[ReportedPlace], str | None] = lambda _: None
    """The text of a message, where the operator has texts kept."""
    is_ending: Callable[[], bool] = lambda: False
    streams: int = 0
    """Pages that are sent live events now."""


def parts_of(request: Request) -> ConsoleParts:
    """The parts that serve a request."""
    return cast("ConsoleParts", request.app.state.parts)
