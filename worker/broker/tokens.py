"""Access tokens for SASL OAUTHBEARER (RFC 7628): from a command, or by client credentials (RFC 6749, 4.4).

A token is kept until a fifth of its life is left. The time is its `exp`, where it is a JWT, or what came with it; one
that says neither is kept for a minute. No token and no secret is in any error.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import http.client
import math
import re
import shlex
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import structlog
from kafka import errors
from kafka.net.sasl.oauth import AbstractTokenProvider

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.client import HTTPMessage
    from typing import IO

_TIMEOUT: Final = 10.0
_UNKNOWN_LIFE: Final = 60.0
_LEFT: Final = 0.2
"""Share of its life from which on a token is renewed."""
_MOST: Final = 1 << 20
_TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*")  # RFC 6750: nothing that could end the message it is put into
_CODE: Final = re.compile(r"[a-z_]{1,40}")

log = structlog.get_logger()


class OAuth(NamedTuple):
    """Where tokens come from: a command, or a token endpoint with the client's id and secret."""

    command: str | None = None
    url: str | None = None
    client_id: str | None = None
    secret: str | None = None
    scope: str | None = None


class TokenError(errors.KafkaConnectionError):  # type: ignore[misc] # the client is untyped
    """There is no token now; it is asked for again. Says why, and never what was printed or sent."""

    def __str__(self) -> str:
        """Return why: the client's errors would put their own names before it."""
        return str(self.args[0])


class TokenRefusedError(TokenError, errors.SaslAuthenticationFailedError):  # type: ignore[misc] # the same
    """There will be no token until somebody changes something."""


class Grant(msgspec.Struct):
    """What a token endpoint answers, and a command may print."""

    access_token: str
    expires_in: Any = None

    @property
    def life(self) -> float | None:
        """Seconds; None where it does not say. Some endpoints put the number in quotes."""
        try:
            life = float(self.expires_in)
        except (TypeError, ValueError):
            return None
        return life if math.isfinite(life) else None


class _Claims(msgspec.Struct):
    exp: float | None = None


class _Failure(msgspec.Struct):
    error: str = ""


class Tokens(AbstractTokenProvider):  # type: ignore[misc] # the client is untyped
    """Gives the client a token that is valid, for each connection and each re-authentication. For several threads."""

    def __init__(self, fetch: Callable[[], Grant], clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._fetch, self._clock = fetch, clock
        self._turn = threading.Lock()
        self._token, self._renew_at, self._ends_at = "", 0.0, 0.0

    def token(self) -> str:
        """Return one. Raises TokenError, TokenRefusedError."""
        with self._turn:
            now = self._clock()
            if now >= self._renew_at:
                try:
                    self._renew(now)
                except TokenError as error:
                    if now >= self._ends_at:
                        raise
                    log.warning(
                        "could not renew the access token", cause=str(error), valid_s=round(self._ends_at - now)
                    )
                    self._renew_at = min(now + _TIMEOUT, self._ends_at)
            return self._token

    def _renew(self, now: float) -> None:
        answer = self._fetch()
        token = answer.access_token.strip()
        if not _TOKEN.fullmatch(token):
            message = "what came is not an access token"
            raise TokenRefusedError(message)
        life = _life(token, now) or answer.life or _UNKNOWN_LIFE
        if life <= 0:
            message = "the access token that came has expired; check the clock"
            raise TokenError(message)
        self._token, self._ends_at, self._renew_at = token, now + life, now + (1 - _LEFT) * life


@functools.cache
def provider(oauth: OAuth) -> Tokens:
    """Return what gives this process's clients their tokens: one for all, so that a token is fetched once."""
    return Tokens(functools.partial(_printed, oauth.command) if oauth.command else functools.partial(_granted, oauth))


def _life(token: str, now: float) -> float | None:
    """Seconds until a JWT expires; None where it does not say. Its signature is the broker's to check."""
    parts = token.split(".")
    if len(parts) < 2:  # noqa: PLR2004 a JWT's header and claims
        return None
    try:
        claims = msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)), type=_Claims)
    except ValueError:  # msgspec's own are such, too
        return None
    return None if claims.exp is None else claims.exp - now or -1.0


def _printed(command: str) -> Grant:
    """Run the command: it prints a token, or a token endpoint's answer."""
    name = "HAMGATE_SASL_OAUTH_COMMAND"
    try:
        done = subprocess.run(  # noqa: S603 the operator's own
            shlex.split(command), stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        message = f"{name} has not ended within {_TIMEOUT:g} s"
        raise TokenError(message) from None
    except (OSError, ValueError) as error:
        message = f"{name} cannot be run ({getattr(error, 'strerror', None) or error})"
        raise TokenRefusedError(message) from None
    if done.returncode:
        message = f"{name} ended with {done.returncode}; run it as the worker's user to see why"
        raise TokenError(message)
    printed = done.stdout.strip()
    return _read(printed, name) if printed.startswith(b"{") else Grant(printed.decode("ascii", errors="replace"))


def _granted(oauth: OAuth) -> Grant:
    """Ask the token endpoint, as the client that we are."""
    name = "HAMGATE_SASL_OAUTH_URL"
    form = {"grant_type": "client_credentials"} | ({"scope": oauth.scope} if oauth.scope else {})
    who = ":".join(urllib.parse.quote_plus(each or "") for each in (oauth.client_id, oauth.secret))
    asked = urllib.request.Request(  # noqa: S310 the settings take https, and http on loopback
        oauth.url or "",
        data=urllib.parse.urlencode(form).encode(),
        headers={
            "Authorization": f"Basic {base64.b64encode(who.encode()).decode()}",
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
        },
    )
    # A proxy of the environment is for what lies beyond it, and over plain HTTP it would be told the secret.
    proxies: dict[str, str] | None = {} if asked.type == "http" else None
    opener = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler(proxies))
    try:
        with opener.open(asked, timeout=_TIMEOUT) as answer:
            found = answer.read(_MOST)
            if answer.length:
                message = f"{name} breaks off in its answer"
                raise TokenError(message)
            return _read(found, name)
    except urllib.error.HTTPError as error:
        with error:
            raise _refusal(error, name) from None
    except http.client.HTTPException as error:  # its text may quote what came
        message = f"{name} gives no whole HTTP answer ({type(error).__name__})"
        raise TokenError(message) from None
    except OSError as error:  # also of TLS, and of what is not there
        message = f"{name} does not answer ({getattr(error, 'reason', error)})"
        raise TokenError(message) from None


def _refusal(error: urllib.error.HTTPError, name: str) -> TokenError:
    """What an endpoint's status means: its own trouble, or ours."""
    code = ""
    with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
        code = msgspec.json.decode(error.read(_MOST), type=_Failure).error
    said = f"{name} answers {error.code}" + (f" ({code})" if _CODE.fullmatch(code) else "")
    if error.code in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
        return TokenRefusedError(f"{said}; check it, HAMGATE_SASL_USERNAME, HAMGATE_SASL_PASSWORD and the scope")
    return TokenError(said)


def _read(answer: bytes, name: str) -> Grant:
    try:
        return msgspec.json.decode(answer, type=Grant)
    except ValueError:  # its text may quote what came
        message = f"{name} gives no access_token"
        raise TokenRefusedError(message) from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The secret is for the endpoint that was named, and for no other."""

    def redirect_request(  # noqa: PLR0913, PLR0917 as the library's own
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Any:  # noqa: ANN401
        """Do not."""
        del req, fp, code, msg, headers, newurl
