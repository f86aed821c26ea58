"""Answers /livez and /readyz: by the start's phase first, then by the service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.metrics import Health


@dataclass(slots=True)
class Probes:
    """Says `phase` as the obstacle until `service` is there to answer for itself."""

    phase: str = "starting"
    service: Health | None = None

    def ailments(self) -> list[str]:
        """Why the process should be restarted; a start that takes long is no reason."""
        return self.service.ailments() if self.service else []

    def obstacles(self) -> list[str]:
        """Why it is not ready."""
        return self.service.obstacles() if self.service else [self.phase]
