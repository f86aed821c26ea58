"""hamgate on the command line: run, predict, check, calibrate, use, back, compare, tail, and more."""

from __future__ import annotations

import argparse
import contextlib
import math
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

import shtab

from worker import flags
from worker import settings as knobs
from worker.messages import Action
from worker.process import logs, output, signals, streams
from worker.version import in_full

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


_FLAGS = {*knobs.Settings.model_fields, *knobs.REMOVED}
_SHELLS: Final = ("bash", "zsh", "fish")
_ASKING_BROKERS = (
    *("check", "replay", "simulate", "compare", "audit", "tail", "lists", "campaigns", "registry", "feedback"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says. Returns the exit status; docs/operations.md lists them."""
    streams.secure()
    output.guard()
    try:
        status = _main(arguments)
        output.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)  # noqa: T201 for the person who typed Ctrl-C
        return signals.BY_SIGNAL + signal.SIGINT
    except BrokenPipeError:
        return signals.nobody_reads()
    except OSError as error:
        if error.filename != output.NAME:
            raise
        output.discard()
        print(f"{output.NAME}: {error.strerror}", file=sys.stderr)  # noqa: T201 for the person who typed it
        return 1
    return status


def _main(arguments: Sequence[str] | None) -> int:
    options = vars(_parser().parse_args(arguments))
    command = options.pop("command") or "run"
    if options.pop("print_settings"):
        command = "print-settings"
    if command == "completion":
        print(shtab.complete(_parser(completing=True), options["shell"]))  # noqa: T201 this is the answer
        return 0
    given = {name: options.pop(name) for name in list(options) if name in _FLAGS}
    try:
        settings = knobs.load(given)
    except knobs.SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201 the settings decide how to log, so this cannot be logged
        return signals.USAGE
    if command == "print-settings":
        return _print_settings(settings, given)
    phase: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    is_companion = (command == "audit" and not options["once"]) or (command == "feedback" and not options["asked"])
    if command == "run" or is_companion:
        logs.configure(settings.log_level, settings.log_format)  # before the imports, which may be told to end, too
        phase = signals.while_loading()
    elif command in _ASKING_BROKERS:
        phase = signals.at_ctrl_c()
    with phase:
        # Imported when needed: `hamgate predict` should not wait for Kafka, nor print-settings for either.
        from worker import commands  # noqa: PLC0415

        return commands.COMMANDS[command](settings, argparse.Namespace(**options))


def _print_settings(settings: knobs.Settings, given: dict[str, str]) -> int:
    rows = knobs.in_force(settings, given)
    width = max(len(f"{name}={value}") for name, value, _, _ in rows)
    for name, value, origin, meaning in rows:
        print(f"{f'{name}={value}':<{width}}  # {origin}: {meaning}")  # noqa: T201 this is the answer
    return 0


def _parser(*, completing: bool = False) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hamgate",
        usage="hamgate [command] [--setting VALUE ...]",
        description="Judges a carrier's SMS traffic in real time: Kafka in, one verdict a message out, exactly once.",
        epilog="`hamgate COMMAND --help` shows what a command takes, with examples. Without a command: run.",
        allow_abbrev=False,  # a command's own option may be the beginning of a setting's name
    )
    parser.add_argument("--version", action="version", version=in_full(), help="show the version, commit and Python")
    parser.add_argument("--print-settings", action="store_true", help="the same as the command print-settings")
    flags.add_hidden(parser)
    commands = parser.add_subparsers(dest="command", metavar="command", title="commands")

    def add(name: str, summary: str, *examples: str, takes: str = "") -> argparse.ArgumentParser:
        made = commands.add_parser(
            name,
            prog=f"hamgate {name}",
            help=summary,
            description=summary,
            usage=f"hamgate {name} {takes}{'[--setting VALUE ...]' * bool(flags.USED_BY[name])}",
            allow_abbrev=False,
            epilog="\n".join(["examples:", *(f"  {example}" for example in examples)]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        flags.add(made, name, completing=completing)
        return made

    add(
        "run",
        "run the worker (also when no command is given)",
        "hamgate run --brokers a:9092,b:9092 --instance-id hamgate-0",
        "HAMGATE_BUNDLE=models/live hamgate run --metrics-host 0.0.0.0",
    )
    predict = add(
        "predict",
        "judge texts: given as arguments, or lines from standard input to JSON lines",
        'hamgate predict "WINNER!! Call 09061701461 to claim your prize"',
        "hamgate predict < messages.txt > verdicts.jsonl",
        takes="[text ...] ",
    )
    predict.add_argument("texts", nargs="*", metavar="text", help="a message; none: read lines from standard input")
    predict.add_argument("--json", action="store_true", help="write JSON lines for arguments too")
    predict.add_argument("--explain", action="store_true", help="also say which words moved the score")
    add(
        "check",
        "check settings, bundle, broker, topics and rights; say what is wrong and how to fix it",
        "hamgate check",
        "hamgate check --brokers a:9092 --bundle models/next",
    )
    replay = add(
        "replay",
        "send dead letters back to the input, by reason and range, each once",
        "hamgate replay --reason invalid-json --dry-run",
        "hamgate replay --since 2026-01-31T08:00:00Z --until 2026-01-31T09:00:00Z",
        takes="[--reason R ...] [--dry-run] ... ",
    )
    replay.add_argument("--reason", action="append", default=[], metavar="R", help="only this reason; may be repeated")
    replay.add_argument("--since", metavar="TIME", help="only dead letters that failed at or after this RFC 3339 time")
    replay.add_argument("--until", metavar="TIME", help="only dead letters that failed before this RFC 3339 time")
    replay.add_argument("--partition", type=int, metavar="N", help="only this partition of the dead-letter topic")
    replay.add_argument("--from-offset", type=int, metavar="N", help="from this offset of it (with --partition)")
    replay.add_argument("--to-offset", type=int, metavar="N", help="up to, not including, this one (with --partition)")
    replay.add_argument("--again", action="store_true", help="also dead letters that an earlier replay has sent back")
    replay.add_argument("--dry-run", action="store_true", help="report what would be sent; send nothing")
    replay.add_argument(
        "--show",
        type=int,
        metavar="N",
        help="show the dead letter at offset N (with --partition), masked; send nothing",
    )
    _add_tail(
        add(
            "tail",
            "show verdicts and dead letters as they are committed, until Ctrl-C; no text and no number",
            "hamgate tail --action block --min-score 0.9",
            "hamgate tail --only dead-letters --since 2026-01-31T08:00:00Z --json",
            takes="[--action A ...] [--reason R ...] ... ",
        )
    )
    _add_simulate(
        add(
            "simulate",
            "send made-up traffic to the input topic, each message at its time",
            "hamgate simulate --messages 1000",
            "hamgate simulate --rate 500 --spam 0.3 --poison 0.01 --seconds 60",
            takes="[--rate N] ... ",
        )
    )
    measured = add(
        "bench",
        "measure this machine with the configured bundle, and say what to set",
        "hamgate bench",
        "hamgate bench --seconds 5 --threads 4 --json",
        takes="[--seconds S] [--json] ",
    )
    measured.add_argument("--seconds", type=float, default=1.0, metavar="S", help="for each size of batch, at least")
    measured.add_argument("--json", action="store_true", help="JSON output: only what to set and why")
    _add_calibrate(
        add(
            "calibrate",
            "fit the bands on your own lawful texts, for budgets; no text is shown",
            "hamgate calibrate lawful.txt",
            "hamgate calibrate - --flagged 0.005 --blocked 0.0005 < lawful.jsonl",
            takes="FILE [--json] ... ",
        )
    )
    chosen = add(
        "use",
        "verify a bundle, then point HAMGATE_BUNDLE, a symbolic link, at it",
        "hamgate use models/next",
        "hamgate use models/next --bundle models/live",
        takes="FOLDER ",
    )
    folder = chosen.add_argument("folder", metavar="FOLDER", help="the bundle")
    flags.complete(folder, shtab.DIRECTORY)
    returned = add(
        "back",
        "verify the bundle before the last `use`, and point HAMGATE_BUNDLE back at it",
        "hamgate back",
        "hamgate back --bundle models/live",
        takes="[--again] ",
    )
    returned.add_argument("--again", action="store_true", help="go one further back, where it was gone back already")
    compared = add(
        "compare",
        "show which messages the shadow judged differently",
        "hamgate compare",
        "hamgate compare --since 2026-01-31T08:00:00Z --json",
        takes="[--since TIME] [--json] ",
    )
    compared.add_argument("--since", metavar="TIME", help="only reports at or after this RFC 3339 time")
    compared.add_argument("--json", action="store_true", help="JSON output")
    _add_lists(
        add(
            "lists",
            "allow, flag or block by sender, recipient, link host, number or campaign",
            'hamgate lists add block link-host evil.example --author ana --reason "parcel scam"',
            "hamgate lists show --sender MyBank",
            takes="add|remove|show|import|export ",
        ),
        completing=completing,
    )
    _add_registry(
        add(
            "registry",
            "put a checked sender registry into its topic, or show the one that is there",
            'hamgate registry push registry.toml --author ana --reason "Northwind\'s new short code"',
            "hamgate registry show > registry.toml",
            takes="push FILE | show ",
        ),
        completing=completing,
    )
    seen = add(
        "campaigns",
        "show the campaigns that the workers have seen, the largest first; no text and no number",
        "hamgate campaigns --campaigns-topic sms.campaigns",
        "hamgate campaigns --since 2026-01-31T08:00:00Z --json",
        takes="[--since TIME] [--json] ",
    )
    seen.add_argument("--since", metavar="TIME", help="only campaigns with a message at or after this RFC 3339 time")
    seen.add_argument("--json", action="store_true", help="JSON output")
    _add_audit(
        add(
            "audit",
            "verify that every message has one answer, in order; report mismatches",
            "hamgate audit --metrics-port 9465",
            "hamgate audit --once --from-time 2026-01-31T08:00:00Z",
            takes="[--once [--json]] ... ",
        )
    )
    _add_feedback(
        add(
            "feedback",
            "decide on reports by subscribers and analysts, until SIGTERM; or show, decide, tell the history of one",
            "hamgate feedback show",
            'hamgate feedback decide 0-41 ham --author anna --reason "bank notice"',
            takes="[show | decide ID spam|ham|dismiss | history ID] ... ",
        )
    )
    console = add(
        "console",
        "serve the console, pages to watch and search the verdicts, try texts and send dead letters back",
        "hamgate console --brokers a:9092,b:9092",
        "hamgate console passwd anna operator >> console-users",
        takes="[passwd NAME ROLE] ",
    )
    console.add_argument("words", nargs="*", metavar="passwd NAME ROLE", help="print a line for the file of users")
    add(
        "print-settings",
        "show every setting, its value and where it came from; secrets masked",
        "hamgate print-settings",
        "hamgate print-settings > .env",
    )
    completed = add(
        "completion",
        "print a script that completes commands and options in a shell",
        "hamgate completion bash > ~/.local/share/bash-completion/completions/hamgate",
        "hamgate completion zsh > ~/.zfunc/_hamgate",
        takes="SHELL",
    )
    completed.add_argument("shell", choices=_SHELLS, metavar="SHELL", help=", ".join(_SHELLS))
    return parser


def _add_tail(tail: argparse.ArgumentParser) -> None:
    def chosen(name: str, metavar: str, summary: str, **more: Any) -> None:  # noqa: ANN401 argparse's own
        tail.add_argument(
            f"--{name}", action="append", default=[], metavar=metavar, help=f"{summary}; may be repeated", **more
        )

    chosen("action", "A", "only verdicts of this action", choices=[str(each) for each in Action])
    chosen("label", "L", "only verdicts of this label")
    chosen("reason", "R", "only what has this reason: dead letters, verdicts without a score or decided by a rule")
    chosen("id", "ID", "only the verdict of this message")
    tail.add_argument("--min-score", type=float, metavar="N", help="only verdicts with a score of at least this")
    tail.add_argument("--only", choices=("verdicts", "dead-letters"), metavar="WHAT", help="verdicts or dead-letters")
    tail.add_argument("--since", metavar="TIME", help="from this RFC 3339 time on; else from now on")
    tail.add_argument("--messages", type=int, metavar="N", help="end after this many")
    tail.add_argument("--json", action="store_true", help="JSON lines")


def _add_lists(lists: argparse.ArgumentParser, *, completing: bool) -> None:
    changes = lists.add_subparsers(dest="change", metavar="change", title="changes", required=True)
    whats = ("sender", "recipient", "campaign", "link-host", "number")

    def change(name: str, summary: str, usage: str) -> argparse.ArgumentParser:
        usage = f"hamgate lists {name} {usage} [--setting VALUE ...]"
        made: argparse.ArgumentParser = changes.add_parser(
            name, help=summary, description=summary, usage=usage, allow_abbrev=False
        )
        flags.add(made, "lists", completing=completing)
        return made

    def signed(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--author", metavar="NAME", help="who wants it")
        parser.add_argument("--reason", metavar="TEXT", help="why; kept in clear")

    def matched(parser: argparse.ArgumentParser, many: str | None) -> None:
        parser.add_argument("what", nargs=many, choices=whats, metavar="what", help=", ".join(whats))
        parser.add_argument("value", nargs=many, help="what is matched; numbers with + and the calling code")
        parser.add_argument(
            "--match", choices=("exact", "prefix", "suffix"), default="exact", metavar="M",
            help="exact, prefix, or suffix: of a host, it and all below it (default: exact)",
        )  # fmt: skip

    def guarded(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--max-share", type=float, default=0.05, metavar="N",
            help="share of the last hour's messages that a block may hit, up to 0.5 (default 0.05)",
        )  # fmt: skip
        parser.add_argument("--force", action="store_true", help="list a host that everybody uses")

    added = change("add", "add an entry, or replace the one for the same", "ACTION WHAT VALUE --author A --reason R")
    added.add_argument("action", choices=("allow", "block", "flag"), metavar="action", help="allow, block or flag")
    matched(added, None)
    signed(added)
    added.add_argument("--until", metavar="TIME", help="RFC 3339 time at which it expires; else never")
    added.add_argument("--dry-run", action="store_true", help="decide nothing; verdicts say what it would have done")
    guarded(added)
    removed = change("remove", "remove an entry", "[WHAT VALUE | --rule R | --expired] --author A --reason R")
    matched(removed, "?")
    removed.add_argument("--rule", metavar="R", help="the entry that a verdict names, as list:sender:3f9c0a12b4de")
    removed.add_argument("--expired", action="store_true", help="all that have expired")
    signed(removed)
    shown = change("show", "show entries; exit 1 where what is asked for is not listed", "[--sender S] ... [--json]")
    for each in whats:
        shown.add_argument(f"--{each}", metavar="VALUE", help=f"only what matches this {each.replace('-', ' ')}")
    shown.add_argument("--rule", metavar="R", help="only the entry that a verdict names")
    shown.add_argument("--what", choices=whats, metavar="WHAT", help="only entries for this")
    shown.add_argument("--json", action="store_true", help="JSON lines")
    read = change("import", "add the entries of a file, all or none", "FILE [--author A] [--reason R]")
    flags.complete(read.add_argument("file", metavar="FILE", help="CSV or JSON lines; -: standard input"), shtab.FILE)
    read.add_argument("--format", choices=("csv", "jsonl"), metavar="F", help="csv or jsonl; else as it looks")
    signed(read)
    guarded(read)
    written = change("export", "write all entries, for `import`; what is personal stays hashed", "[--format F]")
    written.add_argument("--format", choices=("csv", "jsonl"), default="csv", metavar="F", help="csv or jsonl")


def _add_audit(audit: argparse.ArgumentParser) -> None:
    audit.add_argument(
        "--once", action="store_true", help="verify what is committed by now; exit 0 if all holds, else 1"
    )
    audit.add_argument("--json", action="store_true", help="with --once: JSON output")
    audit.add_argument(
        "--from-offset", action="append", default=[], metavar="P:O", help="partition P from offset O; may be repeated"
    )
    audit.add_argument(
        "--from-time", metavar="TIME", help="from this RFC 3339 time, or Unix seconds; else where the last audit ended"
    )


def _add_feedback(feedback: argparse.ArgumentParser) -> None:
    feedback.add_argument(
        "asked",
        nargs="*",
        metavar="WHAT",
        help="show: the queue; decide ID LABEL: an analyst's word; history ID: who changed what. ID: a decision's, or "
        "topic:partition:offset; to decide, also a message's",
    )
    feedback.add_argument("--author", metavar="NAME", help="with decide: who decides; a name, no address")
    feedback.add_argument(
        "--reason", metavar="NOTE", help="with decide: why, without anything of the text; dismiss needs it"
    )
    feedback.add_argument("--all", action="store_true", help="with show: also what is open, accepted or refused")
    feedback.add_argument("--json", action="store_true", help="with show and history: JSON lines")


def _add_registry(registry: argparse.ArgumentParser, *, completing: bool) -> None:
    changes = registry.add_subparsers(dest="change", metavar="change", title="changes", required=True)
    for name, takes, summary in (
        ("push", "FILE --author NAME --reason TEXT", "check a file, TOML or CSV, and put it in force on every worker"),
        ("show", "", "print the registry in force as it was pushed; by whom and why, on standard error"),
    ):
        made = changes.add_parser(
            name, help=summary, description=summary, usage=f"hamgate registry {name} {takes}", allow_abbrev=False
        )
        flags.add(made, "registry", completing=completing)
        if name == "push":
            flags.complete(made.add_argument("file", metavar="FILE", help="the registry"), shtab.FILE)
            made.add_argument("--author", metavar="NAME", help="who wants it")
            made.add_argument("--reason", metavar="TEXT", help="why; kept in clear")


def _add_calibrate(calibrate: argparse.ArgumentParser) -> None:
    file = calibrate.add_argument(
        "file", metavar="FILE", help="lawful texts, one a line, or JSON lines with a `text`; -: standard input"
    )
    flags.complete(file, shtab.FILE)
    for name, default in (("flagged", 0.01), ("blocked", 0.001)):
        calibrate.add_argument(
            f"--{name}", type=float, default=default, metavar="N", help=f"share {name} at most (default {default:g})"
        )
    calibrate.add_argument("--json", action="store_true", help="JSON output")


def _add_simulate(simulate: argparse.ArgumentParser) -> None:
    def share(text: str) -> float:
        if not 0 <= (number := float(text)) <= 1:
            raise ValueError
        return number

    def above_zero(text: str) -> float:
        if not 0 < (number := float(text)) < math.inf:
            raise ValueError
        return number

    def number(kind: Callable[[str], float], name: str, default: float | None, summary: str) -> None:
        shown = "" if default is None else f" (default {default:g})"
        simulate.add_argument(f"--{name}", type=kind, default=default, metavar="N", help=summary + shown)

    number(above_zero, "rate", 100, "messages a second, on average over the day")
    number(above_zero, "seconds", None, "end after this time; else at Ctrl-C")
    number(int, "messages", None, "end after this many")
    number(float, "day", 86_400, "seconds in a simulated day, as traffic follows its hours; 0: no daily curve")
    number(float, "burst-every", 120, "seconds between bursts of 3 to 10 times the traffic; 0: none")
    number(float, "campaign-every", 180, "seconds between spam campaigns; 0: none")
    number(share, "spam", 0.12, "share of spam outside campaigns")
    number(share, "poison", 0.001, "share of events that cannot be read")
    number(share, "traced", 0.01, "share of events with a trace context")
    number(int, "subscribers", 1000, "number of subscribers who send and receive")
    texts = simulate.add_argument("--texts", metavar="FILE", help="messages to send, one a line, or label<TAB>message")
    flags.complete(texts, shtab.FILE)
    number(int, "seed", None, "a seed: the same stream again")


if __name__ == "__main__":
    sys.exit(main())
