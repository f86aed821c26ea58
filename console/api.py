"""JSON for the pages' scripts, and the live events. Whatever changes something wants the session's token."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, HTTPException, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from console.access import UserRole, Visitor
from console.judging import CHARACTERS, TEXTS, BusyError, NotReadyError
from console.parts import ConsoleParts, parts_of, visitor_of
from console.redriving import ChosenLetters, RunningError
from worker.messages import Unreadable

CLIENTS: Final = 100
"""Pages that are sent live events at once."""
TICK: Final = 0.5
_REPEATED: Final = 5
"""Seconds of the chart that each tick brings anew: one that was skipped leaves no gap."""
_LONGEST: Final = 3600.0
"""Seconds of one stream; then the page asks again, and must still be allowed to."""
_HIGHEST: Final = 2**63 - 1

router = APIRouter(prefix="/api", tags=["console"])


def needs(role: UserRole) -> Callable[..., Visitor]:
    """A dependency: the visitor, who must have this role or more."""

    def checked(request: Request) -> Visitor:
        visitor = visitor_of(request)
        if visitor is None:
            raise HTTPException(401, "Log in first.")
        if not visitor.role.may(role):
            raise HTTPException(403, f"This needs the role {role}.")
        return visitor

    return checked


def changes(role: UserRole) -> Callable[..., Visitor]:
    """The same for a request that does something: with the session's token."""
    visitor_of = needs(role)

    def checked(request: Request, x_csrf_token: Annotated[str, Header(max_length=128)] = "") -> Visitor:
        visitor = visitor_of(request)
        if not parts_of(request).gate.is_token(visitor.session, x_csrf_token):
            raise HTTPException(403, "The page is too old: load it again.")
        return visitor

    return checked


class Texts(BaseModel):
    """Texts to judge."""

    model_config = ConfigDict(extra="forbid")
    texts: list[Annotated[str, Field(max_length=CHARACTERS)]] = Field(min_length=1, max_length=TEXTS)


class OneText(BaseModel):
    """A text to explain."""

    model_config = ConfigDict(extra="forbid")
    text: str = Field(min_length=1, max_length=CHARACTERS)


class LetterChoice(BaseModel):
    """Dead letters to send back: by place, or all of some reasons between two times (Unix seconds)."""

    model_config = ConfigDict(extra="forbid")
    places: list[tuple[Annotated[int, Field(ge=0, lt=2**31)], Annotated[int, Field(ge=0, le=_HIGHEST)]]] = Field(
        default=[], max_length=1000
    )
    reasons: list[Unreadable] = Field(default=[], max_length=len(Unreadable))
    since: float | None = Field(None, ge=0, le=1e11, allow_inf_nan=False)
    until: float | None = Field(None, ge=0, le=1e11, allow_inf_nan=False)
    again: bool = False
    preview: bool = True

    def selection(self) -> ChosenLetters:
        """As the replay takes it."""
        return ChosenLetters(
            reasons=frozenset(self.reasons), since=self.since, until=self.until, places=frozenset(self.places)
        )


@router.get("/live", summary="Counts of the last minutes and verdicts as they come, as server-sent events")
def live(request: Request, _: Annotated[Visitor, Depends(needs(UserRole.VIEWER))]) -> StreamingResponse:
    """Send the whole chart, then what is new twice a second."""
    parts = parts_of(request)
    if parts.streams >= CLIENTS:
        raise HTTPException(503, f"{CLIENTS} pages are open already.", {"Retry-After": "30"})
    return StreamingResponse(_events(parts), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _events(parts: ConsoleParts) -> AsyncIterator[str]:
    if parts.streams >= CLIENTS:
        yield "event: full\ndata: {}\n\n"
        return
    parts.streams += 1
    try:
        until = time.monotonic() + _LONGEST
        state = parts.live.state(time.time()) | {"reading": parts.reading()}
        yield f"retry: 2000\nevent: all\ndata: {json.dumps(state)}\n\n"
        while time.monotonic() < until and not parts.is_ending():
            await asyncio.sleep(TICK)
            now = time.time()
            after = state["count"]
            state = parts.live.state(now, after=after, seconds=_REPEATED) | {"reading": parts.reading()}
            yield f"event: tick\ndata: {json.dumps(state)}\n\n"
    finally:
        parts.streams -= 1


@router.get("/bands", summary="The model's name and bands")
def bands(request: Request, _: Annotated[Visitor, Depends(needs(UserRole.ANALYST))]) -> dict[str, Any]:
    """Say them, or why the model is not loaded."""
    return parts_of(request).judge.bands()


@router.post("/try", summary="Verdicts on texts, each with what the normaliser made of it")
def try_texts(
    asked: Texts, request: Request, _: Annotated[Visitor, Depends(changes(UserRole.ANALYST))]
) -> dict[str, list[dict[str, Any]]]:
    """Judge them; nothing is kept."""
    with _Refusing():
        return {"verdicts": parts_of(request).judge.judge(asked.texts)}


@router.post("/explain", summary="Which words moved a text's score")
def explain(
    asked: OneText, request: Request, _: Annotated[Visitor, Depends(changes(UserRole.ANALYST))]
) -> dict[str, Any]:
    """Leave out each word in turn; nothing is kept."""
    with _Refusing():
        return parts_of(request).judge.explain(asked.text)


@router.post("/redrive", status_code=202, summary="Send dead letters back to the input, or say which would be")
def redrive(
    asked: LetterChoice, request: Request, visitor: Annotated[Visitor, Depends(changes(UserRole.OPERATOR))]
) -> dict[str, int]:
    """Begin; `GET` says how far it is."""
    if not (asked.places or asked.reasons or asked.since or asked.until):
        raise HTTPException(422, "Choose dead letters, a reason, or a time.")
    try:
        number = parts_of(request).redrive.begin(
            visitor, asked.selection(), is_preview=asked.preview, again=asked.again
        )
    except RunningError:
        raise HTTPException(409, "Another run is not over.") from None
    except OSError as error:
        raise HTTPException(503, f"The audit log cannot be written ({error.strerror}).") from None
    return {"number": number}


@router.get("/redrive", summary="How far the last run is")
def redrive_state(request: Request, _: Annotated[Visitor, Depends(needs(UserRole.OPERATOR))]) -> dict[str, Any] | None:
    """Say so; null where there was none."""
    return parts_of(request).redrive.state()


class _Refusing:
    """Answers for a judge that is busy or not ready."""

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> None:
        """Turn its errors into statuses."""
        if isinstance(error, BusyError):
            raise HTTPException(429, "Others are judging: try again.", {"Retry-After": "2"}) from error
        if isinstance(error, NotReadyError):
            raise HTTPException(503, str(error), {"Retry-After": "5"}) from error
