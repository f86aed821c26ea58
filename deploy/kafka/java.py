"""Java, Maven and the broker's jars: found, fetched once, or asked for with the one command that brings them."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

OLDEST_JAVA: Final = 17
CACHE: Final = Path(__file__).resolve().parents[2] / ".run" / "kafka"
_POM: Final = Path(__file__).with_name("pom.xml")
_RUNTIMES: Final = tuple(f"openjdk-{version}-jre-headless" for version in (17, 21, 25))


class MissingError(RuntimeError):
    """Something this machine lacks and that cannot be installed from here; the text holds the command that does."""


def ready() -> tuple[Path, Path]:
    """Return the Java program and the folder of jars, installing and fetching what is missing. Raises MissingError."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two first starts at once: one fetches, the other waits for it
        folder = CACHE / f"jars-{hashlib.sha256(_POM.read_bytes()).hexdigest()[:12]}"
        java, maven = find_java(), shutil.which("mvn")
        if java is None or not (folder.is_dir() or maven):
            _install(java=java is None, maven=not (folder.is_dir() or maven))
            java, maven = find_java(), shutil.which("mvn")
        if java is None:
            raise MissingError(_ask(java=True, maven=False))
        if not folder.is_dir():
            _fetch(folder, maven or "mvn", java)
        return java, folder


def find_java() -> Path | None:
    """Return the first Java that is new enough: JAVA_HOME's, the path's, then those of the system's own folder."""
    home, on_path = os.environ.get("JAVA_HOME"), shutil.which("java")
    candidates = [Path(home, "bin", "java")] if home else []
    candidates += [Path(on_path)] if on_path else []
    candidates += sorted(Path("/usr/lib/jvm").glob("*/bin/java"))
    return next((java for java in candidates if java.is_file() and _version(java) >= OLDEST_JAVA), None)


def compiler() -> Path:
    """Return a Java compiler, installing one where there is none: only the tests' Java reader needs it.

    Raises MissingError.
    """
    java = find_java()
    beside = java.resolve().with_name("javac") if java else None
    if beside and beside.is_file():
        return beside
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        message = (
            "the Java reader needs a Java compiler. This brings it:\n    sudo apt-get install -y default-jdk-headless"
        )
        raise MissingError(message)
    print("installing a Java compiler by apt, once", file=sys.stderr)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    _run(["apt-get", "-q", "update"], environment)
    _run(["apt-get", "-q", "install", "-y", "--no-install-recommends", _runtime().replace("jre", "jdk")], environment)
    found = shutil.which("javac")
    if found is None:
        message = "no Java compiler could be installed"
        raise MissingError(message)
    return Path(found)


def _version(java: Path) -> int:
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False).stderr
    except OSError:
        return 0
    found = re.search(r'version "(\d+)', said)
    return int(found[1]) if found else 0


def _install(*, java: bool, maven: bool) -> None:
    """Install by apt where that is possible: as root on Debian and its kin. Raises MissingError where it is not."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise MissingError(_ask(java=java, maven=maven))
    print("installing Java and Maven by apt, once", file=sys.stderr)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    _run(["apt-get", "-q", "update"], environment)
    wanted = [_runtime()] if java else []
    wanted += ["maven"] if maven else []
    _run(["apt-get", "-q", "install", "-y", "--no-install-recommends", *wanted], environment)


def _runtime() -> str:
    """Return the oldest Java that will do and that this release has."""
    for package in _RUNTIMES:
        if subprocess.run(["apt-cache", "show", package], capture_output=True, check=False).returncode == 0:
            return package
    return "default-jre-headless"


def _run(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        message = f"`{' '.join(command)}` failed:\n{(done.stdout + done.stderr)[-2000:]}"
        raise MissingError(message)


def _ask(*, java: bool, maven: bool) -> str:
    lacking = " and ".join([f"Java {OLDEST_JAVA} or newer"] * java + ["Maven"] * maven)
    if shutil.which("apt-get"):
        command = "sudo apt-get install -y " + " ".join([_runtime()] * java + ["maven"] * maven)
    elif shutil.which("dnf"):
        command = "sudo dnf install -y " + " ".join(["java-latest-openjdk-headless"] * java + ["maven"] * maven)
    elif shutil.which("brew"):
        command = "brew install " + " ".join(["openjdk"] * java + ["maven"] * maven)
    else:
        command = f"install {lacking} with this system's own tools"
    return f"the broker needs {lacking}. This brings it:\n    {command}"


def _fetch(folder: Path, maven: str, java: Path) -> None:
    print("fetching the broker's jars by Maven, once (about 45 MB)", file=sys.stderr)
    half = folder.with_suffix(".part")
    shutil.rmtree(half, ignore_errors=True)
    command = [maven, "-B", "-ntp", "-q", "-f", str(_POM), "dependency:copy-dependencies"]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={half}"]
    environment = {**os.environ, "JAVA_HOME": str(java.resolve().parents[1])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        message = f"Maven could not fetch the broker's jars:\n{(done.stdout + done.stderr)[-2000:]}"
        raise MissingError(message)
    half.rename(folder)
