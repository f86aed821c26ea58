"""Answers /livez and /readyz: by the start's phase first, then by the service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.metrics import Health


@dataclass(slots=True)
class Probes:
    """Names `phase` as the reason for not being ready until `service` is there to answer for itself."""

    phase: str = "starting"
    service: Health | None = None

    def liveness_problems(self) -> list[str]:
        """Why the process should be restarted; a start that takes long is no reason."""
        return self.service.liveness_problems() if self.service else []

    def readiness_problems(self) -> list[str]:
        """Why it is not ready."""
        return self.service.readiness_problems() if self.service else [self.phase]
