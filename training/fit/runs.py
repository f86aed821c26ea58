"""A run's identity, kept in its folder: recipe, seed, rows, labels, its base's commit. Later commands read it there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from training import whole
from training.fit import hub
from training.fit.recipe import Recipe  # noqa: TC001 -- msgspec reads it

if TYPE_CHECKING:
    from pathlib import Path

FILE: Final = "recipe.json"
MADE: Final = (
    "adapter",
    "base",
    "tokenizer",
    "making",
    "checkpoint",
    "checkpoint-making",
    "pretraining",
    "training.json",
)
"""The other files that training writes, and removes, in a run's folder."""
_ASKED: Final = ("recipe", "seed", "rows", "labels")


class RunError(ValueError):
    """A folder that holds no run, or a run of something else; the text says of what."""


class Run(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run's inputs; `rows` is the digest of its training rows, `revision` the commit of a base on a hub.

    `labels` are in the head's order; empty in a run of a version that did not keep them.
    """

    recipe: Recipe
    seed: int
    rows: str
    labels: tuple[str, ...] = ()
    revision: str | None = None

    @property
    def pinned(self) -> Recipe:
        """The recipe with the commit that was taken, in place of a branch or of nothing."""
        base = msgspec.structs.replace(self.recipe.base, revision=self.revision)
        return msgspec.structs.replace(self.recipe, base=base)


def begin(folder: Path, asked: Run) -> None:
    """Note in the folder what is asked for, and the commit that a hub's base has now.

    A run that goes on keeps the commit that it began with. Raises RunError where another run, or something else, lies
    there, ModelError where no hub has the base.
    """
    if folder.exists() and not folder.is_dir():
        message = f"{folder}: a file, where a run is a folder; name another"
        raise RunError(message)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / FILE).exists():
        begun = read(folder)
        begun = msgspec.structs.replace(begun, labels=begun.labels or asked.labels)
        if others := [name for name in _ASKED if getattr(begun, name) != getattr(asked, name)]:
            message = f"{folder} holds a run of another {' and other '.join(others)}; name another folder, or remove it"
            raise RunError(message)
        if begun.revision or not asked.recipe.on_hub:
            return
    elif foreign := [name for name in MADE if (folder / name).exists()]:
        message = f"{folder}: holds {foreign[0]!r} and no run, and a run would replace it; name a new folder"
        raise RunError(message)
    if asked.recipe.on_hub:
        asked = msgspec.structs.replace(asked, revision=hub.commit(asked.recipe.base.id, asked.recipe.base.revision))
    whole.write(folder / FILE, msgspec.json.format(msgspec.json.encode(asked), indent=1).decode() + "\n")


def read(folder: Path) -> Run:
    """Read what a run is of. Raises RunError."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=Run)
    except OSError as error:
        message = f"{folder}: no run in it ({FILE}: {error.strerror}); name the folder that `training train` was given"
        raise RunError(message) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = f"{folder / FILE}: {error}; train it again in another folder"
        raise RunError(message) from None
