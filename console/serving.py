"""`hamgate console`: the parts together, and the server. Raises StartRefused, which says what to change."""

from __future__ import annotations

import dataclasses
import ipaddress
import socket
from typing import TYPE_CHECKING, Any, Final

import structlog
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles

from console import api, campaigns, feedback, lists, model, pages
from console.access import Gate, UsersError
from console.changes import AuditLog
from console.context import ConsoleContext
from console.database import Database, DatabaseError, SqliteFile, TooLongError
from console.evaluation import ResultFiles
from console.guard import LOOPBACK, Guard
from console.judging import Judge
from console.live import Live
from console.parts import ConsoleParts, visitor_of
from console.proxies import Proxies, fronted
from console.reading import Reading, TextReading
from console.redriving import Redrive
from console.reviewing import ReviewQueue
from console.shadowing import ShadowReports
from console.shelf import BundleShelf, Promotion
from console.texts import RetainedTexts, TextKeys, forget_all
from console.window import VerdictWindow
from worker import app as worker_app
from worker import broker
from worker.policy.hashing import HashKeyError
from worker.version import version

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.settings import Settings

_PATIENCE: Final = 5.0
"""Seconds that a broker may take to answer."""
_CONNECTIONS: Final = 400
_GRACE: Final = 5
UNTAKEN: Final = 30.0
"""Seconds after which a connection ends whose other side takes nothing of what it is sent: its machine may be gone."""

log = structlog.get_logger()


class Console:
    """Everything that runs. Raises StartRefused."""

    def __init__(self, settings: Settings) -> None:
        host = settings.console_host
        proxies = Proxies.of(settings)
        if settings.console_users is None and proxies is None and not is_loopback(host):
            message = (
                f"HAMGATE_CONSOLE_HOST: {host} is not loopback: name a file of users in HAMGATE_CONSOLE_USERS "
                "(`hamgate console passwd NAME ROLE` prints a line), or a proxy that logs them in in "
                "HAMGATE_CONSOLE_PROXIES, or leave it at 127.0.0.1"
            )
            raise worker_app.StartRefused(message)
        link = dataclasses.replace(
            worker_app.link(settings),
            client_id=f"{settings.group_id}.{settings.instance_id}.console",
        )
        folder = settings.console_folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            gate = Gate(settings.console_users, has_proxies=proxies is not None)
            changes = AuditLog(folder / "audit.jsonl")
            database = _database(settings)
            self._window = VerdictWindow(database)
            texts = _texts(settings, database, changes)
        except (UsersError, DatabaseError, HashKeyError) as error:
            raise worker_app.StartRefused(str(error)) from error
        except OSError as error:
            message = f"HAMGATE_CONSOLE_FOLDER: {folder}: {error.strerror}; name a folder that may be written"
            raise worker_app.StartRefused(message) from error
        live = Live()
        reader = dataclasses.replace(link, patience=_PATIENCE)
        self._reading_texts = TextReading(reader, self._window, texts) if texts else None
        self._reading = Reading(
            reader,
            self._window,
            live,
            verdict_topic=settings.verdict_topic,
            dead_letter_topic=settings.dead_letter_topic,
        )
        self._judge = Judge(settings)
        self._context = ConsoleContext(settings, link)
        redrive = Redrive(
            link,
            changes,
            name=broker.replay_name(settings.group_id),
            dead_letters=settings.dead_letter_topic,
            input_topic=settings.input_topic,
        )
        shelf = BundleShelf(settings)
        parts = ConsoleParts(
            gate=gate,
            changes=changes,
            window=self._window,
            live=live,
            judge=self._judge,
            redrive=redrive,
            reading=self._reading.state,
            shelf=shelf,
            promotion=Promotion(settings, shelf, changes, self._judge.load),
            results=ResultFiles(),
            shadow=ShadowReports(reader, settings.shadow_topic),
            letter=lambda partition, offset: broker.letter_at(link, settings.dead_letter_topic, partition, offset),
            context=self._context,
            proxies=proxies,
            texts=texts,
        )
        if settings.feedback_topic:
            parts.review = ReviewQueue(reader, settings.feedback_topic)
        self._followers = [each for each in (self._reading_texts, self._context, parts.review, parts.shadow) if each]
        hosts = LOOPBACK if gate.is_open else None
        self._socket = _listening(host, settings.console_port)
        self._server = uvicorn.Server(
            uvicorn.Config(
                fronted(Guard(application(parts), hosts), proxies),
                proxy_headers=False,  # `fronted` does it, by our settings alone
                log_config=None,
                access_log=False,
                log_level="error",
                server_header=False,
                limit_concurrency=_CONNECTIONS,
                timeout_keep_alive=15,
                timeout_graceful_shutdown=_GRACE,
                lifespan="off",
            )
        )
        parts.is_ending = lambda: self._server.should_exit

    @property
    def address(self) -> str:
        """`http://host:port`, with the port that was really taken."""
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until a signal ends it, or `stop`."""
        self._reading.start()
        for each in self._followers:
            each.start()
        self._judge.load()
        ready()
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._reading.close()
            for each in self._followers:
                each.close()
            self._window.close()

    def stop(self) -> None:
        """End soon."""
        self._server.should_exit = True


def application(parts: ConsoleParts) -> FastAPI:
    """Return the routes, for parts that are there already."""
    made = FastAPI(
        title="hamgate console",
        version=version(),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        description="JSON of the console's pages. POST wants the page's token in X-CSRF-Token.",
    )
    made.state.parts = parts
    for router in (api.router, lists.changes_router, pages.router, lists.router, campaigns.router):
        made.include_router(router)
    for router in (feedback.router, model.router):
        made.include_router(router)
    made.mount("/static", StaticFiles(directory=pages.FOLDER / "static"), name="static")

    @made.get("/openapi.json", include_in_schema=False)
    def document(request: Request) -> Any:  # noqa: ANN401 a JSON document
        if visitor_of(request) is None:
            raise HTTPException(401, "Log in first.")
        return made.openapi()

    _say_what_is_wrong(made)
    return made


def _say_what_is_wrong(made: FastAPI) -> None:
    """A page, or JSON, for whatever keeps a request from its answer."""

    @made.exception_handler(pages.LogInFirst)
    def to_log_in(_: Request, __: Exception) -> Response:
        return RedirectResponse("/login", 303)

    @made.exception_handler(pages.NotAllowedError)
    def not_allowed(request: Request, error: Exception) -> Response:
        return _problem(request, 403, f"This needs the role {error}.")

    @made.exception_handler(pages.Problem)
    def said(request: Request, error: pages.Problem) -> Response:
        return _problem(request, error.status, str(error))

    @made.exception_handler(DatabaseError)
    def no_database(request: Request, error: DatabaseError) -> Response:
        log.error("database away", cause=str(error))
        return _problem(request, 503, "The console's database does not answer; its log says why.")

    @made.exception_handler(TooLongError)
    def too_long(request: Request, _: TooLongError) -> Response:
        return _problem(request, 503, "The question took too long and was ended.")

    # Starlette's own: FastAPI's is one of them, and so is what it raises where there is no such route.
    @made.exception_handler(404)
    @made.exception_handler(405)
    def missing(request: Request, error: Exception) -> Response:
        status = getattr(error, "status_code", 404)
        said = str(getattr(error, "detail", ""))
        text = {"Not Found": "There is no such page.", "Method Not Allowed": "Not by this method."}.get(said, said)
        return _problem(request, status, text or "There is no such page.")

    @made.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> Response:
        return _problem(request, error.status_code, str(error.detail), dict(error.headers or {}))

    # Never with what was sent: it may be a text.
    @made.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        if not _is_api(request):
            return _problem(request, 404, "There is no such page.")
        found = [f"{'.'.join(map(str, each['loc'][1:3]))}: {each['type']}" for each in error.errors()[:5]]
        return JSONResponse({"error": "Not understood: " + "; ".join(found)}, 422)


def _is_api(request: Request) -> bool:
    return request.url.path.startswith("/api/") or request.url.path == "/openapi.json"


def _problem(request: Request, status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    if _is_api(request):
        return JSONResponse({"error": text}, status, headers)
    visitor = visitor_of(request)
    answer = pages.page(request, "problem.html", visitor, status, text=text)
    answer.headers.update(headers or {})
    return answer


def _database(settings: Settings) -> Database:
    """The file, or the database that a URL names. Raises StartRefused."""
    if settings.console_database is None:
        return SqliteFile(settings.console_folder / "window.sqlite")
    try:
        from console.postgres import Postgres  # noqa: PLC0415 an extra, for those who ask for it
    except ModuleNotFoundError as error:
        message = f"HAMGATE_CONSOLE_DATABASE needs the extra `postgres` (pip install 'hamgate[postgres]'): {error}"
        raise worker_app.StartRefused(message) from error
    try:
        return Postgres(settings.console_database.get_secret_value())
    except ValueError as error:
        message = f"HAMGATE_CONSOLE_DATABASE: {error}"
        raise worker_app.StartRefused(message) from error


def _texts(settings: Settings, database: Database, changes: AuditLog) -> RetainedTexts | None:
    """Where the setting is: the texts that are kept. Else none is, nor stays. Raises HashKeyError, DatabaseError."""
    if settings.console_text_key_file is None:
        if count := forget_all(database):
            log.warning("texts erased", count=count, why="HAMGATE_CONSOLE_TEXT_KEY_FILE is not set")
        return None
    made = RetainedTexts(
        database,
        changes,
        TextKeys(settings.console_text_key_file),
        topic=settings.input_topic,
        max_bytes=settings.max_event_bytes,
        days=settings.console_text_days,
        share=settings.console_text_share,
    )
    for key in made.state()["keys"]:
        if not key["is_here"]:
            log.warning("texts cannot be read", key=key["name"], count=key["count"], file="has no such key any more")
    return made


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this host alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; connections take it from the socket that listens
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNTAKEN * 1000))
        made.bind((host, port))
        made.listen(512)
    except OSError as error:
        made.close()
        message = (
            f"HAMGATE_CONSOLE_PORT: {host} port {port} cannot be used ({error.strerror}); "
            "name a free port, 0 for any, and an address of this host"
        )
        raise worker_app.StartRefused(message) from error
    return made
