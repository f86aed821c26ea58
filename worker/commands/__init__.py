"""The commands of the command line, each given the settings and its own options; each returns an exit status."""

from __future__ import annotations

import gc
import itertools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec
import structlog

from worker import loading
from worker.commands import promoting
from worker.loading import MODEL_ERRORS
from worker.model.models_in_service import Role
from worker.predict import attribution
from worker.predict.answers import answers
from worker.process import ending, logs, signals
from worker.rollout import budgets

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator

    from worker.policy.bands import Banded
    from worker.predict.answers import Answer
    from worker.settings import Settings

Command: TypeAlias = "Callable[[Settings, argparse.Namespace], int]"

# Lines of standard input that are judged as one batch.
_LINES: Final = 256
# How long a thread may keep the others of this process from running, in seconds: the model gives way and takes up again
# some fifty times a batch, and at the interpreter's own 5 ms each time could cost it that.
_SWITCH_INTERVAL: Final = 0.0005
# Words that an explanation names.
_SHOWN: Final = 8
log = structlog.get_logger()


def run(settings: Settings, _: argparse.Namespace) -> int:
    """Run the worker until it is stopped (0; 3 when what was in flight could not be committed) or broken (1)."""
    from worker.app import StartRefused, Worker  # noqa: PLC0415 predict needs no broker

    sys.setswitchinterval(_SWITCH_INTERVAL)
    try:
        worker = Worker(settings)
    except (StartRefused, *MODEL_ERRORS) as error:
        log.error("cannot start", cause=str(error))  # noqa: TRY400 the cause is all there is to say
        return 1
    # What is there by now stays: the collector need not look through it again, which takes a tenth of a second in which
    # nothing else runs.
    gc.collect()
    gc.freeze()
    try:
        with worker:
            signals.stop_on_signals(worker.service)
            is_all_committed = worker.service.run()
    except Exception as error:
        # The cause in a word: at the end of a traceback nobody sees it.
        log.exception("stopped uncommitted", cause=f"{type(error).__name__}: {error}")
        return ending.leave(signals.FAILED, by=worker.service.leave_by)
    if not is_all_committed:
        log.warning("stopped uncommitted", cause="HAMGATE_SHUTDOWN_GRACE is over; what was in flight is read again")
        return ending.leave(signals.UNCOMMITTED, by=worker.service.leave_by)
    log.info("stopped", cause="signal")
    return ending.leave(signals.DONE, by=worker.service.leave_by)


def predict(settings: Settings, options: argparse.Namespace) -> int:
    """Judge texts without a broker: arguments for people, or lines of standard input to JSON lines."""
    logs.configure(settings.log_level, settings.log_format)
    if not options.texts and sys.stdin is None:
        print("predict: no text given, and standard input is closed", file=sys.stderr)  # noqa: T201
        return signals.USAGE
    try:
        judge = loading.model(settings)
    except MODEL_ERRORS as error:
        return _fail(error)
    as_json = options.json or not options.texts
    is_typed = not options.texts and sys.stdin.isatty()
    if is_typed:
        print("Reading messages from standard input, one a line; Ctrl-D ends.", file=sys.stderr)  # noqa: T201
    # A person wants each answer before the next line.
    for text_lines in _chunks(options.texts or _lines(), 1 if is_typed else _LINES):
        prepared = judge.classifier.prepare(text_lines)
        found = answers(prepared, judge.classifier.judge(prepared), judge.verdicts)
        for text, answer in zip(text_lines, found, strict=True):
            why = attribution.attribute(judge.classifier, text) if options.explain else None
            if as_json:
                said = msgspec.to_builtins(answer) | ({"words": msgspec.to_builtins(why.words)} if why else {})
                line = json.dumps(said)
            else:
                line = _for_people(answer) + (f"\n{_explained(why)}" if why else "")
            print(line, flush=True)  # noqa: T201 the answer
    return 0


def _lines() -> Iterator[str]:
    # Broken bytes are the sender's doing, not a reason to stop: they are judged as what can be read of them.
    for line in sys.stdin.buffer:
        yield line.decode(errors="replace").rstrip("\r\n")


def _chunks(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    texts = iter(texts)
    while chunk := list(itertools.islice(texts, size)):
        yield chunk


def _for_people(answer: Answer) -> str:
    if answer.label is None:
        return f"-     {answer.reason}  {answer.action}"
    return f"{answer.label:<5} probability {answer.score:.3f}  {answer.action}"


def _explained(why: attribution.Attribution) -> str:
    """The words that moved the score most, in log odds."""
    top = why.top(_SHOWN)
    shown = [f"{each.odds:+6.2f}  {each.word}" for each in top]
    if why.odds is None:
        shown.append("        nothing to explain")
    else:
        shown.append(f"{why.odds - sum(each.odds or 0.0 for each in top):+6.2f}  (all else)")
    return "\n".join(f"      {line}" for line in shown)


def check(settings: Settings, _: argparse.Namespace) -> int:
    """Check everything that a start needs; report what is wrong and how to fix it."""
    logs.configure("critical", settings.log_format)  # what is wrong is said once, as a finding
    is_well = True
    checks = _check_model(settings), _check_registry(settings), _check_brokers(settings), _check_feedback(settings)
    for name, trouble in itertools.chain([("settings", None)], *checks):
        mark = "ok  " if trouble is None else "warn" if isinstance(trouble, _Caution) else "FAIL"
        print(f"{mark} {name}" + (f": {trouble}" if trouble else ""))  # noqa: T201
        is_well = is_well and mark != "FAIL"
    return 0 if is_well else 1


class _Caution(str):
    """A warning of a check, which does not keep a worker from starting."""

    __slots__ = ()


def _check_model(settings: Settings) -> Iterator[tuple[str, str | None]]:
    places = ((Role.PRIMARY, settings.bundle), (Role.CANARY, settings.canary), (Role.SHADOW, settings.shadow))
    for role, folder in places:
        if folder is None:
            continue
        try:
            found = loading.model(settings, folder, role)
        except MODEL_ERRORS as error:
            yield f"{role} bundle {folder}", str(error)
        else:
            kind = found.classifier.engine.kind
            bundle, policy = found.classifier.bundle, found.verdicts.policy
            count = len(bundle.canaries)
            judged = f"{count} canaries judged" if count else "no canaries"
            yield f"{role} bundle {folder} ({found.name}, engine {kind}, {judged})", None
            if not count:
                yield f"{role} bundle {folder}", _Caution(loading.NO_CANARIES)
            if spread := budgets.ScoreSpread.read(bundle.quality):
                yield f"{role} bands (of the bundle's evaluation {_taken(spread, policy.banded)})", None
            for out_of_reach in policy.beyond(bundle.highest_score):
                yield f"{role} bands", out_of_reach
            if not found.reference:
                yield (
                    f"{role} drift",
                    _Caution(
                        "not shown: the bundle does not say what is usual of its evaluation; make it again with 1,000 "
                        "texts or more that it has not learnt from (training export, training import --calibrate)"
                    ),
                )


def _check_registry(settings: Settings) -> Iterator[tuple[str, str | None]]:
    if settings.registry is None:
        return
    from worker.policy.registry import reading  # noqa: PLC0415 where there is one

    try:
        found = reading.read(settings.registry)
    except reading.RegistryError as error:
        yield f"registry {settings.registry}", str(error)
    else:
        counts = f"{len(found.brands):,} brands, {found.senders:,} senders, {found.hosts:,} hosts"
        yield f"registry {settings.registry} ({counts})", None


def _taken(spread: budgets.ScoreSpread, banded: Banded) -> str:
    """Say what each band takes, in percent; where a band cuts a bin of the scores, between which two."""
    return ", ".join(
        f"{low:.1%} {name}" if f"{low:.1%}" == f"{high:.1%}" else f"{low:.1%} to {high:.1%} {name}"
        for name, low, high in budgets.shares(spread, banded)
    )


def _check_brokers(settings: Settings) -> Iterator[tuple[str, str | None]]:
    from worker.app import findings  # noqa: PLC0415 predict needs no broker

    if sys.stderr.isatty():
        print(f"asking {settings.brokers} ...", file=sys.stderr)  # noqa: T201 which can take some seconds
    yield from findings(settings)


def _check_feedback(settings: Settings) -> Iterator[tuple[str, str | None]]:
    """What would keep `hamgate feedback` from starting, where its topic is set."""
    if settings.feedback_topic is None:
        return
    from worker import app, broker  # noqa: PLC0415 predict needs no broker
    from worker.commands.feeding import names_of  # noqa: PLC0415

    names = names_of(settings)
    try:
        app.hashing(settings)
        found = [str(finding) for finding in broker.check_feedback(app.link(settings), names)]
    except (app.StartRefused, broker.BrokerError) as error:
        found = [str(error)]
    yield from ((f"feedback {names.reports}", finding) for finding in found)
    if not found:
        yield f"feedback {names.reports}, {names.decisions}, group and rights", None


def replay(settings: Settings, options: argparse.Namespace) -> int:
    """Send dead letters back to the input, or show one."""
    from worker.app import StartRefused, dead_letter, replay_dead_letters  # noqa: PLC0415 predict needs no broker
    from worker.commands import showing  # noqa: PLC0415 for this command alone

    logs.configure(settings.log_level, settings.log_format)
    try:
        if options.show is None:
            return replay_dead_letters(settings, options)
        for line in showing.lines(dead_letter(settings, options)):
            print(line)  # noqa: T201 the answer
    except ValueError as error:
        return _fail(error, signals.USAGE)
    except StartRefused as error:
        return _fail(error)
    return 0


def simulate(settings: Settings, options: argparse.Namespace) -> int:
    """Send made-up traffic to the input topic until it is told to stop."""
    from worker.app import StartRefused, UsageError, simulate_traffic  # noqa: PLC0415 predict needs no broker

    logs.configure(settings.log_level, settings.log_format)
    try:
        return simulate_traffic(settings, options)
    except UsageError as error:
        return _fail(error, signals.USAGE)
    except StartRefused as error:
        return _fail(error)


def use(settings: Settings, options: argparse.Namespace) -> int:
    """Point HAMGATE_BUNDLE at another bundle, once it is proven; the workers that watch it change over."""
    logs.configure(settings.log_level, settings.log_format)
    try:
        turn = promoting.proven(settings, Path(options.folder))
        turn.make()
    except promoting.NOT_PROMOTED as error:
        return _fail(error)
    where = f"{turn.link} -> {turn.folder.resolve()} ({turn.model.name})"
    print(f"{where}; `hamgate back` returns to {turn.before or 'nothing'}")  # noqa: T201
    return 0


def back(settings: Settings, options: argparse.Namespace) -> int:
    """Point HAMGATE_BUNDLE at the bundle before the last `use`, once it is proven; done again, it changes nothing."""
    logs.configure(settings.log_level, settings.log_format)
    link = settings.bundle
    try:
        turn = promoting.proven_back(settings, again=options.again)
        if turn is None:
            print(f"{link} -> {link.resolve()} already, back since the last `hamgate use`; --again goes further")  # noqa: T201
            return 0
        turn.make()
    except promoting.NOT_PROMOTED as error:
        return _fail(error)
    print(f"{link} -> {turn.folder} ({turn.model.name})")  # noqa: T201 the answer
    return 0


def compare(settings: Settings, options: argparse.Namespace) -> int:
    """Say what the shadow would have done otherwise."""
    from worker.app import StartRefused, comparisons  # noqa: PLC0415 predict needs no broker

    logs.configure(settings.log_level, settings.log_format)
    try:
        found = comparisons(settings, options)
    except ValueError as error:
        return _fail(error, signals.USAGE)
    except StartRefused as error:
        return _fail(error)
    if options.json:
        print(json.dumps([each.as_json() for each in found], indent=1))  # noqa: T201 the answer
    for line in itertools.chain.from_iterable(each.lines() for each in found if not options.json):
        print(line)  # noqa: T201 the answer
    if not found:
        return _fail(
            ValueError(f"no reports in {settings.shadow_topic}: is HAMGATE_SHADOW set, and has traffic passed?")
        )
    return 0


def audit(settings: Settings, options: argparse.Namespace) -> int:
    """Prove that every input offset has one verdict or dead letter, in order; until it is stopped, or once."""
    from worker.commands import auditing  # noqa: PLC0415 predict needs no broker

    logs.configure(settings.log_level, settings.log_format)
    return auditing.audit(settings, options)


def feedback(settings: Settings, options: argparse.Namespace) -> int:
    """Decide on reports until it is told to stop; or show, decide, or tell the history of one."""
    from worker.commands import feeding  # noqa: PLC0415 predict needs no broker

    logs.configure(settings.log_level, settings.log_format)
    return feeding.feedback(settings, options)


def tail(settings: Settings, options: argparse.Namespace) -> int:
    """Show verdicts and dead letters as they are committed."""
    from worker.commands import tailing  # noqa: PLC0415 predict needs no broker

    logs.configure("error", settings.log_format)
    return tailing.tail(settings, options)


def lists(settings: Settings, options: argparse.Namespace) -> int:
    """Change or show the lists of what is allowed, flagged and blocked."""
    from worker.commands import listing  # noqa: PLC0415 predict needs no broker

    logs.configure("error", settings.log_format)
    return listing.lists(settings, options)


def campaigns(settings: Settings, options: argparse.Namespace) -> int:
    """Show what the workers have seen of campaigns."""
    from worker.commands import campaigning  # noqa: PLC0415 predict needs no broker

    logs.configure("error", settings.log_format)
    return campaigning.campaigns(settings, options)


def calibrate(settings: Settings, options: argparse.Namespace) -> int:
    """Fit the bands on a carrier's own lawful texts."""
    from worker.commands import calibrating  # noqa: PLC0415 only whoever asks

    logs.configure("error", settings.log_format)
    return calibrating.calibrate(settings, options)


def registry(settings: Settings, options: argparse.Namespace) -> int:
    """Put a sender registry into its topic, or show the one that is there."""
    from worker.commands import registering  # noqa: PLC0415 only whoever asks

    logs.configure("error", settings.log_format)
    return registering.registry(settings, options)


def console(settings: Settings, options: argparse.Namespace) -> int:
    """Serve the console until it is stopped; or print a line for the file of its users."""
    from worker.commands import consoling  # noqa: PLC0415 only whoever asks

    logs.configure(settings.log_level, settings.log_format)
    return consoling.console(settings, options)


def bench(settings: Settings, options: argparse.Namespace) -> int:
    """Measure this machine with the bundle and engine that are set, and say what to set for it."""
    from worker import bench as measuring  # noqa: PLC0415 only whoever asks

    logs.configure("error", settings.log_format)
    try:
        classifier = loading.model(settings).classifier
    except MODEL_ERRORS as error:
        return _fail(error)
    say = (lambda *_: None) if options.json else print  # what can take seconds shows how far it is
    say(f"{classifier.bundle.model}, engine {classifier.engine.kind}, {settings.threads} threads")
    say(f"{'tokens':>8} {'messages':>9} {'ms a batch':>11} {'messages/s':>11}")
    points = []
    for point in measuring.measure(classifier, options.seconds):
        points.append(point)
        say(f"{point.budget:>8} {point.messages:>9.0f} {1e3 * point.seconds:>11.2f} {point.rate:>11,.0f}")
    found = measuring.advise(points, settings.latency_budget, measuring.single(classifier))
    if options.json:
        print(json.dumps(measuring.report(found, engine=str(classifier.engine.kind), threads=settings.threads)))  # noqa: T201 the answer
        return 0
    say(f"one message alone: {1e3 * found.single_seconds:.2f} ms")
    say(f"a batch: {1e3 * found.fixed_seconds:.2f} ms, and {1e6 * found.seconds_a_token:.3f} us for each token")
    say(f"for a latency budget of {settings.latency_budget:g} s, with this bundle on this machine:")
    for name, value in found.as_settings().items():
        say(f"  {name}={value}")
    say(f"gives {found.messages_a_second:,.0f} messages/s by the model alone")
    return 0


def _fail(error: Exception, status: int = signals.FAILED) -> int:
    print(error, file=sys.stderr)  # noqa: T201 for the person who typed the command
    return status


COMMANDS: Final[dict[str, Command]] = {
    "run": run,
    "predict": predict,
    "check": check,
    "replay": replay,
    "simulate": simulate,
    "bench": bench,
    "calibrate": calibrate,
    "use": use,
    "back": back,
    "compare": compare,
    "audit": audit,
    "feedback": feedback,
    "tail": tail,
    "lists": lists,
    "campaigns": campaigns,
    "registry": registry,
    "console": console,
}
