"""The programs that the operator's files are checked with, fetched into .run/tools and started from there alone.

    python -m deploy.tools promtool compose ...    fetch these (none named: all) and say where each is

Prometheus and Alertmanager are Debian's packages, unpacked and not installed, so that no daemon is started and no root
is needed; their version is the release's own (bookworm: 2.42, 0.25). The others are built from their Go modules.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

CACHE: Final = Path(__file__).resolve().parents[1] / ".run" / "tools"

# Each program, the package that holds it, and its name there.
DEBIAN: Final = {
    "prometheus": ("prometheus", "prometheus"),
    "promtool": ("prometheus", "promtool"),
    "alertmanager": ("prometheus-alertmanager", "prometheus-alertmanager"),
    "amtool": ("prometheus-alertmanager", "amtool"),
}
# Each program, its module, its package in it, and the version.
GO: Final = {
    "compose": ("github.com/docker/compose/v2", "./cmd", "v2.39.4"),
    "kustomize": ("sigs.k8s.io/kustomize/kustomize/v5", ".", "v5.6.0"),
    "kubeconform": ("github.com/yannh/kubeconform", "./cmd/kubeconform", "v0.7.0"),
    "helm": ("helm.sh/helm/v3", "./cmd/helm", "v3.19.5"),
}
OLDEST_GO: Final = (1, 23)
_BUILD_SECONDS: Final = 1500


class MissingError(RuntimeError):
    """A program that cannot be installed here; the text says what it needs."""


def tool(name: str, *, fetch: bool = True) -> Path:
    """Return the program's path, fetching it where that is allowed. Raises MissingError."""
    package, program = DEBIAN.get(name, (f"{name}-{GO[name][2]}" if name in GO else "", name))
    folder = CACHE / package
    path = folder / "usr" / "bin" / program if name in DEBIAN else folder / program
    if path.is_file():
        return path
    if name in DEBIAN and (installed := shutil.which(program)):
        return Path(installed)
    if not fetch:
        message = f"{name} is not here yet; `make operate-check` fetches it"
        raise MissingError(message)
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two at once: one fetches, the other waits for it
        if not path.is_file():
            print(f"fetching {name}, once", file=sys.stderr)
            _unpack(package, folder) if name in DEBIAN else _build(name, folder)
    return path


def _unpack(package: str, folder: Path) -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        message = f"{package} is taken from Debian's packages: put its programs on the path by this system's own means"
        raise MissingError(message)
    with tempfile.TemporaryDirectory(dir=CACHE) as place:
        got = _run(["apt-get", "-q", "download", package], Path(place))
        if got and os.geteuid() == 0:  # a new machine has no list of packages yet
            _run(["apt-get", "-q", "update"], Path(place))
            got = _run(["apt-get", "-q", "download", package], Path(place))
        if got:
            message = f"apt-get cannot download {package}; try `sudo apt-get update`. It said:\n{got[-800:]}"
            raise MissingError(message)
        [archive] = Path(place).glob("*.deb")
        unpacked = Path(place) / "unpacked"
        subprocess.run(["dpkg-deb", "-x", archive, unpacked], check=True)
        unpacked.rename(folder)


def _build(name: str, folder: Path) -> None:
    _require_go(name)
    module, package, version = GO[name]
    with tempfile.TemporaryDirectory(dir=CACHE) as place:
        got = subprocess.run(
            ["go", "mod", "download", "-json", f"{module}@{version}"],
            cwd=place, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if got.returncode:
            message = f"{name}: its module {module}@{version} could not be fetched:\n{(got.stdout + got.stderr)[-800:]}"
            raise MissingError(message)
        # A copy: the module's folder may not be written to, and its own go.mod replaces what it needs replaced.
        source = Path(place) / "source"
        shutil.copytree(json.loads(got.stdout)["Dir"], source)
        for path in (source, *source.rglob("*")):
            path.chmod(path.stat().st_mode | 0o200)
        said = _run(["go", "build", "-mod=mod", "-o", str(Path(place) / "built" / name), package], source)
        if said:
            message = f"{name} does not build:\n{said[-2000:]}"
            raise MissingError(message)
        (Path(place) / "built").rename(folder)


def _require_go(name: str) -> None:
    wanted = f"{name} is built by Go {OLDEST_GO[0]}.{OLDEST_GO[1]} or newer"
    if shutil.which("go") is None:
        raise MissingError(wanted)
    said = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=True).stdout.strip()
    numbers = tuple(int(part) for part in said.removeprefix("go").split(".")[:2])
    if numbers < OLDEST_GO:
        message = f"{wanted}; here is {said}"
        raise MissingError(message)


def _run(command: list[str], place: Path) -> str:
    """Run it; return what it said if it failed, else nothing."""
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False)
    return (done.stdout + done.stderr or "it failed") if done.returncode else ""


def main(names: list[str]) -> int:
    """Fetch the named programs; the exit status is 0 when all are here."""
    is_whole = True
    for name in names or [*DEBIAN, *GO]:
        try:
            print(f"{name}\t{tool(name)}")
        except MissingError as error:
            print(error, file=sys.stderr)
            is_whole = False
    return 0 if is_whole else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
