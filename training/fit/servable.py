"""The checks of an export, before the first step: nothing is trained for hours that no bundle can be made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.fit import model, pretrain
from training.fit.model import ModelError
from worker.engine import UnsupportedModelError, files
from worker.engine.loading import check, located
from worker.model.bundle import AUTO_MAP, Base, naming_problems

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.fit.recipe import Recipe


def check_recipe(recipe: Recipe, labels: Sequence[str]) -> None:
    """Raise ModelError where no bundle can be called so, have such labels, or have a base that is made so."""
    for problem in naming_problems(recipe.name, labels):
        message = f"{problem} (it is {recipe.name!r}, {','.join(labels)!r})"
        raise ModelError(message)
    if recipe.pretraining and recipe.fit.max_tokens > pretrain.POSITIONS:
        message = f"max_tokens is {recipe.fit.max_tokens}, a base made here has {pretrain.POSITIONS} positions"
        raise ModelError(message)


def check_base(recipe: Recipe, base: str | Path, tokenizer: Any, labels: Sequence[str]) -> None:  # noqa: ANN401
    """Raise ModelError where no engine would run a bundle of this base, as its files are; no weights are read.

    `recipe` is pinned to the commit of a base on a hub.
    """
    config = model.configured(base, recipe.base.revision, labels, pad_token_id=None)
    if AUTO_MAP in tokenizer.init_kwargs:
        message = f"{base}: tokenizer_config.json: {AUTO_MAP} asks for remote code, which is never run"
        raise ModelError(message)
    if config.model_type != model.SERVED:
        return  # trained to compare with, and judged by transformers
    try:
        folder = Path(base) if Path(base).is_dir() else located(Base(str(base), recipe.base.revision))
        if AUTO_MAP in files.config(folder / files.CONFIG):
            message = f"{base}: {files.CONFIG}: {AUTO_MAP} asks for remote code, which is never run"
            raise ModelError(message)
        check(folder, tokenizer.backend_tokenizer, labels, recipe.fit.max_tokens)
    except UnsupportedModelError as error:
        message = f"{base}: no engine runs it as it would be trained: {error}"
        raise ModelError(message) from None
