"""What the console has read, bounded: the newest verdicts, and where dead letters lie. Never a text.

One thread writes, by `take`; any other may ask. A search that takes too long is ended, and says so.
"""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from worker.messages import BYTE, FIELD, Verdict, dead_letter_notes, decode_verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from console.database import Database, Statements
    from console.search import Search
    from worker.messages import Record, TopicPartition

ROWS: Final = 1_000_000
"""Verdicts that are kept; the oldest go first."""
LETTERS: Final = 100_000
"""Dead letters that are known."""
DAYS: Final = 30
PAGE: Final = 50
"""Rows of a page."""
_PRUNED: Final = 20_000
"""Rows that one pruning removes at most: the writing thread goes on reading meanwhile."""
_PRUNE_EVERY: Final = 1.0
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS verdicts (
    seq {whole} PRIMARY KEY, partition {whole} NOT NULL, "offset" {whole} NOT NULL, at {real} NOT NULL,
    id TEXT NOT NULL, action TEXT NOT NULL, label TEXT, score {real}, reason TEXT, flags TEXT NOT NULL, language TEXT,
    model TEXT NOT NULL, campaign TEXT, latency {real} NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS verdicts_by_place ON verdicts (partition, "offset");
CREATE INDEX IF NOT EXISTS verdicts_by_id ON verdicts (id);
CREATE INDEX IF NOT EXISTS verdicts_by_time ON verdicts (at, seq);
CREATE INDEX IF NOT EXISTS verdicts_by_action ON verdicts (action, at, seq);
CREATE INDEX IF NOT EXISTS verdicts_by_label ON verdicts (label, at, seq);
CREATE INDEX IF NOT EXISTS verdicts_by_flags ON verdicts (at, seq, flags) WHERE flags <> '';
CREATE INDEX IF NOT EXISTS verdicts_by_reason ON verdicts (reason, at, seq) WHERE reason IS NOT NULL;
CREATE INDEX IF NOT EXISTS verdicts_by_campaign ON verdicts (campaign, at, seq) WHERE campaign IS NOT NULL;
CREATE TABLE IF NOT EXISTS bodies (seq {whole} PRIMARY KEY, body {bytes} NOT NULL);
CREATE TABLE IF NOT EXISTS sources (seq {whole} PRIMARY KEY, partition {whole} NOT NULL, "offset" {whole} NOT NULL);
CREATE INDEX IF NOT EXISTS sources_by_place ON sources (partition, "offset");
CREATE TABLE IF NOT EXISTS letters (
    seq {serial}, partition {whole} NOT NULL, "offset" {whole} NOT NULL, at {real} NOT NULL,
    reason TEXT NOT NULL, field TEXT, byte TEXT, source TEXT NOT NULL, size {whole} NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS letters_by_place ON letters (partition, "offset");
CREATE INDEX IF NOT EXISTS letters_by_reason ON letters (reason);
CREATE TABLE IF NOT EXISTS positions (
    topic TEXT NOT NULL, partition {whole} NOT NULL, "offset" {whole} NOT NULL, topic_id TEXT NOT NULL,
    PRIMARY KEY (topic, partition)
);
"""
VERSION: Final = 1
"""Of all tables of the database."""
_BESIDE: Final = ("bodies", "sources")
"""Tables with a row for each verdict, by its `seq`."""
_OF_ONE_PLACE: Final = 20
"""Verdicts on one place of the input that are looked at: of several topics, or on a message that was judged again."""
_HIGHEST: Final = 2**63 - 1
_TEXT: Final = 512
_BODY: Final = 1 << 14
"""Characters and bytes of a verdict that are kept; hamgate's own have fewer."""


@dataclass(frozen=True, slots=True)
class LetterPlace:
    """A dead letter as the window knows it: where it lies and why it is one."""

    seq: int
    partition: int
    offset: int
    at: float
    reason: str
    field: str | None
    byte: str | None
    source: str
    size: int


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """A verdict's row of the history."""

    seq: int
    partition: int
    offset: int
    at: float
    id: str
    action: str
    label: str | None
    score: float | None
    reason: str | None
    flags: str
    language: str | None
    model: str
    campaign: str | None
    latency: float


class RecordPlace(msgspec.Struct, frozen=True):
    """The part of a verdict's source that says where."""

    topic: str
    partition: int
    offset: int

    def as_tuple(self) -> tuple[str, int, int]:
        """Topic, partition, offset."""
        return self.topic, self.partition, self.offset


def keep_positions(statements: Statements, positions: Mapping[TopicPartition, tuple[int, str]]) -> None:
    """Keep how far topics were read, in the transaction of what was."""
    statements.executemany(
        "INSERT INTO positions VALUES (?, ?, ?, ?) ON CONFLICT (topic, partition) "
        'DO UPDATE SET "offset" = excluded."offset", topic_id = excluded.topic_id',
        ((*place, offset, topic_id) for place, (offset, topic_id) in positions.items()),
    )


class VerdictWindow:
    """The window of one console, in its database. Raises DatabaseError, also by each of its methods."""

    def __init__(self, database: Database, *, rows: int = ROWS, letters: int = LETTERS, days: float = DAYS) -> None:
        self._database, self._rows, self._letters, self._days = database, rows, letters, days
        self._pruned_at = 0.0
        database.prepare(_SCHEMA, VERSION)

    @property
    def rows(self) -> int:
        """Verdicts that it keeps at most."""
        return self._rows

    def positions(self) -> dict[TopicPartition, tuple[int, str]]:
        """Return the next offset to read of each partition, and the id of the topic that it was."""
        found = self._database.ask('SELECT topic, partition, "offset", topic_id FROM positions')
        return {(topic, partition): (offset, topic_id) for topic, partition, offset, topic_id in found}

    def forget(self, topic: str, *, is_letters: bool) -> None:
        """Drop all that is known of a topic: it was deleted, and made anew."""
        with self._database.writing() as statements:
            statements.execute("DELETE FROM positions WHERE topic = ?", (topic,))
            for table in ("letters",) if is_letters else ("verdicts", *_BESIDE):
                statements.execute(f"DELETE FROM {table}")

    def take(
        self,
        verdicts: Iterable[tuple[Record, Verdict]],
        letters: Iterable[Record],
        positions: Mapping[TopicPartition, tuple[int, str]],
    ) -> None:
        """Keep what was read, and how far, in one transaction. What is known already stays as it is."""
        with self._database.writing() as statements:
            [[last]] = statements.execute("SELECT coalesce(max(seq), 0) FROM verdicts")
            kept = list(enumerate(verdicts, last + 1))
            new = statements.executemany(
                "INSERT INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (_row(seq, record, verdict) for seq, (record, verdict) in kept),
            )
            statements.executemany(
                "INSERT INTO bodies VALUES (?, ?) ON CONFLICT DO NOTHING",
                ((seq, record.value if len(record.value or b"") <= _BODY else b"{}") for seq, (record, _) in kept),
            )
            statements.executemany(
                "INSERT INTO sources VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (
                    (seq, verdict.source.partition, verdict.source.offset)
                    for seq, (_, verdict) in kept
                    if is_place(verdict.source.partition, verdict.source.offset)
                ),
            )
            for table in _BESIDE if new != len(kept) else ():
                statements.execute(
                    f"DELETE FROM {table} WHERE seq > ? "
                    f"AND NOT EXISTS (SELECT 1 FROM verdicts WHERE verdicts.seq = {table}.seq)",
                    (last,),
                )
            statements.executemany(
                'INSERT INTO letters (partition, "offset", at, reason, field, byte, source, size) '
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                filter(None, map(_letter, letters)),
            )
            keep_positions(statements, positions)
            if time.monotonic() - self._pruned_at > _PRUNE_EVERY:
                self._prune(statements)

    def search(self, asked: Search, most: int = PAGE) -> list[VerdictRow]:
        """Return the newest verdicts that fit, `most` and one more. Raises TooLongError."""
        where = f"WHERE {' AND '.join(asked.conditions)}" if asked.conditions else ""
        found = self._database.ask(
            f"SELECT * FROM verdicts {where} ORDER BY at DESC, seq DESC LIMIT ?", (*asked.values, most + 1)
        )
        return [VerdictRow(*row) for row in found]

    def verdict(self, partition: int, offset: int) -> tuple[VerdictRow, dict[str, Any]] | None:
        """Return a verdict by its place in its topic: its row, and all its fields."""
        found = self._database.ask('SELECT * FROM verdicts WHERE partition = ? AND "offset" = ?', (partition, offset))
        if not found:
            return None
        row = VerdictRow(*found[0])
        [[body]] = self._database.ask("SELECT body FROM bodies WHERE seq = ?", (row.seq,)) or [[b"{}"]]
        return row, msgspec.json.decode(body, type=dict)

    def place_of_verdict_on(self, message: tuple[str, int, int]) -> tuple[int, int] | None:
        """Return where the newest verdict on a message of the input lies: its partition and offset."""
        topic, *place = message
        if not is_place(*place):
            return None
        found = self._database.ask(
            'SELECT verdicts.partition, verdicts."offset", body FROM sources '
            "JOIN verdicts ON verdicts.seq = sources.seq JOIN bodies ON bodies.seq = sources.seq "
            'WHERE sources.partition = ? AND sources."offset" = ? ORDER BY sources.seq DESC LIMIT ?',
            (*place, _OF_ONE_PLACE),
        )
        said = (
            (partition, offset, source_of(msgspec.json.decode(body, type=dict))) for partition, offset, body in found
        )
        return next(((partition, offset) for partition, offset, at in said if at and at[0] == topic), None)

    def sources(self, rows: Sequence[VerdictRow]) -> dict[int, tuple[str, int, int]]:
        """Return where the messages of verdicts lie in the input, by the verdict's `seq`."""
        if not rows:
            return {}
        marks = ", ".join("?" * len(rows))
        bodies = self._database.ask(f"SELECT seq, body FROM bodies WHERE seq IN ({marks})", [row.seq for row in rows])
        found = ((seq, source_of(msgspec.json.decode(body, type=dict))) for seq, body in bodies)
        return {seq: place for seq, place in found if place}

    def letters(self, reason: str | None = None, before: int | None = None, most: int = PAGE) -> list[LetterPlace]:
        """Return the newest dead letters of a reason, or of any; `most` and one more."""
        conditions = {"reason = ?": reason, "seq < ?": before}
        asked = {condition: value for condition, value in conditions.items() if value is not None}
        where = f"WHERE {' AND '.join(asked)}" if asked else ""
        found = self._database.ask(
            f"SELECT * FROM letters {where} ORDER BY seq DESC LIMIT ?", (*asked.values(), most + 1)
        )
        return [LetterPlace(*row) for row in found]

    def letter(self, partition: int, offset: int) -> LetterPlace | None:
        """Return a dead letter by its place in its topic."""
        found = self._database.ask('SELECT * FROM letters WHERE partition = ? AND "offset" = ?', (partition, offset))
        return LetterPlace(*found[0]) if found else None

    def reasons(self) -> dict[str, int]:
        """Return how many dead letters there are of each reason, most first."""
        return dict(
            self._database.ask("SELECT reason, count(*) FROM letters GROUP BY reason ORDER BY count(*) DESC, reason")
        )

    def models(self, most: int = 5000) -> list[tuple[str, int, float]]:
        """Return by which models the newest verdicts are: each with how many, and when the last was given."""
        found = self._database.ask(
            "SELECT model, count(*), max(at) FROM "
            "(SELECT model, at FROM verdicts ORDER BY at DESC, seq DESC LIMIT ?) AS newest "
            "GROUP BY model ORDER BY max(at) DESC",
            (most,),
        )
        return [(str(model), int(count), float(at)) for model, count, at in found]

    def scores(self, since: float, until: float, model: str, most: int) -> list[tuple[float, bool]]:
        """Return scores of a model's verdicts between two times, the oldest first, each with whether it is outside.

        `most` verdicts of any model are looked at, so that this takes as long wherever it looks.
        """
        found = self._database.ask(
            "SELECT score, flags FROM "
            "(SELECT score, flags, model FROM verdicts WHERE at >= ? AND at < ? ORDER BY at LIMIT ?) AS looked_at "
            "WHERE model = ? AND score IS NOT NULL",
            (since, until, most, model),
        )
        return [(float(score), " outside " in flags) for score, flags in found]

    def oldest(self) -> float | None:
        """Return when the oldest verdict was given, in Unix seconds."""
        found = self._database.ask("SELECT min(at) FROM verdicts")
        oldest: float | None = found[0][0]
        return oldest

    def close(self) -> None:
        """Close every connection."""
        self._database.close()

    def _prune(self, statements: Statements) -> None:
        self._pruned_at = time.monotonic()
        oldest = time.time() - self._days * 86_400
        for table, most in (("verdicts", self._rows), ("letters", self._letters)):
            statements.execute(
                f"DELETE FROM {table} WHERE seq IN (SELECT seq FROM {table} ORDER BY seq LIMIT {_PRUNED}) "
                f"AND (at < ? OR seq <= (SELECT max(seq) FROM {table}) - ?)",
                (oldest, most),
            )
        for table in _BESIDE:
            statements.execute(f"DELETE FROM {table} WHERE seq < (SELECT coalesce(min(seq), 0) FROM verdicts)")


def _row(seq: int, record: Record, verdict: Verdict) -> tuple[object, ...]:
    campaign = None if verdict.campaign is msgspec.UNSET else verdict.campaign
    flags = f" {' '.join(verdict.flags)} " if verdict.flags else ""
    texts = (verdict.id, verdict.action.value, verdict.label, verdict.reason, flags, verdict.language, verdict.model)
    name, action, label, reason, flags_kept, language, model = map(_text, texts)
    return (
        *(seq, record.partition, record.offset, record.timestamp, name, action, label, verdict.score, reason),
        *(flags_kept or "", language, model, _text(campaign), verdict.latency_ms.total),
    )


def _text(text: str | None) -> str | None:
    """Without halves of surrogate pairs, which no database stores; and not longer than any of ours is."""
    return None if text is None else text[:_TEXT].encode("utf-8", "replace").decode()


def _letter(record: Record) -> tuple[object, ...] | None:
    if (notes := dead_letter_notes(record)) is None:
        return None
    try:
        at = _moment(notes["failed-at"])
    except ValueError:
        at = record.timestamp
    source = f"{notes['source-topic']}:{notes['source-partition']}:{notes['source-offset']}"
    added = dict(record.headers)
    field, byte = ((added.get(name) or b"").decode(errors="replace") or None for name in (FIELD, BYTE))
    texts = map(_text, (notes["reason"], field, byte, source))
    return record.partition, record.offset, at, *texts, len(record.value or b"")


def _moment(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()


def is_place(partition: int, offset: int) -> bool:
    """Whether these can be of a record: a stranger's numbers may be larger than a database stores."""
    return 0 <= partition <= _HIGHEST and 0 <= offset <= _HIGHEST


def source_of(fields: Mapping[str, Any]) -> tuple[str, int, int] | None:
    """Where a verdict's message lies in the input."""
    try:
        return msgspec.convert(fields.get("source"), RecordPlace).as_tuple()
    except msgspec.ValidationError:
        return None


def verdict_of(record: Record) -> Verdict | None:
    """Return a record's verdict; None where it is somebody else's."""
    try:
        return decode_verdict(record.value or b"")
    except msgspec.DecodeError:
        return None
