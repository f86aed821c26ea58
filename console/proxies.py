"""Users whom a proxy has logged in (oauth2-proxy, Authelia): named in headers, believed from its addresses alone.

Whoever can connect from one of these addresses can call himself what he likes: they must be the proxy's own. The header
of anybody else is ignored, and so is one that comes twice, as where a proxy adds its own to a stranger's.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from console.access import User, UserRole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from console.guard import Application, Receive, Scope, Send
    from worker.settings import Settings

EVERY_GROUP: Final = "*"
_PEER: Final = "hamgate.peer"
_NAME: Final = re.compile(r"[A-Za-z0-9._@+|:=/-]{1,128}")
_LOOPBACK: Final = ("127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Claim:
    """What a proxy says of who asks. No user: he has no role here, or nobody could be called so."""

    said: str
    user: User | None


@dataclass(frozen=True, slots=True)
class Proxies:
    """Their addresses, the headers in which they name a user and his groups, and which group has which role."""

    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
    user_header: bytes
    groups_header: bytes | None
    roles: Mapping[str, UserRole]

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """Those that the settings name; the settings have checked them."""
        if not (settings.console_proxies and settings.console_user_header and settings.console_roles):
            return None
        pairs = (each.rpartition("=") for each in settings.console_roles.split(","))
        groups = settings.console_groups_header
        return cls(
            tuple(ipaddress.ip_network(each.strip()) for each in settings.console_proxies.split(",")),
            settings.console_user_header.lower().encode(),
            groups.lower().encode() if groups else None,
            {group.strip(): UserRole(role.strip()) for group, _, role in pairs},
        )

    def claim(self, scope: Mapping[str, Any]) -> Claim | None:
        """Return whom a proxy names; None where none asks, or it names nobody."""
        if not self._is_proxy(scope.get(_PEER)):
            return None
        names = _values(scope, self.user_header)
        if not any(names):
            return None
        [name, *others] = names
        groups = _values(scope, self.groups_header) if self.groups_header else []
        if others or len(groups) > 1 or not _NAME.fullmatch(name):
            return Claim("", None)
        role = self._role({group.strip() for group in "".join(groups).split(",")})
        return Claim(name, User(name, role, "") if role else None)

    def _is_proxy(self, peer: str | None) -> bool:
        try:
            address = ipaddress.ip_address(peer or "")
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self.networks)

    def _role(self, groups: set[str]) -> UserRole | None:
        """The highest of the groups' roles."""
        found = [role for group, role in self.roles.items() if group == EVERY_GROUP or group in groups]
        return max(found, key=list(UserRole).index, default=None)


def fronted(app: Application, proxies: Proxies | None) -> Application:
    """Note who really connects, then let a proxy say for whom: on this host, or of those that are named.

    An address in X-Forwarded-For is for the limit on guesses, never for whether a proxy's headers are believed.
    """
    trusted = [*_LOOPBACK, *map(str, proxies.networks if proxies else ())]
    inner: Any = ProxyHeadersMiddleware(app, trusted)  # type: ignore[arg-type]

    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        scope[_PEER] = (scope.get("client") or (None,))[0]
        await inner(scope, receive, send)

    return noting


def _values(scope: Mapping[str, Any], name: bytes) -> list[str]:
    return [value.decode("latin-1").strip() for key, value in scope["headers"] if key.lower() == name]
