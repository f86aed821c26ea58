"""The pages *Campaigns*: what the workers have seen of them, and each by itself with the list entries that hit it."""

import time
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request
from fastapi import Path as PathParameter
from fastapi.responses import HTMLResponse

from console.access import UserRole, Visitor
from console.context import NO_CAMPAIGNS
from console.database import TooLongError
from console.lists import rows_of
from console.pages import needs, page
from console.parts import ConsoleParts, parts_of
from console.search import Search, whole
from console.visible import in_line
from console.window import PAGE
from worker.campaigns.totals import CampaignTotal
from worker.policy.lists.entries import ListEntry, What
from worker.policy.lists.matching import rank

SORTS: Final = {"size": "largest", "last": "newest", "rate": "fastest"}
_VERDICTS: Final = 10
_FURTHEST: Final = 1_000_000
_HOUR: Final = 3600.0
SPANS: Final = {"hour": _HOUR, "day": 24 * _HOUR, "all": float("inf")}

router = APIRouter(include_in_schema=False)
CampaignName = Annotated[str, PathParameter(pattern="^[0-9a-f]{16}$")]


@router.get("/campaigns")
def campaigns(request: Request, visitor: Annotated[Visitor, needs(UserRole.VIEWER)]) -> HTMLResponse:
    """Show them, the largest first unless it is asked otherwise."""
    parts, now = parts_of(request), time.time()
    known = parts.context.campaigns
    asked = request.query_params
    sort = found if (found := asked.get("sort", "")) in SORTS else "size"
    span = found if (found := asked.get("span", "")) in SPANS else "day"
    skip = min(whole(asked.get("skip", ""), 8) or 0, _FURTHEST)
    totals = known.totals() if known is not None else []
    recent = [each for each in totals if each.last >= now - SPANS[span]]
    if known is not None and sort == "rate":
        recent = known.fastest(recent, now)
    elif sort == "last":
        recent.sort(key=lambda each: -each.last)
    entries = _entries(parts)
    return page(
        request,
        "campaigns.html",
        visitor,
        why_not="" if known is not None else NO_CAMPAIGNS,
        topic=parts.context.state("campaigns"),
        unreadable=known.unreadable if known is not None else 0,
        forgotten=known.forgotten if known is not None else 0,
        rows=[_row(parts, each, entries, now) for each in recent[skip : skip + PAGE]],
        count=len(recent),
        total=len(totals),
        sort=sort,
        sorts=SORTS,
        span=span,
        spans=tuple(SPANS),
        skip=skip,
        size=PAGE,
    )


@router.get("/campaigns/{name}")
def campaign(request: Request, name: CampaignName, visitor: Annotated[Visitor, needs(UserRole.VIEWER)]) -> HTMLResponse:
    """Show one, by any of its ids; also one that no worker has told of yet, for verdicts name it first."""
    parts, now = parts_of(request), time.time()
    known = parts.context.campaigns
    total = known.total(name) if known is not None else None
    names = total.names if total else (name,)
    entries = _entries(parts)
    verdicts, fault = [], ""
    try:
        for each in names:
            verdicts += parts.window.search(Search.read({"campaign": each}), _VERDICTS)
    except TooLongError:
        fault = "The search for its verdicts took too long."
    verdicts.sort(key=lambda row: (-row.at, -row.seq))
    return page(
        request,
        "campaign.html",
        visitor,
        campaign=names[0],
        names=names,
        why_not="" if known is not None else NO_CAMPAIGNS,
        topic=parts.context.state("campaigns"),
        row=_row(parts, total, entries, now) if total else None,
        workers=[in_line(part.worker, 64) for part in total.parts] if total else [],
        rows=rows_of(sorted((entry for each in names for entry in entries.get(each, ())), key=rank), parts, now),
        why_no_lists=parts.context.why_no_lists,
        lists_topic=parts.context.state("lists"),
        verdicts=verdicts[:_VERDICTS],
        fault=fault,
    )


def _entries(parts: ConsoleParts) -> dict[str, list[ListEntry]]:
    """Entries for campaigns, by the id that they name."""
    found: dict[str, list[ListEntry]] = {}
    for entry in parts.context.lists.newest() if parts.context.lists is not None else ():
        if entry.what is What.CAMPAIGN:
            found.setdefault(entry.value, []).append(entry)
    return found


def _row(parts: ConsoleParts, total: CampaignTotal, entries: dict[str, list[ListEntry]], now: float) -> dict[str, Any]:
    """A campaign for a table; `listed` are its entries that have not expired, the one that decides first."""
    hits = sorted((entry for name in total.names for entry in entries.get(name, ())), key=rank)
    known = parts.context.campaigns
    return {
        "id": total.id,
        "first": total.first,
        "last": total.last,
        "rate": known.rate(total, now) if known is not None else 0.0,
        "score": total.score,
        "listed": [each for each in rows_of(hits, parts, now) if each["state"] != "expired"],
        **{name: total.sum(name) for name in _COUNTS},
    }


_COUNTS: Final = ("size", "senders", "recipients", "hosts", "delivered", "flagged", "blocked", "unscored")
