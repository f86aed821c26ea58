"""One entry of a list: what it matches, its JSON on the topic, and what it may never be.

The record's key is the entry's canonical id, `what:match:value`, so that an entry typed again replaces what it was, and
a tombstone removes it. Of numbers, recipients and e-mail addresses the value is `#` and a keyed hash; of a prefix or a
suffix of one, that of so many characters as `length` says. Short codes, alphanumeric senders, hosts and campaigns stand
in clear: they are the operator's own words.
"""

from __future__ import annotations

import datetime as dt
import enum
import hashlib
import ipaddress
import re
import unicodedata
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
import phonenumbers

from worker.messages import Action
from worker.policy import links
from worker.policy.addresses import SenderType, normal, sender_type

if TYPE_CHECKING:
    from worker.policy.hashing import Hashing


class What(enum.StrEnum):
    """What an entry looks at: a closed set. Of two entries that are equal otherwise, the earlier one here decides."""

    __hash__ = str.__hash__

    SENDER = "sender"
    RECIPIENT = "recipient"
    CAMPAIGN = "campaign"
    LINK_HOST = "link-host"
    NUMBER = "number"


class Match(enum.StrEnum):
    """How it looks: a closed set. A suffix of a host is of whole labels, and the host itself."""

    __hash__ = str.__hash__

    EXACT = "exact"
    PREFIX = "prefix"
    SUFFIX = "suffix"


MATCHES: Final = {
    What.SENDER: (Match.EXACT, Match.PREFIX, Match.SUFFIX),
    What.RECIPIENT: (Match.EXACT, Match.PREFIX),
    What.CAMPAIGN: (Match.EXACT,),
    What.LINK_HOST: (Match.EXACT, Match.SUFFIX),
    What.NUMBER: (Match.EXACT, Match.PREFIX),
}
ACTIONS: Final = {"allow": Action.DELIVER, "block": Action.BLOCK, "flag": Action.FLAG}
"""What a list says of an action; of two entries that are equal otherwise, the earlier one here decides."""

SHORTEST_PART: Final = 3
"""Characters of a prefix or suffix in clear."""
SHORTEST_NUMBER_PART: Final = 4
"""Digits of a number's prefix: no country's calling code has as many."""
_LONGEST: Final = 253
_WORDS: Final = 500
_HASH: Final = re.compile(r"#[0-9a-f]{32}")
_CAMPAIGN: Final = re.compile(r"[\x21-\x7e]{4,128}")
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_SEPARATORS: Final = re.compile(r"[\s().\-/]+")
_NO_HOST: Final = "no host: name it without scheme, port and path, as evil.example"
_NUMERIC: Final = re.compile(r"[+\d\s().\-/]+")
_MANY_DIGITS: Final = re.compile(r"\d(?:[\s().\-/]*\d){6}")
_REGION_OF_MANY: Final = "001"

Moment = Annotated[dt.datetime, msgspec.Meta(tz=True)]


class EntryError(ValueError):
    """What was typed is no entry; says why and what to do. Never names a number."""


class UnreadableEntryError(ValueError):
    """A record that is no entry. Its text names no value."""


class ListEntry(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One entry. `key` names the key that hashed it; `national` hashes a number as it is dialled within its country."""

    what: What
    match: Match
    value: str
    action: Literal["allow", "block", "flag"]
    author: str
    reason: str
    added_at: Moment
    until: Moment | None = None
    dry_run: bool = False
    length: int = 0
    key: str | None = None
    national: str | None = None
    national_length: int = 0

    @property
    def name(self) -> str:
        """The canonical id, which is the record's key."""
        return f"{self.what}:{self.match}:{self.value}"

    @property
    def rule(self) -> str:
        """As a verdict names it."""
        return f"list:{self.what}:{hashlib.sha256(self.name.encode()).hexdigest()[:12]}"

    @property
    def is_hashed(self) -> bool:
        """Whether its value is a keyed hash."""
        return self.value.startswith("#")

    def has_expired(self, now: float) -> bool:
        """Whether its time is over; `now` in Unix seconds."""
        return self.until is not None and self.until.timestamp() <= now


class Target(msgspec.Struct, frozen=True):
    """What an entry matches, in its one spelling; `national` of a number is how it is dialled within its country."""

    what: What
    match: Match
    text: str
    is_personal: bool
    national: str | None = None

    def value(self, hashing: Hashing) -> str:
        """As it stands in an entry, by the key in force."""
        return self.values(hashing)[0]

    def values(self, hashing: Hashing) -> tuple[str, ...]:
        """As it may stand in one, by every key, the one in force first."""
        if not self.is_personal:
            return (self.text,)
        return tuple(f"#{each}" for each in hashing.all(kind(self.what, self.match), self.text))

    def entry(  # noqa: PLR0913 an entry's fields
        self,
        hashing: Hashing,
        *,
        action: str,
        author: str,
        reason: str,
        now: float,
        until: dt.datetime | None = None,
        dry_run: bool = False,
    ) -> ListEntry:
        """An entry for it. Raises EntryError."""
        national = f"#{hashing.of(kind(self.what, self.match), self.national)}" if self.national else None
        is_part = self.match is not Match.EXACT and self.is_personal
        made = ListEntry(
            self.what,
            self.match,
            self.value(hashing),
            action,  # type: ignore[arg-type] # looked at below
            author,
            reason,
            dt.datetime.fromtimestamp(int(now), dt.UTC),
            until,
            dry_run,
            length=len(self.text) if is_part else 0,
            key=key_names(hashing)[0] if self.is_personal else None,
            national=national,
            national_length=len(self.national) if self.national and is_part else 0,
        )
        if why := fault(made):
            raise EntryError(why)
        return made


def kind(what: What, match: Match) -> str:
    """The kind of value that is hashed: equal ones of two kinds have two hashes."""
    return f"list:{what}:{match}"


def key_names(hashing: Hashing) -> tuple[str, ...]:
    """What the keys of a file are called in entries: eight digits of a hash that says nothing of the key."""
    return tuple(each[:8] for each in hashing.all("list:key", ""))


def encode(entry: ListEntry) -> tuple[bytes, bytes]:
    """The record's key and value."""
    return entry.name.encode(), msgspec.json.encode(entry)


def decode(key: bytes | None, value: bytes) -> ListEntry:
    """Read a record. Raises UnreadableEntryError."""
    try:
        entry = _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableEntryError(str(error)) from None
    if key != entry.name.encode("utf-8", "surrogatepass"):
        message = "its key is not what:match:value of what it holds"
        raise UnreadableEntryError(message)
    if why := fault(entry):
        raise UnreadableEntryError(why)
    return entry


_decoder: Final = msgspec.json.Decoder(ListEntry)


def fault(entry: ListEntry) -> str | None:
    """What keeps it from being an entry, wherever it comes from; None: nothing. Names no value."""
    if entry.match not in MATCHES[entry.what]:
        return f"{entry.what} has no {entry.match} entries; allowed: {', '.join(MATCHES[entry.what])}"
    if why := signature_fault(entry.author, entry.reason):
        return why
    if entry.is_hashed:
        is_of_numbers = entry.what in (What.SENDER, What.RECIPIENT, What.NUMBER)
        return _hash_fault(entry) if is_of_numbers else f"a {entry.what} stands in clear"
    if entry.what in (What.RECIPIENT, What.NUMBER) or (
        entry.what is What.SENDER and sender_type(entry.value) in (SenderType.NUMBER, SenderType.EMAIL)
    ):
        return "a number or an e-mail address in clear"
    if entry.length or entry.national_length or entry.national:
        return "what stands in clear has no length and no national hash"
    return _clear_fault(entry)


def holds_number(text: str) -> bool:
    """Whether seven digits or more stand together, as a telephone number's do."""
    return _MANY_DIGITS.search(text) is not None


def signature_fault(author: str, reason: str) -> str | None:
    """What keeps these from being who wants something and why; None: nothing."""
    if not author.strip() or not reason.strip():
        return "an entry without an author and a reason: say who wants it (--author), and why (--reason)"
    if max(len(author), len(reason)) > _WORDS:
        return f"author and reason have at most {_WORDS} characters"
    if holds_number(author) or holds_number(reason):
        return "author and reason stand in clear on the topic: leave telephone numbers out of them"
    return None


def _hash_fault(entry: ListEntry) -> str | None:
    hashes = [entry.value] if entry.national is None else [entry.value, entry.national]
    if not all(_HASH.fullmatch(each) for each in hashes) or not entry.key:
        return "a hash is # and 32 hexadecimal digits, and the entry names the key"
    if entry.match is Match.EXACT:
        return "an exact entry has no length" if entry.length or entry.national_length else None
    lengths = [entry.length] + [entry.national_length] * (entry.national is not None)
    if min(lengths) < SHORTEST_NUMBER_PART or max(lengths) > _LONGEST:
        return f"a {entry.match} of a number or address has at least {SHORTEST_NUMBER_PART} characters"
    return None


def _clear_fault(entry: ListEntry) -> str | None:
    value = entry.value
    if not value or value != value.strip() or len(value) > _LONGEST:
        return f"a value has 1 to {_LONGEST} characters"
    if entry.what is What.LINK_HOST:
        return host_fault(value)
    if entry.what is What.CAMPAIGN:
        return None if _CAMPAIGN.fullmatch(value) else "a campaign is named as verdicts name it: 4 to 128 characters"
    if value != normal(value):
        return "a sender stands in its one spelling: NFKC, without case"
    if entry.match is not Match.EXACT and len(value) < SHORTEST_PART:
        return f"a {entry.match} of a sender has at least {SHORTEST_PART} characters"
    return None


def as_listed(host: str) -> str:
    """A host as it stands in an entry: labels that are no letters of IDNA, as emoji, in punycode too."""
    if host.isascii():
        return host
    return ".".join(part if part.isascii() else f"xn--{part.encode('punycode').decode()}" for part in host.split("."))


def host_fault(host: str) -> str | None:
    """Why a host in ASCII cannot be listed; None: it can."""
    if is_ipv4(host):
        return None
    labels = host.split(".")
    if len(labels) > 1 and len(host) <= _LONGEST and all(_LABEL.fullmatch(each) for each in labels):
        if links.is_suffix(host):
            return "a public suffix: everybody's hosts end with it; name one host below it, as bank.co.uk for co.uk"
        return None
    if len(labels) == 1 and _LABEL.fullmatch(host):
        return "a public suffix, or no host at all: name a host with its domain, as evil.example"
    return _NO_HOST


def is_ipv4(host: str) -> bool:
    """Whether it is an address of IPv4, as four decimal numbers."""
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def target(what: What, match: Match, typed: str) -> Target:
    """What was typed, in its one spelling. Raises EntryError."""
    typed = typed.strip()
    if match not in MATCHES[what]:
        message = f"{what} has no {match} entries; allowed: {', '.join(MATCHES[what])}"
        raise EntryError(message)
    if not typed:
        message = "an empty value would match everything: name what is to be matched"
        raise EntryError(message)
    if what is What.NUMBER:
        return _number(match, typed)
    if what is What.LINK_HOST:
        return _host(match, typed)
    if what is What.CAMPAIGN:
        return Target(what, match, typed, is_personal=False)
    is_personal = what is What.RECIPIENT or sender_type(typed) in (SenderType.NUMBER, SenderType.EMAIL)
    if match is not Match.EXACT and _NUMERIC.fullmatch(typed):
        if match is Match.SUFFIX:
            message = "a suffix of a sender is of letters: numbers are listed by prefix, short codes one by one"
            raise EntryError(message)
        return Target(what, match, _prefix_digits(typed), is_personal=True)
    return Target(what, match, normal(typed), is_personal)


def _prefix_digits(typed: str) -> str:
    digits = _SEPARATORS.sub("", typed)
    if digits.startswith("00"):
        digits = "+" + digits[2:]
    if not digits.startswith(("+", "0")) or not digits.removeprefix("+").isdigit():
        message = "a prefix of numbers begins with + and the calling code, or with 0; list short codes one by one"
        raise EntryError(message)
    return digits.removeprefix("+")


def _host(match: Match, typed: str) -> Target:
    written = typed.removeprefix("*.") if match is Match.SUFFIX else typed
    written = unicodedata.normalize("NFKC", written).strip(".").lower()
    host = links.typed(written) or links.typed(as_listed(written))
    if host is None or (why := host_fault(host)):
        message = f"{written[:80]!r} is {why if host else _NO_HOST}"
        raise EntryError(message)
    return Target(What.LINK_HOST, match, host, is_personal=False)


def _number(match: Match, typed: str) -> Target:
    if match is Match.PREFIX:
        digits = _prefix_digits(typed)
        if digits.startswith("0"):
            message = "a number begins with + and its country's calling code, as +44 90"
            raise EntryError(message)
        return Target(What.NUMBER, match, digits, is_personal=True, national=_national_prefix(digits))
    international = "+" + typed.removeprefix("00") if typed.startswith("00") else typed
    try:
        parsed = phonenumbers.parse(international, None)
    except phonenumbers.NumberParseException:
        parsed = None
    if parsed is None or not phonenumbers.is_possible_number(parsed):
        message = "no telephone number of any country: write + and the calling code, as +44 7700 900123"
        raise EntryError(message)
    digits = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164).removeprefix("+")
    national = re.sub(r"\D", "", phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.NATIONAL))
    return Target(What.NUMBER, match, digits, is_personal=True, national=national if national != digits else None)


def calling_codes() -> list[str]:
    """Of all countries, in digits."""
    return [str(code) for code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE]


def _national_prefix(digits: str) -> str | None:
    """A prefix as it is dialled within its country; None where that is too short to be told from others."""
    code = next((each for each in calling_codes() if digits.startswith(each)), None)
    region = phonenumbers.region_code_for_country_code(int(code)) if code else _REGION_OF_MANY
    example = None if region == _REGION_OF_MANY else phonenumbers.example_number(region)
    if code is None or example is None:
        return None
    dialled = re.sub(r"\D", "", phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.NATIONAL))
    trunk = dialled.removesuffix(phonenumbers.national_significant_number(example))
    national = trunk + digits[len(code) :]
    return national if len(national) >= SHORTEST_NUMBER_PART and trunk != dialled else None
