"""What the routes are given: the parts of one console."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from console.access import COOKIE

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import Request

    from console.access import Gate, Visitor
    from console.changes import AuditLog
    from console.context import ConsoleContext
    from console.evaluation import ResultFiles
    from console.judging import Judge
    from console.live import Live
    from console.proxies import Proxies
    from console.redriving import Redrive
    from console.reviewing import ReviewQueue
    from console.shadowing import ShadowReports
    from console.shelf import BundleShelf, Promotion
    from console.texts import RetainedTexts
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
    shelf: BundleShelf
    promotion: Promotion
    results: ResultFiles
    shadow: ShadowReports | None = None
    review: ReviewQueue | None = None
    """Decisions on reports; None: there is no topic of reports."""
    proxies: Proxies | None = None
    """Who may say in a header who asks."""
    texts: RetainedTexts | None = None
    """Where they are kept."""
    is_ending: Callable[[], bool] = lambda: False
    streams: int = 0
    """Pages that are sent live events now."""


def parts_of(request: Request) -> ConsoleParts:
    """The parts that serve a request."""
    return cast("ConsoleParts", request.app.state.parts)


def visitor_of(request: Request) -> Visitor | None:
    """Who asks; None where he must log in."""
    parts = parts_of(request)
    claim = parts.proxies.claim(request.scope) if parts.proxies else None
    return parts.gate.visitor(request.cookies.get(COOKIE), claim)
