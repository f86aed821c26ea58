"""A console's parts for tests, without brokers: verdicts and dead letters as they lie in their topics."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from console.access import Gate, UserRole, hashed
from console.changes import AuditLog
from console.context import ConsoleContext
from console.database import SqliteFile
from console.evaluation import ResultFiles
from console.judging import Judge
from console.live import Live
from console.parts import ConsoleParts
from console.redriving import Redrive
from console.shelf import BundleShelf, Promotion
from console.window import VerdictWindow
from worker.broker import KafkaLink, Letter
from worker.messages import (
    Action,
    DeadLetter,
    Latency,
    Record,
    RecordSource,
    Unreadable,
    Verdict,
    encode_dead_letter,
    encode_verdict,
)
from worker.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from worker.messages import Headers

HTML = "<script>alert(1)</script><img src=x onerror=alert(2)>"
BIDI = "pay \u202emoc.elgoog\u202c now"
CONTROL = "a\x1b[2J\x00\x07b\u2028c"
PASSWORD = "correct horse battery"  # noqa: S105 of users that are in tests alone


def judged(offset: int, *, at: float | None = None, **fields: Any) -> tuple[Record, Verdict]:
    """A verdict and the record that has it."""
    at = time.time() if at is None else at
    given = {
        "id": f"m-{offset}", "label": "ham", "score": 0.02, "threshold": 0.5, "action": Action.DELIVER, "reason": None,
        "flags": (), "model": "nano@0123", "source": RecordSource("sms.events", 0, offset, int(at * 1000)),
        "scored_at": "2026-01-31T08:00:00.000Z", "latency_ms": Latency(1, 2, 3, 12.4), "language": "en",
    } | fields  # fmt: skip
    verdict = Verdict(**given)
    return Record("sms.verdicts", offset % 4, offset // 4, at, b"key", encode_verdict(verdict), ()), verdict


def buried(offset: int, value: bytes, *, at: float | None = None, headers: Headers = (), key: bytes = b"+447700900123",
           reason: Unreadable = Unreadable.INVALID_JSON) -> Record:  # fmt: skip
    """A dead letter as it lies in its topic."""
    at = time.time() if at is None else at
    event = Record("sms.events", 1, 100 + offset, at, key, value, headers)
    made = encode_dead_letter(DeadLetter(event, reason, at, "text", 3))
    return Record("sms.dead-letters", 0, offset, at, made.key, made.value, made.headers)


@dataclass
class Topic:
    """The dead letters that the brokers would give."""

    letters: dict[tuple[int, int], Record] = field(default_factory=dict)
    error: Exception | None = None

    def __call__(self, partition: int, offset: int) -> Letter | None:
        if self.error:
            raise self.error
        record = self.letters.get((partition, offset))
        return Letter.of(record) if record else None


def users_file(folder: Path) -> Path:
    """One user of each role, all with the same password."""
    path = folder / "users"
    line = hashed(PASSWORD)
    path.write_text("# users\n" + "".join(f"{role}-user {role} {line}\n" for role in UserRole))
    path.chmod(0o640)
    return path


_windows: list[VerdictWindow] = []


def close_windows() -> None:
    """Close the files of every window that was made: else a whole run of the tests holds a thousand of them open."""
    while _windows:
        _windows.pop().close()


def parts(
    folder: Path,
    *,
    judge: Judge | None = None,
    users: Path | None = None,
    topic: Topic | None = None,
    settings: Settings | None = None,
    context: ConsoleContext | None = None,
) -> ConsoleParts:
    """All of them, over a window in `folder`; the brokers are nowhere."""
    changes = AuditLog(folder / "audit.jsonl")
    judge = judge or Judge(Settings())
    settings = settings or Settings()
    shelf = BundleShelf(settings)
    redrive = Redrive(
        KafkaLink("127.0.0.1:1", patience=0.2), changes,
        name="hamgate.replay", dead_letters="sms.dead-letters", input_topic="sms.events",
    )  # fmt: skip
    _windows.append(VerdictWindow(SqliteFile(folder / "window.sqlite")))
    return ConsoleParts(
        gate=Gate(users),
        changes=changes,
        window=_windows[-1],
        live=Live(),
        judge=judge,
        redrive=redrive,
        reading=lambda: {"away_since": None, "cause": "", "behind": 0, "is_connected": True},
        letter=topic or Topic(),
        shelf=shelf,
        promotion=Promotion(settings, shelf, changes, judge.load),
        results=ResultFiles(),
        context=context or ConsoleContext(Settings(), KafkaLink("127.0.0.1:1", patience=0.2)),
    )


def fill(
    parts: ConsoleParts, verdicts: list[tuple[Record, Verdict]], letters: list[Record], topic: Topic | None = None
) -> None:
    """As the reading thread does."""
    parts.window.take(verdicts, letters, {})
    parts.live.take(verdicts, letters, time.time())
    if topic:
        topic.letters |= {(letter.partition, letter.offset): letter for letter in letters}
