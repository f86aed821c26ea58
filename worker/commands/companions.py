"""A process of its own beside the workers, as the audit is: its endpoint, its signals, its exit status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import structlog

from worker import app, broker
from worker.metrics.probes import Probes
from worker.process import signals, streams

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from worker.metrics import CompanionMetrics
    from worker.settings import Settings

PATIENCE: Final = 5.0
"""Seconds that one try to connect may take, so that a signal is heard meanwhile."""

log = structlog.get_logger()


class Lasting(Protocol):
    """Works until it is stopped, or breaks."""

    def run(self) -> None:
        """Work."""

    def stop(self) -> None:
        """Finish; may be called from a signal handler."""

    def liveness_problems(self) -> list[str]:
        """Why the process should be restarted."""

    def readiness_problems(self) -> list[str]:
        """Why it is not ready."""


def run_until_stopped(  # noqa: PLR0913 what the two processes differ in
    settings: Settings,
    metrics: CompanionMetrics,
    begin: Callable[[], Lasting],
    *,
    event: str,
    fields: Mapping[str, str],
    broken: Callable[[Exception], None],
) -> int:
    """Answer the probes, begin, and work until a signal: 0; 1 where it cannot start or breaks, which `broken` logs.

    `event` and `fields` are the line in the log that says that it works.
    """
    probes = Probes("connecting to the brokers")
    streams.report_dropped(metrics.log_lines_dropped.inc)
    try:
        server = app.serve(settings, metrics, probes)
    except app.StartRefused as error:
        log.error("cannot start", cause=str(error))  # noqa: TRY400 the cause is all there is to say
        return signals.FAILED
    broker.OUTAGES.is_logged = False  # it says itself that it cannot go on, and why
    running = begin()
    probes.service = running
    signals.stop_on_signals(running)
    log.info(event, **fields, metrics=f"{server.address}/metrics")
    try:
        running.run()
    except Exception as error:  # noqa: BLE001 whatever it is, the process ends with its status
        broken(error)
        return signals.FAILED
    finally:
        server.close()
    log.info("stopped", cause="signal")
    return signals.DONE
