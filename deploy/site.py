"""What a site sets in the rendered files, from deploy/site.toml: checked here, by name."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

FILE: Final = Path(__file__).with_name("site.toml")
_NAMESPACE: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?|")
_ADDRESS: Final = re.compile(r"https?://[^\s/#]+(/[^\s#]*)?")


class SiteError(ValueError):
    """A line of site.toml that cannot be used; the text names it and says what is allowed."""


@dataclass(frozen=True)
class Site:
    """`runbook`: where docs/operations.md is read; `workers`: how many there should be, by namespace."""

    runbook: str
    workers: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check each value. Raises SiteError."""
        if not (isinstance(self.runbook, str) and _ADDRESS.fullmatch(self.runbook)):
            message = "runbook: an address that begins with http:// or https://, without #"
            raise SiteError(message)
        for namespace, count in self.workers.items():
            if not _NAMESPACE.fullmatch(namespace):
                message = f'[workers] {namespace!r}: a namespace of Kubernetes, or "" where Prometheus gives none'
                raise SiteError(message)
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                message = f"[workers] {namespace!r}: a number of workers, 0 or more"
                raise SiteError(message)


def load(path: Path = FILE) -> Site:
    """Read the file. Raises SiteError."""
    try:
        content = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        message = f"{path}: {error}"
        raise SiteError(message) from None
    unknown = sorted(set(content) - set(Site.__dataclass_fields__))
    if unknown:
        message = f"{path}: {unknown[0]} is not known; known are {', '.join(Site.__dataclass_fields__)}"
        raise SiteError(message)
    return Site(**{"runbook": "", **content})
