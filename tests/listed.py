"""Entries, messages and hash keys for the tests of lists."""

from __future__ import annotations

import datetime as dt
from typing import Final

from worker.policy.facts import Facts
from worker.policy.hashing import Hashing
from worker.policy.lists.entries import ListEntry, Match, What
from worker.policy.lists.guards import checked
from worker.policy.lists.matching import Snapshot

HASHING: Final = Hashing((b"0123456789abcdef0123456789abcdef",))
NOW: Final = dt.datetime(2026, 6, 1, tzinfo=dt.UTC).timestamp()


def listed(
    action: str,
    what: str,
    value: str,
    match: str = "exact",
    *,
    until: float | None = None,
    dry_run: bool = False,
    hashing: Hashing = HASHING,
) -> ListEntry:
    """An entry as the command makes it."""
    expires = None if until is None else dt.datetime.fromtimestamp(until, dt.UTC)
    target = checked(What(what), Match(match), value, is_forced=True)
    return target.entry(hashing, action=action, author="ana", reason="a test", now=NOW, until=expires, dry_run=dry_run)


def message(
    text: str = "", *, sender: str | None = None, recipient: str | None = None, campaign: str | None = None
) -> Facts:
    """A message, as rules see it."""
    return Facts(text, sender, recipient, NOW, ("sms.events", 0), 0, campaign=campaign)


def snapshot(*entries: ListEntry) -> Snapshot:
    """A snapshot of some entries."""
    return Snapshot(HASHING).changed((), entries)
