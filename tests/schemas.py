"""As much of JSON Schema (draft 2020-12) as docs/formats uses; a keyword that is not known here is an error."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_SAY_NOTHING: Final = {"$schema", "$comment", "$defs", "title", "description", "examples", "format", "contentEncoding"}
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "null": (type(None),),
}


def problems(value: Any, schema: dict[str, Any], root: dict[str, Any] | None = None, at: str = "$") -> list[str]:
    """Each place where a value, as `json.loads` gives it, does not fit."""
    root = root or schema
    found: list[str] = []
    for keyword, wanted in schema.items():
        if keyword in _SAY_NOTHING:
            continue
        found += _CHECKS[keyword](value, wanted, root, at)
    return found


def _type(value: Any, wanted: str | list[str], _: Any, at: str) -> list[str]:
    names = [wanted] if isinstance(wanted, str) else wanted
    return [] if any(_is(value, name) for name in names) else [f"{at}: not {' or '.join(names)}"]


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool) or name == "boolean":
        return isinstance(value, bool) and name == "boolean"
    return isinstance(value, _TYPES[name]) or (name == "integer" and isinstance(value, float) and value.is_integer())


def _ref(value: Any, wanted: str, root: Any, at: str) -> list[str]:
    target = root
    for step in wanted.removeprefix("#/").split("/"):
        target = target[step]
    return problems(value, target, root, at)


def _any_of(value: Any, wanted: list[dict[str, Any]], root: Any, at: str) -> list[str]:
    return [] if any(not problems(value, each, root, at) for each in wanted) else [f"{at}: fits none of anyOf"]


def _properties(value: Any, wanted: dict[str, Any], root: Any, at: str) -> list[str]:
    its = value if isinstance(value, dict) else {}
    return [each for name in its.keys() & wanted for each in problems(its[name], wanted[name], root, f"{at}.{name}")]


def _additional(value: Any, wanted: dict[str, Any], root: Any, at: str) -> list[str]:
    its = value if isinstance(value, dict) else {}  # only where no property has a name of its own
    return [each for name in its for each in problems(its[name], wanted, root, f"{at}.{name}")]


def _required(value: Any, wanted: list[str], _: Any, at: str) -> list[str]:
    return [f"{at}: no {name}" for name in wanted if isinstance(value, dict) and name not in value]


def _items(value: Any, wanted: dict[str, Any], root: Any, at: str) -> list[str]:
    its = value if isinstance(value, list) else []
    return [found for n, each in enumerate(its) for found in problems(each, wanted, root, f"{at}[{n}]")]


def _max_items(value: Any, wanted: int, _: Any, at: str) -> list[str]:
    return [f"{at}: more than {wanted}"] if isinstance(value, list) and len(value) > wanted else []


def _enum(value: Any, wanted: list[Any], _: Any, at: str) -> list[str]:
    return [] if value in wanted else [f"{at}: none of {wanted}"]


def _pattern(value: Any, wanted: str, _: Any, at: str) -> list[str]:
    return [f"{at}: not like {wanted}"] if isinstance(value, str) and not re.search(wanted, value) else []


def _max_length(value: Any, wanted: int, _: Any, at: str) -> list[str]:
    return [f"{at}: longer than {wanted}"] if isinstance(value, str) and len(value) > wanted else []


def _min_length(value: Any, wanted: int, _: Any, at: str) -> list[str]:
    return [f"{at}: shorter than {wanted}"] if isinstance(value, str) and len(value) < wanted else []


def _minimum(value: Any, wanted: float, _: Any, at: str) -> list[str]:
    return [f"{at}: below {wanted}"] if _is(value, "number") and value < wanted else []


def _maximum(value: Any, wanted: float, _: Any, at: str) -> list[str]:
    return [f"{at}: above {wanted}"] if _is(value, "number") and value > wanted else []


_CHECKS: Final[dict[str, Callable[..., list[str]]]] = {
    "type": _type,
    "$ref": _ref,
    "anyOf": _any_of,
    "properties": _properties,
    "additionalProperties": _additional,
    "required": _required,
    "items": _items,
    "maxItems": _max_items,
    "enum": _enum,
    "pattern": _pattern,
    "maxLength": _max_length,
    "minLength": _min_length,
    "minimum": _minimum,
    "maximum": _maximum,
}
