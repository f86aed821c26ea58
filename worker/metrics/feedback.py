"""The series of `hamgate feedback`. They are its own process's: none of the worker's is shown beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.metrics.companion import CompanionMetrics

if TYPE_CHECKING:
    from collections.abc import Iterable


class FeedbackMetrics(CompanionMetrics):
    """The metrics of reports; `outcomes` and `states` are closed sets, each shown as zero from the start."""

    def __init__(self, outcomes: Iterable[str], states: Iterable[str]) -> None:
        super().__init__("hamgate_feedback")
        self.reports = self._counter("reports_total", "Reports by what became of them.", "outcome", known=outcomes)
        self.decisions = self._gauge(
            "decisions", "Texts that were reported, by state; disputed ones wait for an analyst.", "state", known=states
        )
        self.limited = self._gauge("limited_reporters", "Reporters who have sent more than a day's reports today.")
