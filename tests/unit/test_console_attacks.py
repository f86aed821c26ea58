"""What strangers may send to a console that listens: bodies without end, too many at once, and headers of others."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

pytest.importorskip("uvicorn", reason="the console needs the extra `console`")

import uvicorn

from console import redriving, serving
from console.access import COOKIE, UserRole
from console.guard import LOOPBACK, MAX_BODY, Guard
from console.search import Search
from console.serving import application
from console.visible import visible
from tests.consoles import buried, fill, judged, parts, users_file
from tests.unit.test_console_feedback import DECISIONS, Queue
from tests.unit.test_console_following import until
from tests.unit.test_console_lists import BLOCK, ListsTopic, context_in
from tests.unit.test_console_pages import client_of, logged_in, routes, token_of
from tests.unit.test_console_texts import event, kept_in
from worker.broker.replay import Replayed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from console.parts import ConsoleParts

UNTAKEN = 1.0
PIECE = b"x" * (1 << 16)
GIGABYTE = 1 << 30
MOST = 16 << 20
"""Bytes that the two sockets between them may hold, over what the server has read."""


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a console without brokers and without a model, by the server that it has in operation."""
    made = parts(tmp_path_factory.mktemp("listening"))
    fill(made, [judged(1)], [])
    with socket.create_server(("127.0.0.1", 0)) as taken, in_operation(made, taken) as port:
        yield port


@contextlib.contextmanager
def in_operation(made: ConsoleParts, taken: socket.socket) -> Iterator[int]:
    """Serve on a socket, and end; yields its port."""
    app: Any = Guard(application(made), LOOPBACK)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]}, name="server")
    thread.start()
    made.is_ending = lambda: server.should_exit
    try:
        yield taken.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


def with_every_page(folder: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> ConsoleParts:
    """With lists, reports, and texts that are kept."""
    made = parts(folder, context=context_in(folder), **more)
    monkeypatch.setattr(made.context, "changeable", ListsTopic(made.context).at)
    monkeypatch.setattr(made.context, "event", lambda *_: None)
    made.review = Queue(*DECISIONS)
    made.texts = kept_in(made.window._database, folder)
    made.texts.take([event(0)], {})
    fill(made, [judged(1)], [buried(0, b'{"text": 5')])
    made.is_ending = lambda: True  # live events end with the first
    return made


@pytest.fixture
def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ConsoleParts:
    """All that, with users."""
    return with_every_page(tmp_path, monkeypatch, users=users_file(tmp_path))


def one_of(path: str, *others: str) -> list[Any]:
    """One path for every run of the tests, and the others for long ones."""
    return [path, *(pytest.param(each, marks=pytest.mark.long) for each in others)]


def sent_until_refused(port: int, head: str, *, is_chunked: bool) -> tuple[bytes, int]:
    """Send up to a gigabyte; returns the answer, and how many bytes were taken before it ended."""
    sent, answer = 0, b""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(f"{head}\r\nHost: 127.0.0.1:{port}\r\n".encode())
        connection.sendall(b"Transfer-Encoding: chunked\r\n\r\n" if is_chunked else b"\r\n")
        piece = b"%x\r\n%s\r\n" % (len(PIECE), PIECE) if is_chunked else PIECE
        with contextlib.suppress(ConnectionError):
            while sent < GIGABYTE:
                connection.sendall(piece)
                sent += len(PIECE)
        with contextlib.suppress(ConnectionError):
            while said := connection.recv(1 << 16):
                answer += said
    return answer, sent


@pytest.mark.parametrize("path", one_of("/api/try", "/login", "/logout", "/none", "/api/live", "/static/console.css"))
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_gigabyte_is_refused_before_it_is_read_whatever_is_asked(listening: int, path: str, method: str) -> None:
    head = f"{method} {path} HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {GIGABYTE}"

    _, sent = sent_until_refused(listening, head, is_chunked=False)

    assert sent < MOST


@pytest.mark.parametrize("path", one_of("/api/try", "/login", "/none", "/history", "/static/console.css"))
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_gigabyte_without_a_length_is_refused_after_a_megabyte(listening: int, path: str, method: str) -> None:
    head = f"{method} {path} HTTP/1.1\r\nContent-Type: application/json"

    _, sent = sent_until_refused(listening, head, is_chunked=True)

    assert sent < MOST


def test_a_body_is_refused_by_its_declared_length_before_any_of_it_comes(listening: int) -> None:
    with socket.create_connection(("127.0.0.1", listening), timeout=30) as connection:
        connection.sendall(
            f"POST /api/try HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {MAX_BODY + 1}\r\n\r\n".encode()
        )
        answer = b""
        while said := connection.recv(1 << 16):
            answer += said

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()


def test_a_viewer_whose_machine_takes_nothing_any_more_loses_his_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "UNTAKEN", UNTAKEN)
    made = parts(tmp_path)
    with serving._listening("127.0.0.1", 0) as taken, in_operation(made, taken) as port, socket.socket() as viewer:
        viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        viewer.connect(("127.0.0.1", port))
        viewer.sendall(f"GET /api/live HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        until(lambda: made.streams == 1, 30)

        until(lambda: made.streams == 0, 30 * UNTAKEN)


SECURITY = {
    "content-security-policy", "x-content-type-options", "referrer-policy", "cross-origin-opener-policy",
    "cross-origin-resource-policy", "permissions-policy", "cache-control",
}  # fmt: skip
OURS = ("/login", "/logout")
IN_A_PATH = re.compile(r"\{[^}]+\}")
BODIES: tuple[dict[str, Any], ...] = (
    {},
    {"json": {}},
    {"json": {"texts": ["a"], "text": "a", "reasons": ["invalid-json"], "preview": False}},
    {"json": {"texts": ["a"]}},
    {"json": {"text": "a"}},
    {"json": {"reasons": ["invalid-json"], "preview": False}},
    {"data": {"partition": "0", "offset": "1", "what": "message", "place": "sms.events:0:0"}},
    {"data": {"sender": "+447700900123", "what": "sender"}},
    {"data": {"value": "prize"}},
    {"json": BLOCK},
    {"json": {"expired": True, "reason": "a test"}},
    {"json": {"text": "what,match,value,action\ncampaign,exact,67fafdfa4dbe71a7,block", "reason": "a test"}},
    {"json": {"partition": 1, "offset": 0, "action": "block", "reason": "a test"}},
    {"json": {"partition": 1, "offset": 0, "label": "spam"}},
    {"json": {"decision": "0-2", "label": "spam"}},
    {"json": [{"data": {"decision": "0-2"}, "annotations": []}]},
    {"json": {"digest": "0" * 64, "in_force": "0" * 64}},
)


def bodies(method: str) -> tuple[dict[str, Any], ...]:
    return BODIES[:1] if method in ("GET", "HEAD") else BODIES


def asked(made: ConsoleParts) -> list[tuple[str, str]]:
    """Every method and address of the application's own table: a new route cannot be forgotten."""
    return [(method, IN_A_PATH.sub("0", path)) for method, path in routes(made)]


def kept(made: ConsoleParts, folder: Path) -> dict[str, Any]:
    """All that a request could have changed."""
    rows = {str(path): path.stat().st_size for path in folder.iterdir() if path.suffix == ".jsonl"}
    found = [row.seq for row in made.window.search(Search(), 100)], [each.seq for each in made.window.letters()]
    texts = made.texts.state() if made.texts else None
    context, queue = made.context, made.review
    assert context.lists
    assert isinstance(queue, Queue)
    lists = [entry.name for entry in context.lists.newest()]
    changed = {"redrive": made.redrive.state(), "texts": texts, "lists": lists, "reports": len(queue.sent)}
    return rows | {"found": found} | changed


def test_an_operator_with_the_token_changes_all_that_these_requests_are_about(
    guarded: ConsoleParts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redriving, "replay", lambda *_, **__: Replayed())
    client = logged_in(guarded, UserRole.OPERATOR)
    before = kept(guarded, tmp_path)

    for method, path in asked(guarded):
        for body in BODIES if method == "POST" and path not in OURS else ():
            form = {"data": body["data"] | {"token": client.headers["X-CSRF-Token"]}} if "data" in body else body
            client.request(method, path, **form)
    after = kept(guarded, tmp_path)
    assert {name for name in ("redrive", "texts", "lists", "reports") if after[name] == before[name]} == set()


def test_a_viewer_changes_nothing_by_any_route_and_method(guarded: ConsoleParts, tmp_path: Path) -> None:
    client = logged_in(guarded, UserRole.VIEWER)
    before = kept(guarded, tmp_path)

    for method, path in asked(guarded):
        if path in OURS and method == "POST":
            continue
        for body in bodies(method):
            form = {"data": body["data"] | {"token": client.headers["X-CSRF-Token"]}} if "data" in body else body
            status = client.request(method, path, **form).status_code
            assert method in ("GET", "HEAD") or status == 403, (method, path, body)
    for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
        for path in {path for _, path in asked(guarded)}:
            assert client.request(method, path).status_code in (403, 404, 405), (method, path)
    assert kept(guarded, tmp_path) == before


@pytest.mark.parametrize("token", ["", "0" * 64, "another session's"])
def test_no_route_changes_anything_without_this_sessions_token(
    guarded: ConsoleParts, tmp_path: Path, token: str
) -> None:
    client = logged_in(guarded, UserRole.OPERATOR)
    forged = guarded.gate.token("x") if token == "another session's" else token  # noqa: S105 none of any use
    client.headers["X-CSRF-Token"] = forged
    before = kept(guarded, tmp_path)

    for method, path in asked(guarded):
        if method in ("GET", "HEAD"):
            continue
        for body in BODIES:
            form = {"data": body["data"] | {"token": forged}} if "data" in body else body
            assert client.request(method, path, **form).status_code == 403, (method, path, body)
    assert kept(guarded, tmp_path) == before


def test_a_page_of_another_site_may_ask_nothing(guarded: ConsoleParts, tmp_path: Path) -> None:
    client = logged_in(guarded, UserRole.OPERATOR)
    before = kept(guarded, tmp_path)

    for method, path in asked(guarded):
        for site in ("cross-site", "same-site"):
            if method not in ("GET", "HEAD"):
                answer = client.request(method, path, json=BODIES[2]["json"], headers={"Sec-Fetch-Site": site})
                assert answer.status_code == 403, (method, path)
    assert kept(guarded, tmp_path) == before


def test_every_answer_has_the_headers_that_keep_a_browser_safe(guarded: ConsoleParts) -> None:
    for client in (client_of(guarded), logged_in(guarded, UserRole.OPERATOR)):
        paths = [*asked(guarded), ("GET", "/none"), ("GET", "/static/console.css"), ("GET", "/static/none")]
        for method, path in [*paths, ("DELETE", "/"), ("GET", "/history?since=x")]:
            answer = client.request(method, path)
            assert set(answer.headers) >= SECURITY, (method, path)
            assert answer.headers["content-security-policy"].startswith("default-src 'self'; frame-ancestors 'none'")
            assert "server" not in answer.headers
            assert "access-control-allow-origin" not in answer.headers
    refused = client_of(guarded).post("/api/try", headers={"Content-Length": "99999999999"})
    assert set(refused.headers) >= SECURITY


class QuickJudge:
    """Answers at once, whatever the text."""

    @staticmethod
    def load() -> None:
        """There is no model."""

    @staticmethod
    def bands() -> dict[str, Any]:
        return {"model": None, "why": "none"}

    @staticmethod
    def judge(texts: list[str]) -> list[dict[str, Any]]:
        return [{"text": visible(text)} for text in texts]

    @staticmethod
    def explain(text: str) -> dict[str, Any]:
        return {"words": [visible(text)]}


@pytest.mark.parametrize("examples", [3, pytest.param(200, marks=pytest.mark.long)])
def test_no_request_that_the_api_describes_or_forbids_makes_the_server_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, examples: int
) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis makes up the requests")
    monkeypatch.setattr(redriving, "replay", lambda *_, **__: Replayed())
    made = with_every_page(tmp_path, monkeypatch, judge=QuickJudge())
    app: Any = Guard(application(made), LOOPBACK)
    client = client_of(made)
    token = token_of(client.get("/").text)
    headers = {"Host": "127.0.0.1", "X-CSRF-Token": token, "Cookie": f"{COOKIE}={client.cookies[COOKIE]}"}
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"Host": "127.0.0.1"})
    statuses: Counter[int] = Counter()
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

            @hypothesis.settings(
                max_examples=examples, deadline=None, database=None, derandomize=True,
                suppress_health_check=list(hypothesis.HealthCheck), phases=[hypothesis.Phase.generate],
            )  # fmt: skip
            @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: Any) -> None:
                case.headers = dict(case.headers or {}) | headers
                answer = case.call()
                statuses[answer.status_code] += 1
                assert answer.status_code < 500, (case.as_curl_command(), answer.status_code)

            with contextlib.suppress(hypothesis.errors.Unsatisfiable):  # nothing can be wrong where nothing is asked
                ask()
    assert statuses[200] + statuses[202]
    assert statuses[422]
