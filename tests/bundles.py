"""Bundles that something is wrong with, made of a good one: to be refused, or to be taken and noticed.

python -m tests.bundles blunted INTO      a bundle that is taken, and whose scores drift
python -m tests.bundles flipped INTO      a bundle that is refused: it fails its canaries
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from safetensors.numpy import load_file, save_file

if TYPE_CHECKING:
    from collections.abc import Callable

NANO: Final = Path(__file__).resolve().parent.parent / "models" / "nano"
ADAPTER: Final = "adapter/adapter_model.safetensors"


def copy(into: Path, source: Path = NANO) -> Path:
    """The same bundle elsewhere."""
    shutil.copytree(source, into)
    return into


def remade(into: Path, source: Path = NANO, **fields: Any) -> Path:
    """A whole and sound bundle with other fields in its manifest; digests are made anew, so its own digest differs."""
    copy(into, source)
    return seal(into, **fields)


def seal(folder: Path, **fields: Any) -> Path:
    """Write the manifest for the files as they now are."""
    manifest = json.loads((folder / "bundle.json").read_text()) | fields
    manifest["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in manifest["files"]}
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return folder


def reissued(into: Path, source: Path = NANO, created_at: str = "2026-02-02T00:00:00Z") -> Path:
    """The same model under another digest."""
    return remade(into, source, created_at=created_at)


def blunted(into: Path, source: Path = NANO) -> Path:
    """A worse model that knows its canaries: all its scores lie nearer to the middle."""
    calibration = json.loads((source / "bundle.json").read_text())["calibration"]
    calibration["slope"] *= 0.25
    calibration["intercept"] *= 0.25
    return remade(into, source, calibration=calibration, threshold=0.5, name="blunted")


def with_head(into: Path, change: Callable[[Any], Any], source: Path = NANO, **fields: Any) -> Path:
    """A sound bundle whose score head is another."""
    copy(into, source)
    tensors = load_file(into / ADAPTER)
    [name] = [name for name in tensors if name.endswith("score.weight")]
    tensors[name] = np.ascontiguousarray(change(tensors[name]))
    save_file(tensors, into / ADAPTER, metadata={"format": "pt"})
    return seal(into, **fields)


def flipped(into: Path, source: Path = NANO, **fields: Any) -> Path:
    """A model that takes ham for spam and spam for ham."""
    return with_head(into, lambda head: head[::-1], source, **fields)


def forget_labels(base: Path) -> None:
    """Have a base's config name no labels, as one that nobody has trained a head on."""
    config = json.loads((base / "config.json").read_text())
    for name in ("id2label", "label2id"):
        config.pop(name, None)
    (base / "config.json").write_text(json.dumps(config))


if __name__ == "__main__":
    make = {"blunted": blunted, "flipped": flipped, "reissued": reissued}[sys.argv[1]]
    sys.stdout.write(f"{make(Path(sys.argv[2]))}\n")
