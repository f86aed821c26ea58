"""The HTML pages. A page that needs a user sends to the log-in; what is wrong is a page, too, never a stack trace."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Request
from fastapi import Path as PathParameter
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.templating import Jinja2Templates

from console.access import COOKIE, LONGEST, SESSION, User, UserRole, Visitor
from console.database import TooLongError
from console.live import clock
from console.parts import ConsoleParts, parts_of, visitor_of
from console.search import ACTIONS, FLAGS, Search, whole
from console.texts import RetainedTexts, ShownText
from console.visible import escaped, hexadecimal, in_line, visible
from console.window import PAGE, VerdictRow, source_of
from worker.broker import BrokerError
from worker.commands import showing
from worker.messages import Decider, Unreadable, Unscored, dead_letter_notes, rfc3339

FOLDER: Final = Path(__file__).resolve().parent
_HIGHEST: Final = 2**63 - 1
_CAMPAIGN: Final = re.compile("[0-9a-f]{16}")
_LIST_RULE: Final = re.compile("list:[a-z-]+:[0-9a-f]{12}")
_REPLAYED: Final = tuple(str(each) for each in Unreadable if each is not Unreadable.UNREADABLE_BATCH)

T = TypeVar("T")

router = APIRouter(include_in_schema=False)
templates = Jinja2Templates(FOLDER / "templates")
templates.env.filters |= {
    "visible": visible,
    "in_line": in_line,
    "clock": clock,
    "moment": lambda seconds: rfc3339(seconds).replace("T", " ").removesuffix("Z"),
}
Place = Annotated[int, PathParameter(ge=0, le=_HIGHEST)]


class LogInFirst(Exception):  # noqa: N818 it is no error
    """Nobody is logged in."""


class NotAllowedError(Exception):
    """The visitor's role is not enough; the text names the one that is."""


class Problem(Exception):  # noqa: N818 the page says what it is
    """What a page says in place of its content."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def needs(role: UserRole) -> Any:  # noqa: ANN401 FastAPI's own
    """A dependency: the visitor, who must have this role or more."""

    def checked(request: Request) -> Visitor:
        visitor = visitor_of(request)
        if visitor is None:
            raise LogInFirst
        if not visitor.role.may(role):
            raise NotAllowedError(role)
        return visitor

    return Depends(checked)


def page(request: Request, name: str, visitor: Visitor | None, status: int = 200, **more: Any) -> HTMLResponse:  # noqa: ANN401
    """Render one; a visitor without a session gets one."""
    parts = parts_of(request)
    session, cookie = (visitor.session if visitor else parts.gate.session(request.cookies.get(COOKIE))), None
    if not session:
        # Of one whom a proxy names it is his: nobody can bring him a session of somebody else's.
        is_proxied = visitor is not None and visitor.is_proxied
        cookie = parts.gate.begin(User(visitor.name, visitor.role, "") if visitor and is_proxied else None)
        session = parts.gate.session(cookie)
    may = {role.value: bool(visitor and visitor.role.may(role)) for role in UserRole}
    answer = templates.TemplateResponse(
        request,
        name,
        {
            "visitor": visitor,
            "may": may,
            "token": parts.gate.token(session),
            "has_users": parts.gate.has_users,
            "may_log_out": bool(visitor and not visitor.is_proxied and parts.gate.has_users),
            "reading": parts.reading(),
            "can_learn": parts.review is not None,
            "has_texts": parts.texts is not None,
            **more,
        },
        status_code=status,
    )
    if cookie:
        _give(request, answer, cookie)
    return answer


def _give(request: Request, answer: Response, cookie: str) -> None:
    answer.set_cookie(
        COOKIE, cookie, max_age=SESSION, httponly=True, samesite="strict", secure=request.url.scheme == "https"
    )


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form; each once."""
    try:
        read = parse_qs((await request.body()).decode(), keep_blank_values=True, max_num_fields=16)
    except ValueError:
        return {}
    return {name: values[0] for name, values in read.items()}


Fields = Annotated[dict[str, str], Depends(_form)]


@router.get("/")
def live(request: Request, visitor: Annotated[Visitor, needs(UserRole.VIEWER)]) -> HTMLResponse:
    """Show the stream as it is."""
    return page(request, "live.html", visitor, actions=ACTIONS)


@router.get("/try")
def try_texts(request: Request, visitor: Annotated[Visitor, needs(UserRole.ANALYST)]) -> HTMLResponse:
    """Show the box to try texts."""
    return page(request, "try.html", visitor)


@router.get("/history")
def history(request: Request, visitor: Annotated[Visitor, needs(UserRole.VIEWER)]) -> HTMLResponse:
    """Search the verdicts of the window."""
    parts, asked = parts_of(request), Search.read(request.query_params)
    rows, fault = [], None
    if not asked.faults:
        try:
            rows = parts.window.search(asked)
        except TooLongError:
            fault = "The search took too long and was ended. Name an id, an action or a reason."
    return page(
        request,
        "history.html",
        visitor,
        400 if asked.faults else 503 if fault else 200,
        asked=asked,
        rows=rows[:PAGE],
        next=asked.after((rows[PAGE - 1].at, rows[PAGE - 1].seq)) if len(rows) > PAGE else None,
        fault=fault,
        is_campaign=_CAMPAIGN.fullmatch,
        actions=ACTIONS,
        flags=FLAGS,
        reasons=[*map(str, Unscored), *map(str, Decider)],
        oldest=parts.window.oldest(),
        keeps_texts=parts.texts is not None,
        texts=_texts_of(parts, visitor, rows[:PAGE]) if request.query_params.get("texts") else None,
    )


def _texts_of(parts: ConsoleParts, visitor: Visitor, rows: list[VerdictRow]) -> dict[int, ShownText]:
    """What the visitor may see of the messages of verdicts, by the verdict's `seq`."""
    if parts.texts is None:
        return {}
    sources = parts.window.sources(rows)
    found = looked(lambda texts: texts.look(visitor, [*sources.values()], "history"), parts.texts)
    return {seq: found[place] for seq, place in sources.items() if place in found}


def looked(look: Callable[[RetainedTexts], T], texts: RetainedTexts) -> T:
    """What cannot be noted is not done, and said."""
    try:
        return look(texts)
    except OSError as error:
        raise Problem(503, f"The audit log cannot be written ({error.strerror}).") from error


@router.get("/history/{partition}/{offset}")
def verdict(
    request: Request, partition: Place, offset: Place, visitor: Annotated[Visitor, needs(UserRole.VIEWER)]
) -> HTMLResponse:
    """Show one verdict, every field of it."""
    parts = parts_of(request)
    found = parts.window.verdict(partition, offset)
    if found is None:
        raise Problem(404, "No such verdict here. It may be older than the console's window, or not yet read.")
    row, fields = found
    place = source_of(fields)
    campaign = Search.read({"campaign": row.campaign or ""})
    return page(
        request,
        "verdict.html",
        visitor,
        row=row,
        fields=_flat(fields),
        campaign=None if campaign.faults or not row.campaign else campaign.after(None),
        campaign_page=bool(row.campaign and _CAMPAIGN.fullmatch(row.campaign)),
        rule=_rule(fields.get("rule")),
        why_no_lists=parts_of(request).context.why_no_lists,
        keeps_texts=parts.texts is not None,
        place=":".join(map(str, place or ())),
        kept=looked(lambda texts: texts.one(visitor, place, "verdict"), parts.texts) if parts.texts and place else None,
    )


def _rule(given: object) -> str | None:
    """The list entry that decided, by its rule; None where none did."""
    return given if isinstance(given, str) and _LIST_RULE.fullmatch(given) else None


@router.get("/texts")
def texts_kept(request: Request, visitor: Annotated[Visitor, needs(UserRole.OPERATOR)]) -> HTMLResponse:
    """Show how many texts are kept, and erase those of a sender."""
    texts = _texts_in_use(request)
    return page(request, "texts.html", visitor, texts=texts, state=texts.state(), erased=None)


@router.post("/texts")
def erase_texts(request: Request, form: Fields, visitor: Annotated[Visitor, needs(UserRole.OPERATOR)]) -> HTMLResponse:
    """Erase a message's text, or all of its sender's, or of the sender that is named."""
    if not parts_of(request).gate.is_token(visitor.session, form.get("token", "")):
        raise Problem(403, "The page is too old: load it again.")
    texts = _texts_in_use(request)
    what, sender = form.get("what", ""), form.get("sender", "").strip()
    topic, _, rest = form.get("place", "").partition(":")
    before, _, behind = rest.partition(":")
    partition, offset = whole(before), whole(behind)
    place = (topic, partition, offset) if partition is not None and offset is not None else None
    if what == "sender" and sender and len(sender) <= 256:  # noqa: PLR2004 as in a search
        count = looked(lambda texts: texts.erase_sender(visitor, sender), texts)
    elif what == "sender-of" and place:
        count = looked(lambda texts: texts.erase_sender_of(visitor, place), texts)
    elif what == "message" and place:
        count = looked(lambda texts: texts.erase(visitor, place), texts)
    else:
        raise Problem(400, "Name a sender, or choose a message.")
    return page(request, "texts.html", visitor, texts=texts, state=texts.state(), erased=count)


def _texts_in_use(request: Request) -> RetainedTexts:
    if (texts := parts_of(request).texts) is None:
        raise Problem(404, "This console keeps no texts: HAMGATE_CONSOLE_TEXT_KEY_FILE is not set.")
    return texts


def _flat(fields: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Every field by its path, with its value made harmless."""
    found: list[tuple[str, str]] = []
    for name, value in fields.items():
        path = f"{prefix}{visible(name, 80)}"
        if isinstance(value, dict):
            found += _flat(value, f"{path}.")
        elif isinstance(value, list):
            items = [
                ", ".join(f"{key} {said}" for key, said in _flat(each))
                if isinstance(each, dict)
                else in_line(str(each))
                for each in value
            ]
            found.append((path, ", ".join(items) or "none"))
        else:
            found.append((path, "none" if value is None else visible(str(value), 512)))
    return found


@router.get("/dead-letters")
def letters(request: Request, visitor: Annotated[Visitor, needs(UserRole.VIEWER)]) -> HTMLResponse:
    """List dead letters, of a reason or of all."""
    window = parts_of(request).window
    reason, before = request.query_params.get("reason") or None, request.query_params.get("before", "")
    if reason and len(reason) > 64:  # noqa: PLR2004 none of ours is as long
        raise Problem(400, "No such reason.")
    rows = window.letters(reason, whole(before))
    return page(
        request,
        "letters.html",
        visitor,
        rows=rows[:PAGE],
        reason=reason,
        reasons=window.reasons(),
        next=rows[PAGE - 1].seq if len(rows) > PAGE else None,
        replayed=_REPLAYED,
        now=time.time(),
    )


@router.get("/dead-letters/{partition}/{offset}")
def letter(
    request: Request, partition: Place, offset: Place, visitor: Annotated[Visitor, needs(UserRole.VIEWER)]
) -> HTMLResponse:
    """Show one dead letter: to a viewer masked, to others its bytes, which is noted."""
    parts = parts_of(request)
    known = parts.window.letter(partition, offset)
    if known is None:
        raise Problem(404, "No such dead letter here. It may be older than the console's window, or not yet read.")
    try:
        found = parts.letter(partition, offset)
    except (BrokerError, TimeoutError) as error:
        raise Problem(503, f"The brokers did not give it: {visible(str(error), 400)}") from error
    if found is None:
        raise Problem(404, "The topic has it no more: its retention is over.")
    is_open = visitor.role.may(UserRole.ANALYST)
    if is_open:
        try:
            parts.changes.write(visitor, "dead letter shown", place=f"{partition}:{offset}")
        except OSError as error:
            raise Problem(503, f"The audit log cannot be written ({error.strerror}).") from error
    original = found.original
    value = original.value or b""
    return page(
        request,
        "letter.html",
        visitor,
        known=known,
        is_truncated=found.is_truncated,
        notes=dead_letter_notes(found.record) or {},
        size=len(value),
        is_open=is_open,
        masked=list(showing.lines(found)),
        text=escaped(value) if is_open else "",
        hex=hexadecimal(value, 2048) if is_open else "",
        key=None if original.key is None else escaped(original.key, 256),
        headers=[(in_line(name), None if held is None else escaped(held, 256)) for name, held in original.headers[:64]],
    )


@router.get("/login")
def log_in_form(request: Request) -> Response:
    """Show the form; whoever is logged in goes on."""
    parts = parts_of(request)
    if visitor_of(request) is not None:
        return RedirectResponse("/", 303)
    claim = parts.proxies.claim(request.scope) if parts.proxies else None
    return page(request, "login.html", None, claim=claim)


@router.post("/login")
def log_in(request: Request, form: Fields) -> Response:
    """Begin a session; a name and a password may be tried so often a minute."""
    parts = parts_of(request)
    gate = parts.gate
    if not gate.is_token(gate.session(request.cookies.get(COOKIE)), form.get("token", "")):
        return page(request, "login.html", None, 403, fault="The page was too old. Try again.")
    name, password = form.get("name", ""), form.get("password", "")
    if not gate.has_users or not 0 < len(password) <= LONGEST:
        return page(request, "login.html", None, 403, fault="Name or password are wrong.")
    found = gate.log_in(name, password, request.client.host if request.client else "")
    if not isinstance(found, User):
        if found:
            answer = page(
                request, "login.html", None, 429, fault=f"Too many tries. Wait {max(1, round(found))} seconds."
            )
            answer.headers["Retry-After"] = str(max(1, round(found)))
            return answer
        parts.changes.write(None, "log-in refused", address=request.client.host if request.client else None)
        return page(request, "login.html", None, 403, fault="Name or password are wrong.")
    parts.changes.write(Visitor(found.name, found.role, ""), "log-in")
    begun = RedirectResponse("/", 303)
    _give(request, begun, gate.begin(found))
    return begun


@router.post("/logout")
def log_out(request: Request, form: Fields) -> Response:
    """End the session, in this browser."""
    parts = parts_of(request)
    visitor = visitor_of(request)
    if visitor is None or not parts.gate.is_token(visitor.session, form.get("token", "")):
        raise Problem(403, "The page is too old: load it again.")
    parts.changes.write(visitor, "log-out")
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE)
    return answer


@router.get("/healthz")
def health() -> dict[str, float]:
    """Say that it answers."""
    return {"now": time.time()}
