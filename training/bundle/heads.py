"""An imported head's labels: read from id2label or given, and its rows put in a bundle's order, ham first."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from safetensors.torch import load_file, save_file

from training.bundle.adapters import HEAD, WEIGHTS, AdapterError
from training.data.split import LABELS
from worker.engine import files

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_GENERIC: Final = re.compile(r"(label_)?\d+")
"""What transformers calls labels that nobody has named."""
_HARMLESS: Final = ("ham", "legit", "legitimate", "not_spam", "not spam", "non-spam", "benign", "normal", "safe")
"""What others call ham, for an error's example."""


@dataclass(frozen=True, slots=True)
class Head:
    """A bundle's labels, and for each of them the row of the adapter's head that it is."""

    labels: tuple[str, ...]
    rows: tuple[int, ...]

    @property
    def is_in_order(self) -> bool:
        """Whether the adapter's head has the bundle's order already."""
        return self.rows == tuple(range(len(self.rows)))

    @property
    def found(self) -> list[str]:
        """The labels in the adapter's order."""
        return [label for _, label in sorted(zip(self.rows, self.labels, strict=True))]


def read(adapter: Path, base: Path, size: int, given: Sequence[str], renamed: Mapping[str, str]) -> Head:
    """Return the labels of a head of `size` rows, ham first. Raises AdapterError.

    The names are id2label's or label2id's, of a config.json beside the adapter or else of the base's, through
    `renamed`: what is `given` must be the same ones. Where nobody has named this head's labels, `given` is its order
    (ham, spam).
    """
    where, found = _named(adapter, base, size)
    names = [renamed.get(name.casefold(), name.casefold()) for name in found] or list(given or LABELS)
    if len(names) != size or (given and len(given) != size):
        message = f"{adapter / WEIGHTS}: the head has {size} labels, {len(given or names)} are named"
        raise AdapterError(message)
    if found and (LABELS[0] not in names or (given and set(given) != set(names))):
        not_those = f", not {', '.join(given)}" if given else ""
        message = f"{where}: the head's labels are {', '.join(names)}{not_those}: {_remedy(found)}"
        raise AdapterError(message)
    if LABELS[0] not in names or len(set(names)) < size:
        return Head(tuple(names), tuple(range(size)))  # no bundle can have such labels, which its writer says
    labels = (LABELS[0], *(name for name in given or names if name != LABELS[0]))
    return Head(labels, tuple(names.index(label) for label in labels))


def put_in_order(adapter: Path, head: Head) -> None:
    """Reorder the rows of an adapter's head, in its folder."""
    tensors = load_file(adapter / WEIGHTS)
    [name] = [name for name in tensors if name.endswith(HEAD)]
    tensors[name] = tensors[name][list(head.rows)].contiguous()
    save_file(tensors, adapter / WEIGHTS, metadata={"format": "pt"})


def _named(adapter: Path, base: Path, size: int) -> tuple[Path, list[str]]:
    """The config.json that names a head's labels, and these in its order; no labels where neither does."""
    for path in (adapter / files.CONFIG, base / files.CONFIG):
        config = files.config(path) if path.is_file() else {}
        said = []
        for field, is_by_number in (("id2label", True), ("label2id", False)):
            found = config.get(field)
            if isinstance(found, dict) and len(found) == size:  # else of another head
                pairs = found.items() if is_by_number else ((number, name) for name, number in found.items())
                said.append(_in_order(pairs, path, field))
        named = [names for names in said if not all(map(_is_generic, names))]
        if named and named[0] != named[-1]:
            message = f"{path}: id2label and label2id disagree; correct the one that is wrong"
            raise AdapterError(message)
        if named:
            return path, named[0]
    return base / files.CONFIG, []


def _in_order(pairs: Iterable[tuple[Any, Any]], path: Path, field: str) -> list[str]:
    """Labels in the order of their numbers, which are 0, 1 and so on. Raises AdapterError."""
    try:
        named = [(int(number), str(name).strip()) for number, name in pairs]
        return [dict(named)[at] for at in range(len(named))]
    except (KeyError, TypeError, ValueError):
        message = f"{path}: {field} is not by number, from 0 on"
        raise AdapterError(message) from None


def _is_generic(name: str) -> bool:
    return _GENERIC.fullmatch(name.casefold()) is not None


def _remedy(found: Sequence[str]) -> str:
    harmless = next((name for name in found if name.casefold() in _HARMLESS), found[0])
    others = [name for name in found if name != harmless]
    return f"say which is which by --map {harmless}=ham,{','.join(f'{name}=' for name in others)}..."
