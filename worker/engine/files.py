"""A model's files, read with suspicion: what is not there, or not as its config says, is named and refused."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final, NoReturn

import torch
from safetensors import SafetensorError, safe_open

from worker.engine.kinds import UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

# Kept in checkpoints of old, and computed anew by everyone.
_NEEDLESS: Final = "rotary_emb.inv_freq"


def config(path: Path) -> dict[str, Any]:
    """Read a config.json of any kind. Raises UnsupportedModelError naming the file."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        refuse(f"{_name(path)}: {error}")
    if not isinstance(found, dict):
        refuse(f"{_name(path)}: not an object")
    return dict(found)


def size(config: Mapping[str, Any], name: str, default: int | None = None) -> int:
    """Take a size of at least 1 from a config. Raises UnsupportedModelError naming it."""
    value = config.get(name)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        refuse(f"{name} = {value!r} in a config; a whole number of at least 1 is needed")
    return int(value)


def number(config: Mapping[str, Any], name: str) -> float:
    """Take a number above 0 from a config. Raises UnsupportedModelError naming it."""
    value = config.get(name)
    if not isinstance(value, int | float) or not value > 0:
        refuse(f"{name} = {value!r} in a config; a number above 0 is needed")
    return float(value)


def tensors(file: Path) -> dict[str, Tensor]:
    """Read every tensor of a file, in float32. Raises UnsupportedModelError naming the file.

    Each is a copy: what is mapped from a file would change, or end the process, when the file is written over.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_tensor(name).to(torch.float32, copy=True) for name in opened.keys()}  # noqa: SIM118 # not a mapping
    except (SafetensorError, OSError, ValueError) as error:
        refuse(f"{_name(file)}: {error}")


def digest(folder: Path) -> str:
    """SHA-256 over the tensors of a folder's safetensors files: each one's name, type, shape and bytes, by name.

    However they are spread over files, and whatever else the files say. Raises UnsupportedModelError.
    """
    where: dict[str, Path] = {}
    said = hashlib.sha256()
    try:
        for file in sorted(folder.glob("*.safetensors")):
            with safe_open(file, framework="pt") as opened:
                where |= dict.fromkeys(opened.keys(), file)
        for name, file in sorted(where.items()):
            with safe_open(file, framework="pt") as opened:
                tensor = opened.get_tensor(name)
            said.update(f"{name}\t{str(tensor.dtype).removeprefix('torch.')}\t{list(tensor.shape)}\n".encode())
            said.update(tensor.reshape(-1).view(torch.uint8).numpy())
    except (SafetensorError, OSError, ValueError) as error:
        refuse(f"{folder}: {error}")
    if not where:
        refuse(f"{folder}: no safetensors file in it")
    return said.hexdigest()


class Checked:
    """Tensors by name, each asked for with the shape that it must have; the others are reported."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors, self._asked = tensors, set[str]()

    def __call__(self, name: str, *shape: int) -> Tensor:
        """Return a tensor. Raises UnsupportedModelError when it is missing or of another shape."""
        self._asked.add(name)
        if name not in self._tensors:
            refuse(f"the base has no tensor {name}, which its config.json asks for")
        found = self._tensors[name]
        if tuple(found.shape) != shape:
            refuse(f"{name} is {list(found.shape)}, its config.json says {list(shape)}")
        return found

    def require_all_asked(self) -> None:
        """Raise UnsupportedModelError naming a tensor without a place: a model run without it is another model."""
        left = sorted(name for name in set(self._tensors) - self._asked if not name.endswith(_NEEDLESS))
        if left:
            refuse(f"the base holds {left[0]}, which has no place in what its config.json says")


def refuse(message: str) -> NoReturn:
    """Raise UnsupportedModelError."""
    raise UnsupportedModelError(message)


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
