"""The page Model: the bundle in force, its evaluation and the traffic beside it, its shadow, and the candidates."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field

from console import evaluation, pages
from console.access import UserRole, Visitor
from console.api import changes, needs
from console.pages import page
from console.parts import ConsoleParts, parts_of
from console.shelf import PromotionError, ShelvedBundle
from console.visible import in_line
from worker.model.bundle import Bundle
from worker.rollout.budgets import ScoreSpread

_DIGEST: Final = r"^[0-9a-f]{64}$"

router = APIRouter()


class TurnRequest(BaseModel):
    """The bundle to put in force, and the one that is in force: both by their digests, as they were confirmed."""

    model_config = ConfigDict(extra="forbid")
    digest: str = Field(pattern=_DIGEST)
    in_force: str = Field(pattern=_DIGEST)


class BackRequest(TurnRequest):
    """The same; `again` goes one further back, where the one before is back in force or is gone."""

    again: bool = False


@router.get("/model", include_in_schema=False)
def model(request: Request, visitor: Annotated[Visitor, pages.needs(UserRole.VIEWER)]) -> HTMLResponse:
    """Show all of it."""
    parts = parts_of(request)
    shelf = parts.shelf
    in_force = shelf.in_force()
    candidates, folder_problem = shelf.candidates()
    others = [each for each in candidates if not _is_same(each, in_force)]
    before = shelf.before()
    further = shelf.before(again=True) if isinstance(before, str) else ""
    disagreements, shadow_cause = parts.shadow.known() if parts.shadow else ([], "")
    return page(
        request,
        "model.html",
        visitor,
        in_force=in_force,
        facts=_facts(in_force.bundle) if in_force.bundle else [],
        verdicts=parts.window.models(),
        plots=_plots(parts, in_force.bundle) if in_force.bundle else None,
        candidates=[(each, _beside(each, in_force)) for each in others],
        folder_problem=folder_problem,
        has_folder=shelf.has_folder,
        before=before,
        further=further if not isinstance(further, str) and further.bundle else None,
        fixed=shelf.fixed(),
        disagreements=disagreements,
        shadow_topic=parts.shadow.topic if parts.shadow else None,
        shadow_cause=shadow_cause,
    )


def _is_same(one: ShelvedBundle, other: ShelvedBundle) -> bool:
    return bool(one.bundle and other.bundle and one.bundle.digest == other.bundle.digest)


def _facts(bundle: Bundle) -> list[tuple[str, str]]:
    """What a bundle says of itself, each made harmless."""
    bands, coverage = bundle.bands, bundle.coverage
    return [
        ("digest (SHA-256)", bundle.digest),
        ("made at", in_line(bundle.created_at)),
        ("base", in_line(bundle.base.id) + (f" @ {in_line(bundle.base.revision)}" if bundle.base.revision else "")),
        ("labels", ", ".join(in_line(each, 40) for each in bundle.labels)),
        ("threshold", f"{bundle.threshold:g}"),
        ("flag from, block from", f"{bands.flag_from:g}, {bands.block_from:g}" if bands else "the threshold"),
        *(
            (f"… in {in_line(language, 8)}", f"{own.threshold:g}; {own.flag_from:g}, {own.block_from:g}")
            for language, own in bundle.by_language.items()
        ),
        ("languages covered", _listed(coverage.languages) if coverage else "it does not say"),
        ("scripts covered", _listed(coverage.scripts) if coverage else "it does not say"),
        ("kinds of texts", _listed(coverage.kinds) if coverage else "it does not say"),
        ("tokens of a message", f"{bundle.max_tokens:,}"),
        ("canaries", f"{len(bundle.canaries):,}"),
        ("recipe", in_line(str(bundle.recipe.get("name", "it does not say")))),
        ("data (SHA-256)", in_line(bundle.data_digest) or "it does not say"),
    ]


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(in_line(each, 40) for each in names[:60])
    return f"{shown} and {len(names) - 60} more" if len(names) > 60 else shown or "none named"  # noqa: PLR2004


def _plots(parts: ConsoleParts, bundle: Bundle) -> dict[str, Any]:
    spread, course = ScoreSpread.read(bundle.quality), evaluation.course(parts.window, bundle)
    return {
        "course": course,
        "sample": evaluation.SAMPLE,
        "histogram": evaluation.histogram(spread, course.scores if course else evaluation.NO_SCORES)
        if spread
        else None,
        "reliability": evaluation.reliability(spread) if spread else [],
        "recalls": parts.results.recalls(bundle),
        "figures": [
            (title, found)
            for name, title in evaluation.FIGURES.items()
            if (found := evaluation.figure(bundle, name)) is not None
        ],
    }


def _beside(candidate: ShelvedBundle, in_force: ShelvedBundle) -> dict[str, Any]:
    """A candidate's figures beside those of the bundle in force."""
    if not (candidate.bundle and in_force.bundle):
        return {}
    one, other = candidate.bundle, in_force.bundle
    pair = candidate.paired
    return {
        "figures": evaluation.beside(one, other),
        "is_on_the_same_rows": evaluation.are_on_the_same_rows(one, other),
        "has_same_labels": one.labels == other.labels,
        "is_paired": bool(pair and (pair.candidate, pair.other) == (one.model, other.model)),
    }


@router.get("/api/model", tags=["model"], summary="The bundle in force here, and by which models the verdicts are")
def state(request: Request, _: Annotated[Visitor, Depends(needs(UserRole.VIEWER))]) -> dict[str, Any]:
    """Say so: whether workers have taken a promotion is seen by their verdicts."""
    parts = parts_of(request)
    bundle = parts.shelf.in_force().bundle
    return {
        "in_force": bundle.model if bundle else None,
        "digest": bundle.digest if bundle else None,
        "verdicts": [{"model": in_line(name, 120), "count": count} for name, count, _ in parts.window.models()],
    }


@router.post("/api/model/use", tags=["model"], summary="Put a candidate in force, as `hamgate use`")
def use(
    asked: TurnRequest, request: Request, visitor: Annotated[Visitor, Depends(changes(UserRole.OPERATOR))]
) -> dict[str, str]:
    """Prove it, note it, and turn the link."""
    with _Refused():
        return {"model": parts_of(request).promotion.use(visitor, asked.digest, asked.in_force)}


@router.post("/api/model/back", tags=["model"], summary="Go back to the bundle before, as `hamgate back`")
def back(
    asked: BackRequest, request: Request, visitor: Annotated[Visitor, Depends(changes(UserRole.OPERATOR))]
) -> dict[str, str]:
    """Prove it, note it, and turn the link."""
    with _Refused():
        return {"model": parts_of(request).promotion.back(visitor, asked.digest, asked.in_force, again=asked.again)}


class _Refused:
    """Answers for a bundle that was not put in force."""

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> None:
        """Turn the error into a status."""
        if isinstance(error, PromotionError):
            raise HTTPException(error.status, in_line(str(error), 600)) from error
