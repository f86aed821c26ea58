"""Who may do what: users in a file, signed sessions, tokens against forged requests, and a limit on guesses.

A line of the users' file is `name role hash`, as `hamgate console passwd NAME ROLE` prints it. Without a file everybody
on this host is the operator `local`, and the console answers on loopback alone.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac
import json
import re
import secrets
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    from console.proxies import Claim

COOKIE: Final = "hamgate_console"
SESSION: Final = 12 * 3600
"""Seconds until one logs in again."""
_NAME: Final = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_N, _R, _P = 1 << 15, 8, 1
_MEMORY: Final = 64 << 20
_GUESSES: Final = {"user": (10, 1 / 60), "address": (10, 1 / 20)}
"""Guesses at once, and how many a second come back."""
_REMEMBERED: Final = 10_000
SHORTEST: Final = 10
"""Characters of a password."""
LONGEST: Final = 1024


class UserRole(enum.StrEnum):
    """What a user may do, each all that the one before may: look; try texts and see bytes; change lists."""

    VIEWER = "viewer"
    ANALYST = "analyst"
    OPERATOR = "operator"

    def may(self, needed: UserRole) -> bool:
        """Whether it is enough."""
        order = list(UserRole)
        return order.index(self) >= order.index(needed)


class UsersError(ValueError):
    """The users' file does not hold; names the line."""


@dataclass(frozen=True, slots=True)
class User:
    """A line of the file."""

    name: str
    role: UserRole
    hash: str


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks: `session` is the one that tokens are bound to."""

    name: str
    role: UserRole
    session: str
    is_proxied: bool = False
    """Whether a proxy has named him; `session` is empty until he has opened a page."""


class Throttle:
    """A bucket of guesses for each user name and each address, refilled with time."""

    def __init__(self) -> None:
        self._left: dict[tuple[str, str], tuple[float, float]] = {}
        self._lock = threading.Lock()

    def wait(self, user: str, address: str, now: float) -> float:
        """Take a guess; returns 0, or the seconds after which there is another."""
        with self._lock:
            if len(self._left) > _REMEMBERED:
                self._left.clear()
            asked = {("user", user): _GUESSES["user"], ("address", address): _GUESSES["address"]}
            left = {}
            for key, (most, rate) in asked.items():
                before, at = self._left.get(key, (float(most), now))
                left[key] = min(most, before + (now - at) * rate)
            waits = [(1 - have) / asked[key][1] for key, have in left.items() if have < 1]
            if not waits:
                self._left |= {key: (have - 1, now) for key, have in left.items()}
            return max(waits, default=0.0)


class Gate:
    """Knows users and sessions. Sessions end with the console, with their user, and when his password changes."""

    def __init__(self, users: Path | None, *, has_proxies: bool = False) -> None:
        """Read the file. Raises UsersError."""
        self._path, self._has_proxies = users, has_proxies
        self._key = secrets.token_bytes(32)
        self._throttle, self._hashing = Throttle(), threading.Lock()
        self._lock, self._read_at = threading.Lock(), 0
        self._users: dict[str, User] = {}
        self._nobody = ""
        if users:
            self._nobody = hashed(secrets.token_hex(16))
            self._users = read_users(users)
            self._read_at = users.stat().st_mtime_ns

    @property
    def has_users(self) -> bool:
        """Whether one may log in here, with a password."""
        return self._path is not None

    @property
    def is_open(self) -> bool:
        """Whether everybody on this host is let in."""
        return not (self._path or self._has_proxies)

    def visitor(self, cookie: str | None, claim: Claim | None = None) -> Visitor | None:
        """Return whom a proxy names, else whose session it is; where it is open `local`, with or without one.

        None: log in.
        """
        name, session = self._opened(cookie)
        if claim:
            if (claimed := claim.user) is None:
                return None
            is_his = name == claimed.name and session.endswith(_print(claimed))
            return Visitor(claimed.name, claimed.role, session if is_his else "", is_proxied=True)
        if self.is_open:
            return Visitor("local", UserRole.OPERATOR, session)
        user = self._known().get(name)
        if user is None or not session.endswith(_print(user)):
            return None
        return Visitor(user.name, user.role, session)

    def session(self, cookie: str | None) -> str:
        """Return the session of a cookie, of a visitor or not; empty where it is none of ours, or over."""
        return self._opened(cookie)[1]

    def begin(self, user: User | None = None) -> str:
        """Return a new session's cookie; nobody's, for the token of the log-in form."""
        session = secrets.token_urlsafe(16) + (_print(user) if user else "")
        said = json.dumps([user.name if user else "", session, int(time.time()) + SESSION]).encode()
        return f"{base64.urlsafe_b64encode(said).decode()}.{self._signed(said)}"

    def token(self, session: str) -> str:
        """Return what a request that changes something must bring along."""
        return self._signed(b"token:" + session.encode())

    def is_token(self, session: str, given: str) -> bool:
        """Whether it is this session's."""
        return bool(session) and hmac.compare_digest(self.token(session).encode(), given.encode())

    def log_in(self, name: str, password: str, address: str) -> User | float:
        """Return the user; or, of too many guesses, the seconds to wait; or 0.0: name or password are wrong."""
        if wait := self._throttle.wait(name[:64], address, time.monotonic()):
            return wait
        user = self._known().get(name)
        with self._hashing:  # each costs memory, and one must not be able to have many at once
            is_right = fits(password[:LONGEST], user.hash if user else self._nobody)
        return user if user and is_right else 0.0

    def _known(self) -> dict[str, User]:
        """The users of the file as it is now; those of before while it does not hold."""
        if self._path:
            with self._lock:
                try:
                    if (now := self._path.stat().st_mtime_ns) != self._read_at:
                        self._users, self._read_at = read_users(self._path), now
                except (OSError, UsersError):
                    pass
        return self._users

    def _opened(self, cookie: str | None) -> tuple[str, str]:
        said, _, signature = (cookie or "").partition(".")
        try:
            content = base64.urlsafe_b64decode(said.encode())
        except (binascii.Error, UnicodeEncodeError, ValueError):
            return "", ""
        if not content or not hmac.compare_digest(self._signed(content).encode(), signature.encode()):
            return "", ""
        name, session, until = json.loads(content)
        return (name, session) if until > time.time() else ("", "")

    def _signed(self, said: bytes) -> str:
        return hmac.new(self._key, said, hashlib.sha256).hexdigest()


def _print(user: User) -> str:
    """What tells this password, and this role, from the next."""
    return hashlib.sha256(f"{user.role}{user.hash}".encode()).hexdigest()[:16]


def hashed(password: str) -> str:
    """Return a password's line: `scrypt$n$r$p$salt$key`."""
    salt = secrets.token_bytes(16)
    key = hashlib.scrypt(password.encode(), salt=salt, n=_N, r=_R, p=_P, maxmem=_MEMORY)
    return f"scrypt${_N}${_R}${_P}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"


def fits(password: str, line: str) -> bool:
    """Whether a password is the one of a hash."""
    n, r, p, salt, key = _parts(line)
    made = hashlib.scrypt(password.encode("utf-8", "surrogatepass"), salt=salt, n=n, r=r, p=p, maxmem=_MEMORY)
    return hmac.compare_digest(made, key)


def _parts(line: str) -> tuple[int, int, int, bytes, bytes]:
    kind, n, r, p, salt, key = line.split("$")
    if kind != "scrypt":
        raise ValueError(kind)
    found = int(n), int(r), int(p), base64.b64decode(salt, validate=True), base64.b64decode(key, validate=True)
    if not (found[0] >= _N and 128 * found[0] * found[1] < _MEMORY and found[2] == 1 and len(found[4]) == 64):  # noqa: PLR2004
        raise ValueError(line)
    return found


def read_users(path: Path) -> dict[str, User]:
    """Read the file. Raises UsersError naming the line; never with what stands there."""
    try:
        lines = path.read_text("utf-8").splitlines()
        is_open = path.stat().st_mode & 0o007
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path}: cannot be read ({getattr(error, 'strerror', 'not UTF-8')})"
        raise UsersError(message) from error
    if is_open:
        message = f"{path}: everybody on this host may read or change it; chmod 640"
        raise UsersError(message)
    users: dict[str, User] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            user = _user(line)
            if user.name in users:
                raise ValueError(number)  # noqa: TRY301 said as the others are
            users[user.name] = user
        except ValueError as error:
            message = (
                f"{path} line {number}: allowed: a name once, viewer, analyst or operator, and a hash; "
                "`hamgate console passwd NAME ROLE` prints one"
            )
            raise UsersError(message) from error
    if not users:
        message = f"{path}: nobody is in it; `hamgate console passwd NAME ROLE` prints a line"
        raise UsersError(message)
    return users


def _user(line: str) -> User:
    name, role, line_hash = line.split()
    if not is_name(name):
        raise ValueError(name)
    _parts(line_hash)
    return User(name, UserRole(role), line_hash)


def is_name(name: str) -> bool:
    """Whether a user may be called so."""
    return _NAME.fullmatch(name) is not None
