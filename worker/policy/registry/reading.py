"""A registry's file to brands. TOML, one `[[brand]]` each; or CSV, one a row, with `;` between the values of a field.

What is wrong is said by line and field, all of it at once; never with a sender in it, which may be a number.
"""

from __future__ import annotations

import csv
import io
import re
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NoReturn

from worker.messages import BEHAVIOUR_RULE
from worker.policy import links
from worker.policy.addresses import normal
from worker.policy.registry.brands import ODDS, Brand, Registry
from worker.policy.registry.skeleton import skeleton

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MOST_ODDS: Final = 10.0
LARGEST: Final = 16 << 20
"""Bytes of a file."""
_LISTS: Final = ("aliases", "senders", "hosts")
_FIELDS: Final = ("name", *_LISTS, "odds", "dry_run")
_DEFAULTS: Final = ("odds", "dry_run")
_WITHIN: Final = ";"
_SHORTEST, _LONGEST = 2, 64
"""Characters of a name, and the most of a sender."""
_BRAND: Final = re.compile(r"\s*\[\[\s*(?:brand|\"brand\"|'brand')\s*\]\]")
_KEY: Final = re.compile(r"""\s*["']?(\w+)["']?\s*=""")
_LETTER: Final = re.compile(r"[^\W\d_]")
_TRUTH: Final = {"true": True, "false": False, "": None}
_SHOWN: Final = 5


class RegistryError(ValueError):
    """A registry that cannot be used: its file, and what is wrong, a line each."""


@dataclass(slots=True)
class _Entry:
    """A brand as written; `lines` are those of its fields, `line` its own."""

    line: int
    given: dict[str, Any]
    lines: dict[str, int] = field(default_factory=dict)


class _FaultyError(Exception):
    """A field that is wrong."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(what)
        self.name = name


def _refuse(name: str, what: str) -> NoReturn:
    raise _FaultyError(name, what)


def read(file: Path) -> Registry:
    """Read, check and compile. Raises RegistryError."""
    return compiled(content_of(file), str(file), is_csv=is_csv(file))


def content_of(file: Path) -> bytes:
    """What a file holds. Raises RegistryError."""
    try:
        return file.read_bytes()
    except OSError as error:
        message = f"{file}: cannot be read ({error.strerror})"
        raise RegistryError(message) from None


def is_csv(file: Path) -> bool:
    """Whether a file is CSV, by its name; else it is TOML."""
    return file.suffix.lower() == ".csv"


def compiled(content: bytes, where: str, *, is_csv: bool) -> Registry:
    """Check and compile what a file, or a record of the topic, holds; `where` it lies. Raises RegistryError."""
    problems: list[str] = []
    brands: list[Brand] = []
    try:
        brands = parsed(content, problems, is_csv=is_csv)
    except (tomllib.TOMLDecodeError, csv.Error, UnicodeDecodeError, RecursionError) as error:
        problems.append(str(error) if not isinstance(error, UnicodeDecodeError) else f"not UTF-8 at byte {error.start}")
    if not brands and not problems:
        problems.append("holds no brand; to have none, unset its setting")
    if problems:
        more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        raise RegistryError("\n".join(f"{where}: {each}" for each in (*problems[:_SHOWN], *more)))
    return Registry(brands)


def parsed(content: bytes, problems: list[str], *, is_csv: bool) -> list[Brand]:
    """The brands of a file's content; what is wrong is added to `problems`. Raises what its syntax is refused for."""
    if len(content) > LARGEST:
        problems.append(f"has {len(content):,} bytes; {LARGEST:,} at most")
        return []
    text = content.decode("utf-8-sig")
    defaults: dict[str, Any] = {}
    entries = list(_csv(text, problems)) if is_csv else list(_toml(text, defaults, problems))
    brands: list[Brand] = []
    rules: dict[str, int] = {}
    words: dict[bytes, str] = {}
    for entry in entries:
        try:
            brand = _brand(defaults | entry.given)
            _require_alone(brand, rules, words)
        except _FaultyError as fault:
            problems.append(f"line {entry.lines.get(fault.name, entry.line)}: {fault.name}: {fault}")
        else:
            rules[brand.rule] = entry.line
            words |= {skeleton(name): brand.name for name in brand.names}
            brands.append(brand)
    return brands


def _toml(text: str, defaults: dict[str, Any], problems: list[str]) -> Iterator[_Entry]:
    try:
        written = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:  # what `int` raises
        message = "holds a number of more than 4,300 digits"
        raise tomllib.TOMLDecodeError(message) from None
    given = written.pop("brand", [])
    for name, value in written.items():
        if name not in _DEFAULTS:
            problems.append(f"{name}: no such field outside [[brand]]; allowed: {', '.join(_DEFAULTS)}, [[brand]]")
        defaults[name] = value
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        problems.append("brand: write each as [[brand]]")
        return
    # tomllib says no lines: they are those of the headers, in their order, and of the keys behind each.
    places: list[_Entry] = []
    for number, line in enumerate(text.splitlines(), 1):
        if _BRAND.match(line):
            places.append(_Entry(number, {}))
        elif places and (key := _KEY.match(line)):
            places[-1].lines.setdefault(key[1], number)
    for at, each in enumerate(given):
        place = places[at] if at < len(places) else _Entry(1, {})
        yield _Entry(place.line, each, place.lines)


def _csv(text: str, problems: list[str]) -> Iterator[_Entry]:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = [each.strip().lower() for each in _next(rows, 1) or []]
    if unknown := [name for name in header if name not in _FIELDS]:
        problems.append(f"line 1: {unknown[0] or 'an empty name'}: no such field; allowed: {', '.join(_FIELDS)}")
        return
    if "name" not in header or len(set(header)) < len(header):
        problems.append(f"line 1: must name the fields, each once, with `name`; allowed: {', '.join(_FIELDS)}")
        return
    line = rows.line_num + 1
    while (row := _next(rows, line)) is not None:
        if len(row) not in (0, len(header)):
            problems.append(f"line {line}: has {len(row)} fields; the first line names {len(header)}")
        elif any(each.strip() for each in row):
            yield _Entry(line, dict(_values(dict(zip(header, row, strict=True)))))
        line = rows.line_num + 1


def _next(rows: Iterator[list[str]], line: int) -> list[str] | None:
    try:
        return next(rows, None)
    except csv.Error as error:
        message = f"line {line}: {error}"
        raise csv.Error(message) from None


def _values(row: dict[str, str]) -> Iterator[tuple[str, object]]:
    for name, written in row.items():
        value = written.strip()
        if name in _LISTS:
            yield name, [each.strip() for each in value.split(_WITHIN) if each.strip()]
        elif name == "dry_run":
            if (truth := _TRUTH.get(value.lower(), value)) is not None:
                yield name, truth
        elif name == "odds":
            if value:
                yield name, _number(value)
        else:
            yield name, value


def _number(value: str) -> object:
    try:
        return float(value)
    except ValueError:
        return value


def _brand(given: dict[str, Any]) -> Brand:
    """Raises _FaultyError."""
    if unknown := sorted(set(given) - set(_FIELDS)):
        _refuse(unknown[0], f"no such field; allowed: {', '.join(_FIELDS)}")
    name, odds, is_dry_run = given.get("name"), given.get("odds", ODDS), given.get("dry_run", False)
    if not isinstance(name, str) or not name.strip():
        _refuse("name", "is missing: a text")
    if isinstance(odds, bool) or not isinstance(odds, int | float) or not 0 <= odds <= MOST_ODDS:
        _refuse("odds", f"must be a number from 0 to {MOST_ODDS:g}, added to the log odds of the score")
    if not isinstance(is_dry_run, bool):
        _refuse("dry_run", "must be true or false")
    words = [*_each({"name": [name.strip()]}, "name", _word), *_each(given, "aliases", _word)]
    brand = Brand(
        words[0],
        tuple(dict.fromkeys(words[1:])),
        frozenset(_each(given, "senders", _sender)),
        frozenset(_each(given, "hosts", _host)),
        float(odds),
        is_dry_run,
    )
    if not brand.senders and not brand.hosts:
        _refuse("senders", "is missing, and so is hosts; one of the two at least")
    return brand


def _each(given: dict[str, Any], name: str, read_one: Callable[[str], str]) -> Iterator[str]:
    values = given.get(name, [])
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        _refuse(name, 'must be a list of texts, as ["one", "two"]')
    for number, each in enumerate(values, 1):
        try:
            yield read_one(each.strip())
        except ValueError as error:
            raise _FaultyError(name, f"value {number} {error}") from None


def _word(given: str) -> str:
    is_short = len(skeleton(given)) < _SHORTEST
    if not given.isprintable() or len(given) > _LONGEST or is_short or not _LETTER.search(given):
        message = f"must have {_SHORTEST} to {_LONGEST} characters, a letter among them"
        raise ValueError(message)
    return " ".join(given.split())


def _sender(given: str) -> str:
    spelt = normal(given)
    if not spelt or len(spelt) > _LONGEST or not spelt.isprintable() or not any(map(str.isalnum, spelt)):
        message = f"is no sender: a number, a short code or a sender id of {_LONGEST} characters at most"
        raise ValueError(message)
    return spelt


def _host(given: str) -> str:
    spelt = links.typed(given)
    if spelt is None or "." not in spelt:
        message = f"({given[:_LONGEST]!r}) is no host, as www.bank.example: no scheme, no path, no *"
        raise ValueError(message)
    if links.is_suffix(spelt):
        message = f"({spelt!r}) is a public suffix, where everybody can register; name the brand's own below it"
        raise ValueError(message)
    return spelt


def _require_alone(brand: Brand, rules: dict[str, int], words: dict[bytes, str]) -> None:
    if brand.rule == "sender:":
        _refuse("name", f"{brand.name!r}: gives a rule no name: it needs a letter or a digit")
    if brand.rule == BEHAVIOUR_RULE:
        _refuse("name", f"{brand.name!r} would be called {brand.rule}, the rule of sender behaviour; name it otherwise")
    if brand.rule in rules:
        _refuse("name", f"{brand.name!r} is called {brand.rule}, as the brand of line {rules[brand.rule]}")
    for at, name in enumerate(brand.names):
        if other := words.get(skeleton(name)):
            _refuse("aliases" if at else "name", f"{name!r} already speaks as {other!r}, or looks like it")
