"""The page Feedback: roles, tokens, hostile reasons, what is sent and noted, and files of Label Studio."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("uvicorn", reason="the console needs the extra `console`")

from console import labelling
from console.access import COOKIE, UserRole, Visitor
from console.labelling import LeftOut
from console.reviewing import AuthorError, KnownDecisions, ReviewQueue, author_of
from console.texts import shape
from tests.consoles import HTML, fill, judged, parts, users_file
from tests.unit.test_console_pages import HOSTILE, assert_harmless, audit, client_of, logged_in, token_of
from tests.unit.test_console_texts import event, kept_in
from worker.broker import BrokerError, KafkaLink
from worker.feedback.records import DecisionChange, DecisionState, FeedbackDecision, ReportVote, SaidVerdict
from worker.feedback.reports import FeedbackReport, ReportedPlace, fault
from worker.messages import Record, RecordSource

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fastapi.testclient import TestClient

    from console.parts import ConsoleParts

HOUR = 3600.0
TEXT = "free prize"
POSTS: dict[str, Any] = {
    "/api/feedback/decide": {"decision": "0-1", "label": "spam"},
    "/api/feedback/learn": {"partition": 1, "offset": 0, "label": "spam"},
    "/api/feedback/import?preview=false": [],
}


def decision(
    name: str = "0-1", state: DecisionState = DecisionState.DISPUTED, label: str | None = None, **more: Any
) -> FeedbackDecision:
    changes = [DecisionChange(HOUR, "rule:against-a-sure-verdict", DecisionState.DISPUTED, None, None, None)]
    if state is not DecisionState.DISPUTED:
        changes.append(DecisionChange(2 * HOUR, "analyst:anna", state, label, DecisionState.DISPUTED, None, "scam"))
    given = {
        "id": name,
        "subject": "s" * 32,
        "source": ReportedPlace("sms.events", 3, int(name.rpartition("-")[2])),
        "said": SaidVerdict("ham", 0.01, "deliver"),
        "state": state,
        "label": label,
        "votes": [ReportVote("f" * 32, "spam", 0.8, 1, HOUR)],
        "history": changes,
        "touched_at": HOUR,
    } | more
    return FeedbackDecision(**given)


class Queue(ReviewQueue):
    """Decisions without brokers, and what was sent."""

    def __init__(self, *decisions: FeedbackDecision) -> None:
        super().__init__(KafkaLink("127.0.0.1:1", patience=0.1), "sms.feedback")
        self._known = {each.id: each for each in decisions}
        self.sent: list[FeedbackReport] = []
        self.error: Exception | None = None

    def send(self, corrections: Sequence[FeedbackReport]) -> None:
        if self.error:
            raise self.error
        self.sent += corrections


def keep_text(made: ConsoleParts, folder: Path) -> None:
    """Keep the text of the decision 0-2, and of no other."""
    made.texts = kept_in(made.window._database, folder)
    made.texts.take([event(2, partition=3, text=TEXT)], {})


DECISIONS = (
    decision(),
    decision("0-2", votes=[ReportVote(f"{n:032}", "spam", 0.0, 1, HOUR) for n in range(3)]),
    decision("0-3", DecisionState.ACCEPTED, "spam"),
    decision("0-4", DecisionState.REFUSED),
    decision("0-5", votes=[], history=[], state=DecisionState.OPEN),
)


@pytest.fixture
def queue() -> Queue:
    return Queue(*DECISIONS)


@pytest.fixture
def reviewed(tmp_path: Path, queue: Queue) -> ConsoleParts:
    made = parts(tmp_path)
    made.review = queue
    fill(made, [judged(1), judged(2)], [])
    return made


@pytest.fixture
def analyst(reviewed: ConsoleParts) -> TestClient:
    client = client_of(reviewed)
    client.headers["X-CSRF-Token"] = token_of(client.get("/").text)
    return client


def test_what_is_disputed_comes_first_then_what_waits_and_decided_ones_have_pages_of_their_own(
    analyst: TestClient,
) -> None:
    waiting = analyst.get("/feedback").text
    order = [waiting.index(f'href="/feedback/{name}"') for name in ("0-2", "0-1", "0-5")]

    assert order == sorted(order)
    assert "to review <b>3</b>" in waiting
    assert 'href="/feedback/0-3"' not in waiting
    accepted = analyst.get("/feedback?show=accepted").text
    assert "analyst:anna" in accepted
    assert "scam" in accepted
    assert "dismissed" in analyst.get("/feedback?show=refused").text
    one = analyst.get("/feedback/0-3").text
    assert "rule:against-a-sure-verdict" in one
    assert "0.80" in one
    assert "f" * 9 not in one


def test_a_decision_on_a_place_that_cannot_be_is_shown_all_the_same(
    reviewed: ConsoleParts, analyst: TestClient, tmp_path: Path
) -> None:
    keep_text(reviewed, tmp_path)
    reviewed.review = Queue(decision("0-8", source=ReportedPlace("sms.events", -1, 2**70)))

    for path in ("/feedback?texts=1", "/feedback/0-8", "/feedback/tasks.json"):
        assert analyst.get(path).status_code == 200, path


def test_a_decision_leads_to_the_verdict_on_its_message_where_the_window_has_it(
    reviewed: ConsoleParts, analyst: TestClient
) -> None:
    assert "The verdict in the history" not in analyst.get("/feedback/0-2").text

    fill(reviewed, [judged(9, source=RecordSource("sms.events", 3, 2, 0))], [])

    assert '<a href="/history/1/2">The verdict in the history</a>' in analyst.get("/feedback/0-2").text
    assert analyst.get("/history/1/2").status_code == 200
    assert "The verdict in the history" not in analyst.get("/feedback/0-1").text


@pytest.mark.parametrize("path", ["/feedback?show=x", "/feedback?page=x", "/feedback?page=99999", "/feedback?page=-1"])
def test_what_is_no_list_is_refused(analyst: TestClient, path: str) -> None:
    assert analyst.get(path).status_code == 400


@pytest.mark.parametrize(
    "path", ["/feedback/9-9", "/feedback/%3Cscript%3E", "/feedback/0-1%2F..", "/feedback/" + "1" * 300]
)
def test_a_decision_that_is_not_there_is_a_page_that_says_so(analyst: TestClient, path: str) -> None:
    answer = analyst.get(path)

    assert answer.status_code == 404
    assert_harmless(answer.text)


def test_a_word_is_sent_under_the_visitors_name_and_noted_before(
    analyst: TestClient, queue: Queue, tmp_path: Path
) -> None:
    answer = analyst.post("/api/feedback/decide", json={"decision": "0-1", "label": "spam", "reason": "parcel scam"})

    assert answer.status_code == 202
    assert answer.json() == {"state": "disputed", "label": None, "by": "rule:against-a-sure-verdict", "changes": 1}
    assert queue.sent == [FeedbackReport(label="spam", author="local", reason="parcel scam", decision="0-1")]
    [noted] = audit(tmp_path)
    assert (noted["user"], noted["what"], noted["decision"], noted["label"], noted["reason"]) == (
        "local", "feedback decided", "0-1", "spam", "parcel scam",
    )  # fmt: skip
    state = analyst.get("/api/feedback/0-3").json()
    assert state == {"state": "accepted", "label": "spam", "by": "analyst:anna", "changes": 2}


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"decision": "0-1", "label": "dismiss"}, 422, "dismiss needs one"),
        ({"decision": "0-1", "label": "spam", "reason": "call 07700900001"}, 422, "five digits"),
        ({"decision": "0-1", "label": "spam", "reason": "http://x.example"}, 422, "link"),
        ({"decision": "0-1", "label": "spam", "reason": "x" * 121}, 422, "string_too_long"),
        ({"decision": "0-1", "label": "smishing"}, 422, "label"),
        ({"decision": "sms.events:0:1", "label": "spam"}, 422, "decision"),
        ({"decision": "9-9", "label": "spam"}, 404, "No such decision"),
        ({"decision": "0-1", "label": "spam", "author": "ben"}, 422, "extra_forbidden"),
    ],
)
def test_a_word_that_does_not_hold_is_refused_by_name_and_nothing_is_sent(
    analyst: TestClient, queue: Queue, tmp_path: Path, body: dict[str, str], status: int, says: str
) -> None:
    answer = analyst.post("/api/feedback/decide", json=body)

    assert (answer.status_code, queue.sent) == (status, [])
    assert says in answer.text
    assert "07700900001" not in answer.text
    assert (tmp_path / "audit.jsonl").read_text() == ""


def test_one_click_in_the_history_corrects_the_verdicts_message(
    analyst: TestClient, queue: Queue, tmp_path: Path
) -> None:
    assert 'data-learn="1:0"' in analyst.get("/history").text
    assert 'data-learn="1:0"' in analyst.get("/history/1/0").text

    assert analyst.post("/api/feedback/learn", json={"partition": 1, "offset": 0, "label": "ham"}).status_code == 202

    [sent] = queue.sent
    assert (sent.source, sent.label, sent.author) == (ReportedPlace("sms.events", 0, 1), "ham", "local")
    assert [each["verdict"] for each in audit(tmp_path)] == ["1:0"]
    assert analyst.post("/api/feedback/learn", json={"partition": 9, "offset": 0, "label": "ham"}).status_code == 404


def test_a_verdict_that_does_not_say_where_its_message_lies_teaches_nothing(
    reviewed: ConsoleParts, analyst: TestClient, queue: Queue
) -> None:
    record, made = judged(8, model="x" * (1 << 15))  # longer than what is kept of one
    nameless = judged(12, source=RecordSource("", 0, 1, 1))
    fill(reviewed, [(record, made), nameless], [])

    for partition, offset in ((record.partition, record.offset), (nameless[0].partition, nameless[0].offset)):
        body = {"partition": partition, "offset": offset, "label": "spam"}
        assert analyst.post("/api/feedback/learn", json=body).status_code == 409
    assert queue.sent == []


def test_every_change_wants_the_token_the_role_and_its_line_in_the_audit_log(
    tmp_path: Path, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded = parts(tmp_path, users=users_file(tmp_path))
    guarded.review = queue
    fill(guarded, [judged(1)], [])
    viewer, wanted = logged_in(guarded, UserRole.VIEWER), logged_in(guarded, UserRole.ANALYST)
    cookies = dict(wanted.cookies)

    for path, body in POSTS.items():
        content = body or [annotated()]
        assert viewer.post(path, json=content).status_code == 403
        assert wanted.post(path, json=content, headers={"X-CSRF-Token": "0" * 64}).status_code == 403
        assert wanted.post(path, json=content, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
        with monkeypatch.context() as patched:
            patched.setattr(guarded.changes, "write", full)
            assert wanted.post(path, json=content).status_code == 503
        assert queue.sent == []
        assert wanted.post(path, json=content).status_code in (200, 202)
        assert queue.sent
        assert audit(tmp_path)[-1]["role"] == "analyst"
        queue.sent.clear()
        del wanted.cookies[COOKIE]
        assert wanted.post(path, json=content).status_code == 401
        wanted.cookies.update(cookies)


def full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_viewer_sees_the_queue_and_is_offered_no_word_and_no_export(tmp_path: Path, queue: Queue) -> None:
    guarded = parts(tmp_path, users=users_file(tmp_path))
    guarded.review = queue
    fill(guarded, [judged(1)], [])
    viewer = logged_in(guarded, UserRole.VIEWER)

    for path in ("/feedback", "/feedback/0-1", "/history", "/history/1/0"):
        page = viewer.get(path).text
        assert "data-decide" not in page
        assert "data-learn" not in page
        assert "tasks.json" not in page
    assert viewer.get("/feedback/tasks.json").status_code == 403


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_reasons_names_and_labels_are_shown_harmless(
    reviewed: ConsoleParts, analyst: TestClient, text: str
) -> None:
    change = DecisionChange(HOUR, f"analyst:{text}", DecisionState.ACCEPTED, text, DecisionState.DISPUTED, text, text)
    hostile = decision(
        "0-7", DecisionState.ACCEPTED, text, source=ReportedPlace(text, 0, 1), said=SaidVerdict(text, 0.5, text),
        votes=[ReportVote(text, text, 0.5, 1, HOUR)], history=[change],
    )  # fmt: skip
    elsewhere = decision("0-9", votes=[])
    elsewhere.id = text  # somebody else's record in the topic of decisions
    reviewed.review = Queue(
        hostile, elsewhere, decision("0-8", said=SaidVerdict(text, 0.5, text), votes=[], history=[change])
    )

    for path in ("/feedback", "/feedback?show=accepted", "/feedback/0-7", "/feedback/0-8"):
        answer = analyst.get(path)
        assert answer.status_code == 200
        assert_harmless(answer.text)
        assert len(answer.text) < 60_000
    state = json.dumps(analyst.get("/api/feedback/0-7").json()["by"], ensure_ascii=False)
    assert all(character.isprintable() for character in state)


def test_where_the_brokers_do_not_answer_the_page_says_so_and_a_word_is_refused(
    analyst: TestClient, queue: Queue, tmp_path: Path
) -> None:
    queue._followed._is_away(f"away {HTML}")
    queue.error = BrokerError("away")

    page = analyst.get("/feedback").text
    assert "could not be read" in page
    assert_harmless(page)
    assert analyst.post("/api/feedback/decide", json={"decision": "0-1", "label": "spam"}).status_code == 503
    assert [each["what"] for each in audit(tmp_path)] == ["feedback decided", "feedback decided: not sent"]


def test_without_a_topic_of_reports_the_page_says_how_to_have_one(tmp_path: Path) -> None:
    made = parts(tmp_path)
    fill(made, [judged(1)], [])
    client = client_of(made)
    client.headers["X-CSRF-Token"] = token_of(client.get("/").text)

    assert "HAMGATE_FEEDBACK_TOPIC" in client.get("/feedback").text
    assert "data-learn" not in client.get("/history").text
    for path, body in POSTS.items():
        assert client.post(path, json=body).status_code == 409
    assert client.get("/feedback/0-1").status_code == 404
    assert client.get("/feedback/tasks.json").status_code == 404


@pytest.mark.parametrize(
    ("name", "author"),
    [("anna", "anna"), ("anna@bank.example", "anna-bank.example"), ("José", "Jos-"), ("a" * 99, "a" * 64)],
)
def test_a_visitors_name_stands_in_the_trail_as_it_may(name: str, author: str) -> None:
    assert author_of(Visitor(name, UserRole.ANALYST, "s")) == author


@pytest.mark.parametrize("name", ["447700900123", "anna12345", "@"])
def test_a_name_that_may_be_a_number_is_refused(name: str) -> None:
    with pytest.raises(AuthorError, match="user name"):
        author_of(Visitor(name, UserRole.ANALYST, "s"))


def test_decided_ones_are_bounded_and_what_waits_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from worker.feedback.records import encode_record, key_of  # noqa: PLC0415

    monkeypatch.setattr("console.reviewing.DECIDED", 10)
    queue = Queue(decision("1-1"))
    for n in range(50):
        made = decision(f"2-{n}", DecisionState.ACCEPTED, "spam", touched_at=HOUR + n)
        queue.take([Record("t", 0, n, HOUR, key_of(made).encode(), encode_record(made), ())], HOUR)

    known: KnownDecisions = queue.known(tuple(DecisionState))
    assert len(known.decisions) <= 21
    assert queue.decision("1-1")
    assert queue.decision("2-49")
    assert queue.decision("2-1") is None


# --- Label Studio ---------------------------------------------------------------------------------------------------


def annotated(label: Any = "spam", **more: Any) -> dict[str, Any]:
    result = [{"id": "x", "from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [label]}}]
    made = {
        "id": 1, "project": 83, "data": {"text": "no text", "decision": "0-1", "source": "sms.events:3:1"},
        "annotations": [{"id": 1001, "result": result, "was_cancelled": False, "completed_by": 10, "lead_time": 4.2}],
        "predictions": [],
    }  # fmt: skip
    return made | more


def test_an_export_without_texts_says_so_and_names_what_it_is_about(analyst: TestClient, tmp_path: Path) -> None:
    answer = analyst.get("/feedback/tasks.json")

    assert answer.headers["content-disposition"] == 'attachment; filename="hamgate-waiting.json"'
    first = answer.json()[0]
    assert first["data"] == {
        "text": "No text is kept here: decision 0-2, message sms.events:3:2", "has_text": False, "decision": "0-2",
        "source": "sms.events:3:2", "state": "disputed", "accepted_as": None,
        "decided_by": "rule:against-a-sure-verdict", "votes_spam": 3, "votes_ham": 0, "trust": 0.0,
        "action": "deliver", "score": 0.01,
    }  # fmt: skip
    [prediction] = first["predictions"]
    assert prediction["score"] == 0.99
    assert prediction["result"][0]["value"] == {"choices": ["ham"]}
    assert prediction["result"][0]["from_name"] in labelling.INTERFACE
    [noted] = audit(tmp_path)
    assert (noted["what"], noted["tasks"], noted["with_text"]) == ("feedback exported", 3, 0)


def test_an_export_has_the_text_where_it_is_kept(reviewed: ConsoleParts, analyst: TestClient, tmp_path: Path) -> None:
    keep_text(reviewed, tmp_path)

    made = analyst.get("/feedback/tasks.json").json()

    assert [each["data"]["has_text"] for each in made] == [True, False, False]
    assert made[0]["data"]["text"] == TEXT
    shown, exported = audit(tmp_path)
    assert (shown["what"], shown["page"], shown["places"]) == ("text shown", "feedback export", ["sms.events:3:2"])
    assert (exported["what"], exported["with_text"]) == ("feedback exported", 1)


def test_an_export_that_cannot_be_noted_has_no_text(
    reviewed: ConsoleParts, analyst: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_text(reviewed, tmp_path)
    assert reviewed.texts

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reviewed.texts._changes, "write", full)
    answer = analyst.get("/feedback/tasks.json")

    assert answer.status_code == 503
    assert TEXT not in answer.text


@pytest.mark.parametrize("path", ["/feedback?texts=1", "/feedback/0-2"])
@pytest.mark.parametrize("role", list(UserRole))
def test_who_reviews_sees_the_text_by_role_and_each_look_is_noted(
    tmp_path: Path, queue: Queue, path: str, role: UserRole
) -> None:
    made = parts(tmp_path, users=users_file(tmp_path))
    made.review = queue
    keep_text(made, tmp_path)
    client = logged_in(made, role)

    said = client.get(path).text
    noted = [each for each in audit(tmp_path) if each["what"] == "text shown"]

    assert (TEXT in said) == role.may(UserRole.ANALYST)
    assert (shape(TEXT) in said) == (role is UserRole.VIEWER)
    assert [(each["places"], each["masked"]) for each in noted] == [(["sms.events:3:2"], role is UserRole.VIEWER)]


def test_no_text_is_shown_of_decisions_that_did_not_ask_for_it(
    reviewed: ConsoleParts, analyst: TestClient, tmp_path: Path
) -> None:
    without = analyst.get("/feedback?texts=1").text
    keep_text(reviewed, tmp_path)
    unasked = analyst.get("/feedback").text

    assert TEXT not in without + unasked
    assert ("Show texts" in without, "Show texts" in unasked) == (False, True)
    assert not (tmp_path / "audit.jsonl").read_text()


def test_what_was_exported_and_annotated_comes_back_as_corrections(
    analyst: TestClient, queue: Queue, tmp_path: Path
) -> None:
    tasks = analyst.get("/feedback/tasks.json").json()
    for each, label in zip(tasks, labelling.LABELS, strict=True):
        each["annotations"] = annotated(label)["annotations"]

    looked_at = analyst.post("/api/feedback/import", json=tasks).json()
    assert (looked_at["labels"], looked_at["left"], queue.sent) == ({"spam": 1, "ham": 1, "dismiss": 1}, {}, [])
    analyst.post("/api/feedback/import?preview=false", json=tasks)

    assert [(each.decision, each.label) for each in queue.sent] == [("0-2", "spam"), ("0-1", "ham"), ("0-5", "dismiss")]
    assert all(fault(each) is None for each in queue.sent)
    assert audit(tmp_path)[-1]["labels"] == {"spam": 1, "ham": 1, "dismiss": 1}


def test_an_annotation_names_its_message_by_place_or_id_too(analyst: TestClient, queue: Queue) -> None:
    tasks = [annotated(data={"source": "sms.events:1:77"}), annotated(data={"id": "m-9"}), annotated(data={"id": 12})]

    analyst.post("/api/feedback/import?preview=false", json=tasks)

    assert [(each.source, each.id) for each in queue.sent] == [
        (ReportedPlace("sms.events", 1, 77), None), (None, "m-9"), (None, "12"),
    ]  # fmt: skip


NESTED: Any = []
for _ in range(60):
    NESTED = [NESTED]


@pytest.mark.parametrize(
    ("task", "why"),
    [
        (5, LeftOut.NOT_A_TASK),
        (None, LeftOut.NOT_A_TASK),
        ([], LeftOut.NOT_A_TASK),
        ({}, LeftOut.NOT_A_TASK),
        ({"data": []}, LeftOut.NOT_A_TASK),
        (annotated(annotations={}), LeftOut.NOT_A_TASK),
        (annotated(annotations=[{"result": 5}]), LeftOut.NOT_A_TASK),
        (annotated(annotations=[{"result": [{"value": {"choices": "spam"}}]}]), LeftOut.NOT_A_TASK),
        (annotated(data={"decision": {"$ne": 1}}), LeftOut.NOT_A_TASK),
        (annotated(data={"id": NESTED}), LeftOut.NOT_A_TASK),
        (annotated(annotations=[]), LeftOut.NOT_ANNOTATED),
        (annotated(annotations=[{"result": [], "was_cancelled": True}]), LeftOut.NOT_ANNOTATED),
        (annotated(annotations=[{"result": [{"type": "textarea", "value": {}}]}]), LeftOut.NOT_ANNOTATED),
        (annotated(annotations=[*annotated("ham")["annotations"], *annotated()["annotations"]]), LeftOut.DISAGREEING),
        (annotated(HTML), LeftOut.OTHER_LABEL),
        (annotated(""), LeftOut.OTHER_LABEL),
        (annotated(data={"decision": "9-9"}), LeftOut.UNKNOWN),
        (annotated(data={"decision": HTML}), LeftOut.UNKNOWN),
        (annotated(data={"decision": "0-1", "source": "sms.events:3:2"}), LeftOut.OTHER_MESSAGE),
        (annotated(data={"source": "../../etc/passwd"}), LeftOut.NO_PLACE),
        (annotated(data={}), LeftOut.NO_MESSAGE),
        (annotated(data={"id": ""}), LeftOut.NO_MESSAGE),
    ],
)  # fmt: skip
def test_a_task_that_is_not_as_it_should_be_is_left_out_by_why_and_the_rest_is_taken(
    analyst: TestClient, queue: Queue, task: Any, why: LeftOut
) -> None:
    answer = analyst.post("/api/feedback/import?preview=false", json=[task, annotated(), annotated()])

    assert answer.status_code == 200
    assert answer.json()["left"] == {why: 1, LeftOut.NAMED_TWICE: 1}
    assert answer.json()["first_left"][0] == f"task 1: {why}"
    assert [each.decision for each in queue.sent] == ["0-1"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"5", b"\xff\xfe", b"[" * 100_000, b'{"tasks": []}', b"[1,", b"[" + b"1," * 5001 + b"1]", b"secret"],
)
def test_what_is_no_list_of_tasks_is_refused_without_an_echo(analyst: TestClient, queue: Queue, content: bytes) -> None:
    answer = analyst.post("/api/feedback/import?preview=false", content=content)

    assert answer.status_code == 422
    assert "secret" not in answer.text
    assert queue.sent == []


def test_a_nested_task_is_left_out_and_a_file_that_is_too_large_is_refused(analyst: TestClient) -> None:
    deep = b'[{"data": {"id": "m"}, "annotations": ' + b"[" * 50_000 + b"]" * 50_000 + b"}]"

    answer = analyst.post("/api/feedback/import", content=deep)
    assert answer.status_code in (200, 422)
    assert analyst.post("/api/feedback/import", content=b"[" + b" " * (1 << 20) + b"]").status_code == 413
