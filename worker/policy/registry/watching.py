"""Takes up the registry's file when it has changed; one that is wrong changes nothing, and is told once.

Looked at by a thread of its own. A change is read once the file has held still from one look to the next, so that none
is read while it is being written.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self, TypeAlias

import structlog

from worker.policy.registry.reading import RegistryError, read
from worker.policy.registry.registered import RegisteredSenders

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from worker.metrics import Metrics

_State: TypeAlias = tuple[int, int, int, int] | None
"""Differs between two states of a file; None when it cannot be looked at."""

_UNSETTLED: Final = (-1, -1, -1, -1)

log = structlog.get_logger()


@dataclass(slots=True)
class RegistryWatch:
    """A companion of the pipeline. `every` in seconds: a change is in force within three times as much."""

    file: Path
    rules: RegisteredSenders
    metrics: Metrics
    settled: _State
    """The state that has been dealt with: in force, or refused."""
    every: float = 0.5
    name: str = "registry"
    _stopping: threading.Event = field(default_factory=threading.Event)
    _seen: _State = None

    @classmethod
    def of(cls, file: Path, metrics: Metrics, plain: Callable[[str], str]) -> Self:
        """Read the file, to begin with; `plain` undoes a text's disguises. Raises RegistryError."""
        settled = state(file)
        registry = read(file)
        metrics.registry_brands.set(len(registry.brands))
        return cls(file, RegisteredSenders(registry, plain), metrics, settled)

    def step(self) -> bool:
        """Wait, then look once. False when it is time to stop."""
        if self._stopping.wait(self.every):
            return False
        self.look()
        return True

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()

    def look(self) -> None:
        """Deal with a change that has held still."""
        before, self._seen = self._seen, state(self.file)
        if self._seen == self.settled or self._seen != before:
            return
        self.settled = self._seen
        try:
            registry = read(self.file)
        except RegistryError as error:
            self.metrics.registry_refused.inc()
            log.error("registry refused; the one in force stays", cause=str(error))  # noqa: TRY400 the cause says all
            return
        if state(self.file) != self.settled:
            self.settled = _UNSETTLED  # changed while it was read: the next looks will see to it
            return
        self.rules.offer(registry)
        self.metrics.registry_brands.set(len(registry.brands))
        log.info("registry in force", brands=len(registry.brands), senders=registry.senders, hosts=registry.hosts)


def state(file: Path) -> _State:
    """Where the file really lies, and when it was written last."""
    try:
        found = file.stat()
    except OSError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
