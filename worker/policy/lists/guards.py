"""What the command refuses because it would hit everybody, or nobody could say why. Each refusal says what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from worker.policy.lists.entries import (
    SHORTEST_NUMBER_PART,
    SHORTEST_PART,
    EntryError,
    Match,
    Target,
    What,
    calling_codes,
    target,
)
from worker.policy.lists.matching import Snapshot

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Sequence

    from worker.policy.facts import Facts
    from worker.policy.hashing import Hashing
    from worker.policy.lists.entries import ListEntry

SHARE, LARGEST_SHARE = 0.05, 0.5
"""Of the last hour's messages that a block may hit: unless it is set otherwise, and at most."""
LEAST: Final = 100
"""Messages of a sample that say anything of a share."""

SHARED_HOSTS: Final = frozenset((
    "bit.ly", "buff.ly", "cutt.ly", "goo.gl", "is.gd", "lnkd.in", "ow.ly", "qr.ae", "rb.gy", "rebrand.ly", "s.id",
    "shorturl.at", "t.co", "t.ly", "tiny.cc", "tinyurl.com", "v.gd", "amzn.to", "fb.me", "youtu.be", "wa.me", "t.me",
    "amazon.com", "apple.com", "facebook.com", "g.co", "gmail.com", "google.com", "icloud.com", "instagram.com",
    "linkedin.com", "microsoft.com", "outlook.com", "paypal.com", "telegram.org", "tiktok.com", "twitter.com",
    "whatsapp.com", "x.com", "yahoo.com", "youtube.com",
))  # fmt: skip
"""Link shorteners, and hosts that lawful messages of everybody name: to list one hits whoever uses it."""


def checked(what: What, match: Match, typed: str, *, is_forced: bool = False) -> Target:
    """What was typed, in its one spelling, where it does not hit everybody. Raises EntryError naming the guard."""
    typed = typed.strip()
    if not typed:
        message = "empty: it would match everything; name what is to be matched"
        raise EntryError(message)
    rest = typed.removeprefix("*.") if (what, match) == (What.LINK_HOST, Match.SUFFIX) else typed
    if not rest or any(each in rest for each in "*?"):
        message = "wildcard: `*` and `?` are not understood, and all is never listed; use --match prefix or suffix"
        raise EntryError(message)
    found = target(what, match, typed)
    if match is not Match.EXACT and what is not What.LINK_HOST:
        _require_narrow(found)
    if what is What.LINK_HOST and found.text.removeprefix("www.") in SHARED_HOSTS and not is_forced:
        message = (
            f"shared host: {found.text} is a link shortener, or named by lawful messages of everybody; list the host "
            "that its links lead to, or add --force"
        )
        raise EntryError(message)
    return found


def _require_narrow(found: Target) -> None:
    text = found.text
    if found.is_personal and found.match is Match.PREFIX and any(code.startswith(text) for code in calling_codes()):
        message = "calling code: it would match all numbers of a country; add digits of the network or the area"
        raise EntryError(message)
    least = SHORTEST_NUMBER_PART if found.is_personal else SHORTEST_PART
    if len(text) < least:
        message = f"short {found.match}: of {len(text)}, and {least} characters are the least; add some"
        raise EntryError(message)


def require_future(until: dt.datetime | None, now: float) -> None:
    """Raise EntryError where an entry would be over before it begins."""
    if until is not None and until.timestamp() <= now:
        message = f"expiry in the past: {until.isoformat()}; name a later time, or leave --until out"
        raise EntryError(message)


def require_share(given: float) -> float:
    """A share that a block may hit. Raises EntryError for one that is none, or too much."""
    if not 0 < given <= LARGEST_SHARE:
        message = f"--max-share {given:g}: allowed: above 0, up to {LARGEST_SHARE:g}"
        raise EntryError(message)
    return given


@dataclass(frozen=True, slots=True)
class Counted:
    """Of so many messages, so many are hit."""

    messages: int
    hit: int

    @property
    def share(self) -> float:
        """Of the messages, those hit."""
        return self.hit / self.messages if self.messages else 0.0

    def require_below(self, share: float) -> None:
        """Raise EntryError where a block would hit more. A sample that is too small says nothing."""
        if self.messages >= LEAST and self.share > share:
            message = (
                f"share: it would block {self.share:.1%} of the last hour's messages ({self.hit:,} of a sample of "
                f"{self.messages:,}), and {share:.1%} is the most; narrow it, try it with --dry-run, or raise "
                f"--max-share (up to {LARGEST_SHARE:g})"
            )
            raise EntryError(message)

    def __str__(self) -> str:
        """For the operator."""
        if self.messages < LEAST:
            return f"{self.messages:,} messages in the last hour: too few to say which share it hits"
        return f"{self.share:.2%} of the last hour's messages ({self.hit:,} of a sample of {self.messages:,})"


def count(entries: Sequence[ListEntry], hashing: Hashing, sample: Iterable[Facts], now: float) -> Counted:
    """Of a sample, what any of some entries would match."""
    snapshot = Snapshot(hashing).changed((), entries)
    messages = hit = 0
    for facts in sample:
        messages += 1
        hit += bool(snapshot.matching(facts, now))
    return Counted(messages, hit)
