"""The model folder: what is in it, and why one is refused.

    bundle.json   what the model is, and the SHA-256 of every other file
    adapter/      PEFT's own layout, safetensors
    tokenizer/    tokenizer.json and its configuration
    base/         weights of a base that no hub has; absent when the base is named by hub id

Nothing here is code, and nothing is ever unpickled. A bundle is loaded whole and sound, or refused by name.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any, Final, Self

import msgspec

from worker.text import NORMALISER_VERSION

FORMAT: Final = 1
HAM: Final = "ham"
"""The harmless label; it comes first in every bundle."""
MANIFEST: Final = "bundle.json"
_ADAPTER, _TOKENIZER, _BASE = "adapter", "tokenizer", "base"
_NEEDED: Final = ("adapter/adapter_config.json", "adapter/adapter_model.safetensors", "tokenizer/tokenizer.json")
_BASE_NEEDED: Final = ("base/config.json", "base/model.safetensors")
# What can hold code when it is loaded by the usual means.
_FORBIDDEN: Final = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".py", ".npy", ".npz", ".so"})
_DIGITS: Final = 12
_CHUNK: Final = 1 << 20


class BundleError(ValueError):
    """A bundle that is not to be used; the text names the file or field, and what it should be."""


class BaseModel(msgspec.Struct, frozen=True):
    """Where the base comes from: a hub id and its revision, and the folder inside the bundle when it has it."""

    id: str
    revision: str | None = None
    path: str | None = None


class Calibration(msgspec.Struct, frozen=True):
    """Platt's: score = sigmoid(slope * z + intercept), z the log odds of not being ham."""

    slope: float = 1.0
    intercept: float = 0.0
    method: str = "platt"


class Canary(msgspec.Struct, frozen=True):
    """A text of our own, and the label that the model gave it when the bundle was made."""

    text: str
    label: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """bundle.json, field for field."""

    format: int
    name: str
    base: BaseModel
    labels: tuple[str, ...]
    threshold: float
    calibration: Calibration
    max_tokens: int
    normaliser: int
    recipe: dict[str, Any]
    data_digest: str
    quality: dict[str, Any]
    canaries: tuple[Canary, ...]
    created_at: str
    files: dict[str, str]


class Bundle(msgspec.Struct, frozen=True):
    """A verified folder. Fields of its manifest can be asked of it directly."""

    path: Path
    manifest: Manifest
    digest: str

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read and verify. Raises BundleError naming what does not fit."""
        folder = Path(path)
        try:
            raw = (folder / MANIFEST).read_bytes()
        except OSError as error:
            message = f"{folder}: not a bundle, {MANIFEST} cannot be read ({error.strerror})"
            raise BundleError(message) from None
        try:
            manifest = _decoder.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            message = f"{folder / MANIFEST}: {error}"
            raise BundleError(message) from None
        for complaint in _complaints(manifest):
            message = f"{folder / MANIFEST}: {complaint}"
            raise BundleError(message)
        _verify_files(folder, manifest)
        return cls(folder, manifest, hashlib.sha256(raw).hexdigest())

    @property
    def name(self) -> str:
        """What its makers call it."""
        return self.manifest.name

    @property
    def model(self) -> str:
        """`name@digest`, as verdicts carry it."""
        return f"{self.name}@{self.digest[:_DIGITS]}"

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels in the order of the logits; the first is ham."""
        return self.manifest.labels

    @property
    def threshold(self) -> float:
        """Score from which a message is not ham."""
        return self.manifest.threshold

    @property
    def calibration(self) -> Calibration:
        """From logits to score."""
        return self.manifest.calibration

    @property
    def max_tokens(self) -> int:
        """Tokens the model was made for, the beginning-of-sequence one counted."""
        return self.manifest.max_tokens

    @property
    def canaries(self) -> tuple[Canary, ...]:
        """What it must still say before it is used."""
        return self.manifest.canaries

    @property
    def base(self) -> Path | None:
        """Folder of the base's weights, when the bundle has them."""
        return self.path / self.manifest.base.path if self.manifest.base.path else None

    @property
    def adapter(self) -> Path:
        """Folder of the adapter, as PEFT has it."""
        return self.path / _ADAPTER

    @property
    def tokenizer(self) -> Path:
        """Folder of the tokenizer."""
        return self.path / _TOKENIZER


def write(target: Path, manifest: Manifest, parts: dict[str, Path]) -> Bundle:
    """Lay a bundle down at `target`, whole or not at all, in place of what is there; then load it back.

    `parts` are folders to copy, by their name in the bundle; `manifest.files` is filled in from what is copied.
    Raises BundleError when the result would be refused.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        making.chmod(0o755)
        for name, folder in parts.items():
            shutil.copytree(folder, making / name)
        files = {p.relative_to(making).as_posix(): _sha256(p) for p in sorted(making.rglob("*")) if p.is_file()}
        manifest = msgspec.structs.replace(manifest, files=files)
        (making / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
        Bundle.load(making)
        _replace(target, making)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return Bundle.load(target)


def _replace(target: Path, made: Path) -> None:
    """Put the made folder where the target is. Between the two renames there is none, never half of one."""
    if target.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
        target.replace(old / target.name)
        # What stands beside the model and is no part of it, as its card, stays.
        for extra in (old / target.name).glob("*.md"):
            shutil.copy2(extra, made / extra.name)
        made.replace(target)
        shutil.rmtree(old)
    else:
        made.replace(target)


_decoder = msgspec.json.Decoder(Manifest)


def _complaints(manifest: Manifest) -> list[str]:
    calibration, labels = manifest.calibration, manifest.labels
    checks = [
        (manifest.format == FORMAT, f"format {manifest.format}: this worker reads format {FORMAT}"),
        (
            manifest.normaliser == NORMALISER_VERSION,
            f"normaliser {manifest.normaliser}: this worker has version {NORMALISER_VERSION}; train again, or go back",
        ),
        (len(labels) > 1 and labels[0] == HAM, f"labels {', '.join(labels)}: two or more, the first of them {HAM}"),
        (len(set(labels)) == len(labels) and all(labels), f"labels {', '.join(labels)}: each once, none empty"),
        (0 < manifest.threshold < 1, f"threshold {manifest.threshold}: must lie between 0 and 1"),
        (
            calibration.method == "platt" and math.isfinite(calibration.intercept) and 0 < calibration.slope < math.inf,
            "calibration: method platt, a finite intercept and a slope above 0",
        ),
        (manifest.max_tokens > 1, f"max_tokens {manifest.max_tokens}: must be 2 or more"),
        (bool(manifest.name) and "@" not in manifest.name, "name: not empty, without @"),
        (manifest.base.path in (None, _BASE), f"base.path: {_BASE}, or null"),
        *(
            (canary.label in labels, f"canary {index}: label {canary.label} is not among {', '.join(labels)}")
            for index, canary in enumerate(manifest.canaries)
        ),
    ]
    return [complaint for is_well, complaint in checks if not is_well]


def _verify_files(folder: Path, manifest: Manifest) -> None:
    needed = _NEEDED + (_BASE_NEEDED if manifest.base.path else ())
    for name in needed:
        if name not in manifest.files:
            message = f"{folder / MANIFEST}: files: {name} is needed and not listed"
            raise BundleError(message)
    for name, expected in manifest.files.items():
        path = _within(folder, name)
        try:
            found = _sha256(path)
        except OSError as error:
            message = f"{path}: listed in {MANIFEST} and cannot be read ({error.strerror})"
            raise BundleError(message) from None
        if found != expected.lower():
            message = f"{path}: SHA-256 is {found[:_DIGITS]}..., {MANIFEST} says {expected[:_DIGITS]}..."
            raise BundleError(message)
    _refuse_unlisted(folder, manifest)


def _within(folder: Path, name: str) -> Path:
    parts = PurePosixPath(name).parts
    is_plain = bool(parts) and not name.startswith("/") and ".." not in parts and "\\" not in name and "\0" not in name
    if not is_plain or PurePosixPath(name).suffix.lower() in _FORBIDDEN:
        message = f"{folder / MANIFEST}: files: {name!r} is not a name that a bundle may hold"
        raise BundleError(message)
    path = folder.joinpath(*parts)
    if not path.resolve().is_relative_to(folder.resolve()):
        message = f"{path}: leads out of the bundle"
        raise BundleError(message)
    return path


def _refuse_unlisted(folder: Path, manifest: Manifest) -> None:
    """A loader may pick up a file because it is there: so none may be there that the manifest does not vouch for."""
    for part in (_ADAPTER, _TOKENIZER, _BASE):
        for path in sorted((folder / part).rglob("*")):
            name = path.relative_to(folder).as_posix()
            if (path.is_file() or path.is_symlink()) and name not in manifest.files:
                message = f"{path}: not listed in {MANIFEST}"
                raise BundleError(message)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
