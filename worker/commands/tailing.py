"""`hamgate tail`: verdicts and dead letters as they are committed. No text, no number, no event."""

from __future__ import annotations

import io
import json
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from rich.console import Console
from rich.text import Text

from worker import app
from worker.audit.brokers import AwayError
from worker.broker import BrokerError
from worker.broker.audit import KafkaTail
from worker.messages import Verdict, dead_letter_notes, decode_verdict, rfc3339
from worker.process import signals

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from worker.messages import Record
    from worker.settings import Settings

_WAIT: Final = 0.5
_COLOURS: Final = {"block": "bold red", "flag": "yellow", "deliver": "green", "unscored": "bright_black"}
_DEAD: Final = "magenta"


@dataclass(frozen=True, slots=True)
class Filter:
    """What is to be shown; an empty set lets all pass."""

    actions: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()
    reasons: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()
    min_score: float | None = None

    def verdict(self, verdict: Verdict) -> bool:
        """Whether a verdict is shown."""
        wanted = (
            (self.actions, verdict.action),
            (self.labels, verdict.label),
            (self.reasons, verdict.reason),
            (self.ids, verdict.id),
        )
        is_high = self.min_score is None or (verdict.score is not None and verdict.score >= self.min_score)
        return is_high and all(not chosen or value in chosen for chosen, value in wanted)

    def dead_letter(self, reason: str) -> bool:
        """Whether a dead letter is shown: never where something is asked that only verdicts have."""
        is_of_verdicts = self.actions or self.labels or self.ids or self.min_score is not None
        return not is_of_verdicts and (not self.reasons or reason in self.reasons)


def tail(settings: Settings, options: argparse.Namespace) -> int:
    """Show what is committed, until as many are shown as were asked for, or Ctrl-C."""
    topics = {"verdicts": settings.verdict_topic, "dead-letters": settings.dead_letter_topic}
    chosen = [topics[options.only]] if options.only else [*topics.values()]
    wanted = Filter(
        actions=frozenset(options.action),
        labels=frozenset(options.label),
        reasons=frozenset(options.reason),
        ids=frozenset(options.id),
        min_score=options.min_score,
    )
    if isinstance(sys.stdout, io.TextIOWrapper):  # an id may have what a terminal's encoding has not
        sys.stdout.reconfigure(errors="backslashreplace")
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    left = options.messages
    try:
        since = app.moment("--since", options.since)
    except ValueError as error:
        print(error, file=sys.stderr)  # noqa: T201 for the person who typed it
        return signals.USAGE
    try:
        with KafkaTail(app.link(settings), *chosen) as topic_tail:
            for record in _records(topic_tail, since):
                line = _line(record, wanted, settings.dead_letter_topic, as_json=options.json)
                if line is None:
                    continue
                if isinstance(line, Text):
                    console.print(line)
                else:
                    print(json.dumps(line), flush=True)  # noqa: T201 the answer
                left = None if left is None else left - 1
                if left is not None and left <= 0:
                    return signals.DONE
    except (AwayError, BrokerError) as error:
        print(error, file=sys.stderr)  # noqa: T201
    return signals.FAILED


def _records(topics: KafkaTail, since: float | None) -> Iterator[Record]:
    """Every record from a Unix time, or from now on. Raises AwayError, BrokerError where it cannot begin."""
    begin = topics.ends() if since is None else topics.at(since)
    for place, offset in begin.items():
        topics.seek(place, offset)
    topics.only(begin)
    print("tailing; Ctrl-C ends", file=sys.stderr)  # noqa: T201 nothing may come for a while
    is_away = False
    while True:
        try:
            chunks = topics.chunks(_WAIT)
        except AwayError as error:
            if not is_away:
                print(f"the brokers do not answer, asking on: {error}", file=sys.stderr)  # noqa: T201
            is_away = True
            time.sleep(_WAIT)
            continue
        is_away = False
        for chunk in chunks:
            yield from chunk.records


def _line(record: Record, wanted: Filter, dead_letters: str, *, as_json: bool) -> dict[str, Any] | Text | None:
    """One record as it is shown; None: it is not."""
    if record.topic == dead_letters:
        notes = dead_letter_notes(record)
        if notes is None or not wanted.dead_letter(notes["reason"]):
            return None
        return {"dead_letter": notes} if as_json else _dead_letter(record, notes)
    try:
        verdict = decode_verdict(record.value or b"")
    except msgspec.DecodeError:  # somebody else's
        return None
    if not wanted.verdict(verdict):
        return None
    return {"verdict": msgspec.to_builtins(verdict)} if as_json else _verdict(record, verdict)


def _verdict(record: Record, verdict: Verdict) -> Text:
    said = f"{verdict.label} {verdict.score:.3f}" if verdict.score is not None else str(verdict.reason)
    where = f"{verdict.source.topic}:{verdict.source.partition}:{verdict.source.offset}"
    why = verdict.rule or (None if verdict.score is None else verdict.reason)
    rest = [
        said,
        f"by {why}" if why else "",
        *verdict.flags,
        verdict.language or "",
        f"{verdict.latency_ms.total:.0f} ms",
        verdict.model,
        where,
    ]
    if verdict.id != where:
        rest.append(f"id={verdict.id}")
    return _coloured(record, str(verdict.action), _COLOURS.get(verdict.action, ""), rest)


def _dead_letter(record: Record, notes: dict[str, str]) -> Text:
    where = f"{notes['source-topic']}:{notes['source-partition']}:{notes['source-offset']}"
    return _coloured(record, "dead", _DEAD, [notes["reason"], where])


def _coloured(record: Record, word: str, colour: str, rest: list[str]) -> Text:
    shown = "  ".join(_printable(each) for each in rest if each)
    return Text.assemble((rfc3339(record.timestamp), "dim"), " ", (f"{word:<8}", colour), " ", shown)


def _printable(text: str) -> str:
    """Without what would steer a terminal: ids and topics are their senders' own."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
