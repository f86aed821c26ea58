"""Changes to the lists' topic, as the command and the console make them: found out first, guarded, then written."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from worker import app, broker
from worker.commands import sampling
from worker.messages import Outgoing, rfc3339
from worker.policy.facts import Facts
from worker.policy.lists import guards
from worker.policy.lists.entries import EntryError, ListEntry, What, encode, fault, key_names, signature_fault
from worker.policy.lists.following import Listed
from worker.policy.lists.matching import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from worker.policy.hashing import Hashing
    from worker.policy.lists.entries import Target
    from worker.settings import Settings

IN_FORCE_WITHIN: Final = 2
"""Seconds until a change is in force on every worker."""
ASKED: Final = ("sender", "recipient", "campaign", "link_host", "number")
"""What an entry can be looked for by."""
COLUMNS: Final = (
    *("action", "what", "match", "value", "until", "author", "reason", "dry_run"),
    *("added_at", "length", "key", "national", "national_length"),
)
"""Of a file: a line needs action, what and value; those of the second row are an export's own."""
_NEVER: Final = 0.0
"""As of when nothing has expired: what a topic holds is shown, expired entries too."""
_ERRORS: Final = 20


@dataclass(frozen=True, slots=True)
class ListChange:
    """What is to be written: entries, and entries that go. `notes` go with the tombstones, as headers."""

    entries: Sequence[ListEntry] = ()
    gone: Sequence[ListEntry] = ()
    replaced: ListEntry | None = None
    """The entry whose place a single new one takes."""
    counted: guards.Counted | None = None
    """Of the last hour's messages, those that are hit; None where that is not known."""
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lists:
    """The topic, to be read and changed. Whatever talks to the brokers raises BrokerError or TimeoutError."""

    link: broker.KafkaLink
    topic: str
    input_topic: str
    max_event_bytes: int
    hashing: Hashing
    now: float

    @classmethod
    def of(cls, settings: Settings, now: float) -> Lists:
        """As the settings name it. Raises UsageError without a topic, StartRefused without keys."""
        if settings.lists_topic is None:
            message = "HAMGATE_LISTS_TOPIC is not set: there are no lists; name the topic, as sms.lists"
            raise app.UsageError(message)
        keys = app.hashing(settings)
        return cls(app.link(settings), settings.lists_topic, settings.input_topic, settings.max_event_bytes, keys, now)

    def read(self) -> Listed:
        """All that the topic holds, what has expired too; what is no entry is in `unreadable`."""
        listed = Listed(Snapshot(self.hashing))
        with broker.Reader(self.link, self.topic) as reader:
            listed.read(reader.to_end(), _NEVER)
        return listed

    def write(self, change: ListChange) -> None:
        """Publish its entries, and tombstones of those that go."""
        notes = tuple((name, text.encode()) for name, text in change.notes.items())
        records = [Outgoing(*encode(entry)) for entry in change.entries]
        records += [Outgoing(entry.name.encode(), None, notes) for entry in change.gone]
        try:
            with broker.Publisher(self.link) as publisher:
                publisher.publish(self.topic, records)
        except broker.BrokerError as error:
            message = f"{self.topic} could not be written (this user needs WRITE on it): {error}"
            raise broker.BrokerError(message) from error

    def addition(self, target: Target, entry: ListEntry, listed: Listed, share: float) -> ListChange:
        """One entry, in the place of what matches the same. Raises EntryError where it would block more than `share`.

        Former entries for the same, hashed by former keys, go: the new one stands for them.
        """
        counted = self._counted([entry])
        if counted and entry.action == "block" and not entry.dry_run:
            counted.require_below(share)
        replaced = listed.entries.get(entry.name.encode())
        return ListChange([entry], self._former(listed, target), replaced, counted)

    @staticmethod
    def removal(gone: Sequence[ListEntry], *, author: str, reason: str) -> ListChange:
        """Entries that go, with who wants it and why. Raises EntryError where there are none, or nobody says why."""
        if why := signature_fault(author, reason):
            raise EntryError(why)
        if not gone:
            message = "not listed: nothing is removed; `hamgate lists show` shows all that is"
            raise EntryError(message)
        return ListChange(gone=gone, notes={"author": author, "reason": reason})

    def imported(  # noqa: PLR0913 a file, and what holds for all of its lines
        self, text: str, *, form: str | None, author: str, reason: str, share: float, is_forced: bool
    ) -> ListChange:
        """The entries of a file. Raises EntryError naming each wrong line, or where its blocks hit more than `share`.

        `author` and `reason` are those of lines that have none; `form` is csv or jsonl, None: as it looks.
        """
        made: dict[str, tuple[int, ListEntry]] = {}
        targets: list[Target] = []
        wrong: list[str] = []
        for number, row in _rows(text, form or ("jsonl" if text.lstrip().startswith("{") else "csv")):
            try:
                if isinstance(row, str):
                    raise EntryError(row)  # noqa: TRY301 as what is wrong in any other line
                entry, target = self._entry({"author": author, "reason": reason} | row, is_forced=is_forced)
                if entry.name in made:
                    message = f"matches the same as line {made[entry.name][0]}"
                    raise EntryError(message)  # noqa: TRY301
            except EntryError as error:
                wrong.append(f"line {number}: {error}")
                continue
            made[entry.name] = number, entry
            if target:
                targets.append(target)
        if wrong or not made:
            more = [f"... and {len(wrong) - _ERRORS} more lines"] if len(wrong) > _ERRORS else []
            nothing = "nothing is written" if wrong else "no lines: nothing to write"
            raise EntryError("\n".join([*wrong[:_ERRORS], *more, nothing]))
        entries = [entry for _, entry in made.values()]
        listed = self.read()
        counted = self._counted([entry for entry in entries if entry.action == "block" and not entry.dry_run])
        if counted:
            counted.require_below(share)
        former = [entry for target in targets for entry in self._former(listed, target)]
        return ListChange(entries, former, counted=counted)

    def at(self, listed: Listed, target: Target) -> list[ListEntry]:
        """The entries for a target, by whichever key they are hashed."""
        found = (listed.entries.get(_key(target, value)) for value in target.values(self.hashing))
        return [entry for entry in found if entry]

    def _former(self, listed: Listed, target: Target) -> list[ListEntry]:
        return [entry for entry in self.at(listed, target) if entry.value != target.value(self.hashing)]

    def _counted(self, entries: Sequence[ListEntry]) -> guards.Counted | None:
        """Of the last hour's messages, those that entries hit; None where no event shows it."""
        looked_at = [entry for entry in entries if entry.what is not What.CAMPAIGN]
        if not looked_at:
            return None
        sample = sampling.sample(self.link, self.input_topic, max_bytes=self.max_event_bytes, now=self.now)
        return guards.count(looked_at, self.hashing, sample, self.now)

    def _entry(self, row: dict[str, Any], *, is_forced: bool) -> tuple[ListEntry, Target | None]:
        """A line's entry. Raises EntryError."""
        if unknown := sorted(set(row) - set(COLUMNS)):
            message = f"no such column: {unknown[0]}; allowed: {', '.join(COLUMNS)}"
            raise EntryError(message)
        for name in ("action", "what", "value"):
            if not row.get(name):
                message = f"no {name}: a line needs action, what and value"
                raise EntryError(message)
        row = {"match": "exact"} | row | {"added_at": row.get("added_at") or rfc3339(int(self.now))}
        if not str(row["value"]).startswith("#"):
            row |= dict.fromkeys(("length", "national_length"), 0) | dict.fromkeys(("key", "national"))
        try:
            read = msgspec.convert(_typed(row), ListEntry, strict=False)
        except msgspec.ValidationError as error:
            message = str(error)
            raise EntryError(message) from None
        guards.require_future(read.until, self.now)
        if read.is_hashed:
            if read.key not in key_names(self.hashing):
                message = "hashed by a key that is not in HAMGATE_HASH_KEY_FILE: no worker could match it"
                raise EntryError(message)
            if why := fault(read):
                raise EntryError(why)
            return read, None
        target = guards.checked(read.what, read.match, read.value, is_forced=is_forced)
        made = target.entry(
            self.hashing, action=read.action, author=read.author, reason=read.reason, now=self.now, until=read.until,
            dry_run=read.dry_run,
        )  # fmt: skip
        return msgspec.structs.replace(made, added_at=read.added_at), target


def is_lost(entry: ListEntry, hashing: Hashing) -> bool:
    """Whether no key of the file can match it."""
    return bool(entry.key) and entry.key not in key_names(hashing)


def asked_for(name: str, value: str) -> Facts:
    """A message that has nothing but what is asked for, by one of ASKED."""
    text = {"number": value, "link_host": f"https://{value.removeprefix('https://')}"}.get(name, "")
    facts = Facts(text, None, None, 0.0, ("", 0), 0)
    if name in ("sender", "recipient", "campaign"):
        setattr(facts, name, value)
    return facts


def exported(entries: Iterable[ListEntry], form: str) -> str:
    """All entries as a file, csv or jsonl: what is personal stays hashed."""
    rows = [msgspec.to_builtins(entry) for entry in sorted(entries, key=lambda entry: entry.name)]
    if form == "jsonl":
        return "".join(f"{json.dumps(row)}\n" for row in rows)
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _key(target: Target, value: str) -> bytes:
    return f"{target.what}:{target.match}:{value}".encode()


def _rows(text: str, form: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Each line's fields by number; or what is wrong with it."""
    if form == "jsonl":
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
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


def _typed(row: dict[str, Any]) -> dict[str, Any]:
    """A file's words as values: CSV has True and true."""
    dry_run = row.get("dry_run", False)
    return row | {"dry_run": dry_run.lower() if isinstance(dry_run, str) else dry_run}
