"""`hamgate feedback`: the process that decides on reports; and what an analyst asks of its decisions."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import structlog

from worker import app, broker
from worker.audit.brokers import AwayError
from worker.broker.feedback import FeedbackNames, FeedbackTopics, InputLookup, decisions
from worker.commands.companions import PATIENCE, run_until_stopped
from worker.feedback.joining import Hashes
from worker.feedback.recent import RecentMessages
from worker.feedback.records import HELD, DecisionState, FeedbackDecision, decode_record
from worker.feedback.reports import (
    DISMISS,
    HAM,
    SPAM,
    FeedbackReport,
    ReportedPlace,
    ReportOutcome,
    fault,
    is_decision,
    placed,
)
from worker.feedback.running import Feedback
from worker.messages import Outgoing, rfc3339
from worker.metrics import FeedbackMetrics
from worker.process import signals
from worker.settings import decisions_topic

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Sequence

    from worker.broker import KafkaLink
    from worker.feedback.records import DecisionChange
    from worker.policy.hashing import Hashing
    from worker.settings import Settings

T = TypeVar("T")
NOT_READ: Final = (AwayError, broker.BrokerError, TimeoutError)
"""What reading the topics may raise."""
_WORDS: Final = {"show": 1, "decide": 3, "history": 2}
_WRONG: Final = {
    ReportOutcome.WRONG_LABEL: f"the label: allowed: {SPAM}, {HAM} or {DISMISS}",
    ReportOutcome.WRONG_AUTHOR: "--author: wanted: letters, digits, '.', '_' and '-', 64 at most, at least one letter "
    "and no number of five digits",
    ReportOutcome.WRONG_REASON: "--reason: allowed: 120 characters without a link, an address or five digits in a row: "
    f"no part of a message; {DISMISS} needs one",
    ReportOutcome.NO_MESSAGE: "ID: wanted: a decision's, a message's, or topic:partition:offset",
}

log = structlog.get_logger()


class UnknownDecisionError(LookupError):
    """There is no decision of that id; the text says where to look."""


def feedback(settings: Settings, options: argparse.Namespace) -> int:
    """Run until told to stop; or answer what was asked."""
    try:
        names = names_of(settings)
        if not options.asked:
            return _run(settings, names, app.hashing(settings))
        return _answer(settings, names, options)
    except (app.StartRefused, ValueError) as error:
        print(error, file=sys.stderr)  # noqa: T201 for the person who typed it
        return signals.USAGE
    except (*NOT_READ, UnknownDecisionError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return signals.FAILED


def names_of(settings: Settings) -> FeedbackNames:
    """The topics and the group of reports. Raises ValueError where there are none."""
    topic = settings.feedback_topic
    if topic is None:
        message = "HAMGATE_FEEDBACK_TOPIC: name the topic of reports, as sms.feedback"
        raise ValueError(message)
    group = f"{settings.group_id}.feedback"
    return FeedbackNames(topic, decisions_topic(topic), settings.input_topic, settings.verdict_topic, group)


def _run(settings: Settings, names: FeedbackNames, hashing: Hashing) -> int:
    metrics = FeedbackMetrics(ReportOutcome, HELD)
    link = replace(app.link(settings), client_id=names.group, patience=PATIENCE)

    def ready() -> Feedback:
        return Feedback(
            lambda: FeedbackTopics(link, names),
            RecentMessages(names.events, settings.feedback_window),
            Hashes(hashing),
            metrics,
            settings.feedback_window,
            settings.max_event_bytes,
        )

    fields = {"topic": names.reports, "decisions": names.decisions, "brokers": settings.brokers, "group": names.group}
    return run_until_stopped(settings, metrics, ready, event="reading reports", fields=fields, broken=_broken)


def _broken(error: Exception) -> None:
    if isinstance(error, broker.BrokerError):
        log.error("feedback ended", cause=str(error))
    else:  # told by its name alone: what it says may hold what it was at
        log.error("feedback ended", cause=type(error).__name__, at=_where(error))


def _where(error: Exception) -> str:
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}" if trace else ""


def _answer(settings: Settings, names: FeedbackNames, options: argparse.Namespace) -> int:
    what, *words = options.asked
    if what not in _WORDS or len(options.asked) != _WORDS[what]:
        message = f"{what}: allowed: show, decide ID {SPAM}|{HAM}|{DISMISS}, history ID"
        raise ValueError(message)
    if what == "decide":
        return _decide(settings, names, words, options)
    known = written(settings, names.decisions)
    if what == "show":
        _show(known.values(), is_all=options.all, as_json=options.json)
        return signals.DONE
    decision = _known(known, words[0])
    for change in decision.history:
        print(_json(change) if options.json else _line(change))  # noqa: T201 the answer
    return signals.DONE


def written(settings: Settings, topic: str) -> dict[str, FeedbackDecision]:
    """What is decided, by id. Raises BrokerError, TimeoutError."""
    found: dict[str, FeedbackDecision] = {}
    for key, value in decisions(app.link(settings), topic):
        note(found, key, value)
    return found


def note(found: dict[str, FeedbackDecision], key: bytes | None, value: bytes | None) -> None:
    """Take up one record of the decisions topic, where it is a decision."""
    name = (key or b"").decode("utf-8", "replace").removeprefix("decision:")
    try:
        record = decode_record(value) if value else None
    except msgspec.DecodeError:  # somebody else's
        record = None
    if isinstance(record, FeedbackDecision):
        found[record.id] = record
    elif value is None:
        found.pop(name, None)


def accepted(settings: Settings, collect: Callable[..., T]) -> T:
    """What `collect` makes of the decisions, their messages, and texts' hashes. Raises ValueError or one of NOT_READ.

    It is given an iterable of decisions, a function from a place to its record, and the hashes of a text.
    """
    names, hashes = names_of(settings), Hashes(app.hashing(settings))
    found = written(settings, names.decisions)
    with InputLookup(app.link(settings), names.events) as lookup:
        return collect(
            found.values(),
            lambda place: lookup.at(place.partition, place.offset) if place.topic == names.events else None,
            hashes.subjects,
            settings.max_event_bytes,
        )


def _known(known: dict[str, FeedbackDecision], name: str) -> FeedbackDecision:
    found = known.get(name) or next((each for each in known.values() if place(each.source) == name), None)
    if found is None:
        message = f"{name}: no such decision; `hamgate feedback show --all` lists them"
        raise UnknownDecisionError(message)
    return found


def _show(known: Iterable[FeedbackDecision], *, is_all: bool, as_json: bool) -> None:
    chosen = [each for each in known if is_all or each.state is DecisionState.DISPUTED]
    chosen.sort(key=urgency)
    if as_json:
        for each in chosen:
            print(_json(_summary(each)))  # noqa: T201 the answer
        return
    print(f"{'id':<14} {'state':<9} {'label':<6} {'spam':>5} {'ham':>5} {'trust':>6}  verdict         message")  # noqa: T201
    for each in chosen:
        said = each.said
        score = "" if said is None or said.score is None else f"{said.score:.3f}"
        verdict = f"{said.label or said.action} {score}" if said else "not known"
        counts = f"{each.count(SPAM):>5} {each.count(HAM):>5} {each.trusted:>6.1f}"
        print(  # noqa: T201 the answer
            f"{each.id:<14} {each.state:<9} {each.label or '-':<6} {counts}  {verdict:<15} {place(each.source)}"
        )
    print(f"{len(chosen)} decisions", file=sys.stderr)  # noqa: T201


def _summary(each: FeedbackDecision) -> dict[str, Any]:
    return {
        "id": each.id,
        "state": each.state,
        "label": each.label,
        "spam": each.count(SPAM),
        "ham": each.count(HAM),
        "trust": round(each.trusted, 3),
        "verdict": each.said,
        "source": each.source,
        "touched_at": rfc3339(each.touched_at),
    }


def _line(change: DecisionChange) -> str:
    before = "nothing" if change.before is None else f"{change.before} {change.before_label or ''}".strip()
    after = f"{change.state} {change.label or ''}".strip()
    return f"{rfc3339(change.at)}  {change.by}  {before} -> {after}" + (f"  ({change.reason})" if change.reason else "")


def _json(value: Any) -> str:  # noqa: ANN401 whatever msgspec encodes
    return msgspec.json.encode(value).decode()


def _decide(settings: Settings, names: FeedbackNames, words: Sequence[str], options: argparse.Namespace) -> int:
    """Send an analyst's word on its way; the process that runs takes it in."""
    name, label = words
    report = correction(name, label, options.author or "", options.reason)
    if report.decision:
        _known(written(settings, names.decisions), name)
    send(app.link(settings), names.reports, [report])
    where = (
        f"history {name}" if report.decision else "show --all"
    )  # of another name the id of its decision is not known
    print(f"{name}: sent as {label}; `hamgate feedback {where}` shows it once it is in force")  # noqa: T201
    return signals.DONE


def correction(name: str, label: str, author: str, reason: str | None) -> FeedbackReport:
    """An analyst's word on a decision, a place or a message's id. Raises ValueError saying what is wrong with it."""
    report = FeedbackReport(label=label, author=author, reason=reason, **_named(name))
    if wrong := fault(report):
        raise ValueError(_WRONG.get(wrong, str(wrong)))
    return report


def send(link: KafkaLink, topic: str, corrections: Iterable[FeedbackReport]) -> None:
    """Send analysts' words on their way; the process that runs takes them in. Raises BrokerError."""
    with broker.Publisher(link) as publisher:
        publisher.publish(topic, [Outgoing(None, msgspec.json.encode(each)) for each in corrections])


def urgency(decision: FeedbackDecision) -> tuple[int, float]:
    """The order of the queue: what most have reported first, then what waits longest."""
    return -len(decision.votes), decision.touched_at


def _named(name: str) -> dict[str, Any]:
    if is_decision(name):
        return {"decision": name}
    source = placed(name)
    return {"source": source} if source else {"id": name}


def place(source: ReportedPlace) -> str:
    """A message's place as it is typed."""
    return f"{source.topic}:{source.partition}:{source.offset}"
