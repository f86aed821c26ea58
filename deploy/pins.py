"""Lists what this project takes from elsewhere to run or check its deployment: images and tools, each with its version.

    python -m deploy.pins           name, version, digest and where each is written
    python -m deploy.pins --lock    ask each image's registry for its digest, and write it beside the version

Python's packages have locks of their own: requirements.lock, deploy/worker.lock, deploy/uv.lock. `--lock` needs Docker
with buildx, and a registry that can be reached. A digest holds for all of an image's architectures.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from deploy import tools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT: Final = Path(__file__).resolve().parents[1]
# The files that name images of others, and how a line of each does.
HOLDERS: Final = {
    "docker-compose.yml": re.compile(r"^ +image: (?:&\w+ )?(?P<image>(?!hamgate:)[a-z]\S+)$", re.MULTILINE),
    "deploy/Dockerfile": re.compile(r"^ARG PYTHON_IMAGE=(?P<image>\S+)$", re.MULTILINE),
}
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Pin:
    """One thing and its version; `digest` is empty where none is written. A tool's source is verified by Go's sums."""

    kind: str
    name: str
    version: str
    digest: str
    place: str

    @property
    def reference(self) -> str:
        """An image's name as Docker takes it."""
        return f"{self.name}:{self.version}" + (f"@{self.digest}" if self.digest else "")


def listed() -> Iterator[Pin]:
    """Every pin: images, then tools."""
    for holder, pattern in HOLDERS.items():
        for found in pattern.finditer((ROOT / holder).read_text()):
            tagged, _, digest = found["image"].partition("@")
            name, _, version = tagged.partition(":")
            yield Pin("image", name, version, digest, holder)
    for name, (module, _, version) in tools.GO.items():
        yield Pin("tool", name, version, "", f"deploy/tools.py, {module}")


def lock(ask: Callable[[str], str | None]) -> None:
    """Write each image's digest beside its version, as `ask` gives it for `name:version`; None leaves what is there."""
    for holder, pattern in HOLDERS.items():
        path = ROOT / holder

        def pinned(found: re.Match[str]) -> str:
            tagged = found["image"].partition("@")[0]
            digest = ask(tagged)
            return found[0].replace(found["image"], f"{tagged}@{digest}") if digest else found[0]

        path.write_text(pattern.sub(pinned, path.read_text()))


def asked_of_the_registry(reference: str) -> str | None:
    """The digest of an image, or None, with the reason told."""
    said = subprocess.run(
        ["docker", "buildx", "imagetools", "inspect", reference, "--format", "{{.Manifest.Digest}}"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if said.returncode == 0 and _DIGEST.fullmatch(said.stdout.strip()):
        return said.stdout.strip()
    print(f"{reference}: {said.stderr.strip() or said.stdout.strip()}", file=sys.stderr)
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """List, or ask for digests and then list. With --lock the exit status is 1 when an image is left without one."""
    parser = argparse.ArgumentParser(prog="python -m deploy.pins", description=__doc__)
    parser.add_argument("--lock", action="store_true", help="ask the registries for digests, and write them")
    is_locking = parser.parse_args(arguments).lock
    if is_locking:
        if shutil.which("docker") is None:
            print("--lock asks the registries through Docker, which is not installed here", file=sys.stderr)
            return 1
        lock(asked_of_the_registry)
    pins = list(listed())
    for pin in pins:
        print(f"{pin.kind:<6}{pin.name:<24}{pin.version:<22}{pin.digest or '-':<72}{pin.place}")
    missing = sum(pin.kind == "image" and not pin.digest for pin in pins)
    if missing:
        print(f"{missing} without a digest: python -m deploy.pins --lock, where Docker is", file=sys.stderr)
    return 1 if is_locking and missing else 0


if __name__ == "__main__":
    sys.exit(main())
