"""The lines of an .env file that cannot be meant as they stand, by number: dotenv's own reader passes over them.

Never what a line holds: it may be a secret.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Final

from dotenv.parser import parse_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    from dotenv.parser import Binding

_OPENED: Final = re.compile(r"""[^='"\n]*=\s*(["'])""")
_REFERENCE: Final = re.compile(r"\$\{([^}:]*)\}")  # one with a default has a value in any case


def misunderstood(
    content: str, prefix: str, environment: Container[str], unknown: Callable[[str], str | None]
) -> Iterator[tuple[int, str]]:
    """Yield line numbers, and what to do. `unknown` says of a name that is taken for a setting's how it should be."""
    bindings = list(parse_stream(io.StringIO(content)))
    defined = {each.key for each in bindings}
    for each in bindings:
        text = each.original.string.lstrip()
        line = each.original.line + len(re.findall(r"\r\n|\n|\r", each.original.string[: -len(text) or None]))
        if each.error or (each.key is not None and each.value is None):
            yield line, "a quote that is not closed" if _is_open(text) else "not understood; write NAME=value"
        elif _spans_a_setting(text, prefix):
            yield line, "a quote that is not closed on its line, with settings on the lines after it"
        elif each.key and (hint := unknown(each.key)):
            yield line, hint
        elif _is_setting(each, prefix) and _undefined(each.value or "", environment, defined):
            yield line, "a ${...} without a value: define it, or write ${NAME:-default}"


def _is_open(text: str) -> bool:
    first = text.splitlines()[0] if text else ""
    opened = _OPENED.match(first)
    return opened is not None and opened[1] not in first[opened.end() :]


def _spans_a_setting(text: str, prefix: str) -> bool:
    return any(prefix in line.upper() for line in text.splitlines()[1:])


def _is_setting(binding: Binding, prefix: str) -> bool:
    return (binding.key or "").upper().startswith(prefix)


def _undefined(value: str, environment: Container[str], defined: Container[str | None]) -> bool:
    return any(name not in environment and name not in defined for name in _REFERENCE.findall(value))
