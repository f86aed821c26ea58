"""Hosts of the links in a text, as a phone or browser would open them; and the domain that somebody has registered.

Hosts are in lower case and punycode (A-labels). With `//` before it any host counts, without only one whose top level
exists. Invisible characters, full-width letters and dots, percent-encoding, ports, capitals, and user information
(`https://bank.example@evil.example`) hide none. An e-mail address is no link. Links within a link's path count too: an
open redirect leads there. Names of files in a path do not.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import socket
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import idna
from publicsuffixlist import PublicSuffixList

from worker.policy.forms import nfkc

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from worker.policy.facts import Facts

UNSPACED: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3040-\u30ff\u3130-\u318f\u3400-\u9fff\uac00-\ud7a3"
)
"""Characters of scripts that put no space between words, or none before a foreign one, as a class of `re`."""

INVISIBLE: Final[dict[int, None]] = dict.fromkeys(
    code
    for first, last in (
        *((0xAD, 0xAD), (0x34F, 0x34F), (0x600, 0x605), (0x61C, 0x61C), (0x6DD, 0x6DD), (0x70F, 0x70F)),
        *((0x890, 0x891), (0x8E2, 0x8E2), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x200B, 0x200F)),
        *((0x202A, 0x202E), (0x2060, 0x206F), (0x2800, 0x2800), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF)),
        *((0xFFA0, 0xFFA0), (0xFFF9, 0xFFFB), (0x110BD, 0x110BD), (0x110CD, 0x110CD), (0x13430, 0x1343F)),
        *((0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0001, 0xE0001), (0xE0020, 0xE007F), (0xE0100, 0xE01EF)),
    )
    for code in range(first, last + 1)
)
"""Formats, variation selectors and blanks: drawn as nothing, and dropped or refused where a host is looked up."""

_REMEMBERED: Final = 16_384
"""Hosts whose spelling is not worked out again."""
_RESERVED: Final = frozenset(("example", "test"))
"""Top levels of documents and tests (RFC 2606)."""
_LONGEST: Final = 253
"""Characters of a host."""
_MOST: Final = 1024
"""Hosts, and what may be one, that are looked at in one text: no phone shows as many as one message."""
_OTHER_SCRIPT: Final = 8
"""As many of these count for one that is not in ASCII, which takes as much longer to look up."""
MORE: Final = "*"
"""Stands for all hosts behind these: nobody's, and in no list."""

_JOINED: Final = re.compile(r"\.(?=[^\s.])(?<=[^\s.].)|[/\\]{2}")
_JOINED_ANYHOW: Final = re.compile(r"[.\u2024\u3002\ufe52\uff0e\uff61](?=[^\s.])(?<=[^\s.].)|[/\\\uff0f\uff3c]")
# A letter or digit of any script, its marks, - or _: all but white space, and punctuation and symbols as one sees them.
_IN_LABEL: Final = (
    r"[^\s\x00-,./:-@\[-^`{-\xa9\xab-\xb4\xb6-\xb9\xbb-\xbf\u060c\u061b\u061f\u06d4\u0964\u0965\u2000-\u206f"
    r"\u20a0-\u20cf\u2190-\u2bff\u3000-\u3004\u3008-\u3020\u3030\ufffd\U0001f000-\U0001faff]"
)
_LINKS: Final = re.compile(
    r"(?<![/\\])[/\\]{2,}+(?P<authority>[^\s/\\?#<>\"]++)"
    rf"|(?<!{_IN_LABEL})(?<!\.)(?P<host>(?:{_IN_LABEL}{{1,63}}\.)+{_IN_LABEL}{{1,63}})(?!{_IN_LABEL}|\.?@)"
    r"(?P<port>\.?(?::\d+)?)"
)
_PATH: Final = re.compile(r"[/\\?#][^\s<>\"]*+")
_NO_HOST: Final = re.compile(r"[,;|()'\"`{}]")
_PORT: Final = re.compile(r":\d*\Z")
_GLUED_BEFORE: Final = re.compile(rf"\A[^.]*[{UNSPACED}](?=[A-Za-z0-9][^.{UNSPACED}]*\.)")
_GLUED_BEHIND: Final = re.compile(rf"(?<=[A-Za-z0-9])[{UNSPACED}][^.]*\Z")
_LABEL: Final = re.compile(r"[a-z0-9_-]{1,63}")
_NUMERIC: Final = re.compile(r"(?:\d+|0x[0-9a-f]*)\Z")
_EMBEDDED: Final = re.compile(r":[/\\]{2,}+([^\s/\\?#<>\"]++)")
_AROUND: Final = ".,;:!'()*_~\u2018\u2019\u201c\u201d\u00ab\u00bb"
_QUOTED_BEHIND: Final = re.compile(r"['()\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb\u3001\u300b-\u300f\u3011][^.]*\Z")


@functools.cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList(accept_unknown=False)  # the list that the package brings; nothing is fetched


def take_up() -> None:
    """Read the list of public suffixes now: else the first link waits for it, 0.2 s."""
    _suffixes()


def hosts_of(facts: Facts) -> tuple[str, ...]:
    """The hosts of a message's links, looked for once."""
    found = facts.found.get("hosts")
    if found is None:
        found = facts.found["hosts"] = hosts(facts.text)
    return found


def hosts(text: str) -> tuple[str, ...]:
    """Each host that a text links to, once, in the text's order."""
    if text.isascii():
        # Most dots end a sentence: to look for these takes a tenth of the pattern's time.
        joined = text.replace(". ", "").rstrip(".")
        if ("." not in joined and "//" not in text and "\\\\" not in text) or not _JOINED.search(text):
            return ()
    elif not _JOINED_ANYHOW.search(text):
        return ()
    else:
        text = nfkc(text.translate(INVISIBLE)).replace("\u3002", ".")
    found: dict[str, None] = {}
    left = _MOST
    for word in text.split():
        if "." not in word and "//" not in word and "\\\\" not in word:
            continue
        for given, is_schemed in _found(word):
            left -= 1 if given.isascii() else _OTHER_SCRIPT
            if left < 0:
                found[MORE] = None
                return tuple(found)
            if host := _host(given, is_schemed=is_schemed):
                found[host] = None
    return tuple(found)


def _found(text: str) -> Iterator[tuple[str, bool]]:
    """What may be a host, in what has no white space, and whether a scheme says that it is one."""
    position = 0
    while link := _LINKS.search(text, position):
        start, position = link.span()
        is_cut = False
        if authority := link["authority"]:
            given = authority.rpartition("@")[2]  # what browsers go to is behind the user's name
            if end := _NO_HOST.search(given):
                position = link.end() - len(given) + end.start()
                given, is_cut = given[: end.start()], True
            yield unquote(_PORT.sub("", given)), start > 0 and text[start - 1] == ":"
        elif start and text[start - 1] == "@" and ":" not in link["port"] and not _PATH.match(text, position):
            continue  # an e-mail address
        else:
            yield _GLUED_BEFORE.sub("", link["host"]), False
        if not is_cut and (path := _PATH.match(text, position)):
            position = path.end()
            for embedded in _EMBEDDED.findall(unquote(path[0])):
                yield unquote(_PORT.sub("", embedded.rpartition("@")[2])), True


def _host(given: str, *, is_schemed: bool) -> str | None:
    """As `_canonical`. One that is too long for any resolver is cut, so that nothing behind it takes long."""
    if len(given) > _LONGEST and len(given := given.strip(_AROUND)) > _LONGEST:
        return given.lower()[:_LONGEST] if is_schemed else None
    return _canonical(given, is_schemed=is_schemed)


@functools.lru_cache(maxsize=_REMEMBERED)
def _canonical(host: str, *, is_schemed: bool) -> str | None:
    """The host as it is looked up; None where there can be none. Never raises."""
    host = host.lower()
    if host.startswith("["):
        return _address(host[1:].partition("]")[0], is_schemed=is_schemed)
    if not (host := _QUOTED_BEHIND.sub("", host.strip(_AROUND)[:_LONGEST])):
        return None
    if address := _address(host, is_schemed=is_schemed):
        return address
    spelt = _ascii(host)
    if not _is_known(spelt) and (cut := _GLUED_BEHIND.sub("", host)) != host:
        spelt = _ascii(cut)
    if _is_known(spelt):
        return spelt
    return spelt if is_schemed and spelt else None


def _address(host: str, *, is_schemed: bool) -> str | None:
    """An IP address in its usual spelling: browsers read 0x7f.1 and 2130706433 too, where there is a scheme."""
    if ":" in host:
        try:
            return str(ipaddress.IPv6Address(host))
        except ValueError:
            return None
    if not _NUMERIC.search(host.rpartition(".")[2]):
        return None
    try:
        return socket.inet_ntoa(socket.inet_aton(host)) if is_schemed else str(ipaddress.IPv4Address(host))
    except (OSError, ValueError):
        return None


def _ascii(host: str) -> str:
    """Punycode. What no resolver takes stays as it is, so that it is somebody's host and nobody's whom one knows."""
    if host.isascii():
        return host
    try:
        return idna.encode(host, uts46=True).decode()
    except (idna.IDNAError, UnicodeError):
        return host


def _is_known(host: str) -> bool:
    """Whether its labels can be looked up, under a top level that exists."""
    labels = host.split(".")
    if len(labels) == 1 or len(host) > _LONGEST or not all(map(_LABEL.fullmatch, labels)):
        return False
    return labels[-1] in _RESERVED or _suffixes().publicsuffix(host) is not None


@functools.lru_cache(maxsize=_REMEMBERED)
def registrable(host: str) -> str:
    """The part of a host that somebody has registered, as `bank.co.uk` of `www.bank.co.uk`.

    The host itself where there is none: an address, a public suffix, a top level that does not exist.
    """
    labels = host.split(".")
    if labels[-1] in _RESERVED:
        return ".".join(labels[-2:])
    return _suffixes().privatesuffix(host) or host


def is_suffix(host: str) -> bool:
    """Whether everybody can register below it, as below `co.uk`."""
    return host in _RESERVED or _suffixes().publicsuffix(host) == host


def typed(given: str) -> str | None:
    """A host as an operator types it, in the spelling that `hosts` finds; None for what is none."""
    given = nfkc(given.translate(INVISIBLE)).strip().rstrip(".").lower()
    if address := _address(given, is_schemed=False):
        return address
    spelt = _ascii(given)
    return spelt if len(spelt) <= _LONGEST and all(map(_LABEL.fullmatch, spelt.split("."))) else None


def belongs(host: str, domains: Collection[str]) -> bool:
    """Whether a host is one of the domains, or lies in one."""
    while host:
        if host in domains:
            return True
        host = host.partition(".")[2]
    return False
