"""`hamgate lists`: what is allowed, flagged and blocked: add, remove, show, import, export. Never shows a number."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from worker import app, broker
from worker.commands import sampling
from worker.messages import Outgoing, rfc3339
from worker.policy.facts import Facts
from worker.policy.lists import guards
from worker.policy.lists.entries import EntryError, ListEntry, Match, What, encode, fault, key_names
from worker.policy.lists.entries import target as target_of
from worker.policy.lists.following import Listed
from worker.policy.lists.matching import Snapshot, rank
from worker.process import signals

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Sequence

    from worker.policy.hashing import Hashing
    from worker.policy.lists.entries import Target
    from worker.settings import Settings

_NEVER: Final = 0.0
"""As of when nothing has expired: the command shows what a topic holds."""
_SECONDS: Final = 2
_ERRORS: Final = 20
COLUMNS: Final = (
    *("action", "what", "match", "value", "until", "author", "reason", "dry_run"),
    *("added_at", "length", "key", "national", "national_length"),
)
"""Of a file: a line needs action, what and value; those of the second row are an export's own."""


@dataclass(frozen=True, slots=True)
class Lists:
    """The topic, as a command works on it."""

    settings: Settings
    topic: str
    hashing: Hashing
    now: float

    def read(self) -> Listed:
        """All that the topic holds, what has expired too. Raises BrokerError, TimeoutError."""
        listed = Listed(Snapshot(self.hashing))
        with broker.Reader(app.link(self.settings), self.topic) as reader:
            listed.read(reader.to_end(), _NEVER)
        for (partition, offset), why in listed.unreadable.items():
            _say(f"{self.topic}:{partition}:{offset} is no entry, and skipped by workers: {why}")
        return listed

    def write(
        self, entries: Sequence[ListEntry], removed: Iterable[bytes], headers: dict[str, str] | None = None
    ) -> None:
        """Publish entries, and tombstones of others. Raises BrokerError."""
        notes = tuple((name, text.encode()) for name, text in (headers or {}).items())
        records = [Outgoing(*encode(entry)) for entry in entries] + [Outgoing(key, None, notes) for key in removed]
        try:
            with broker.Publisher(app.link(self.settings)) as publisher:
                publisher.publish(self.topic, records)
        except broker.BrokerError as error:
            message = f"{self.topic} could not be written (this user needs WRITE on it): {error}"
            raise broker.BrokerError(message) from error

    def counted(self, entries: Sequence[ListEntry]) -> guards.Counted | None:
        """Of the last hour's messages, those that entries hit; None where no event shows it. Raises BrokerError."""
        looked_at = [entry for entry in entries if entry.what is not What.CAMPAIGN]
        if not looked_at:
            return None
        link, topic = app.link(self.settings), self.settings.input_topic
        sample = sampling.sample(link, topic, max_bytes=self.settings.max_event_bytes, now=self.now)
        return guards.count(looked_at, self.hashing, sample, self.now)


def lists(settings: Settings, options: argparse.Namespace) -> int:
    """Do what is asked; 1 where it is refused, or where what is asked for is not listed; 2 for a wrong option."""
    try:
        if settings.lists_topic is None:
            _say("HAMGATE_LISTS_TOPIC is not set: there are no lists; name the topic, as sms.lists")
            return signals.USAGE
        found = Lists(settings, settings.lists_topic, app.hashing(settings), time.time())
        return _CHANGES[options.change](found, options)
    except app.UsageError as error:
        _say(str(error))
        return signals.USAGE
    except (EntryError, app.StartRefused, broker.BrokerError, TimeoutError) as error:
        _say(str(error))
        return signals.FAILED


def add_entry(found: Lists, options: argparse.Namespace) -> int:
    """Add an entry, in the place of the one that matches the same."""
    until = _until(options.until)
    share = guards.require_share(options.max_share)
    guards.require_future(until, found.now)
    target = guards.checked(What(options.what), Match(options.match), options.value, is_forced=options.force)
    entry = target.entry(
        found.hashing, action=options.action, author=options.author or "", reason=options.reason or "", now=found.now,
        until=until, dry_run=options.dry_run,
    )  # fmt: skip
    listed = found.read()
    counted = found.counted([entry])
    if counted and entry.action == "block" and not entry.dry_run:
        counted.require_below(share)
    found.write([entry], _former(listed, target, found.hashing))
    old = listed.entries.get(entry.name.encode())
    replaced = f", in the place of {old.action} by {_printable(old.author)}" if old else ""
    _answer(f"{_line(entry)}{replaced}; in force within {_SECONDS} s on every worker")
    _answer(f"matches {counted}" if counted else "a campaign: which share it hits is not counted beforehand")
    return signals.DONE


def remove_entries(found: Lists, options: argparse.Namespace) -> int:
    """Remove an entry: by what it matches, or by the rule that a verdict names; or all that have expired."""
    if not (options.author or "").strip() or not (options.reason or "").strip():
        message = "who removes it, and why: --author and --reason; they go with the tombstone"
        raise app.UsageError(message)
    if [bool(options.what), bool(options.rule), options.expired].count(True) != 1 or bool(options.what) != bool(
        options.value
    ):
        message = "name one of these: what and value, as `sender MyBank`; --rule list:sender:3f9c0a12b4de; --expired"
        raise app.UsageError(message)
    listed = found.read()
    if options.expired:
        gone = [entry for entry in listed.entries.values() if entry.has_expired(found.now)]
    elif options.rule:
        gone = [entry for entry in listed.entries.values() if entry.rule == options.rule]
    else:
        target = target_of(What(options.what), Match(options.match), options.value)
        names = [_key(target, value) for value in target.values(found.hashing)]
        gone = [listed.entries[name] for name in names if name in listed.entries]
    if not gone:
        _say("not listed: nothing is removed; `hamgate lists show` shows all that is")
        return signals.DONE if options.expired else signals.FAILED
    found.write([], [entry.name.encode() for entry in gone], {"author": options.author, "reason": options.reason})
    for entry in gone:
        _answer(f"removed: {_line(entry)}")
    return signals.DONE


def show_entries(found: Lists, options: argparse.Namespace) -> int:
    """Show entries: all, or those that match what is asked for."""
    asked = [name for name in _ASKED if getattr(options, name) is not None]
    entries = [*found.read().entries.values()]
    if asked:
        facts = [_asked(name, getattr(options, name)) for name in asked]
        snapshot = Snapshot(found.hashing).changed((), entries)
        entries = list({each.name: each for one in facts for each in snapshot.matching(one, found.now)}.values())
    if options.rule:
        entries = [entry for entry in entries if entry.rule == options.rule]
    if options.what:
        entries = [entry for entry in entries if entry.what == options.what]
    known = set(key_names(found.hashing))
    for entry in sorted(entries, key=rank):
        if options.json:
            _answer(json.dumps({"rule": entry.rule} | msgspec.to_builtins(entry)))
            continue
        expired = "  EXPIRED" if entry.has_expired(found.now) else ""
        lost = "  CANNOT MATCH: its key is not in HAMGATE_HASH_KEY_FILE" if entry.key and entry.key not in known else ""
        _answer(_line(entry) + expired + lost)
    if not entries:
        _say("not listed" if asked or options.rule else "no entries")
        return signals.FAILED if asked or options.rule else signals.DONE
    return signals.DONE


def import_entries(found: Lists, options: argparse.Namespace) -> int:
    """Add the entries of a file: all of them, or none where a line is wrong."""
    share = guards.require_share(options.max_share)
    try:
        text = sys.stdin.read() if options.file == "-" else Path(options.file).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        message = f"{options.file}: cannot be read ({error})"
        raise app.UsageError(message) from None
    made: dict[str, tuple[int, ListEntry]] = {}
    former: list[tuple[Target, ListEntry]] = []
    wrong: list[str] = []
    for number, row in _rows(text, options.format or ("jsonl" if text.lstrip().startswith("{") else "csv")):
        try:
            if isinstance(row, str):
                raise EntryError(row)  # noqa: TRY301 as what is wrong in any other line
            entry, target = _entry(row, found, options)
            if entry.name in made:
                message = f"matches the same as line {made[entry.name][0]}"
                raise EntryError(message)  # noqa: TRY301
        except (EntryError, app.UsageError) as error:
            wrong.append(f"line {number}: {error}")
            continue
        made[entry.name] = number, entry
        if target:
            former.append((target, entry))
    if wrong or not made:
        more = [f"... and {len(wrong) - _ERRORS} more lines"] if len(wrong) > _ERRORS else []
        message = "\n".join([*wrong[:_ERRORS], *more, "nothing is written" if wrong else "no lines: nothing to write"])
        raise EntryError(message)
    entries = [entry for _, entry in made.values()]
    listed = found.read()
    counted = found.counted([entry for entry in entries if entry.action == "block" and not entry.dry_run])
    if counted:
        counted.require_below(share)
    found.write(entries, [key for target, _ in former for key in _former(listed, target, found.hashing)])
    _answer(f"{len(entries):,} entries written; in force within {_SECONDS} s on every worker")
    if counted:
        _answer(f"its blocks match {counted}")
    return signals.DONE


def export_entries(found: Lists, options: argparse.Namespace) -> int:
    """Write all entries: what is personal stays hashed."""
    entries = sorted(found.read().entries.values(), key=lambda entry: entry.name)
    rows = [msgspec.to_builtins(entry) for entry in entries]
    if options.format == "jsonl":
        for row in rows:
            _answer(json.dumps(row))
        return signals.DONE
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    print(out.getvalue(), end="")  # noqa: T201 the answer
    return signals.DONE


_CHANGES: Final = {
    "add": add_entry,
    "remove": remove_entries,
    "show": show_entries,
    "import": import_entries,
    "export": export_entries,
}
_ASKED: Final = ("sender", "recipient", "campaign", "link_host", "number")


def _former(listed: Listed, target: Target, hashing: Hashing) -> list[bytes]:
    """Entries for the same by former keys, which the new one stands for."""
    return [key for value in target.values(hashing)[1:] if (key := _key(target, value)) in listed.entries]


def _key(target: Target, value: str) -> bytes:
    return f"{target.what}:{target.match}:{value}".encode()


def _asked(name: str, value: str) -> Facts:
    """A message that has nothing but what is asked for."""
    text = {"number": value, "link_host": f"https://{value.removeprefix('https://')}"}.get(name, "")
    facts = Facts(text, None, None, 0.0, ("", 0), 0)
    if name in ("sender", "recipient", "campaign"):
        setattr(facts, name, value)
    return facts


def _rows(text: str, form: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Each line's fields by number; or what is wrong with it."""
    if form == "jsonl":
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError as error:
                    yield number, f"not JSON ({error})"
                else:
                    yield number, row if isinstance(row, dict) else "not a JSON object"
        return
    reader = csv.DictReader(io.StringIO(text), strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                yield reader.line_num, f"not {len(reader.fieldnames or ())} fields, as the header has"
            else:
                yield reader.line_num, {name: value for name, value in row.items() if value}
    except csv.Error as error:
        yield reader.line_num, f"not CSV ({error})"


def _entry(row: dict[str, Any], found: Lists, options: argparse.Namespace) -> tuple[ListEntry, Target | None]:
    """A line's entry. Raises EntryError, UsageError."""
    if unknown := sorted(set(row) - set(COLUMNS)):
        message = f"no such column: {unknown[0]}; allowed: {', '.join(COLUMNS)}"
        raise EntryError(message)
    for name in ("action", "what", "value"):
        if not row.get(name):
            message = f"no {name}: a line needs action, what and value"
            raise EntryError(message)
    row = {"match": "exact", "author": options.author or "", "reason": options.reason or ""} | row
    row |= {"added_at": row.get("added_at") or rfc3339(int(found.now))}
    if not str(row["value"]).startswith("#"):
        row |= dict.fromkeys(("length", "national_length"), 0) | dict.fromkeys(("key", "national"))
    try:
        read = msgspec.convert(_typed(row), ListEntry, strict=False)
    except msgspec.ValidationError as error:
        message = str(error)
        raise EntryError(message) from None
    guards.require_future(read.until, found.now)
    if read.is_hashed:
        if read.key not in key_names(found.hashing):
            message = "hashed by a key that is not in HAMGATE_HASH_KEY_FILE: no worker could match it"
            raise EntryError(message)
        if why := fault(read):
            raise EntryError(why)
        return read, None
    target = guards.checked(read.what, read.match, read.value, is_forced=options.force)
    made = target.entry(
        found.hashing, action=read.action, author=read.author, reason=read.reason, now=found.now, until=read.until,
        dry_run=read.dry_run,
    )  # fmt: skip
    return msgspec.structs.replace(made, added_at=read.added_at), target


def _typed(row: dict[str, Any]) -> dict[str, Any]:
    """A file's words as values: CSV has True and true."""
    dry_run = row.get("dry_run", False)
    return row | {"dry_run": dry_run.lower() if isinstance(dry_run, str) else dry_run}


def _until(given: str | None) -> dt.datetime | None:
    try:
        seconds = app.moment("--until", given)
    except ValueError as error:
        raise app.UsageError(str(error)) from None
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC)


def _line(entry: ListEntry) -> str:
    """For people: what is hashed stays so."""
    value = f"hashed {entry.value[1:9]}" + f" ({entry.length} characters)" * bool(entry.length)
    parts = [
        f"{entry.action:<5} {entry.what} {entry.match} {value if entry.is_hashed else entry.value}",
        entry.rule,
        f"until {entry.until.isoformat()}" if entry.until else "",
        "DRY RUN" if entry.dry_run else "",
        f"by {entry.author}: {entry.reason}",
    ]
    return _printable("  ".join(part for part in parts if part))


def _printable(text: str) -> str:
    """Without what would steer a terminal: others may write the topic."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 for the person who typed the command


def _answer(text: str) -> None:
    print(text)  # noqa: T201 the answer
