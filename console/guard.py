"""What every request must hold to before anything reads it: its size, its host, and headers on every answer."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    Application = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY: Final = 1 << 20
"""Bytes of a request."""
LOOPBACK: Final = frozenset(("127.0.0.1", "localhost", "[::1]"))
_DIGITS: Final = 10
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; "
    "object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class _TooLargeError(Exception):
    """The body has no length given, and is longer than it may be."""


class Guard:
    """Refuses a body that is too large, before it is read where its length is given; and a host that is not this one.

    Of a body without a length as much is read as a body may have. Its connection is closed with the answer: else the
    server would read the rest, to find the next request behind it.

    `hosts` are the names that a request may ask for; none: any, where users must log in. Without users a page of
    another site could else speak to this console, by a name that its owner points at this host (DNS rebinding).
    """

    def __init__(self, app: Application, hosts: frozenset[str] | None) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let it through, or answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        is_static = scope["path"].startswith("/static/")
        has_no_length = b"transfer-encoding" in headers
        answered = False

        async def headed(message: MutableMapping[str, Any]) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                more = _HEADERS | {"Cache-Control": "no-cache" if is_static else "no-store"}
                more |= {"Connection": "close"} if has_no_length else {}
                own = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.encode(), value.encode())
                        for name, value in more.items()
                        if name.lower().encode() not in own
                    ),
                ]
            await send(message)

        if (why := self._refusal(scope, headers)) is not None:
            status, text = why
            await PlainTextResponse(text, status, {"Connection": "close"})(scope, receive, headed)
            return
        left = MAX_BODY

        async def bounded() -> MutableMapping[str, Any]:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0 and not answered:
                await PlainTextResponse(_TOO_LARGE, 413, {"Connection": "close"})(scope, receive, headed)
            if left < 0:
                raise _TooLargeError
            return message

        async def once(message: MutableMapping[str, Any]) -> None:
            if left >= 0:  # else it is answered: what a route makes of the error is nobody's
                await headed(message)

        with contextlib.suppress(_TooLargeError):
            await self._app(scope, bounded, once)

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > _DIGITS or int(length) > MAX_BODY:
            return 413, _TOO_LARGE
        host = headers.get(b"host", b"").decode("latin-1")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if self._hosts is not None and name not in self._hosts:
            return 421, "This console answers to localhost and 127.0.0.1 alone."
        if scope["method"] not in ("GET", "HEAD") and headers.get(b"sec-fetch-site", b"same-origin") not in (
            b"same-origin",
            b"none",
        ):
            return 403, "A page of another site may not ask this."
        return None


_TOO_LARGE: Final = f"A request may have {MAX_BODY:,} bytes."
