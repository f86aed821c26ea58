"""The console's lists, senders and campaigns: what is shown, who may change it, what is refused, and what is kept."""

from __future__ import annotations

import datetime as dt
import json
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

pytest.importorskip("uvicorn", reason="the console needs the extra `console`")

from console.access import COOKIE, UserRole
from console.context import ConsoleContext
from console.following import KnownCampaigns, KnownSenders
from tests.consoles import BIDI, CONTROL, HTML, fill, judged, parts, users_file
from tests.listed import message
from tests.unit.test_console_pages import assert_harmless, audit, client_of, token_of
from worker.broker import BrokerError, KafkaLink
from worker.campaigns.signature import LENGTH
from worker.campaigns.summaries import CampaignSummary, encode_summary
from worker.commands.list_changes import Lists
from worker.messages import Record, RecordSource
from worker.policy.hashing import Hashing
from worker.policy.lists import guards
from worker.policy.lists.entries import ListEntry, Match, What, encode
from worker.policy.lists.following import Listed
from worker.policy.lists.matching import Snapshot
from worker.senders.snapshots import KIND, SenderSnapshot
from worker.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fastapi.testclient import TestClient

    from console.parts import ConsoleParts
    from worker.commands.list_changes import ListChange
    from worker.policy.facts import Facts

NUMBER = "+44 7700 900123"
DIGITS = "447700900123"
CAMPAIGN = "67fafdfa4dbe71a6"
REASON = {"reason": "a test"}
BLOCK = {"action": "block", "what": "campaign", "value": CAMPAIGN, **REASON}


@dataclass
class ListsTopic:
    """The lists' topic and the last hour's messages, in memory; `error` is raised in place of a write."""

    context: ConsoleContext
    records: list[Record] = field(default_factory=list)
    sample: Sequence[Facts] = ()
    error: Exception | None = None

    def at(self, now: float) -> ListsInMemory:
        hashing = self.context.hashing
        assert hashing
        link = KafkaLink("127.0.0.1:1", patience=0.2)
        return ListsInMemory(link, "sms.lists", "sms.events", 65_536, hashing, now, self)

    def append(self, key: bytes, value: bytes | None, headers: Any = ()) -> None:
        record = Record("sms.lists", 0, len(self.records), time.time(), key, value, headers)
        self.records.append(record)
        assert self.context.lists
        self.context.lists.take([record], time.time())


@dataclass(frozen=True)
class ListsInMemory(Lists):
    kept: ListsTopic

    def read(self) -> Listed:
        listed = Listed(Snapshot(self.hashing))
        listed.read(self.kept.records, 0.0)
        return listed

    def write(self, change: ListChange) -> None:
        if self.kept.error:
            raise self.kept.error
        for entry in change.entries:
            self.kept.append(*encode(entry))
        for entry in change.gone:
            self.kept.append(entry.name.encode(), None, tuple(change.notes.items()))

    def _counted(self, entries: Sequence[ListEntry]) -> guards.Counted | None:
        return guards.count(entries, self.hashing, self.kept.sample, self.now)


@pytest.fixture
def made(tmp_path: Path) -> ConsoleParts:
    return _made(tmp_path)


def context_in(folder: Path, **more: Any) -> ConsoleContext:
    """With lists, campaigns and senders, and no brokers."""
    key = folder / "hash.key"
    key.write_text("0123456789abcdef0123456789abcdef\n")
    given = {
        "lists_topic": "sms.lists", "campaigns_topic": "sms.campaigns", "senders_topic": "sms.senders",
        "hash_key_file": key,
    } | more  # fmt: skip
    return ConsoleContext(Settings(**given), KafkaLink("127.0.0.1:1", patience=0.2))


def _made(folder: Path, users: Path | None = None, **more: Any) -> ConsoleParts:
    made = parts(folder, users=users, context=context_in(folder, **more))
    fill(made, [judged(1, campaign=CAMPAIGN)], [])
    return made


@pytest.fixture
def topic(made: ConsoleParts, monkeypatch: pytest.MonkeyPatch) -> ListsTopic:
    topic = ListsTopic(made.context)
    monkeypatch.setattr(made.context, "changeable", topic.at)
    return topic


@pytest.fixture
def client(made: ConsoleParts, topic: ListsTopic) -> TestClient:  # noqa: ARG001 the lists that it changes
    return visiting(made)


def visiting(made: ConsoleParts, role: UserRole | None = None) -> TestClient:
    """As `logged_in`, without the time that a password takes."""
    cookie = made.gate.begin(made.gate._known()[f"{role}-user"] if role else None)
    client = client_of(made)
    client.cookies.set(COOKIE, cookie)
    client.headers["X-CSRF-Token"] = made.gate.token(made.gate.session(cookie))
    return client


def summary(name: str = CAMPAIGN, worker: str = "one", **more: Any) -> CampaignSummary:
    now = dt.datetime.now(dt.UTC)
    fields = {"size": 40, "first": now - dt.timedelta(hours=1), "last": now, "senders": 7, "recipients": 31, "hosts": 2,
              "delivered": 30, "blocked": 9, "score": 0.25} | more  # fmt: skip
    return CampaignSummary(name, worker, scheme="1.1.2", signature=bytes(LENGTH), **fields)


def told(*given: CampaignSummary) -> list[Record]:
    return [
        Record("sms.campaigns", 0, n, time.time(), each.key.encode(), encode_summary(each), ())
        for n, each in enumerate(given)
    ]


def known_campaigns(made: ConsoleParts) -> KnownCampaigns:
    assert made.context.campaigns
    return made.context.campaigns


def test_a_campaign_is_shown_with_its_counts_and_a_page_of_its_own(made: ConsoleParts, client: TestClient) -> None:
    known_campaigns(made).take(told(summary(), summary(worker="two", size=2)), time.time())

    page = client.get("/campaigns").text
    assert f'href="/campaigns/{CAMPAIGN}"' in page
    assert '<td class="number">42</td>' in page
    own = client.get(f"/campaigns/{CAMPAIGN}").text
    assert "told by 2 workers" in own
    assert "/history/1/0" in own
    assert "No entry: the score decides." in own
    for text in (page, own):
        assert_harmless(text)


def test_campaigns_are_sorted_and_filtered_by_what_is_asked(made: ConsoleParts, client: TestClient) -> None:
    now = dt.datetime.now(dt.UTC)
    ids = [f"{n:x}" * 16 for n in range(1, 4)]
    known_campaigns(made).take(
        told(
            summary(ids[0], size=900, first=now - dt.timedelta(days=4), last=now - dt.timedelta(days=3)),
            summary(ids[1], size=50, last=now),
            summary(ids[2], size=500, last=now - dt.timedelta(hours=3), first=now - dt.timedelta(hours=9)),
        ),
        time.time(),
    )

    def shown(query: str) -> list[str]:
        page = client.get(f"/campaigns?{query}").text
        return sorted((each for each in ids if each in page), key=page.index)

    assert shown("span=all") == [ids[0], ids[2], ids[1]]
    assert shown("span=all&sort=last") == [ids[1], ids[2], ids[0]]
    assert shown("span=hour") == [ids[1]]
    assert shown("sort=nonsense&span=none&skip=-1") == [ids[2], ids[1]]


def test_the_rate_is_that_of_the_last_minutes_and_falls_when_nothing_comes() -> None:
    known, now = KnownCampaigns(), time.time()
    first = summary(size=60)
    began = first.first.timestamp()
    known.take(told(first), now)
    [total] = known.totals()
    assert known.rate(total, now) == pytest.approx(60 * 60 / (now - began), rel=0.01)
    known.take(told(msgspec.structs.replace(first, size=160)), now + 60)
    known.take(told(msgspec.structs.replace(first, size=260)), now + 120)

    assert known.rate(total, now + 120) == pytest.approx(100, rel=0.01)
    assert known.rate(total, now + 720) < 20


def test_campaigns_are_bounded_and_a_tombstone_ends_one() -> None:
    known = KnownCampaigns(most=2)
    known.take(told(*(summary(f"{n:x}" * 16) for n in range(5))), 0.0)
    assert (len(known.totals()), known.forgotten) == (2, 3)
    known.take([Record("sms.campaigns", 0, 9, 0.0, b"%s:one" % (b"4" * 16), None, ())], 0.0)
    known.take([Record("sms.campaigns", 0, 9, 0.0, b"x", b"{", ())], 0.0)
    known._fresh_until = 0.0
    assert [each.id for each in known.totals()] == ["3" * 16]
    assert known.unreadable == 1


def test_an_operator_blocks_a_campaign_and_takes_the_block_back(
    made: ConsoleParts, client: TestClient, topic: ListsTopic, tmp_path: Path
) -> None:
    known_campaigns(made).take(told(summary()), time.time())
    until = "2100-01-31T08:00"

    answer = client.post("/api/lists/add", json=BLOCK | {"until": until, "dry_run": True})

    assert answer.status_code == 200, answer.text
    [record] = topic.records
    entry = msgspec.json.decode(record.value or b"", type=ListEntry)
    assert (entry.action, entry.value, entry.author, entry.reason) == ("block", CAMPAIGN, "local", "a test")
    assert (entry.until, entry.dry_run) == (dt.datetime(2100, 1, 31, 8, tzinfo=dt.UTC), True)
    assert "dry run" in client.get("/campaigns").text
    assert entry.rule in client.get(f"/campaigns/{CAMPAIGN}").text
    assert entry.rule in client.get("/lists", params={"rule": entry.rule}).text

    gone = client.post("/api/lists/remove", json={"rule": entry.rule, **REASON})

    assert gone.json()["written"] == 1
    assert topic.records[-1].value is None
    assert dict(topic.records[-1].headers) == {"author": "local", "reason": "a test"}
    assert entry.rule not in client.get(f"/campaigns/{CAMPAIGN}").text
    added, removed = audit(tmp_path)
    assert (added["what"], added["rule"], added["user"]) == ("list entry added", entry.rule, "local")
    assert (removed["what"], removed["rules"]) == ("list entries removed", [entry.rule])
    again = client.post("/api/lists/remove", json={"rule": entry.rule, **REASON})
    assert again.status_code == 422
    assert again.json()["error"].startswith("Not listed: nothing is removed")


def test_a_preview_writes_and_notes_nothing(client: TestClient, topic: ListsTopic, tmp_path: Path) -> None:
    topic.sample = [message(sender=f"bank{each % 50}") for each in range(100)]
    asked = {"action": "block", "what": "sender", "value": "bank7", "preview": True, **REASON}

    answer = client.post("/api/lists/add", json=asked).json()

    assert answer["said"].startswith("It would be written: block sender exact bank7 (list:sender:")
    assert "It matches 2.00% of the last hour's messages" in answer["said"]
    assert answer["written"] == 0
    assert topic.records == []
    assert (tmp_path / "audit.jsonl").read_text() == ""


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"what": "sender", "value": "*"}, "Wildcard"),
        ({"what": "sender", "value": " "}, "Empty"),
        ({"what": "sender", "match": "prefix", "value": "+44"}, "Calling code"),
        ({"what": "link-host", "value": "bit.ly"}, "choose “also a shared host”"),
        ({"what": "link-host", "match": "suffix", "value": "co.uk"}, "public suffix"),
        ({"what": "number", "match": "suffix", "value": "123456"}, "Number has no suffix entries"),
        ({"what": "sender", "value": "bank", "until": "2020-01-01T00:00"}, "Expiry in the past"),
        ({"what": "sender", "value": "bank", "reason": "called 07700 900123"}, "leave telephone numbers out"),
        ({"what": "sender", "value": "bank", "reason": "  "}, "without an author and a reason"),
        ({"what": "sender", "value": "bank", "max_share": 0.9}, "The share 0.9: allowed"),
        ({"what": "sender", "value": "everybody"}, "Share: it would block 100.0% of the last hour's messages"),
    ],
)
def test_what_would_hit_everybody_is_refused_by_name_and_nothing_is_written(
    client: TestClient, topic: ListsTopic, tmp_path: Path, asked: dict[str, Any], said: str
) -> None:
    topic.sample = [message(sender="everybody") for _ in range(100)]

    answer = client.post("/api/lists/add", json={"action": "block", **REASON} | asked)

    assert answer.status_code == 422
    assert said in answer.json()["error"]
    assert "--" not in answer.json()["error"]
    assert topic.records == []
    assert (tmp_path / "audit.jsonl").read_text() == ""


@pytest.mark.parametrize(
    "body",
    [{}, BLOCK | {"action": "burn"}, BLOCK | {"what": "x"}, BLOCK | {"until": "soon"}, BLOCK | {"more": 1},
     BLOCK | {"value": "x" * 400}, BLOCK | {"until": "9999-12-31T23:59:59-14:00"}, BLOCK | {"max_share": "NaN"},
     BLOCK | {"author": "somebody else"}],
)  # fmt: skip
def test_what_is_not_understood_of_an_entry_is_refused(client: TestClient, topic: ListsTopic, body: Any) -> None:
    assert client.post("/api/lists/add", json=body).status_code == 422
    assert topic.records == []


def test_a_file_is_written_whole_or_not_at_all(client: TestClient, topic: ListsTopic, tmp_path: Path) -> None:
    good = f"action,what,value\nblock,link-host,evil.example\nallow,sender,{NUMBER}\n"
    wrong = client.post("/api/lists/import", json={"text": good + "block,link-host,co.uk\n", **REASON})
    assert wrong.status_code == 422
    assert "Line 4: 'co.uk' is a public suffix" in wrong.json()["error"]
    assert topic.records == []

    looked = client.post("/api/lists/import", json={"text": "\ufeff" + good, "preview": True, **REASON})
    assert looked.json()["said"].startswith("2 entries would be written.")
    assert topic.records == []
    assert client.post("/api/lists/import", json={"text": good, **REASON}).json()["written"] == 2
    assert len(topic.records) == 2
    exported = client.get("/lists/export").text
    assert DIGITS not in exported
    assert client.post("/api/lists/import", json={"text": exported}).json()["written"] == 2
    assert client.get("/lists/export?format=jsonl").text.count('"author": "local"') == 2
    assert [each["what"] for each in audit(tmp_path)][:2] == ["lists imported", "lists exported"]


def test_entries_are_filtered_and_a_typed_number_finds_its_hashed_entry(client: TestClient, tmp_path: Path) -> None:
    for asked in (
        {"action": "block", "what": "sender", "value": NUMBER},
        {"action": "allow", "what": "sender", "value": "MyBank", "dry_run": True},
        {"action": "flag", "what": "link-host", "value": "evil.example"},
    ):
        assert client.post("/api/lists/add", json=asked | REASON).status_code == 200
    token = client.headers["X-CSRF-Token"]

    def shown(page: str) -> set[str]:
        return {each for each in ("hashed", "mybank", "evil.example") if f"<bdi>{each}" in page}

    assert shown(client.get("/lists").text) == {"hashed", "mybank", "evil.example"}
    assert shown(client.get("/lists?what=sender&state=in force").text) == {"hashed"}
    assert shown(client.get("/lists?action=allow&author=local").text) == {"mybank"}
    assert shown(client.get("/lists?author=ana").text) == set()
    for typed, found in {NUMBER: {"hashed"}, f"00{DIGITS}": {"hashed"}, "MYBANK": {"mybank"}, "+44 1": set(),
                         "https://evil.example": {"evil.example"}, "evil": {"evil.example"}}.items():  # fmt: skip
        answer = client.post("/lists", data={"value": typed, "token": token})
        assert shown(answer.text) == found, typed
        assert DIGITS not in answer.text
        assert NUMBER not in answer.text
    assert client.post("/lists", data={"value": NUMBER}).status_code == 403
    assert [each["what"] for each in audit(tmp_path)].count("lists searched") == 6
    assert "900123" not in (tmp_path / "audit.jsonl").read_text()


@pytest.mark.parametrize("text", [HTML, BIDI, CONTROL, '"><svg/onload=alert(1)>', "{{7*191}}"])
def test_a_strangers_author_and_reason_are_shown_harmless(
    client: TestClient, topic: ListsTopic, made: ConsoleParts, text: str
) -> None:
    now = dt.datetime.now(dt.UTC)
    entries = [
        ListEntry(What.CAMPAIGN, Match.EXACT, CAMPAIGN, "block", text, text, now),
        ListEntry(What.SENDER, Match.EXACT, "m" + "<b>\u202e".casefold(), "block", text, text, now),
    ]
    for entry in entries:
        topic.append(*encode(entry))
    known_campaigns(made).take(told(summary(worker=text)), time.time())
    token = client.headers["X-CSRF-Token"]

    pages = [
        client.get("/lists"), client.get("/lists", params=dict.fromkeys(("what", "author", "rule", "state"), text)),
        client.get("/campaigns"), client.get(f"/campaigns/{CAMPAIGN}"),
        client.post("/lists", data={"value": text, "token": token}),
        client.post("/lists/senders", data={"sender": text, "token": token}),
    ]  # fmt: skip
    for page in pages:
        assert page.status_code == 200
        assert_harmless(page.text)
    removed = client.post("/api/lists/remove", json={"rule": entries[1].rule, **REASON})
    assert all(c.isprintable() or c == "\n" for c in removed.json()["said"])


def test_a_sender_is_looked_up_and_not_shown(
    client: TestClient, made: ConsoleParts, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client.post("/api/lists/add", json={"action": "block", "what": "sender", "value": NUMBER, **REASON})
    now = time.time()
    snapshot = SenderSnapshot(now, now - 7200, 100.0, 20, 0.5, 40, 0.9, 64)
    hashing = made.context.hashing
    assert hashing
    assert made.context.senders
    key = hashing.of(KIND, DIGITS).encode()
    made.context.senders.take([Record("sms.senders", 0, 0, now, key, msgspec.json.encode(snapshot), ())], now)
    token = client.headers["X-CSRF-Token"]

    page = client.post("/lists/senders", data={"sender": NUMBER, "token": token}).text

    assert key.decode() in page
    assert "a telephone number" in page
    assert "13.9" in page
    assert "about 24" in page
    assert "50% of the last 40" in page
    assert "block" in page
    assert DIGITS not in page
    assert NUMBER not in page
    assert "900123" not in caplog.text
    assert "900123" not in (tmp_path / "audit.jsonl").read_text()
    assert audit(tmp_path)[-1]["sender"] == key.decode()[:8]
    unknown = client.post("/lists/senders", data={"sender": "+44 7700 900999", "token": token}).text
    assert "no snapshot of the last day" in unknown
    assert "No entry matches." in unknown
    for wrong in ("", " ", "9" * 400):
        assert client.post("/lists/senders", data={"sender": wrong, "token": token}).status_code == 400


def test_old_and_unsound_snapshots_of_senders_say_nothing() -> None:
    known, now = KnownSenders(most=2), time.time()

    def record(name: str, at: float) -> Record:
        value = msgspec.json.encode(SenderSnapshot(at, at, 1.0, 1, 0.0, 1, 0.0, 1))
        return Record("sms.senders", 0, 0, at, name.encode(), value, ())

    known.take([record("a", now - 100_000), record("b", now), Record("s", 0, 0, now, b"c", b"{", ())], now)
    known.take([record("d", now), record("e", now - 1)], now)

    assert known.latest(["a"], now) is None
    assert known.latest(["b"], now) is None  # the oldest of three
    assert known.latest(["d", "e"], now) == known.latest(["d"], now)
    assert known.latest(["d"], now + 100_000) is None
    assert known.unsound == 1


def event(offset: int = 1, at: float = 1_700_000_000.0, **fields: Any) -> Record:
    value = {"id": f"m-{offset}", "text": "hello", "sender": NUMBER} | fields
    return Record("sms.events", 0, offset, at, b"k", json.dumps(value).encode(), ())


@pytest.mark.parametrize("action", ["block", "allow"])
def test_a_verdicts_sender_is_listed_in_one_click_and_never_shown(
    made: ConsoleParts, client: TestClient, topic: ListsTopic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    action: str,
) -> None:  # fmt: skip
    asked: list[tuple[int, int]] = []
    verdict = judged(4, at=1_700_000_000.0)
    fill(made, [verdict], [])
    monkeypatch.setattr(made.context, "event", lambda *place: asked.append(place) or event(4))
    assert "Block sender" in client.get("/history/0/1").text

    answer = client.post("/api/lists/sender-of-verdict", json={"partition": 0, "offset": 1, "action": action, **REASON})

    assert answer.status_code == 200, answer.text
    assert asked == [(0, 4)]
    [record] = topic.records
    hashing = made.context.hashing
    assert hashing
    assert record.key == f"sender:exact:#{hashing.of('list:sender:exact', DIGITS)}".encode()
    kept = answer.text + (record.value or b"").decode() + (tmp_path / "audit.jsonl").read_text()
    assert "900123" not in kept
    assert made.context.lists
    [decides] = made.context.lists.snapshot.rulings(message(sender=f"+{DIGITS}"), time.time())
    assert decides.rule == answer.json()["rule"]


@pytest.mark.parametrize(
    ("lies_there", "said"),
    [
        (None, "Its message is gone"),
        (event(5), "Its message is gone"),
        (event(4, at=1_700_000_001.0), "Its message is gone"),
        (event(4, sender=None), "Its event names no sender"),
        (event(4, sender=f"call {NUMBER} now"), "Its sender is a name with a number in it"),
        (event(4, sender="*"), "Wildcard"),
        (event(4, text=5), "Its message is gone"),
        (Record("sms.events", 0, 4, 1_700_000_000.0, b"k", None, ()), "Its message is gone"),
    ],
)
def test_a_sender_that_cannot_be_had_is_said_and_nothing_is_written(
    made: ConsoleParts, client: TestClient, topic: ListsTopic, monkeypatch: pytest.MonkeyPatch,
    lies_there: Record | None, said: str,
) -> None:  # fmt: skip
    fill(made, [judged(4, at=1_700_000_000.0)], [])
    monkeypatch.setattr(made.context, "event", lambda *_: lies_there)

    answer = client.post(
        "/api/lists/sender-of-verdict", json={"partition": 0, "offset": 1, "action": "block", **REASON}
    )

    assert answer.status_code == 422
    assert answer.json()["error"].startswith(said)
    assert "900123" not in answer.text
    assert topic.records == []


def test_a_verdict_of_another_topic_or_none_has_no_sender_to_list(
    made: ConsoleParts, client: TestClient, topic: ListsTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(
        made,
        [
            judged(4, source=RecordSource("sms.secrets", 0, 4, 0)),
            judged(8, source=RecordSource("sms.events", -1, 4, 0)),
        ],
        [],
    )
    monkeypatch.setattr(made.context, "event", lambda *_: pytest.fail("it was read"))
    body = {"action": "block", **REASON, "partition": 0}

    for offset in (1, 2, 77):
        assert client.post("/api/lists/sender-of-verdict", json=body | {"offset": offset}).status_code == 422
    assert topic.records == []


def test_missing_rights_and_brokers_that_are_away_are_said(
    made: ConsoleParts, client: TestClient, topic: ListsTopic, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def denied(*_: object) -> Record:
        message = "TopicAuthorizationFailedError: sms.events; grant this user READ"
        raise BrokerError(message)

    fill(made, [judged(4, at=1_700_000_000.0)], [])
    monkeypatch.setattr(made.context, "event", denied)
    body = {"partition": 0, "offset": 1, "action": "block", **REASON}
    assert "grant this user READ" in client.post("/api/lists/sender-of-verdict", json=body).json()["error"]
    topic.error = BrokerError("sms.lists could not be written (this user needs WRITE on it)")
    answer = client.post("/api/lists/add", json=BLOCK)
    assert answer.status_code == 503
    assert "needs WRITE" in answer.json()["error"]
    assert [each["what"] for each in audit(tmp_path)] == ["list entry added", "list entry added: without an answer"]


def test_a_change_of_lists_that_cannot_be_noted_is_not_made(
    made: ConsoleParts, client: TestClient, topic: ListsTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic.append(*encode(ListEntry(What.SENDER, Match.EXACT, "bank", "allow", "a", "b", dt.datetime.now(dt.UTC))))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(made.changes, "write", full)
    token = client.headers["X-CSRF-Token"]

    for path, body in (
        ("add", BLOCK),
        ("remove", {"rule": made.context.lists.newest()[0].rule, **REASON}),  # type: ignore[union-attr]
        ("import", {"text": "action,what,value\nblock,sender,x7z\n", **REASON}),
    ):
        answer = client.post(f"/api/lists/{path}", json=body)
        assert answer.status_code == 503
        assert "audit log cannot be written" in answer.json()["error"]
    assert len(topic.records) == 1
    assert client.get("/lists/export").status_code == 503
    for path, name in (("/lists/senders", "sender"), ("/lists", "value")):
        assert client.post(path, data={name: NUMBER, "token": token}).status_code == 503


def test_one_changes_lists_at_a_time(made: ConsoleParts, client: TestClient) -> None:
    with made.context.changing:
        answer = client.post("/api/lists/add", json=BLOCK)
    assert answer.status_code == 429
    assert answer.headers["retry-after"]
    assert client.post("/api/lists/add", json=BLOCK).status_code == 200


CHANGES: dict[str, dict[str, Any]] = {
    "add": BLOCK,
    "remove": {"rule": "list:campaign:0123456789ab", **REASON},
    "import": {"text": "action,what,value\nblock,sender,x7z\n", **REASON},
    "sender-of-verdict": {"partition": 1, "offset": 0, "action": "block", **REASON},
}


def test_only_an_operator_with_the_pages_token_changes_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = _made(tmp_path, users_file(tmp_path))
    topic = ListsTopic(made.context)
    monkeypatch.setattr(made.context, "changeable", topic.at)
    monkeypatch.setattr(made.context, "event", lambda *_: pytest.fail("it was read"))
    nobody = client_of(made)
    viewer, analyst, operator = (visiting(made, role) for role in UserRole)

    for path, body in CHANGES.items():
        assert nobody.post(f"/api/lists/{path}", json=body).status_code == 401
        assert viewer.post(f"/api/lists/{path}", json=body).status_code == 403
        assert analyst.post(f"/api/lists/{path}", json=body).status_code == 403
        for token in ("", "0" * 64):
            answer = operator.post(f"/api/lists/{path}", json=body, headers={"X-CSRF-Token": token})
            assert answer.status_code == 403
    assert topic.records == []


def test_a_viewer_is_offered_no_change_and_an_analyst_only_looks_up(tmp_path: Path) -> None:
    made = _made(tmp_path, users_file(tmp_path))
    assert made.context.lists
    entry = ListEntry(What.CAMPAIGN, Match.EXACT, CAMPAIGN, "block", "ana", "why", dt.datetime.now(dt.UTC))
    key, value = encode(entry)
    made.context.lists.take([Record("sms.lists", 0, 0, 0.0, key, value, ())], 0.0)
    paths = ("/lists", f"/campaigns/{CAMPAIGN}", "/lists/senders", "/lists/registry", "/campaigns", "/history/1/0")
    viewer, analyst = visiting(made, UserRole.VIEWER), visiting(made, UserRole.ANALYST)

    for path in paths:
        seen = viewer.get(path)
        assert seen.status_code == 200
        assert "data-ask" not in seen.text
        assert 'method="post" action="/lists' not in seen.text
        assert "data-ask" not in analyst.get(path).text
    assert 'action="/lists/senders"' in analyst.get("/lists/senders").text
    assert viewer.get("/lists/export").status_code == 403
    assert viewer.post("/lists/senders", data={"sender": NUMBER}).status_code == 403
    assert viewer.post("/lists", data={"value": NUMBER}).status_code == 403


def test_what_is_not_set_is_named_and_all_else_works(tmp_path: Path) -> None:
    made = parts(tmp_path)
    fill(made, [judged(1)], [])
    client = visiting(made)

    for path, named in (
        ("/lists", "HAMGATE_LISTS_TOPIC is not set"),
        ("/campaigns", "HAMGATE_CAMPAIGNS_TOPIC is not set"),
        (f"/campaigns/{CAMPAIGN}", "HAMGATE_LISTS_TOPIC is not set"),
        ("/lists/registry", "HAMGATE_REGISTRY is not set"),
        ("/history/1/0", "HAMGATE_LISTS_TOPIC is not set"),
    ):
        page = client.get(path)
        assert page.status_code == 200
        assert named in page.text
    token = client.headers["X-CSRF-Token"]
    looked = client.post("/lists/senders", data={"sender": NUMBER, "token": token}).text
    assert "HAMGATE_SENDERS_TOPIC is not set" in looked
    answer = client.post("/api/lists/add", json=BLOCK)
    assert answer.status_code == 503
    assert "HAMGATE_LISTS_TOPIC is not set" in answer.json()["error"]
    assert client.get("/lists/export").status_code == 503


def test_a_key_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    key = tmp_path / "hash.key"
    key.write_text("short")
    settings = Settings(lists_topic="sms.lists", hash_key_file=key)
    made = parts(tmp_path, context=ConsoleContext(settings, KafkaLink("127.0.0.1:1", patience=0.2)))

    assert f"HAMGATE_HASH_KEY_FILE {key}: wants a key" in client_of(made).get("/lists").text


def test_an_entry_that_no_key_can_match_is_marked(client: TestClient, topic: ListsTopic) -> None:
    other = Hashing((b"another key, another key",))
    found = ListsInMemory(KafkaLink("127.0.0.1:1"), "sms.lists", "sms.events", 1, other, time.time(), topic)
    target = guards.checked(What.SENDER, Match.EXACT, NUMBER)
    topic.append(*encode(target.entry(other, action="block", author="a", reason="b", now=found.now)))

    assert "cannot match: its key is not in HAMGATE_HASH_KEY_FILE" in client.get("/lists").text


def test_the_registry_is_shown_as_its_file_is_without_numbers(tmp_path: Path) -> None:
    file = tmp_path / "registry.toml"
    file.write_text(
        f'[[brand]]\nname = "Northwind {HTML[:20]}"\nsenders = ["NW-Bank", "{NUMBER}"]\nhosts = ["nw.example"]\n'
    )
    made = _made(tmp_path, registry=file)
    client = client_of(made)

    page = client.get("/lists/registry").text
    assert_harmless(page)
    assert "nw-bank" in page
    assert "1 number" in page
    assert "900123" not in page
    token = token_of(page)
    assert "registered for Northwind" in client.post("/lists/senders", data={"sender": NUMBER, "token": token}).text
    assert "looks like Northwind" in client.post("/lists/senders", data={"sender": "NW-Bamk", "token": token}).text
    file.write_text("[[brand]]\nname = 5\n")
    wrong = client.get("/lists/registry").text
    assert "line 2: name" in wrong
    assert "nw-bank" in wrong


def test_a_topic_that_is_away_is_said_on_its_pages_alone(made: ConsoleParts, client: TestClient) -> None:
    made.context.following["lists"]._is_away(f"topic sms.lists does not exist {HTML}")

    page = client.get("/lists").text
    assert "sms.lists cannot be read since" in page
    assert_harmless(page)
    assert "cannot be read" not in client.get("/campaigns").text
    assert client.get("/history").status_code == 200


@pytest.mark.parametrize("path", ["/campaigns/x", f"/campaigns/{CAMPAIGN.upper()}", "/lists/none"])
def test_a_page_of_no_campaign_and_no_list_is_none(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404
