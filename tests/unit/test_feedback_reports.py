"""One report: what is taken, what is refused and by which name; and how it leads to its message."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.audited import verdict
from worker.feedback.accepting import DAILY, DAY, Accepting
from worker.feedback.joining import Hashes, Joining
from worker.feedback.recent import RecentMessages
from worker.feedback.records import DecisionState
from worker.feedback.reports import TAKEN, RefusedReportError, ReportOutcome, read_report
from worker.messages import Record
from worker.policy.hashing import Hashing

NOON = 1_800_000_000.0
EVENTS = "events"
HASHES = Hashes(Hashing((b"a key of this test",)))
TEXT = "Dear customer, your parcel waits: http://parcels.example/x"


def record(value: Any, offset: int = 0, at: float = NOON) -> Record:
    return Record(
        "sms.feedback", 0, offset, at, None, value if isinstance(value, bytes) else json.dumps(value).encode()
    )


WRONG = [
    (b"not json", ReportOutcome.UNREADABLE),
    ([], ReportOutcome.UNREADABLE),
    ({"reporter": ["+44"], "id": "m-1"}, ReportOutcome.UNREADABLE),
    ({"reporter": "+447700900001", "text": "x" * 70_000}, ReportOutcome.TOO_LARGE),
    ({"reporter": "+447700900001"}, ReportOutcome.NO_MESSAGE),
    ({"reporter": "+447700900001", "id": "m-1", "text": "both"}, ReportOutcome.NO_MESSAGE),
    ({"reporter": "+447700900001", "decision": "0-1"}, ReportOutcome.NO_MESSAGE),
    ({"id": "m-1"}, ReportOutcome.NO_REPORTER),
    ({"id": "m-1", "reporter": " "}, ReportOutcome.NO_REPORTER),
    ({"id": "m-1", "reporter": "+447700900001", "author": "anna", "label": "ham"}, ReportOutcome.NO_REPORTER),
    ({"id": "m-1", "reporter": "+447700900001", "label": "smishing"}, ReportOutcome.WRONG_LABEL),
    ({"id": "m-1", "author": "anna"}, ReportOutcome.WRONG_LABEL),
    ({"id": "m-1", "author": "+447700900001", "label": "ham"}, ReportOutcome.WRONG_AUTHOR),
    ({"id": "m-1", "author": "anna@bank.example", "label": "ham"}, ReportOutcome.WRONG_AUTHOR),
    ({"id": "m-1", "author": "anna", "label": "ham", "reason": "call 07700900001"}, ReportOutcome.WRONG_REASON),
    ({"id": "m-1", "author": "anna", "label": "ham", "reason": "see http://x.example"}, ReportOutcome.WRONG_REASON),
    ({"text": "x", "author": "anna", "label": "ham"}, ReportOutcome.NO_MESSAGE),
    ({"id": "m-1", "author": "anna", "label": "dismiss"}, ReportOutcome.WRONG_REASON),
    ({"id": "m-1", "reporter": "+447700900001", "label": "dismiss"}, ReportOutcome.WRONG_LABEL),
]


@pytest.mark.parametrize(("value", "outcome"), WRONG)
def test_a_wrong_report_is_refused_by_the_name_of_what_is_wrong(value: Any, outcome: ReportOutcome) -> None:
    with pytest.raises(RefusedReportError, match=f"^{outcome}$"):
        read_report(record(value), max_bytes=65_536)


@pytest.mark.parametrize(
    "value",
    [
        {"reporter": 447700900001, "id": 7},
        {"reporter": "a pseudonym", "source": {"topic": "events", "partition": 0, "offset": 3}, "label": "ham"},
        {"reporter": "+447700900001", "text": "", "sender": "+447700900002"},
        {"author": "anna", "label": "ham", "decision": "0-41", "reason": "bank's own notice, known"},
    ],
)
def test_a_right_one_is_taken(value: Any) -> None:
    assert read_report(record(value), max_bytes=65_536)


@given(
    st.binary(max_size=60)
    | st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists).map(
        lambda made: json.dumps({"reporter": made, "text": made, "source": made}).encode()
    )
)
def test_whatever_comes_is_taken_or_refused(value: bytes) -> None:
    try:
        read_report(record(value), max_bytes=65_536)
    except RefusedReportError as refused:
        assert refused.outcome not in TAKEN


class Stream:
    """Messages with their verdicts, and reports of them."""

    def __init__(self, window: int = 100, hashes: Hashes = HASHES) -> None:
        self.events: list[Record] = []
        self.gone = 0
        self.accepting = Accepting()
        self.joining = Joining(self.accepting, RecentMessages(EVENTS, window), hashes, self, 65_536)
        self._reports = 0

    def at(self, partition: int, offset: int) -> Record | None:
        is_there = partition == 0 and self.gone <= offset < len(self.events)
        return self.events[offset] if is_there else None

    def message(self, text: str, **more: Any) -> int:
        offset = len(self.events)
        value = json.dumps({"text": text, **more}).encode()
        self.events.append(Record(EVENTS, 0, offset, NOON, None, value))
        said = json.loads(verdict(0, offset, EVENTS).value or b"") | {"id": more.get("id", f"{EVENTS}:0:{offset}")}
        judged = Record("verdicts", 0, offset, NOON, None, json.dumps(said).encode())
        self.joining.see([self.events[-1]], [judged])
        return offset

    def report(self, at: float = NOON, **value: Any) -> ReportOutcome:
        self._reports += 1
        return self.joining.take(record(value, self._reports - 1, at), at)


def test_a_report_leads_to_its_message_by_place_by_id_and_by_the_default_id() -> None:
    stream = Stream()
    stream.message("something else")
    offset = stream.message(TEXT, id="m-1")

    outcomes = [
        stream.report(reporter="a", source={"topic": EVENTS, "partition": 0, "offset": offset}),
        stream.report(reporter="b", id="m-1"),
        stream.report(reporter="c", id=f"{EVENTS}:0:{offset}"),
    ]

    assert outcomes == [ReportOutcome.COUNTED] * 3
    [decision] = stream.accepting.decisions.values()
    assert (decision.id, decision.source.offset, len(decision.votes)) == ("0-0", offset, 3)
    assert decision.said
    assert (decision.said.label, decision.said.score, decision.said.action) == ("ham", 0.1, "deliver")


@pytest.mark.parametrize(
    "named",
    [
        {"id": "unheard-of"},
        {"id": f"{EVENTS}:0:99"},
        {"source": {"topic": "another", "partition": 0, "offset": 0}},
        {"source": {"topic": EVENTS, "partition": 7, "offset": 0}},
        {"text": "nobody got this"},
    ],
)
def test_a_report_of_no_message_is_refused_and_written_down_with_its_place(named: dict[str, Any]) -> None:
    stream = Stream()
    stream.message(TEXT)

    assert stream.report(reporter="a", **named) is ReportOutcome.NOT_FOUND

    written = {each.key: each.value for each in stream.accepting.changes()}
    assert json.loads(written[b"refused:0-0"] or b"") == {
        "kind": "refused", "report": "0-0", "reason": "not-found", "at": NOON,
    }  # fmt: skip


def test_a_message_that_the_input_has_deleted_is_not_found() -> None:
    stream = Stream()
    offset = stream.message(TEXT)
    stream.gone = 1

    assert stream.report(reporter="a", id=f"{EVENTS}:0:{offset}") is ReportOutcome.NOT_FOUND


@pytest.mark.parametrize(
    ("sender", "is_witnessed"), [("+44 7700 900-002", True), ("447700900002", True), ("+447700900003", False)]
)
def test_text_and_then_sender_are_joined_and_the_right_sender_shows_that_it_was_seen(
    sender: str,
    is_witnessed: bool,  # noqa: FBT001 it is what is expected
) -> None:
    stream = Stream()
    stream.message(TEXT, sender="+447700900009")
    stream.message(TEXT, sender="+447700900002")

    first = stream.report(reporter="+447700900001", text=f"  {TEXT.upper()} ")
    second = stream.report(reporter="447700900001", sender=sender, at=NOON + 60)

    assert (first, second) == (ReportOutcome.FIRST_HALF, ReportOutcome.COUNTED)
    [decision] = stream.accepting.decisions.values()
    assert [vote.is_witnessed for vote in decision.votes] == [is_witnessed]
    assert stream.accepting.halves == {}


def test_a_sender_without_a_text_is_refused_and_a_text_without_a_sender_counts_late_and_alone() -> None:
    stream = Stream()
    stream.message(TEXT)
    assert stream.report(reporter="a", sender="+447700900002") is ReportOutcome.NO_TEXT
    stream.report(reporter="a", text=TEXT)

    assert stream.joining.overdue(NOON + 899) == []
    assert stream.joining.overdue(NOON + 901) == [ReportOutcome.COUNTED]

    [decision] = stream.accepting.decisions.values()
    assert [vote.is_witnessed for vote in decision.votes] == [False]
    assert stream.report(reporter="a", sender="+447700900002", at=NOON + 902) is ReportOutcome.NO_TEXT


def test_both_halves_in_one_count_at_once() -> None:
    stream = Stream()
    stream.message(TEXT, sender="PARCELS")

    assert stream.report(reporter="a", text=TEXT, sender="parcels") is ReportOutcome.COUNTED


def test_the_daily_limit_stands_before_any_look_at_the_input() -> None:
    stream = Stream()
    for number in range(DAILY):
        stream.report(reporter="a", id=f"{EVENTS}:0:{number}")
    stream.joining.input = None  # type: ignore[assignment] # whoever asks it fails

    assert stream.report(reporter="a", id=f"{EVENTS}:0:0") is ReportOutcome.LIMITED


def test_an_analyst_corrects_by_message_and_by_decision() -> None:
    stream = Stream()
    stream.message(TEXT, id="m-1")
    stream.message("lunch at noon?", id="m-2")
    stream.report(reporter="a", id="m-1")

    outcomes = [
        stream.report(author="anna", label="spam", decision="0-0"),
        stream.report(author="anna", label="spam", id="m-1"),
        stream.report(author="ben", label="ham", id="m-2", reason="a friend"),
        stream.report(author="ben", label="ham", decision="0-99"),
    ]

    assert outcomes == ["decided", "duplicate", "decided", "not-found"]
    states = [(each.state, each.label, each.is_analysts) for each in stream.accepting.decisions.values()]
    assert states == [(DecisionState.ACCEPTED, "spam", True), (DecisionState.ACCEPTED, "ham", True)]


def test_after_a_change_of_key_reporters_and_texts_are_known_while_the_old_key_stays() -> None:
    stream = Stream()
    stream.message(TEXT)
    stream.report(reporter="+447700900001", id=f"{EVENTS}:0:0")
    stream.joining.hashes = Hashes(Hashing((b"the key from now on", b"a key of this test")))

    stream.message(TEXT)

    assert stream.report(reporter="+447700900001", id=f"{EVENTS}:0:0", at=NOON + DAY) is ReportOutcome.DUPLICATE
    assert len(stream.accepting.reporters) == 1
    assert stream.report(reporter="+447700900002", text=TEXT, sender="x") is ReportOutcome.COUNTED
    assert len(stream.accepting.decisions) == 1


def test_only_the_last_messages_are_remembered_and_the_newest_is_found_first() -> None:
    stream = Stream(window=10)
    for number in range(25):
        stream.message(f"text {number % 7}", id=f"m-{number}")
    recent = stream.joining.recent

    assert [place.offset for place, _ in recent.of_text(HASHES.subject("text 3"))] == [24, 17]
    assert recent.of_id(HASHES.id("m-14")) is None
    assert recent.of_id(HASHES.id("m-15")) is not None
    assert recent.said_of(recent.of_text(HASHES.subject("text 3"))[0][0]) is not None


def test_nothing_that_is_written_has_a_text_a_number_or_a_sender_in_it() -> None:
    stream = Stream()
    stream.message(TEXT, id="m-1", sender="+447700900002")
    stream.report(reporter="+447700900001", text=TEXT)
    stream.report(reporter="+447700900003", id="m-1")
    stream.report(reporter="+447700900004", text="nobody got this, call +447700900005")
    stream.report(author="+447700900006", label="ham", id="m-1")

    written = b"".join((each.key or b"") + (each.value or b"") for each in stream.accepting.changes())

    assert b"4477009" not in written
    assert b"parcel" not in written
    assert b"nobody" not in written
