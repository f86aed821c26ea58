"""Turning HAMGATE_BUNDLE's link to another bundle, once it is proven here: what `use`, `back` and the console do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from worker import loading
from worker.loading import MODEL_ERRORS
from worker.rollout import changeover
from worker.rollout import link as releases

if TYPE_CHECKING:
    from pathlib import Path

    from worker.model.models_in_service import Model
    from worker.settings import Settings

NOT_PROMOTED: Final = (releases.LinkError, changeover.WorseCanariesError, *MODEL_ERRORS)
"""What keeps a bundle from being put in force, said in a line."""


class ProvenTurn(NamedTuple):
    """A link, the folder it points to, and a proven model of the folder that it is to point to."""

    link: Path
    before: Path | None
    folder: Path
    model: Model
    is_back: bool = False

    def make(self) -> None:
        """Turn the link. Raises LinkError."""
        if self.is_back:
            releases.back(self.link, self.folder)
        else:
            releases.use(self.link, self.folder)


def proven(settings: Settings, folder: Path) -> ProvenTurn:
    """Prove a bundle: its files, its own canaries, and those of the bundle in force. Raises one of NOT_PROMOTED."""
    before = releases.current(settings.bundle)
    chosen = loading.model(settings, folder)
    if before and before.is_dir() and before != folder.resolve():
        changeover.require_no_worse(chosen, loading.model(settings, before))
    return ProvenTurn(settings.bundle, before, folder, chosen)


def proven_back(settings: Settings, *, again: bool = False) -> ProvenTurn | None:
    """Prove the bundle before the last one chosen; None where it is in force already. Raises one of NOT_PROMOTED.

    Of the bundle that is left only what it broke is known: its canaries are no measure.
    """
    before = releases.current(settings.bundle)
    folder = releases.way_back(settings.bundle, again=again)
    if folder is None:
        return None
    return ProvenTurn(settings.bundle, before, folder, loading.model(settings, folder), is_back=True)
