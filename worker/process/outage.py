"""An outage in the log: one line when something goes away, one a minute, one when it is back."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

import structlog

SAY_EVERY: Final = 60.0

log = structlog.get_logger()


@dataclass(slots=True)
class Outage:
    """Logs that `what` is away; `fields` stand in each line."""

    what: str
    fields: dict[str, str] = field(default_factory=dict)
    cause: str = ""
    """The last one given."""
    is_told: bool = False
    """Whether somebody else tells it: nothing is logged."""
    failed_at: float = 0.0
    """When it last did not answer, in `time.monotonic` seconds."""
    _since: float | None = None
    _said: float = 0.0

    @property
    def is_on(self) -> bool:
        """Whether it is away."""
        return self._since is not None

    def goes_on(self, cause: str) -> None:
        """It did not answer."""
        self.failed_at = now = time.monotonic()
        self.cause = cause
        if self._since is None:
            self._since = self._said = now
            self._tell("warning", "away", cause=cause)
        elif now - self._said >= SAY_EVERY:
            self._said = now
            self._tell("warning", "still away", cause=cause, seconds=round(now - self._since))

    def is_over(self) -> None:
        """It did."""
        if self._since is not None:
            self._tell("info", "back", seconds=round(time.monotonic() - self._since))
            self._since = None

    def _tell(self, level: str, how: str, **more: object) -> None:
        if not self.is_told:
            getattr(log, level)(f"{self.what} {how}", **self.fields, **more)
