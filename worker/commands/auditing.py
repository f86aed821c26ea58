"""`hamgate audit`: from settings and options to an audit, and to its exit status."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog

from worker import app, broker
from worker.audit.auditor import Topics
from worker.audit.brokers import AwayError
from worker.audit.ledger import Ledger, MismatchKind
from worker.audit.news import News
from worker.audit.report import AuditReport
from worker.audit.running import Audit, AuditTerms
from worker.audit.starting import Start, StartError
from worker.broker.audit import AuditedTopics
from worker.commands.companions import PATIENCE, run_until_stopped
from worker.messages import UnreadableError, decode
from worker.metrics import AuditMetrics
from worker.pipeline.batching import MAX_MESSAGES
from worker.process import signals

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from worker.messages import Record
    from worker.settings import Settings

_TOGETHER: Final = 8
"""Batches that one transaction of the worker has at most: four may wait for the writer, and more come meanwhile."""
_NOT_PROVEN: Final = (AwayError, broker.BrokerError, StartError, TimeoutError)

log = structlog.get_logger()


def audit(settings: Settings, options: argparse.Namespace) -> int:
    """Audit until it is told to stop, or once: 0 when all is proven, 1 when not."""
    try:
        _require_exactly_once(settings)
        start = Start.parse(options.from_offset, options.from_time)
    except ValueError as error:
        print(error, file=sys.stderr)  # noqa: T201 for the person who typed it
        return signals.USAGE
    return _once(settings, start, as_json=options.json) if options.once else _for_ever(settings, start)


def _once(settings: Settings, start: Start, *, as_json: bool) -> int:
    # One that begins elsewhere is an inquiry: the progress of the audit that runs beside it is none of its own.
    proof = _audit(settings, start, AuditMetrics(MismatchKind), patience=None, commits=not start.is_given)
    try:
        proof.once()
    except _NOT_PROVEN as error:
        print(f"not proven: {error}", file=sys.stderr)  # noqa: T201 for the person who typed it
        return signals.FAILED
    report = AuditReport(settings.input_topic, proof.began, proof.ledger.progress(), proof.ledger)
    for line in [report.as_json()] if as_json else report.lines():
        print(line)  # noqa: T201 the answer
    return signals.DONE if report.is_proven else signals.FAILED


def _for_ever(settings: Settings, start: Start) -> int:
    metrics = AuditMetrics(MismatchKind)

    def ready() -> Audit:
        running = _audit(settings, start, metrics, patience=PATIENCE, commits=True)
        metrics.follow(running.ledger.oldest, lambda: running.looked_at)
        return running

    fields = {
        "topic": settings.input_topic,
        "brokers": settings.brokers,
        "group": settings.group_id,
        "audit_group": _group(settings),
    }
    return run_until_stopped(settings, metrics, ready, event="auditing", fields=fields, broken=_broken)


def _broken(error: Exception) -> None:
    if isinstance(error, (broker.BrokerError, StartError)):
        log.error("audit ended", cause=str(error))
    else:
        log.error("audit ended", cause=f"{type(error).__name__}: {error}", exc_info=error)


def _audit(settings: Settings, start: Start, metrics: AuditMetrics, *, patience: float | None, commits: bool) -> Audit:
    topics = Topics(settings.input_topic, settings.verdict_topic, settings.dead_letter_topic)
    link = replace(app.link(settings), client_id=_group(settings))
    link = replace(link, patience=patience) if patience else link
    ledger = Ledger(settings.input_topic, settings.audit_window)
    terms = AuditTerms(
        topics,
        start,
        _decoder(settings),
        settings.audit_window,
        most_at_once=_TOGETHER * MAX_MESSAGES,
        commits=commits,
    )

    groups, topic_ids = {"worker_group": settings.group_id, "audit_group": _group(settings)}, dict[str, str]()

    def connect() -> AuditedTopics:
        return AuditedTopics(link, topics, **groups, topic_ids=topic_ids)

    return Audit(terms, connect, ledger, News(ledger, metrics))


def _decoder(settings: Settings) -> Callable[[Record], bool]:
    """Whether the worker can read an event: by the same bound, which must be set as for the worker."""

    def is_readable(record: Record) -> bool:
        try:
            decode(record, max_bytes=settings.max_event_bytes)
        except UnreadableError:
            return False
        return True

    return is_readable


def _group(settings: Settings) -> str:
    return f"{settings.group_id}.audit"


def _require_exactly_once(settings: Settings) -> None:
    if settings.delivery != "exactly-once":
        message = f"HAMGATE_DELIVERY: {settings.delivery} may answer a message twice; the audit verifies exactly-once"
        raise ValueError(message)
