"""What an adapter says of how it was trained, beside what its import is told: base, revision, quantisation."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from training.bundle import adapters
from worker.engine import files

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from worker.model.bundle import Base

_CARD: Final = "README.md"
_LINE: Final = re.compile(
    r"^- (load_in_8bit|load_in_4bit|bnb_4bit_quant_type|bnb_4bit_use_double_quant): (.+)$", re.MULTILINE
)
"""How PEFT writes the quantisation of a base into an adapter's card."""
_DOUBLE: Final = "bnb_4bit_use_double_quant"
_CACHED: Final = re.compile(r"models--(.+?)--(.+)")
"""The folder of a model in the hub's cache, by owner and name; a snapshot's folder in it is the commit."""


def warnings(adapter: Path, base: Base, seen: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the adapter says and its import does otherwise: answers may then differ from those of training.

    `base` is a hub's, by commit, or a folder; `seen` is the import's recipe.
    """
    config = adapters.settings_of(adapter)
    named, revision = config.get("base_model_name_or_path"), config.get("revision")
    given, commit = _hub_name(base), base.revision or _commit(base)
    if isinstance(named, str) and named and not _is_same(named, given, is_folder=bool(base.path)):
        yield f"the adapter says that it was trained on {named}, and the base given is {given}"
    elif revision and commit and revision not in {commit, "main"}:
        yield f"the adapter says that it was trained on revision {revision} of {named}, and the base given is {commit}"
    yield from _quantisation(adapter, seen)


def _quantisation(adapter: Path, seen: Mapping[str, Any]) -> Iterator[str]:
    said = _said(adapter)
    kind = files.quantised_as({"quantization_config": said})
    if kind is None:
        return
    saw = (seen.get("quantisation", "none"), bool(seen.get("double_quantisation")))
    begin = f"the adapter says that it was trained on a base in {kind}"
    if kind != "nf4":
        yield f"{begin}, which no engine here has; imported on {saw[0]}, it answers a little otherwise"
    elif saw != ("nf4", bool(said.get(_DOUBLE))):
        yield f"{begin}: import it with --quantisation {'nf4' if said.get(_DOUBLE) else 'nf4-single'} to have that"


def _said(adapter: Path) -> dict[str, Any]:
    """The quantisation of the base, as a config.json beside the adapter has it, or its card."""
    if (beside := adapter / files.CONFIG).is_file():
        found = files.config(beside).get("quantization_config")
        if isinstance(found, dict):
            return found
    card = adapter / _CARD
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    return {
        name: {"True": True, "False": False}.get(value.strip(), value.strip()) for name, value in _LINE.findall(text)
    }


def _hub_name(base: Base) -> str:
    """The base's id on a hub, also of a folder in the hub's cache; else as it was given."""
    cached = next((found for part in PurePosixPath(base.id).parts if (found := _CACHED.fullmatch(part))), None)
    return f"{cached[1]}/{cached[2]}" if cached else base.id


def _commit(base: Base) -> str | None:
    path = PurePosixPath(base.id)
    return path.name if path.parent.name == "snapshots" else None


def _is_same(named: str, given: str, *, is_folder: bool) -> bool:
    """Whether two names are of one base: ids of a hub wholly, where one is a folder's by the last part."""
    one, other = (PurePosixPath(each.casefold()) for each in (named, given))
    if is_folder or len(one.parts) != 2 or one.is_absolute():  # noqa: PLR2004 an id of a hub is owner and name
        return one.name == other.name
    return one == other
