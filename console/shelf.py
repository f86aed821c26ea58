"""The bundle in force and the candidates beside it, as they lie on this console's disk; and putting one in force."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from worker.commands import promoting
from worker.model.bundle import CARD, Bundle, BundleError
from worker.rollout import link as releases
from worker.rollout import paired
from worker.rollout.changeover import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from console.access import Visitor
    from console.changes import AuditLog
    from worker.rollout.changeover import Fingerprint
    from worker.rollout.paired import PairedBundles
    from worker.settings import Settings

MOST: Final = 50
"""Candidates that are shown, the newest first."""
_CARD: Final = 1 << 16
_REMEMBERED: Final = 2 * MOST

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ShelvedBundle:
    """A folder, and the verified bundle in it; or what is wrong with it."""

    folder: Path
    bundle: Bundle | None
    problem: str = ""
    card: str = ""
    paired: PairedBundles | None = None
    paired_problem: str = ""


class PromotionError(Exception):
    """A bundle that was not put in force; the text says why, `status` whose doing that is."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class BundleShelf:
    """Looks whenever it is asked; a folder's files are read again only where they have changed."""

    def __init__(self, settings: Settings) -> None:
        self._link, self._folder = settings.bundle, settings.console_candidates
        self._lock = threading.Lock()
        self._seen: dict[Path, tuple[Fingerprint, ShelvedBundle]] = {}

    @property
    def has_folder(self) -> bool:
        """Whether there is a setting that says where candidates lie."""
        return self._folder is not None

    def in_force(self) -> ShelvedBundle:
        """The bundle that HAMGATE_BUNDLE names on this disk."""
        return self._look(self._link)

    def fixed(self) -> str:
        """Why the link cannot be turned from here; empty: it can."""
        try:
            releases.current(self._link)
        except releases.LinkError as error:
            return self._without_path(error)
        return ""

    def before(self, *, again: bool = False) -> ShelvedBundle | str:
        """The bundle to go back to; or why there is none. `again`: one further back, as `hamgate back --again`."""
        try:
            folder = releases.way_back(self._link, again=again)
        except releases.LinkError as error:
            return self._without_path(error)
        return self._look(folder) if folder else "It is back already, since the last one was put in force."

    def _without_path(self, error: releases.LinkError) -> str:
        """A page that viewers see names no folder of this host."""
        return str(error).replace(str(self._link), "HAMGATE_BUNDLE")

    def candidates(self) -> tuple[list[ShelvedBundle], str]:
        """Everything in the folder that may be a bundle, the newest first; and what is wrong with the folder."""
        if self._folder is None:
            return [], ""
        try:
            inside = [each for each in self._folder.iterdir() if not each.name.startswith(".") and each.is_dir()]
            inside.sort(key=lambda each: each.stat().st_mtime, reverse=True)
        except OSError as error:
            return [], f"The folder of candidates cannot be read: {error.strerror}."
        rest = f"{len(inside):,} folders; the newest {MOST} are shown." if len(inside) > MOST else ""
        return [self._look(each) for each in inside[:MOST]], rest

    def _look(self, folder: Path) -> ShelvedBundle:
        """Read and verify one, unless it is as it was; its card and its comparison, which no digest covers, always."""
        state = fingerprint(folder)
        with self._lock:
            known = self._seen.get(folder)
        if known is None or known[0] != state:
            known = state, self._read(folder)
            with self._lock:
                if len(self._seen) >= _REMEMBERED:
                    self._seen.clear()
                self._seen[folder] = known
        return known[1] if known[1].bundle is None else self._with_papers(known[1])

    @staticmethod
    def _read(folder: Path) -> ShelvedBundle:
        try:
            return ShelvedBundle(folder, Bundle.load(folder))
        except BundleError as error:
            return ShelvedBundle(folder, None, error.problem)
        except (OSError, ValueError) as error:  # a file that cannot be read, or goes away meanwhile
            return ShelvedBundle(folder, None, getattr(error, "strerror", None) or type(error).__name__)

    @staticmethod
    def _with_papers(found: ShelvedBundle) -> ShelvedBundle:
        card, place = "", found.folder / CARD
        with contextlib.suppress(OSError):
            # No digest covers it: one that leads out of the bundle is some other file of this host.
            if place.is_file() and place.resolve().is_relative_to(found.folder.resolve()):
                with place.open("rb") as opened:
                    card = opened.read(_CARD).decode("utf-8", "replace")
        try:
            return ShelvedBundle(found.folder, found.bundle, "", card, paired.read(paired.beside(found.folder)))
        except ValueError as error:
            return ShelvedBundle(found.folder, found.bundle, "", card, None, str(error))


class Promotion:
    """Puts bundles in force as `hamgate use` and `back` do, one at a time. `done` is called after each."""

    def __init__(self, settings: Settings, shelf: BundleShelf, changes: AuditLog, done: Callable[[], None]) -> None:
        self._settings = settings.model_copy(update={"engine": "cpu", "threads": 1})
        self._shelf, self._changes, self._done = shelf, changes, done
        self._turn = threading.Lock()

    def use(self, visitor: Visitor, digest: str, in_force: str) -> str:
        """Put a candidate in force in the place of this one; return its name. Raises PromotionError."""

        def prove() -> promoting.ProvenTurn:
            for each in self._shelf.candidates()[0]:
                if each.bundle and each.bundle.digest == digest:
                    return promoting.proven(self._settings, each.folder)
            raise PromotionError(404, "No candidate of this digest is in the folder any more.")

        return self._make(visitor, "model promoted", prove, digest, in_force)

    def back(self, visitor: Visitor, digest: str, in_force: str, *, again: bool = False) -> str:
        """Go back to the bundle before, or `again` one further; return its name. Raises PromotionError."""

        def prove() -> promoting.ProvenTurn:
            found = promoting.proven_back(self._settings, again=again)
            if found is None:
                raise PromotionError(409, "It is back already, since the last one was put in force.")
            return found

        what = "model gone further back" if again else "model gone back"
        return self._make(visitor, what, prove, digest, in_force)

    def _make(
        self, visitor: Visitor, what: str, prove: Callable[[], promoting.ProvenTurn], digest: str, in_force: str
    ) -> str:
        if not self._turn.acquire(blocking=False):
            raise PromotionError(409, "Somebody else changes the model just now.")
        try:
            self._require(self._shelf.in_force().bundle, in_force, "Another bundle is in force by now")
            try:
                turn = prove()
                bundle = turn.model.classifier.bundle
                self._require(bundle, digest, "The bundle has changed meanwhile")
                self._note(visitor, what, bundle=bundle.model, digest=digest, before=in_force)
                turn.make()
            except promoting.NOT_PROMOTED as error:
                self._note(visitor, f"{what}: refused", digest=digest, before=in_force, cause=str(error)[:400])
                raise PromotionError(409, str(error)) from error
            log.info(what, bundle=bundle.model)
        finally:
            self._turn.release()
        self._done()
        return bundle.model

    @staticmethod
    def _require(bundle: Bundle | None, digest: str, otherwise: str) -> None:
        if bundle is None or bundle.digest != digest:
            raise PromotionError(409, f"{otherwise}. Load the page again.")

    def _note(self, visitor: Visitor, what: str, **fields: object) -> None:
        try:
            self._changes.write(visitor, what, **fields)
        except OSError as error:
            raise PromotionError(503, f"The audit log cannot be written ({error.strerror}).") from error
