"""A model's files, read with suspicion: what is not there, or not as its config says, is named and refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import torch
from safetensors import SafetensorError, safe_open

from worker.engine.kinds import UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

CONFIG: Final = "config.json"
WHOLE: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"

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


def quantised_as(config: Mapping[str, Any]) -> str | None:
    """Return how a config's model is quantised: nf4, fp4, int8, or its method's name; None where it is not."""
    said = config.get("quantization_config")
    if not said:
        return None
    said = said if isinstance(said, dict) else said.to_dict()
    if said.get("load_in_8bit"):
        return "int8"
    if said.get("load_in_4bit"):
        return str(said.get("bnb_4bit_quant_type", "fp4"))  # bitsandbytes' own default
    return str(said.get("quant_method", "unknown"))


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


def weights(folder: Path) -> list[Path]:
    """Return the files of a base's weights: those that transformers reads, whatever else lies beside them.

    That is model.safetensors, or else what model.safetensors.index.json lists. Raises UnsupportedModelError.
    """
    if (whole := folder / WHOLE).is_file():
        return [whole]
    return sorted({folder / name for name in _map(folder).values()})


def places(folder: Path) -> dict[str, Path]:
    """Return the file of each tensor of a base. Raises UnsupportedModelError where index and files do not agree."""
    found: dict[str, Path] = {}
    for file in weights(folder):
        for name in _names(file):
            if name in found:
                refuse(f"{folder}: {name} is in two files, {found[name].name} and {file.name}")
            found[name] = file
    if not (folder / WHOLE).is_file():
        for name, file_name in _map(folder).items():
            if found.get(name) != folder / file_name:
                refuse(f"{folder.name}/{INDEX}: {name} is not in {file_name}; fetch or save the base again")
    return found


def needed(folder: Path) -> list[Path]:
    """Return the files of a base that a bundle needs: config.json, its weights and their index."""
    index = [] if (folder / WHOLE).is_file() else [folder / INDEX]
    return [folder / CONFIG, *index, *weights(folder)]


def read(folder: Path) -> dict[str, Tensor]:
    """Read every tensor of a base, in float32. Raises UnsupportedModelError."""
    return {name: tensor for file in sorted(set(places(folder).values())) for name, tensor in tensors(file).items()}


def shapes(folder: Path) -> dict[str, Tensor]:
    """Return every tensor of a base by its shape alone, without reading it. Raises UnsupportedModelError."""
    found = {}
    for name, file in places(folder).items():
        with safe_open(file, framework="pt") as opened:
            found[name] = torch.empty(opened.get_slice(name).get_shape(), device="meta")
    return found


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
    """SHA-256 over the tensors of a base: each one's name, type, shape and bytes, by name.

    However they are spread over files, and whatever else the files say. Raises UnsupportedModelError.
    """
    said = hashlib.sha256()
    try:
        for name, file in sorted(places(folder).items()):
            with safe_open(file, framework="pt") as opened:
                tensor = opened.get_tensor(name)
            said.update(f"{name}\t{str(tensor.dtype).removeprefix('torch.')}\t{list(tensor.shape)}\n".encode())
            said.update(tensor.reshape(-1).view(torch.uint8).numpy())
    except (SafetensorError, OSError, ValueError) as error:
        refuse(f"{folder}: {error}")
    return said.hexdigest()


def _names(file: Path) -> list[str]:
    try:
        with safe_open(file, framework="pt") as opened:
            return list(opened.keys())
    except (SafetensorError, OSError, ValueError) as error:
        refuse(f"{_name(file)}: {error}")


def _map(folder: Path) -> dict[str, str]:
    """The file of each tensor by a base's index: files of the folder itself."""
    index = folder / INDEX
    if not index.is_file():
        refuse(f"{folder}: no safetensors file in it that transformers reads: {WHOLE}, or what {INDEX} lists")
    found = config(index).get("weight_map")
    if not isinstance(found, dict) or not found:
        refuse(f"{_name(index)}: no weight_map")
    for file in found.values():
        if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
            refuse(f"{_name(index)}: weight_map names {file!r}, which is no safetensors file of its folder")
    return dict(found)


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
