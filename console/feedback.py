"""The page Feedback, its JSON, and the history's buttons to learn from a verdict."""

import contextlib
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from console import labelling, pages
from console.access import UserRole, Visitor
from console.api import changes, needs
from console.pages import Problem, looked, page
from console.parts import ConsoleParts, parts_of
from console.reviewing import SHOWN, AuthorError, ReviewQueue, author_of
from console.search import whole
from console.texts import ShownText
from console.visible import in_line
from console.window import PAGE
from worker.broker import BrokerError
from worker.commands import feeding
from worker.feedback.records import FeedbackDecision
from worker.feedback.reports import LONGEST_REASON, FeedbackReport, is_decision, placed

_HIGHEST: Final = 2**63 - 1
_MOST_PAGES: Final = 1000
OFF: Final = "There is no topic of reports: set HAMGATE_FEEDBACK_TOPIC for the console, too."
_TOPIC_STATES: Final = {"waiting": "to review", "accepted": "accepted", "refused": "refused or dismissed"}

router = APIRouter()


class DecideRequest(BaseModel):
    """An analyst's word on a decision."""

    model_config = ConfigDict(extra="forbid")
    decision: str = Field(max_length=32, pattern=r"^[0-9]{1,6}-[0-9]{1,18}$")
    label: Literal["spam", "ham", "dismiss"]
    reason: str | None = Field(None, min_length=1, max_length=LONGEST_REASON)


class LearnRequest(BaseModel):
    """A verdict, by its place in the topic of verdicts, and what its message is."""

    model_config = ConfigDict(extra="forbid")
    partition: int = Field(ge=0, lt=2**31)
    offset: int = Field(ge=0, le=_HIGHEST)
    label: Literal["spam", "ham"]


@router.get("/feedback", include_in_schema=False)
def feedback(request: Request, visitor: Annotated[Visitor, pages.needs(UserRole.VIEWER)]) -> HTMLResponse:
    """List what waits for an analyst, or what is decided."""
    queue = parts_of(request).review
    if queue is None:
        return page(request, "feedback.html", visitor, known=None)
    parts = parts_of(request)
    show, at = _asked(request)
    known = queue.known(SHOWN[show])
    rows = known.decisions[at * PAGE : (at + 1) * PAGE]
    return page(
        request,
        "feedback.html",
        visitor,
        known=known,
        rows=rows,
        keeps_texts=parts.texts is not None,
        texts=_texts_of(parts, visitor, rows, "feedback") if request.query_params.get("texts") else None,
        show=show,
        tabs=[(name, said, sum(known.counts[state] for state in SHOWN[name])) for name, said in _TOPIC_STATES.items()],
        at=at,
        has_more=len(known.decisions) > (at + 1) * PAGE,
        place=feeding.place,
        longest=LONGEST_REASON,
        interface=labelling.INTERFACE,
        most_tasks=labelling.MOST_TASKS,
    )


def _texts_of(
    parts: ConsoleParts, visitor: Visitor, decisions: Sequence[FeedbackDecision], where: str
) -> dict[str, ShownText]:
    """What the visitor may see of the texts that decisions are on, by the decision's id."""
    if parts.texts is None:
        return {}
    places = {each.id: (each.source.topic, each.source.partition, each.source.offset) for each in decisions}
    found = looked(lambda texts: texts.look(visitor, [*places.values()], where), parts.texts)
    return {name: found[place] for name, place in places.items() if place in found}


def _asked(request: Request) -> tuple[str, int]:
    show, at = request.query_params.get("show", "waiting"), request.query_params.get("page", "0")
    if show not in SHOWN:
        raise Problem(400, f"Allowed: {', '.join(SHOWN)}.")
    number = whole(at, 4)
    if number is None or number >= _MOST_PAGES:
        raise Problem(400, "There is no such page of the list.")
    return show, number


@router.get("/feedback/tasks.json", include_in_schema=False)
def tasks(request: Request, visitor: Annotated[Visitor, pages.needs(UserRole.ANALYST)]) -> Response:
    """Send decisions as tasks of Label Studio; with texts where the operator keeps them, which is noted."""
    parts = parts_of(request)
    if parts.review is None:
        raise Problem(404, OFF)
    show, _ = _asked(request)
    chosen = parts.review.known(SHOWN[show]).decisions[: labelling.MOST_TASKS]
    texts = _texts_of(parts, visitor, chosen, "feedback export")
    made = [labelling.task(each, _whole(texts.get(each.id))) for each in chosen]
    with_text = sum(each["data"]["has_text"] for each in made)
    try:
        parts.changes.write(visitor, "feedback exported", show=show, tasks=len(made), with_text=with_text)
    except OSError as error:
        raise Problem(503, f"The audit log cannot be written ({error.strerror}).") from error
    return Response(
        msgspec.json.format(msgspec.json.encode(made), indent=1),  # json with an indent takes forty times as long
        media_type="application/json",
        headers={"Content-Disposition": f'attachment; filename="hamgate-{show}.json"'},
    )


def _whole(kept: ShownText | None) -> str | None:
    """A text that one may label by: neither masked nor unreadable."""
    return None if kept is None or kept.fault or kept.is_masked else kept.text


@router.get("/feedback/{decision}", include_in_schema=False)
def decision_page(
    request: Request, decision: str, visitor: Annotated[Visitor, pages.needs(UserRole.VIEWER)]
) -> HTMLResponse:
    """Show one decision: its votes, and who changed what."""
    parts = parts_of(request)
    found = parts.review.decision(decision) if parts.review and is_decision(decision) else None
    if found is None:
        raise Problem(404, "No such decision here.")
    return page(
        request,
        "decision.html",
        visitor,
        decision=found,
        keeps_texts=parts.texts is not None,
        kept=_texts_of(parts, visitor, [found], "decision").get(found.id),
        verdict=parts.window.place_of_verdict_on((found.source.topic, found.source.partition, found.source.offset)),
        place=feeding.place,
        longest=LONGEST_REASON,
    )


def _queue(request: Request) -> ReviewQueue:
    queue = parts_of(request).review
    if queue is None:
        raise HTTPException(409, OFF)
    return queue


@router.get("/api/feedback/{decision}", tags=["feedback"], summary="How far a decision is")
def decision_state(
    request: Request, decision: str, _: Annotated[Visitor, Depends(needs(UserRole.VIEWER))]
) -> dict[str, Any]:
    """Say so; `changes` counts the lines of its history."""
    found = _queue(request).decision(decision) if is_decision(decision) else None
    if found is None:
        raise HTTPException(404, "No such decision here.")
    return _said(found)


def _said(found: FeedbackDecision) -> dict[str, Any]:
    return {
        "state": str(found.state),
        "label": found.label,
        "by": in_line(found.history[-1].by) if found.history else None,
        "changes": len(found.history),
    }


@router.post("/api/feedback/decide", status_code=202, tags=["feedback"], summary="An analyst's word on a decision")
def decide(
    asked: DecideRequest, request: Request, visitor: Annotated[Visitor, Depends(changes(UserRole.ANALYST))]
) -> dict[str, Any]:
    """Send it on its way; `GET` says when it is in force."""
    queue = _queue(request)
    report = _correction(asked.decision, asked.label, visitor, asked.reason)
    found = queue.decision(asked.decision)
    if found is None:
        raise HTTPException(503 if queue.cause else 404, in_line(queue.cause, 300) or "No such decision here.")
    _send(request, visitor, "feedback decided", [report], decision=asked.decision, label=asked.label)
    return _said(found)


@router.post("/api/feedback/learn", status_code=202, tags=["feedback"], summary="Learn from a verdict's message")
def learn(
    asked: LearnRequest, request: Request, visitor: Annotated[Visitor, Depends(changes(UserRole.ANALYST))]
) -> dict[str, str]:
    """Send an analyst's correction of a verdict that the window has."""
    _queue(request)
    found = parts_of(request).window.verdict(asked.partition, asked.offset)
    if found is None:
        raise HTTPException(404, "No such verdict here. It may be older than the console's window.")
    source = found[1].get("source")
    try:
        name = f"{source['topic']}:{source['partition']}:{source['offset']}"  # type: ignore[index]
    except (KeyError, TypeError):
        name = ""
    if placed(name) is None:
        raise HTTPException(409, "This verdict does not say where its message lies.")
    report = _correction(name, asked.label, visitor, "from the history")
    place = f"{asked.partition}:{asked.offset}"
    _send(request, visitor, "feedback learnt", [report], verdict=place, label=asked.label)
    return {"label": asked.label}


async def _body(request: Request) -> bytes:
    return await request.body()


@router.post(
    "/api/feedback/import",
    tags=["feedback"],
    summary="Annotations of Label Studio as corrections, or what they would be",
    openapi_extra={
        "requestBody": {"content": {"application/json": {"schema": {"type": "array", "items": {"type": "object"}}}}}
    },
)
def take_annotations(
    request: Request,
    visitor: Annotated[Visitor, Depends(changes(UserRole.ANALYST))],
    content: Annotated[bytes, Depends(_body)],
    *,
    preview: bool = True,
) -> dict[str, Any]:
    """Say how many corrections there are, and why others are left out; without `preview` send them."""
    queue = _queue(request)
    try:
        found = labelling.corrections(content, author_of(visitor), queue.snapshot())
    except ValueError as error:
        raise HTTPException(422, str(error)) from None
    if not preview and found.corrections:
        said = found.as_json()
        _send(request, visitor, "feedback imported", found.corrections, labels=said["labels"], left=said["left"])
    return found.as_json()


def _correction(name: str, label: str, visitor: Visitor, reason: str | None) -> FeedbackReport:
    try:
        return feeding.correction(name, label, author_of(visitor), reason)
    except AuthorError as error:
        raise HTTPException(409, str(error)) from None
    except ValueError as error:
        raise HTTPException(422, str(error).removeprefix("--")) from None


def _send(request: Request, visitor: Visitor, what: str, reports: list[FeedbackReport], **fields: object) -> None:
    """Note it, then send it: what cannot be noted is not sent."""
    parts = parts_of(request)
    reason = reports[0].reason if len(reports) == 1 else None
    try:
        parts.changes.write(visitor, what, author=reports[0].author, reason=reason, **fields)
    except OSError as error:
        raise HTTPException(503, f"The audit log cannot be written ({error.strerror}).") from None
    try:
        _queue(request).send(reports)
    except (BrokerError, TimeoutError) as error:
        with contextlib.suppress(
            OSError
        ):  # the words above stand in the log; that they were not sent is said to the user
            parts.changes.write(visitor, f"{what}: not sent", error=in_line(str(error), 300), **fields)
        raise HTTPException(503, f"The brokers did not take it: {in_line(str(error), 300)}") from None
