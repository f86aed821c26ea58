"""The console's pages and their JSON: who may what, hostile content, limits, and what is never said."""

from __future__ import annotations

import json
import logging
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("uvicorn", reason="the console needs the extra `console`")

from fastapi.testclient import TestClient

from console.access import COOKIE, UserRole
from console.api import CLIENTS
from console.guard import LOOPBACK, MAX_BODY, Guard
from console.judging import Judge
from console.serving import application, is_loopback
from tests.consoles import BIDI, CONTROL, HTML, PASSWORD, Topic, buried, fill, judged, parts, users_file
from worker.broker import BrokerError
from worker.messages import Action
from worker.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from console.parts import ConsoleParts

HOSTILE = (HTML, BIDI, CONTROL, '"><svg/onload=alert(1)>', "{{7*191}}${7*191}", "x" * 100_000)
PAGES = (
    *("/", "/try", "/history", "/dead-letters", "/history/1/0", "/dead-letters/0/0"),
    *("/campaigns", "/campaigns/67fafdfa4dbe71a6", "/lists", "/lists/senders", "/lists/registry"),
)


@pytest.fixture(scope="session")
def judge() -> Judge:
    judge = Judge(Settings())
    judge._load()
    return judge


@pytest.fixture
def topic() -> Topic:
    return Topic()


@pytest.fixture
def made(tmp_path: Path, judge: Judge, topic: Topic) -> ConsoleParts:
    made = parts(tmp_path, judge=judge, topic=topic)
    fill(made, [judged(1), judged(2)], [buried(0, b'{"text": 5'), buried(1, b"\xff")], topic)
    return made


@pytest.fixture
def guarded(tmp_path: Path, judge: Judge, topic: Topic) -> ConsoleParts:
    """With users."""
    made = parts(tmp_path, judge=judge, topic=topic, users=users_file(tmp_path))
    fill(made, [judged(1)], [buried(0, b'{"text": 5')], topic)
    return made


def client_of(made: ConsoleParts, host: str = "127.0.0.1:9466") -> TestClient:
    hosts = None if made.gate.has_users else LOOPBACK
    app: Any = Guard(application(made), hosts)
    return TestClient(app, base_url=f"http://{host}", follow_redirects=False, raise_server_exceptions=False)


def token_of(page: str) -> str:
    found = re.search(r'name="csrf" content="([0-9a-f]{64})"', page)
    assert found
    return found[1]


@pytest.fixture
def client(made: ConsoleParts) -> TestClient:
    client = client_of(made)
    client.headers["X-CSRF-Token"] = token_of(client.get("/").text)
    return client


def logged_in(made: ConsoleParts, role: UserRole) -> TestClient:
    client = client_of(made)
    form = {"name": f"{role}-user", "password": PASSWORD, "token": token_of(client.get("/login").text)}
    assert client.post("/login", data=form).headers["location"] == "/"
    client.headers["X-CSRF-Token"] = token_of(client.get("/").text)
    return client


class Seen(HTMLParser):
    """Tags and attributes of a page, as a browser would have them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def assert_harmless(page: str) -> None:
    for tag, attributes in Seen(page).tags:
        assert tag not in ("svg", "img", "iframe", "object", "embed", "style")
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert tag != "script" or (attributes.get("src") or "").startswith("/static/")
    assert not set(page) & set("\u202e\u202c\x1b\x00\x07\u2028")
    assert "1337" not in page


def test_every_page_is_there_and_has_no_inline_script_or_style(client: TestClient) -> None:
    for path in PAGES:
        answer = client.get(path)

        assert answer.status_code == 200, path
        assert_harmless(answer.text)
        assert "<script>" not in answer.text
        assert answer.headers["content-security-policy"].startswith("default-src 'self';")
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"


def test_the_first_page_and_all_that_it_loads_are_small(client: TestClient) -> None:
    loaded = ["/", *re.findall(r'(?:src|href)="(/static/[^"]+)"', client.get("/").text), "/static/shared.js"]

    assert len(loaded) == 7
    assert sum(len(client.get(path).content) for path in loaded) < 200_000


def test_pages_of_the_scripts_name_no_other_host() -> None:
    ours = [
        *(Path(__file__).parents[2] / "console").rglob("*.html"),
        *(Path(__file__).parents[2] / "console" / "static").glob("*"),
    ]
    text = "".join(path.read_text() for path in ours if path.is_file())

    assert re.findall(r"https?://[^\s\"'<>]+", text) == ["http://www.w3.org/2000/svg"]
    assert "innerHTML" not in text
    assert "style=" not in text


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_verdict_is_shown_harmless(made: ConsoleParts, client: TestClient, text: str) -> None:
    hostile = judged(
        8,
        id=text,
        model=text,
        label=text,
        reason=text,
        flags=(text,),
        language=text,
        campaign=text,
        action=Action.BLOCK,
    )
    fill(made, [hostile], [])

    for path in ("/history", "/history?action=block", "/history/0/2"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert_harmless(answer.text)
        assert len(answer.text) < 60_000
    live = made.live.state(time.time())["newest"][-1]
    assert all(character.isprintable() for character in json.dumps(live, ensure_ascii=False))
    assert len(json.dumps(live)) < 4000


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_dead_letter_is_shown_harmless(
    made: ConsoleParts, client: TestClient, topic: Topic, text: str
) -> None:
    value = text.encode() + bytes(range(256))
    letter = buried(7, value, headers=((text[:500], value), ("null", None)), key=value[:700])
    fill(made, [], [letter], topic)

    answer = client.get("/dead-letters/0/7")

    assert answer.status_code == 200
    assert_harmless(answer.text)
    assert "\\xff" in answer.text or len(text) > 4000
    assert len(answer.text) < 120_000


@pytest.mark.parametrize("text", HOSTILE[:5])
def test_a_hostile_search_is_shown_harmless(client: TestClient, text: str) -> None:
    for path in ("/history", "/dead-letters"):
        answer = client.get(path, params=dict.fromkeys(("id", "since", "action", "reason", "before", "flag"), text))
        assert answer.status_code in (200, 400)
        assert_harmless(answer.text)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_text_is_judged_and_explained(client: TestClient, text: str) -> None:
    answer = client.post("/api/try", json={"texts": [text]})

    assert answer.status_code == 200
    [verdict] = answer.json()["verdicts"]
    assert all(c.isprintable() or c == "\n" for c in verdict["text"] + verdict["normalised"])
    assert len(answer.text) < 20_000
    explained = client.post("/api/explain", json={"text": text})
    assert explained.status_code == 200
    assert all(c.isprintable() for each in explained.json()["words"] for c in each["word"])


def test_a_text_is_judged_as_the_worker_would(client: TestClient) -> None:
    spam = "WINNER!! Call 09061701461 to claim your prize"
    found = client.post("/api/try", json={"texts": [spam, "see you at eight", ""]}).json()["verdicts"]

    assert [each["action"] for each in found] == ["block", "deliver", "unscored"]
    assert found[0]["label"] == "spam"
    assert found[0]["most"] == "block"
    assert found[0]["flag_from"] <= found[0]["threshold"] <= found[0]["block_from"]
    assert found[2]["reason"] == "empty-text"
    words = {each["word"]: each["odds"] for each in client.post("/api/explain", json={"text": spam}).json()["words"]}
    assert max(words, key=lambda word: words[word]) in ("09061701461", "WINNER!!", "prize")


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b'{"texts": []}', b'{"texts": [5]}', b'{"texts": ["\\ud800 secret"]}', b'{"texts": ["\xff"]}',
     b'{"texts": ["a"], "more": 1}', json.dumps({"texts": ["a"] * 51}).encode(),
     json.dumps({"texts": ["secret" * 20_000]}).encode(), b"[" * 50_000],
)  # fmt: skip
def test_what_is_not_understood_is_refused_without_an_echo(client: TestClient, body: bytes) -> None:
    answer = client.post("/api/try", content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code in (400, 422)
    assert "secret" not in answer.text
    assert len(answer.text) < 400


def test_a_body_that_is_too_large_is_refused_before_it_is_read(client: TestClient) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 100 * MAX_BODY:
            sent += 1 << 16
            yield b"x" * (1 << 16)

    headers = {"Content-Type": "application/json"}
    assert client.post("/api/try", content=b"x", headers=headers | {"Content-Length": str(1 << 30)}).status_code == 413
    assert client.post("/api/try", content=endless(), headers=headers).status_code in (400, 413)


def test_without_users_another_host_name_is_refused(made: ConsoleParts) -> None:
    assert client_of(made, "evil.example").get("/").status_code == 421
    assert client_of(made, "localhost:9466").get("/").status_code == 200


@pytest.mark.parametrize("path", ["/api/try", "/api/explain", "/api/redrive"])
def test_a_request_without_this_sessions_token_is_refused(made: ConsoleParts, client: TestClient, path: str) -> None:
    body = {"texts": ["a"], "text": "a", "reasons": ["invalid-json"]}

    for headers in (
        {"X-CSRF-Token": ""},
        {"X-CSRF-Token": "0" * 64},
        {"X-CSRF-Token": made.gate.token("x")},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        assert client.post(path, json=body, headers=headers).status_code == 403
    del client.cookies[COOKIE]
    assert client.post(path, json=body).status_code == 403


def routes(made: ConsoleParts) -> list[tuple[str, str]]:
    """Every method and path that there is."""
    app = application(made)
    found = [
        (method, route.path)  # type: ignore[attr-defined]
        for router in [app]
        for route in _all(router.routes)
        for method in sorted(getattr(route, "methods", None) or [])
    ]
    assert ("POST", "/api/redrive") in found
    return found


def _all(found: Any) -> Iterator[Any]:
    for route in found:
        if hasattr(route, "original_router"):
            yield from _all(route.original_router.routes)
        else:
            yield route


def test_without_a_log_in_every_route_sends_to_it_or_refuses(guarded: ConsoleParts) -> None:
    client = client_of(guarded)

    for method, path in routes(guarded):
        answer = client.request(method, path.replace("{partition}", "0").replace("{offset}", "0"))
        is_open = path in ("/login", "/healthz") and method == "GET"
        assert answer.status_code == (200 if is_open else answer.status_code)
        assert is_open or answer.status_code in (303, 401, 403, 405), (method, path)
        assert answer.status_code != 303 or answer.headers["location"] == "/login"


def test_a_viewer_sees_no_byte_of_a_sender_and_is_offered_nothing(guarded: ConsoleParts, tmp_path: Path) -> None:
    client = logged_in(guarded, UserRole.VIEWER)
    audited = (tmp_path / "audit.jsonl").read_text()

    assert client.get("/try").status_code == 403
    letter = client.get("/dead-letters/0/0").text
    assert "447700900123" not in letter
    assert "Masked" in letter
    assert "Send back" not in client.get("/dead-letters").text
    assert (tmp_path / "audit.jsonl").read_text() == audited


def test_an_analyst_tries_texts_and_sees_bytes_which_is_noted_and_sends_nothing(
    guarded: ConsoleParts, tmp_path: Path
) -> None:
    client = logged_in(guarded, UserRole.ANALYST)

    assert client.post("/api/try", json={"texts": ["hello"]}).status_code == 200
    assert "447700900123" in client.get("/dead-letters/0/0").text
    assert client.post("/api/redrive", json={"reasons": ["invalid-json"], "preview": False}).status_code == 403
    [shown] = [each for each in audit(tmp_path) if each["what"] == "dead letter shown"]
    assert (shown["user"], shown["role"], shown["place"]) == ("analyst-user", "analyst", "0:0")


def audit(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]


def test_a_redrive_is_noted_with_its_selection_and_its_end(client: TestClient, tmp_path: Path) -> None:
    answer = client.post("/api/redrive", json={"places": [[0, 1]], "preview": False})
    for _ in range(200):
        if not (state := client.get("/api/redrive").json())["is_running"]:
            break
        time.sleep(0.05)

    assert answer.status_code == 202
    assert state["error"]  # the brokers are nowhere
    begun, ended = audit(tmp_path)
    assert (begun["user"], begun["what"], begun["selection"]["places"]) == ("local", "redrive", ["0:1"])
    assert (ended["what"], ended["counts"]) == ("redrive ended", None)
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "body", [{}, {"preview": False}, {"places": [[-1, 0]]}, {"places": [[0, 2**70]]}, {"reasons": ["none"]},
             {"since": "x"}, {"places": [[0, 0]] * 1001}],
)  # fmt: skip
def test_a_redrive_of_nothing_named_or_of_nonsense_is_refused(
    client: TestClient, made: ConsoleParts, body: Any
) -> None:
    assert client.post("/api/redrive", json=body).status_code == 422
    assert made.redrive.state() is None


def test_a_change_that_cannot_be_noted_is_not_made(
    made: ConsoleParts, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(made.changes, "write", full)

    assert client.post("/api/redrive", json={"places": [[0, 1]], "preview": False}).status_code == 503
    assert client.get("/dead-letters/0/0").status_code == 503
    assert made.redrive.state() is None


def test_logging_in_needs_the_forms_token_and_the_right_password(guarded: ConsoleParts, tmp_path: Path) -> None:
    client = client_of(guarded)
    form = {"name": "viewer-user", "password": "wrong", "token": token_of(client.get("/login").text)}

    assert client.post("/login", data=form | {"token": "0" * 64}).status_code == 403
    refused = client.post("/login", data=form)
    assert refused.status_code == 403
    assert "wrong." in refused.text
    assert client.get("/").headers["location"] == "/login"
    assert "viewer-user" not in (tmp_path / "audit.jsonl").read_text()  # what stood there may be a password


def test_a_cookie_is_strict_and_for_no_script(guarded: ConsoleParts) -> None:
    cookie = client_of(guarded).get("/login").headers["set-cookie"]

    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie


def test_guessing_is_slowed_down(guarded: ConsoleParts) -> None:
    client = client_of(guarded)
    form = {"name": "viewer-user", "password": "wrong", "token": token_of(client.get("/login").text)}

    statuses = [client.post("/login", data=form).status_code for _ in range(12)]

    assert statuses == [403] * 10 + [429] * 2
    assert int(client.post("/login", data=form).headers["retry-after"]) > 0


def test_logging_out_ends_the_session_in_this_browser(guarded: ConsoleParts) -> None:
    client = logged_in(guarded, UserRole.VIEWER)

    assert client.post("/logout", data={"token": "0"}).status_code == 403
    assert client.post("/logout", data={"token": client.headers["X-CSRF-Token"]}).headers["location"] == "/login"
    assert client.get("/").headers["location"] == "/login"


@pytest.mark.parametrize(
    "path",
    ["/static/../serving.py", "/static/%2e%2e/serving.py", "/static/..%2fserving.py", "/static//etc/passwd",
     "/etc/passwd", "/history/0/%2e%2e", "/history/-1/0", "/history/0/99999999999999999999", "/history/a/b",
     "/dead-letters/0/77", "/history/0/77", "/api/none", "/static/"],
)  # fmt: skip
def test_a_path_that_is_none_gives_no_file_and_no_stack_trace(client: TestClient, path: str) -> None:
    answer = client.get(path)

    assert answer.status_code in (404, 422)
    assert "Traceback" not in answer.text
    assert "root:" not in answer.text


def test_a_dead_letter_that_the_brokers_do_not_give_is_a_page_that_says_so(client: TestClient, topic: Topic) -> None:
    topic.error = BrokerError("brokers 127.0.0.1:1 do not answer")
    assert client.get("/dead-letters/0/0").status_code == 503
    assert "do not answer" in client.get("/dead-letters/0/0").text
    topic.error, topic.letters = None, {}
    assert client.get("/dead-letters/0/0").status_code == 404


def test_an_outage_is_said_on_every_page_with_its_beginning(made: ConsoleParts, client: TestClient) -> None:
    made.reading = lambda: {"away_since": 1_800_000_000.0, "cause": HTML, "behind": 0, "is_connected": False}

    for path in PAGES:
        page = client.get(path).text
        assert "do not answer since 2027-01-15 08:00:00" in page
        assert_harmless(page)


def test_as_many_pages_are_sent_live_events_as_may_be(made: ConsoleParts, client: TestClient) -> None:
    made.streams = CLIENTS
    answer = client.get("/api/live")

    assert answer.status_code == 503
    assert answer.headers["retry-after"]


def test_live_events_bring_the_chart_then_what_is_new(made: ConsoleParts, client: TestClient) -> None:
    ticks = iter([False, True])
    made.is_ending = lambda: next(ticks)
    fill(made, [judged(3, action=Action.BLOCK, score=0.9, label="spam")], [])

    answer = client.get("/api/live")

    events = re.findall(r"event: (\w+)\ndata: (.*)\n\n", answer.text)
    assert [name for name, _ in events] == ["all", "tick"]
    first, second = (json.loads(said) for _, said in events)
    assert [each["id"] for each in first["newest"]] == ["m-1", "m-2", "m-3"]
    assert second["newest"] == []
    assert len(first["points"]) == 301
    assert len(second["points"]) == 6
    assert made.streams == 0


def test_a_full_queue_and_a_model_that_is_not_there_say_when_to_try_again(
    made: ConsoleParts, client: TestClient, judge: Judge
) -> None:
    taken = 0
    while judge._places.acquire(blocking=False):
        taken += 1
    try:
        assert client.post("/api/try", json={"texts": ["a"]}).status_code == 429
    finally:
        for _ in range(taken):
            judge._places.release()
    made.judge = Judge(Settings())
    answer = client.post("/api/try", json={"texts": ["a"]})
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert client.get("/api/bands").json() == {"model": None, "why": "The model is being loaded."}


def test_no_text_is_in_a_log_the_audit_or_the_database(
    made: ConsoleParts,
    client: TestClient,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    client.post("/api/try", json={"texts": ["unmistakable words"]})
    client.post("/api/explain", json={"text": "unmistakable words"})
    client.post("/api/try", json={"texts": ["unmistakable words", 5]})
    made.window.close()

    said = capfd.readouterr()
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert b"unmistakable" not in kept
    assert "unmistakable" not in said.out + said.err + caplog.text


def test_the_document_of_the_api_is_for_whoever_is_logged_in(guarded: ConsoleParts) -> None:
    assert client_of(guarded).get("/openapi.json").status_code == 401
    document = logged_in(guarded, UserRole.VIEWER).get("/openapi.json").json()
    assert set(document["paths"]) >= {"/api/live", "/api/bands", "/api/try", "/api/explain", "/api/redrive"}


@pytest.mark.parametrize(
    ("host", "is_local"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),  # noqa: S104
     ("10.0.0.1", False), ("hamgate.example", False)],
)  # fmt: skip
def test_loopback_is_told_from_other_addresses(host: str, is_local: bool) -> None:  # noqa: FBT001
    assert is_loopback(host) is is_local
