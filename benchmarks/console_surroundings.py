"""What a console knows beside its verdicts, as full as on a busy day: lists, campaigns, senders, reports, texts."""

from __future__ import annotations

import datetime as dt
import json
import random
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from console.context import ConsoleContext
from console.reviewing import ReviewQueue
from console.texts import RetainedTexts, TextKeys
from tests.listed import HASHING, listed
from worker.broker import KafkaLink
from worker.campaigns.signature import LENGTH
from worker.campaigns.summaries import CampaignSummary, encode_summary
from worker.feedback.records import (
    DecisionChange,
    DecisionState,
    FeedbackDecision,
    ReportVote,
    SaidVerdict,
    encode_record,
    key_of,
)
from worker.feedback.reports import ReportedPlace
from worker.messages import Record
from worker.policy.lists.entries import encode
from worker.senders.snapshots import KIND, SenderSnapshot
from worker.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from console.database import Database
    from console.parts import ConsoleParts

ENTRIES, CAMPAIGNS, SENDERS, DECISIONS, TEXTS = 20_000, 20_000, 20_000, 10_000, 100_000
SENDER: Final = "+447700900123"
CAMPAIGN: Final = f"{7:016x}"
_KEY: Final = "0123456789abcdef0123456789abcdef"
_NOWHERE: Final = KafkaLink("127.0.0.1:1", patience=0.2)
_REGISTRY: Final = Path(__file__).parents[1] / "deploy" / "registry.toml"


def context(folder: Path) -> ConsoleContext:
    """Return lists, campaigns and senders, full, without brokers."""
    (folder / "hash.key").write_text(f"{_KEY}\n")
    topics = {f"{each}_topic": f"sms.{each}" for each in ("lists", "campaigns", "senders")}
    made = ConsoleContext(Settings(**topics, hash_key_file=folder / "hash.key", registry=_REGISTRY), _NOWHERE)
    now, dice = time.time(), random.Random("surroundings")
    assert made.lists  # noqa: S101 the settings above
    assert made.campaigns  # noqa: S101
    assert made.senders  # noqa: S101
    made.lists.take(_records("sms.lists", _entries()), now)
    made.campaigns.take(_records("sms.campaigns", _campaigns(now, dice)), now)
    made.senders.take(_records("sms.senders", _senders(now)), now)
    return made


def review(verdicts: int) -> ReviewQueue:
    """Return reports on the newest verdicts: as many decided as waiting."""
    made = ReviewQueue(_NOWHERE, "sms.feedback")
    now, dice = time.time(), random.Random("review")
    decisions = (_decision(n, max(0, verdicts - 1 - n), now, dice) for n in range(DECISIONS))
    made.take(_records("decisions", ((key_of(each).encode(), encode_record(each)) for each in decisions)), now)
    return made


def texts(made: ConsoleParts, database: Database, folder: Path, verdicts: int) -> RetainedTexts:
    """Return the texts of the newest verdicts."""
    keys = folder / "text-keys"
    keys.write_text(secrets.token_hex(32) + "\n")
    keys.chmod(0o600)
    kept = RetainedTexts(database, made.changes, TextKeys(keys), topic="sms.events", max_bytes=65_536, days=7)
    first = max(0, verdicts - TEXTS)
    for begin in range(first, verdicts, 1000):
        kept.take([_event(n) for n in range(begin, min(begin + 1000, verdicts))], {})
    return kept


def _records(topic: str, made: Iterable[tuple[bytes, bytes]]) -> Iterator[Record]:
    now = time.time()
    return (Record(topic, 0, offset, now, key, value, ()) for offset, (key, value) in enumerate(made))


def _entries() -> Iterator[tuple[bytes, bytes]]:
    kinds = (("sender", "+4477%08d"), ("link-host", "host%d.example"), ("campaign", "%016x"))
    actions = ("block", "flag", "allow")
    for n in range(ENTRIES):
        what, value = kinds[n % 3]
        yield encode(listed(actions[n // 3 % 3], what, value % n, dry_run=n % 10 == 0))
    yield encode(listed("block", "sender", SENDER))


def _campaigns(now: float, dice: random.Random) -> Iterator[tuple[bytes, bytes]]:
    for n in range(CAMPAIGNS):
        last = dt.datetime.fromtimestamp(now - dice.random() * 86_400, dt.UTC)
        size = int(10 / (1 - dice.random()))
        told = CampaignSummary(
            f"{n // 2:016x}", f"worker-{n % 2}", size, last - dt.timedelta(hours=2), last, "s", bytes(LENGTH),
            senders=size // 3, recipients=size, hosts=2, delivered=size // 2, blocked=size // 2, score=0.6, scored=size,
        )  # fmt: skip
        yield told.key.encode(), encode_summary(told)


def _senders(now: float) -> Iterator[tuple[bytes, bytes]]:
    snapshot = SenderSnapshot(now - 40, now - 5400, 180.0, 31, 0.72, 50, 0.96, 64)
    value = json.dumps({name: getattr(snapshot, name) for name in snapshot.__struct_fields__}).encode()
    for n in range(SENDERS):
        yield HASHING.of(KIND, f"4477{n:08}").encode(), value
    yield HASHING.of(KIND, SENDER[1:]).encode(), value


def _decision(n: int, offset: int, now: float, dice: random.Random) -> FeedbackDecision:
    state, label = (DecisionState.ACCEPTED, "spam") if n % 2 else (DecisionState.DISPUTED, None)
    at = now - dice.random() * 86_400
    votes = [ReportVote(f"{vote:032x}", "spam", dice.random(), 1, at) for vote in range(1 + n % 5)]
    change = DecisionChange(at, "rule:trusted-reporters", state, label, None, None)
    source, said = ReportedPlace("sms.events", 0, offset), SaidVerdict("ham", 0.02, "deliver")
    return FeedbackDecision(f"0-{n}", f"{n:032x}", source, said, state, label, votes, [change], at)


def _event(n: int) -> Record:
    fields: dict[str, Any] = {"text": f"see you at {n}, and bring the charger", "sender": SENDER, "recipient": SENDER}
    return Record("sms.events", 0, n, time.time(), b"key", json.dumps(fields).encode(), ())
