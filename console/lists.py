"""The pages *Lists and senders*, and the changes of lists that any page asks for: by `hamgate lists`' own functions.

A number that is typed, or that an event names, is hashed and dropped: it is in no answer, address or log.
"""

import contextlib
import datetime as dt
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from console.access import UserRole, Visitor
from console.api import changes
from console.guard import MAX_BODY
from console.pages import Fields, Problem, needs, page
from console.parts import ConsoleParts, parts_of
from console.search import whole
from console.visible import in_line, visible
from console.window import PAGE
from worker import app
from worker.broker import BrokerError
from worker.commands.list_changes import ASKED, IN_FORCE_WITHIN, ListChange, Lists, asked_for, exported, is_lost
from worker.messages import Sms, UnreadableError, decode, rfc3339
from worker.policy.addresses import SenderType, normal, sender_type
from worker.policy.lists import guards
from worker.policy.lists.entries import ACTIONS, EntryError, ListEntry, Match, Target, What, holds_number
from worker.policy.lists.entries import target as target_of
from worker.policy.lists.matching import rank
from worker.policy.registry.brands import Brand
from worker.senders.snapshots import KIND, SenderSnapshot
from worker.senders.table import A_MINUTE, RECIPIENTS

VALUE: Final = 320
"""Characters of a value that is typed: an e-mail address has no more."""
_REASON: Final = 500
_FOUND: Final = 200
"""Entries that a search shows."""
_AUTHORS, _NAME = 100, 64
"""Authors to choose from, and characters that are shown of each."""
_CLOCK: Final = 1.0
"""Milliseconds by which a record's time and its verdict's word of it may differ: both are rounded."""
_HIGHEST: Final = 2**63 - 1
_FURTHEST: Final = 10_000_000
STATES: Final = ("in force", "dry run", "expired")
_KINDS: Final = {
    SenderType.NUMBER: "a telephone number",
    SenderType.SHORT_CODE: "a short code",
    SenderType.ALPHANUMERIC: "an alphanumeric sender id",
    SenderType.EMAIL: "an e-mail address",
}
_WORDS: Final = {
    "; narrow it, try it with --dry-run, or raise --max-share": "; narrow it, try it in dry run, or raise the share",
    "--max-share": "the share",
    "or add --force": "or choose “also a shared host”",
    "use --match prefix or suffix": "choose prefix or suffix",
    "leave --until out": "leave it out",
    " (--author)": "",
    " (--reason)": "",
    "`hamgate lists show` shows all that is": "it may have been removed meanwhile",
}
"""What a guard says of the command's options, in the words of the page."""

router = APIRouter(include_in_schema=False)
changes_router = APIRouter(prefix="/api/lists", tags=["lists"])


def _utc(given: dt.datetime | None) -> dt.datetime | None:
    """A time without an offset is UTC, as the forms say."""
    if given is None:
        return None
    try:
        return (given if given.tzinfo else given.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)
    except OverflowError:
        message = "no such time"
        raise ValueError(message) from None


class Wanted(BaseModel):
    """What is to be done, until when and why; in a preview nothing is written."""

    model_config = ConfigDict(extra="forbid")
    action: Literal["allow", "block", "flag"]
    reason: str = Field(max_length=_REASON)
    until: Annotated[dt.datetime | None, AfterValidator(_utc)] = None
    dry_run: bool = False
    max_share: float = Field(guards.SHARE, allow_inf_nan=False)
    preview: bool = False


class NewEntry(Wanted):
    """An entry as it is typed."""

    what: What
    match: Match = Match.EXACT
    value: str = Field(max_length=VALUE)
    force: bool = False


class SenderOfVerdict(Wanted):
    """The sender of a verdict's message; the verdict by its place in its topic."""

    partition: int = Field(ge=0, lt=2**31)
    offset: int = Field(ge=0, le=_HIGHEST)


class EntryRemoval(BaseModel):
    """An entry by the rule that verdicts name, or all that have expired."""

    model_config = ConfigDict(extra="forbid")
    rule: str | None = Field(None, max_length=64)
    expired: bool = False
    reason: str = Field(max_length=_REASON)


class ListFile(BaseModel):
    """A file of entries, CSV or JSON lines; all of it is written, or nothing. `reason` is for lines without one."""

    model_config = ConfigDict(extra="forbid")
    text: str = Field(max_length=MAX_BODY)
    format: Literal["csv", "jsonl"] | None = None
    reason: str = Field("", max_length=_REASON)
    max_share: float = Field(guards.SHARE, allow_inf_nan=False)
    force: bool = False
    preview: bool = False


Operator = Annotated[Visitor, Depends(changes(UserRole.OPERATOR))]


@changes_router.post("/add", summary="Add an entry, in the place of the one that matches the same")
def add(asked: NewEntry, request: Request, visitor: Operator) -> dict[str, Any]:
    """Refuse what would hit everybody; then write it."""
    with _changing(request) as found:
        target = guards.checked(asked.what, asked.match, asked.value, is_forced=asked.force)
        return _add(parts_of(request), visitor, found, target, asked)


@changes_router.post("/sender-of-verdict", summary="Add an entry for the sender of a verdict's message")
def add_sender(asked: SenderOfVerdict, request: Request, visitor: Operator) -> dict[str, Any]:
    """Read the message where it lies, hash its sender, and write the entry. The sender is not shown."""
    parts = parts_of(request)
    with _changing(request) as found:
        target = guards.checked(What.SENDER, Match.EXACT, _sender(parts, asked.partition, asked.offset))
        if not target.is_personal and holds_number(target.text):
            message = "its sender is a name with a number in it, which would stand in clear; list it by a part of it"
            raise EntryError(message)
        return _add(parts, visitor, found, target, asked)


def _add(parts: ConsoleParts, visitor: Visitor, found: Lists, target: Target, asked: Wanted) -> dict[str, Any]:
    share = guards.require_share(asked.max_share)
    guards.require_future(asked.until, found.now)
    entry = target.entry(
        found.hashing, action=asked.action, author=visitor.name, reason=asked.reason, now=found.now,
        until=asked.until, dry_run=asked.dry_run,
    )  # fmt: skip
    change = found.addition(target, entry, found.read(), share)
    said = [
        f"{'It would be written' if asked.preview else 'Written'}: {described(entry)}.",
        f"It matches {change.counted}." if change.counted else "Which share it hits is not counted for a campaign.",
    ]
    if change.replaced:
        old = change.replaced
        said.append(f"It takes the place of {old.action} by {in_line(old.author)}: {in_line(old.reason, 200)}.")
    if not asked.preview:
        _write(parts, visitor, found, change, "list entry added", {
            "rule": entry.rule, "of": entry.what, "match": entry.match, "action": entry.action,
            "until": rfc3339(entry.until.timestamp()) if entry.until else None, "dry_run": entry.dry_run,
            "replaced": change.replaced.action if change.replaced else None,
        })  # fmt: skip
        said.append(f"In force within {IN_FORCE_WITHIN} seconds on every worker.")
    return {"said": "\n".join(said), "rule": entry.rule, "written": 0 if asked.preview else 1}


@changes_router.post("/remove", summary="Remove an entry, or all that have expired")
def remove(asked: EntryRemoval, request: Request, visitor: Operator) -> dict[str, Any]:
    """Remove only what is there, with who wants it and why."""
    if bool(asked.rule) == asked.expired:
        raise HTTPException(422, "Name a rule, or all that have expired.")
    with _changing(request) as found:
        entries = found.read().entries.values()
        gone = [
            entry for entry in entries if (entry.has_expired(found.now) if asked.expired else entry.rule == asked.rule)
        ]
        change = found.removal(gone, author=visitor.name, reason=asked.reason)
        _write(parts_of(request), visitor, found, change, "list entries removed", {
            "rules": [entry.rule for entry in gone[:_FOUND]], "count": len(gone),
        })  # fmt: skip
        what = described(gone[0]) if len(gone) == 1 else f"{len(gone):,} entries"
        return {"said": f"Removed: {what}.", "written": len(gone)}


@changes_router.post("/import", summary="Add the entries of a file: all of them, or none where a line is wrong")
def import_file(asked: ListFile, request: Request, visitor: Operator) -> dict[str, Any]:
    """Refuse the whole file for any wrong line; then write it."""
    with _changing(request) as found:
        share = guards.require_share(asked.max_share)
        change = found.imported(
            asked.text.removeprefix("\ufeff"), form=asked.format, author=visitor.name, reason=asked.reason,
            share=share, is_forced=asked.force,
        )  # fmt: skip
        count = len(change.entries)
        said = [f"{count:,} entries {'would be written' if asked.preview else 'written'}."]
        if change.counted:
            said.append(f"Its blocks match {change.counted}.")
        if not asked.preview:
            _write(parts_of(request), visitor, found, change, "lists imported", {"count": count})
        return {"said": "\n".join(said), "written": 0 if asked.preview else count}


@contextlib.contextmanager
def _changing(request: Request) -> Iterator[Lists]:
    """Yield the lists to one at a time; whatever keeps them from being changed is said, and what to do."""
    context = parts_of(request).context
    if not context.changing.acquire(blocking=False):
        raise HTTPException(429, "Somebody else is changing the lists: try again.", {"Retry-After": "2"})
    try:
        yield context.changeable(time.time())
    except EntryError as error:
        raise HTTPException(422, of_the_page(str(error))) from None
    except (app.UsageError, app.StartRefused) as error:
        raise HTTPException(503, visible(str(error), 600)) from None
    except (BrokerError, TimeoutError) as error:
        raise HTTPException(503, f"Not done: {visible(str(error), 600)}") from None
    except OSError as error:
        raise HTTPException(503, f"The audit log cannot be written ({error.strerror}).") from None
    finally:
        context.changing.release()


def of_the_page(text: str) -> str:
    """A guard's words, with the form's fields for the command's options; and no control characters."""
    for said, better in _WORDS.items():
        text = text.replace(said, better)
    lines = "\n".join(in_line(line, 400) for line in text.splitlines()[:30])
    return lines[:1].upper() + lines[1:]


def _write(  # noqa: PLR0913, PLR0917 who, what and where
    parts: ConsoleParts, visitor: Visitor, found: Lists, change: ListChange, what: str, fields: dict[str, Any]
) -> None:
    """Note it, then write it, and wait until the console itself has read it."""
    parts.changes.write(visitor, what, **fields)
    try:
        found.write(change)
    except (BrokerError, TimeoutError):
        # Perhaps it is written and the answer is lost: the topic says.
        parts.changes.write(visitor, f"{what}: without an answer", **fields)
        raise
    if following := parts.context.following.get("lists"):
        following.catch_up()


def _sender(parts: ConsoleParts, partition: int, offset: int) -> str:
    """The sender of a verdict's message. Raises EntryError, BrokerError, TimeoutError; none says who it is."""
    verdict = parts.window.verdict(partition, offset)
    if verdict is None:
        message = "no such verdict here: it may be older than the console's window"
        raise EntryError(message)
    fields = verdict[1]
    source: Any = fields.get("source")
    match source:
        case {"topic": str(), "partition": int(), "offset": int(), "timestamp": int()}:
            pass
        case _:
            message = "this verdict does not say where its message lies"
            raise EntryError(message)
    if source["topic"] != parts.context.input_topic:
        message = "its message lies in another topic than HAMGATE_INPUT_TOPIC names"
        raise EntryError(message)
    sms = _message(parts, source)
    if sms is None or sms.id != fields.get("id"):
        message = "its message is gone: the input topic has it no more, so its sender cannot be known"
        raise EntryError(message)
    if not sms.sender:
        message = "its event names no sender"
        raise EntryError(message)
    return sms.sender


def _message(parts: ConsoleParts, source: dict[str, Any]) -> Sms | None:
    """The message that was judged; None where another one lies there now, as after a topic was made anew."""
    context, partition, offset = parts.context, source["partition"], source["offset"]
    if not (0 <= partition < 1 << 31 and 0 <= offset <= _HIGHEST):
        return None
    record = context.event(partition, offset)
    if record is None or record.is_tombstone or abs(record.timestamp * 1000 - source["timestamp"]) > _CLOCK:
        return None
    try:
        return decode(record, max_bytes=context.max_event_bytes)
    except UnreadableError:
        return None


# What is shown.


def described(entry: ListEntry) -> str:
    """An entry in a few words; what is hashed stays so."""
    trial = " in dry run" if entry.dry_run else ""
    until = f", until {moment(entry.until)} UTC" if entry.until else ""
    return f"{entry.action}{trial} {entry.what} {entry.match} {value(entry)} ({entry.rule}){until}"


def value(entry: ListEntry) -> str:
    """What it matches: in clear, or the beginning of its hash."""
    if not entry.is_hashed:
        return in_line(entry.value)
    return f"hashed {entry.value[1:9]}" + (f", of {entry.length} characters" if entry.length else "")


def moment(given: dt.datetime) -> str:
    """A time in UTC, to the minute."""
    try:
        return given.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M")
    except OverflowError:
        return "no such time"


def state_of(entry: ListEntry, now: float) -> str:
    """One of STATES."""
    if entry.has_expired(now):
        return STATES[2]
    return STATES[1] if entry.dry_run else STATES[0]


def rows_of(entries: list[ListEntry], parts: ConsoleParts, now: float) -> list[dict[str, Any]]:
    """Entries for a table."""
    hashing = parts.context.hashing
    return [
        {
            "action": entry.action,
            "badge": str(ACTIONS[entry.action]),
            "what": str(entry.what),
            "match": str(entry.match),
            "value": value(entry),
            "rule": entry.rule,
            "author": entry.author,
            "reason": entry.reason,
            "added": moment(entry.added_at),
            "until": moment(entry.until) if entry.until else "",
            "state": state_of(entry, now),
            "is_lost": bool(hashing and is_lost(entry, hashing)),
        }
        for entry in entries
    ]


_FILTERS: Final[dict[str, Callable[[ListEntry, str, float], bool]]] = {
    "what": lambda entry, wanted, _: entry.what == wanted,
    "action": lambda entry, wanted, _: entry.action == wanted,
    "author": lambda entry, wanted, _: in_line(entry.author, _NAME) == wanted,
    "state": lambda entry, wanted, now: state_of(entry, now) == wanted,
    "rule": lambda entry, wanted, _: entry.rule == wanted,
}


@router.get("/lists")
def entries_page(request: Request, visitor: Annotated[Visitor, needs(UserRole.VIEWER)]) -> HTMLResponse:
    """Show the entries that fit, the newest first."""
    parts, now = parts_of(request), time.time()
    given = {name: text[:VALUE] for name in _FILTERS if (text := request.query_params.get(name, "").strip())}
    skip = min(whole(request.query_params.get("skip", ""), 8) or 0, _FURTHEST)
    every = _newest(parts)
    entries = [entry for entry in every if all(_FILTERS[name](entry, wanted, now) for name, wanted in given.items())]
    shown = entries[skip : skip + PAGE]
    return _entries(request, visitor, every, shown, now, given=given, count=len(entries), skip=skip)


@router.post("/lists")
def search_page(request: Request, form: Fields, visitor: Annotated[Visitor, needs(UserRole.ANALYST)]) -> HTMLResponse:
    """Show the entries that what is typed would match, or that have it in their value. It is not shown again."""
    _require_token(request, visitor, form)
    parts, now = parts_of(request), time.time()
    typed = form.get("value", "").strip()[:VALUE]
    _note(parts, visitor, "lists searched")
    known, every = parts.context.lists, _newest(parts)
    found: dict[str, ListEntry] = {}
    if typed and known is not None:
        snapshot = known.snapshot
        for name in ASKED:
            found |= {entry.name: entry for entry in snapshot.matching(asked_for(name, typed), now)}
        part = normal(typed)
        found |= {each.name: each for each in every if part and not each.is_hashed and part in each.value}
    entries = sorted(found.values(), key=rank)
    return _entries(request, visitor, every, entries[:_FOUND], now, count=len(entries), is_search=True)


def _note(parts: ConsoleParts, visitor: Visitor, what: str, **fields: object) -> None:
    """Note what a page is about to show. What cannot be noted is not shown: raises Problem."""
    try:
        parts.changes.write(visitor, what, **fields)
    except OSError as error:
        raise Problem(503, f"The audit log cannot be written ({error.strerror}).") from error


def _newest(parts: ConsoleParts) -> Sequence[ListEntry]:
    known = parts.context.lists
    return known.newest() if known is not None else ()


def _entries(  # noqa: PLR0913 what a page is made of
    request: Request,
    visitor: Visitor,
    every: Sequence[ListEntry],
    shown: list[ListEntry],
    now: float,
    *,
    count: int,
    given: dict[str, str] | None = None,
    skip: int = 0,
    is_search: bool = False,
) -> HTMLResponse:
    parts = parts_of(request)
    context = parts.context
    return page(
        request,
        "lists.html",
        visitor,
        why_not=context.why_no_lists,
        topic=context.state("lists"),
        unreadable=context.lists.unreadable() if context.lists is not None else 0,
        rows=rows_of(shown, parts, now),
        count=count,
        total=len(every),
        expired=sum(entry.has_expired(now) for entry in every),
        given=given or {},
        skip=skip,
        size=PAGE,
        is_search=is_search,
        choices={
            "what": [str(each) for each in What],
            "action": list(ACTIONS),
            "author": sorted({in_line(author, _NAME) for author in {entry.author for entry in every}})[:_AUTHORS],
            "state": STATES,
        },
        matches=[str(each) for each in Match],
        share=guards.SHARE,
    )


@router.get("/lists/export")
def export(request: Request, visitor: Annotated[Visitor, needs(UserRole.ANALYST)]) -> Response:
    """Give all entries as a file; what is personal stays hashed."""
    parts = parts_of(request)
    form = "jsonl" if request.query_params.get("format") == "jsonl" else "csv"
    if parts.context.lists is None:
        raise Problem(503, parts.context.why_no_lists)
    entries = parts.context.lists.newest()
    _note(parts, visitor, "lists exported", count=len(entries))
    kind = "text/csv" if form == "csv" else "application/jsonl"
    return Response(
        exported(entries, form).encode("utf-8", "replace"),
        media_type=f"{kind}; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="lists.{form}"'},
    )


@router.get("/lists/senders")
def senders_page(request: Request, visitor: Annotated[Visitor, needs(UserRole.VIEWER)]) -> HTMLResponse:
    """Show the form to look a sender up."""
    return _senders(request, visitor)


@router.post("/lists/senders")
def look_up(request: Request, form: Fields, visitor: Annotated[Visitor, needs(UserRole.ANALYST)]) -> HTMLResponse:
    """Show what is known of a sender, without the sender."""
    _require_token(request, visitor, form)
    typed = form.get("sender", "").strip()
    if not 0 < len(typed) <= VALUE:
        return _senders(request, visitor, 400, fault=f"Type a sender: 1 to {VALUE} characters.")
    parts = parts_of(request)
    hashed = _hash(parts, typed)
    _note(parts, visitor, "sender looked up", sender=hashed[:8] if hashed else None)
    return _senders(request, visitor, found=known_of(parts, typed, time.time()))


def _senders(request: Request, visitor: Visitor, status: int = 200, **more: Any) -> HTMLResponse:  # noqa: ANN401
    context = parts_of(request).context
    registry, why_no_registry = context.registry()
    return page(
        request,
        "senders.html",
        visitor,
        status,
        why_no_lists=context.why_no_lists,
        why_no_senders=context.why_no_senders,
        why_no_registry="" if registry else why_no_registry,
        lists_topic=context.state("lists"),
        senders_topic=context.state("senders"),
        **more,
    )


def _hash(parts: ConsoleParts, typed: str) -> str | None:
    hashing = parts.context.hashing
    return hashing.of(KIND, normal(typed)) if hashing else None


def known_of(parts: ConsoleParts, typed: str, now: float) -> dict[str, Any]:
    """All that is known of a sender, by parts; never who it is."""
    context, hashing = parts.context, parts.context.hashing
    entries, as_listed = [], None
    if context.lists is not None and hashing:
        entries = sorted(context.lists.snapshot.matching(asked_for("sender", typed), now), key=rank)
        target = target_of(What.SENDER, Match.EXACT, typed)
        as_listed = target.value(hashing) if target.is_personal else "in clear"
    snapshot = None
    if context.senders is not None and hashing:
        snapshot = context.senders.latest(hashing.all(KIND, normal(typed)), now)
    registry, _ = context.registry()
    kind = sender_type(typed)
    own = registry.registered(typed) if registry else ()
    imitated = registry.imitated(typed) if registry and not own and kind is SenderType.ALPHANUMERIC else ()
    return {
        "kind": _KINDS[kind],
        "hash": _hash(parts, typed),
        "as_listed": as_listed,
        "entries": rows_of(entries, parts, now),
        "snapshot": _behaviour(snapshot) if snapshot else None,
        "registered": [in_line(brand.name) for brand in own],
        "imitated": [in_line(brand.name) for brand in imitated],
    }


def _behaviour(known: SenderSnapshot) -> dict[str, str]:
    """A snapshot in the words of a page."""
    return {
        "Last message": f"{_at(known.at)} UTC",
        "First seen": f"{_at(known.first)} UTC",
        "Messages a minute, then": f"{known.count * A_MINUTE:.1f}",
        "Recipients, last hour": f"about {RECIPIENTS[known.recipients]:,}",
        "Judged spam": f"{known.spam:.0%} of the last {known.judged}" if known.judged else "nothing judged yet",
        "To strangers": f"{known.strangers:.0%} of the last {known.counted}" if known.counted else "not known",
    }


def _at(seconds: float) -> str:
    return moment(dt.datetime.fromtimestamp(seconds, dt.UTC))


@router.get("/lists/registry")
def registry_page(request: Request, visitor: Annotated[Visitor, needs(UserRole.VIEWER)]) -> HTMLResponse:
    """Show the brands of the file that is set."""
    registry, fault = parts_of(request).context.registry()
    return page(
        request,
        "registry.html",
        visitor,
        fault=fault,
        registry=registry,
        brands=[_brand(brand) for brand in registry.brands] if registry else [],
    )


def _brand(brand: Brand) -> dict[str, Any]:
    """A brand for a table: numbers are counted, not shown."""
    personal = (SenderType.NUMBER, SenderType.EMAIL)
    names = sorted(sender for sender in brand.senders if sender_type(sender) not in personal)
    return {
        "name": brand.name,
        "aliases": brand.aliases,
        "senders": names,
        "numbers": len(brand.senders) - len(names),
        "hosts": sorted(brand.hosts),
        "odds": brand.odds,
        "is_dry_run": brand.is_dry_run,
        "rule": brand.rule,
    }


def _require_token(request: Request, visitor: Visitor, form: dict[str, str]) -> None:
    if not parts_of(request).gate.is_token(visitor.session, form.get("token", "")):
        raise Problem(403, "The page is too old: load it again.")
