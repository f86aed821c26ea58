"""The model folder, and why one is refused.

    bundle.json   what it is, how to read its scores, how it was made, and the SHA-256 of every file below
    adapter/      LoRA and the score head, in PEFT's own layout
    tokenizer/    tokenizer.json and its settings
    base/         config.json and weights, when no hub has the base

Nothing of a bundle is loaded before all of it has been verified. Weights are safetensors: no pickle, no remote code.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

import msgspec

from worker.model.normalise import NORMALISER_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

FORMAT: Final = 1
MANIFEST: Final = "bundle.json"
CARD: Final = "README.md"
TOKENIZER: Final = "tokenizer/tokenizer.json"
HARMLESS: Final = "ham"
"""The label that stands first in every bundle."""

AUTO_MAP: Final = "auto_map"
"""What names a model's own code in a config."""

FOLDERS: Final = ("adapter", "tokenizer", "base")
_SUFFIXES: Final = (".json", ".safetensors", ".txt", ".model", ".md")
_REQUIRED: Final = ("adapter/adapter_config.json", "adapter/adapter_model.safetensors", "tokenizer/tokenizer.json")
_REQUIRED_OF_BASE: Final = ("base/config.json",)
_OPTIONAL: Final = ("bands", "by_language", "coverage")
_MANIFEST_BYTES: Final = 1 << 20
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class BundleError(Exception):
    """A bundle that does not fit; says what, where, and what would."""

    def __init__(self, folder: Path, problem: str) -> None:
        super().__init__(f"{folder}: {problem}")
        self.problem = problem


class Base(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The base model: an id and revision on a hub, or `path` "base" when its weights are inside the bundle."""

    id: str
    revision: str | None = None
    path: Literal["base"] | None = None


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Platt's: probability = sigmoid(slope * log odds + intercept)."""

    slope: float
    intercept: float
    method: Literal["platt"] = "platt"


class Bands(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scores from which to flag and to block, chosen on lawful texts that the model has not learnt from."""

    flag_from: float
    block_from: float


class Thresholds(Bands, frozen=True, forbid_unknown_fields=True):
    """Bands and threshold for the texts of one language."""

    threshold: float


class Coverage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the bundle's evaluation covers: scripts (by Unicode's names), languages (ISO 639-1) and kinds of texts.

    `tokens_a_character` is a bound: a text that is cut finer is of a language that the tokenizer does not know. `kinds`
    are for people to read. Empty `languages` say nothing of languages.
    """

    scripts: tuple[str, ...]
    tokens_a_character: float
    languages: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()


class Canary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message that the model must judge as it did when it was made; written for this, never a subscriber's."""

    text: str
    label: str


class Bundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A verified bundle; `folder` and `digest` are where it lies and the SHA-256 of its bundle.json."""

    format: int = FORMAT
    name: str
    base: Base
    labels: tuple[str, ...]
    threshold: float
    calibration: Calibration
    bands: Bands | None = None
    by_language: dict[str, Thresholds] = {}
    coverage: Coverage | None = None
    max_tokens: int
    normaliser: int = NORMALISER_VERSION
    recipe: dict[str, Any]
    data_digest: str
    quality: dict[str, Any]
    canaries: tuple[Canary, ...]
    created_at: str
    files: dict[str, str] = {}
    folder: Path = Path()
    digest: str = ""

    @property
    def model(self) -> str:
        """Its name in verdicts: name@digest."""
        return f"{self.name}@{self.digest[:12]}"

    @property
    def highest_score(self) -> float:
        """The highest score of its evaluation, disguised texts too where it says so; 1 where it does not say.

        Without `highest-score` it is the upper bound of the highest bin that has a score. A head's scores have no bound
        of their own below 1, so this is what was seen, not what is possible.
        """
        highest, spread = self.quality.get("highest-score"), self.quality.get("scores")
        if isinstance(highest, int | float) and 0 < highest < 1:
            return float(highest)
        try:
            filled = max(at for at, share in enumerate(spread["shares"]) if share > 0)  # type: ignore[index]
            return float([*spread["bounds"], 1.0][filled])  # type: ignore[index]
        except (KeyError, IndexError, TypeError, ValueError):
            return 1.0

    @property
    def adapter(self) -> Path:
        """The folder that PEFT reads."""
        return self.folder / "adapter"

    @property
    def tokenizer(self) -> Path:
        """The folder of tokenizer.json."""
        return self.folder / "tokenizer"

    @property
    def base_folder(self) -> Path | None:
        """The folder of the base's weights; None when they are on a hub, under `base.id`."""
        return self.folder / self.base.path if self.base.path else None

    def read(self, name: str) -> bytes:
        """One of its files, whole. Raises BundleError when it is no longer what was verified (a draft lists none)."""
        try:
            content = (self.folder / name).read_bytes()
        except OSError as error:
            raise BundleError(self.folder, f"{name!r}: {error.strerror}") from error
        if self.files and hashlib.sha256(content).hexdigest() != self.files.get(name):
            raise BundleError(self.folder, f"{name!r}: changed since it was verified")
        return content

    @classmethod
    def load(cls, path: Path | str) -> Bundle:
        """Read and verify a bundle. Raises BundleError, naming exactly what does not fit."""
        folder = Path(path)
        content = _manifest_bytes(folder)
        bundle = _decode(folder, content)
        _verify(folder, bundle)
        return msgspec.structs.replace(bundle, folder=folder, digest=hashlib.sha256(content).hexdigest())


def load(path: Path | str) -> Bundle:
    """Read and verify a bundle. Raises BundleError."""
    return Bundle.load(path)


def write(folder: Path, bundle: Bundle, parts: Mapping[str, Path]) -> Bundle:
    """Write a bundle from `parts` ("adapter", "tokenizer", "base": the folder to copy), whole or not at all.

    A bundle that stood at `folder` is replaced; its README.md, which no digest covers, is kept. Where anything else
    stands, BundleError is raised. Returns the bundle as loaded.
    """
    check_replaceable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        draft.chmod(0o755)
        for part, source in parts.items():
            shutil.copytree(source, draft / part, ignore=_unwanted)
        listed = {path.relative_to(draft).as_posix(): _sha256(path) for path in _files_under(draft)}
        manifest = msgspec.structs.asdict(msgspec.structs.replace(bundle, files=listed))
        del manifest["folder"], manifest["digest"]
        for name in [name for name in _OPTIONAL if not manifest[name]]:
            del manifest[name]  # so that versions without them read it too
        (draft / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
        Bundle.load(draft)
        if (card := folder / CARD).is_file():
            shutil.copy2(card, draft)
        for path in draft.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)  # safetensors writes for the owner alone
            _sync(path)
        _swap(draft, folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return Bundle.load(folder)


def check_replaceable(folder: Path) -> None:
    """Raise BundleError unless nothing is lost by a bundle there: no such folder, an empty one, or a bundle."""
    if not folder.name or folder.is_symlink():
        raise BundleError(folder, "a bundle is put in the place of a folder; name the folder itself, by no link")
    if not folder.exists():
        return
    if not folder.is_dir():
        raise BundleError(folder, "a file, where a bundle is a folder; name another")
    ours = {MANIFEST, CARD, *_listed(folder)}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if name not in ours and (path.is_symlink() or not path.is_dir()):
            raise BundleError(folder, f"{name!r} is no part of a bundle and would be lost; name another folder")


def _listed(folder: Path) -> frozenset[str]:
    """The files of a bundle of any version, whole or not; none where there is no manifest."""
    try:
        return frozenset(msgspec.json.decode(_manifest_bytes(folder), type=_Listing).files)
    except (BundleError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return frozenset()


def _swap(draft: Path, folder: Path) -> None:
    """Put `draft` where `folder` is. A crash between the two renames leaves the old one aside, never half a new one."""
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-replaced-", dir=folder.parent))
    if folder.exists():
        folder.rename(aside / folder.name)
    draft.rename(folder)
    _sync(folder.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwanted(folder: str, names: list[str]) -> list[str]:
    """Leave out what PEFT and tokenisers write beside what is needed: cards, checkpoints of training, hidden files."""
    return [name for name in names if not (Path(folder) / name).is_file() or Path(name).suffix not in _SUFFIXES[:4]]


def _manifest_bytes(folder: Path) -> bytes:
    if not folder.is_dir():
        raise BundleError(folder, "no such folder")
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise BundleError(folder, f"no {MANIFEST} in it")
    if manifest.stat().st_size > _MANIFEST_BYTES:
        raise BundleError(folder, f"{MANIFEST} is larger than {_MANIFEST_BYTES} bytes")
    return manifest.read_bytes()


class _Versioned(msgspec.Struct):
    format: int


class _Listing(_Versioned):
    files: dict[str, str]


def _decode(folder: Path, content: bytes) -> Bundle:
    try:
        version = msgspec.json.decode(content, type=_Versioned).format
        if version != FORMAT:
            raise BundleError(folder, f"{MANIFEST}: format is {version}, this hamgate reads {FORMAT}")
        fields = msgspec.json.decode(content, type=dict[str, Any])
        for name in ("folder", "digest"):
            if name in fields:
                raise BundleError(folder, f"{MANIFEST}: unknown field `{name}`")
        for name in ("normaliser", "files"):
            if name not in fields:
                raise BundleError(folder, f"{MANIFEST}: missing field `{name}`")
        return msgspec.convert(fields, Bundle)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(folder, f"{MANIFEST}: {error}") from None


def _verify(folder: Path, bundle: Bundle) -> None:
    for problem in _problems(bundle):
        raise BundleError(folder, f"{MANIFEST}: {problem}")
    root = folder.resolve()
    for name, expected in bundle.files.items():
        _verify_file(folder, root, name, expected)
    _verify_nothing_unlisted(folder, bundle)
    for name in bundle.files:
        if name.endswith("config.json") and f'"{AUTO_MAP}"'.encode() in (folder / name).read_bytes():
            raise BundleError(folder, f"{name}: {AUTO_MAP} asks for remote code, which is never run")


def _problems(bundle: Bundle) -> list[str]:
    """Problems of the manifest itself, in words; empty when it fits."""
    labels, calibration = bundle.labels, bundle.calibration
    required = (*_REQUIRED, *(_REQUIRED_OF_BASE if bundle.base.path else ()))
    checks = [
        (bundle.normaliser != NORMALISER_VERSION,
         f"normaliser is {bundle.normaliser}, this hamgate's is {NORMALISER_VERSION}: export the bundle again"),
        (not 0 < bundle.threshold < 1, "threshold must lie between 0 and 1"),
        (not math.isfinite(calibration.intercept) or not 0 < calibration.slope < math.inf,
         "calibration must be finite, its slope above 0"),
        *[(not 0 < each.flag_from <= threshold <= each.block_from < 1,
           f"{name} must hold: 0 < flag_from <= threshold <= block_from < 1")
          for name, each, threshold in _banded(bundle)],
        (bundle.coverage is not None and not 0 < bundle.coverage.tokens_a_character < math.inf,
         "coverage's tokens_a_character must be above 0"),
        (bundle.max_tokens < 1, "max_tokens must be at least 1"),
        *[(canary.label not in labels, f"a canary's label {canary.label!r} is none of labels")
          for canary in bundle.canaries],
        *[(name not in bundle.files, f"files does not list {name}") for name in required],
        (bool(bundle.base.path) and not any(re.fullmatch(r"base/[^/]+\.safetensors", name) for name in bundle.files),
         "files lists no weights of the base"),
    ]  # fmt: skip
    return [*naming_problems(bundle.name, labels), *(problem for is_wrong, problem in checks if is_wrong)]


def _banded(bundle: Bundle) -> Iterator[tuple[str, Bands, float]]:
    if bundle.bands:
        yield "bands", bundle.bands, bundle.threshold
    for language, each in bundle.by_language.items():
        yield f"by_language {language!r}", each, each.threshold


def naming_problems(name: str, labels: Sequence[str]) -> list[str]:
    """Problems of a bundle's name and labels, in words; empty when both are allowed."""
    checks = [
        (not _NAME.fullmatch(name), "name must be letters, digits, dots, dashes, at most 64"),
        (len(labels) < 2 or labels[0] != HARMLESS, f"labels must be {HARMLESS!r} and at least one more"),  # noqa: PLR2004
        (len(set(labels)) != len(labels) or not all(labels), "labels must be different and not empty"),
    ]
    return [problem for is_wrong, problem in checks if is_wrong]


def _verify_file(folder: Path, root: Path, name: str, expected: str) -> None:
    def refuse(problem: str) -> NoReturn:
        raise BundleError(folder, f"{name!r}: {problem}")

    pure = PurePosixPath(name)
    if pure.is_absolute() or "\\" in name or ":" in name or "\0" in name or ".." in pure.parts or str(pure) != name:
        refuse("not a plain path below the bundle")
    if len(pure.parts) < 2 or pure.parts[0] not in FOLDERS:  # noqa: PLR2004
        refuse(f"only files below {', '.join(FOLDERS)} can be listed")
    if pure.suffix not in _SUFFIXES:
        refuse(f"kind not allowed; allowed: {', '.join(_SUFFIXES)}")
    path = folder / pure
    try:
        leads_out = not path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):
        refuse("a link that leads nowhere")
    if leads_out:
        refuse("leads out of the bundle")
    if not path.is_file():
        refuse("listed, but not there")
    found = _sha256(path)
    if found != expected:
        refuse(f"SHA-256 is {found[:12]}..., {MANIFEST} says {expected[:12]}...")


def _verify_nothing_unlisted(folder: Path, bundle: Bundle) -> None:
    for path in _files_under(folder):
        name = path.relative_to(folder).as_posix()
        if name not in bundle.files:
            raise BundleError(folder, f"{name!r}: there, but not listed in {MANIFEST}")


def _files_under(folder: Path) -> list[Path]:
    """Everything in the folders that are loaded from, except folders."""
    found = [path for part in FOLDERS for path in (folder / part).rglob("*")]
    return sorted(path for path in found if path.is_symlink() or not path.is_dir())


def _sha256(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
