"""`hamgate lists`: what is allowed, flagged and blocked: add, remove, show, import, export. Never shows a number."""

from __future__ import annotations

import datetime as dt
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from worker import app, broker
from worker.commands.list_changes import ASKED, IN_FORCE_WITHIN, Lists, asked_for, exported, is_lost
from worker.policy.lists import guards
from worker.policy.lists.entries import EntryError, ListEntry, Match, What
from worker.policy.lists.entries import target as target_of
from worker.policy.lists.matching import Snapshot, rank
from worker.process import signals

if TYPE_CHECKING:
    import argparse

    from worker.policy.lists.following import Listed
    from worker.settings import Settings


def lists(settings: Settings, options: argparse.Namespace) -> int:
    """Do what is asked; 1 where it is refused, or where what is asked for is not listed; 2 for a wrong option."""
    try:
        return _CHANGES[options.change](Lists.of(settings, time.time()), options)
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
    change = found.addition(target, entry, _read(found), share)
    found.write(change)
    old = change.replaced
    replaced = f", in the place of {old.action} by {_printable(old.author)}" if old else ""
    _answer(f"{_line(entry)}{replaced}; in force within {IN_FORCE_WITHIN} s on every worker")
    counted = change.counted
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
    listed = _read(found)
    if options.expired:
        gone = [entry for entry in listed.entries.values() if entry.has_expired(found.now)]
    elif options.rule:
        gone = [entry for entry in listed.entries.values() if entry.rule == options.rule]
    else:
        target = target_of(What(options.what), Match(options.match), options.value)
        gone = found.at(listed, target)
    if options.expired and not gone:
        _say("nothing has expired: nothing is removed")
        return signals.DONE
    found.write(found.removal(gone, author=options.author, reason=options.reason))
    for entry in gone:
        _answer(f"removed: {_line(entry)}")
    return signals.DONE


def show_entries(found: Lists, options: argparse.Namespace) -> int:
    """Show entries: all, or those that match what is asked for."""
    asked = [name for name in ASKED if getattr(options, name) is not None]
    entries = [*_read(found).entries.values()]
    if asked:
        facts = [asked_for(name, getattr(options, name)) for name in asked]
        snapshot = Snapshot(found.hashing).changed((), entries)
        entries = list({each.name: each for one in facts for each in snapshot.matching(one, found.now)}.values())
    if options.rule:
        entries = [entry for entry in entries if entry.rule == options.rule]
    if options.what:
        entries = [entry for entry in entries if entry.what == options.what]
    for entry in sorted(entries, key=rank):
        if options.json:
            _answer(json.dumps({"rule": entry.rule} | msgspec.to_builtins(entry)))
            continue
        expired = "  EXPIRED" if entry.has_expired(found.now) else ""
        lost = "  CANNOT MATCH: its key is not in HAMGATE_HASH_KEY_FILE" if is_lost(entry, found.hashing) else ""
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
    change = found.imported(
        text, form=options.format, author=options.author or "", reason=options.reason or "", share=share,
        is_forced=options.force,
    )  # fmt: skip
    found.write(change)
    _answer(f"{len(change.entries):,} entries written; in force within {IN_FORCE_WITHIN} s on every worker")
    if change.counted:
        _answer(f"its blocks match {change.counted}")
    return signals.DONE


def export_entries(found: Lists, options: argparse.Namespace) -> int:
    """Write all entries: what is personal stays hashed."""
    print(exported(_read(found).entries.values(), options.format), end="")  # noqa: T201 the answer
    return signals.DONE


_CHANGES: Final = {
    "add": add_entry,
    "remove": remove_entries,
    "show": show_entries,
    "import": import_entries,
    "export": export_entries,
}


def _read(found: Lists) -> Listed:
    """All that the topic holds; what is no entry is told."""
    listed = found.read()
    for (partition, offset), why in listed.unreadable.items():
        _say(f"{found.topic}:{partition}:{offset} is no entry, and skipped by workers: {why}")
    return listed


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
