"""What /metrics answers: the library's two text formats, with what does not change of a line written once.

The library spells every name letter by letter at each scrape, which is most of what a scrape costs; and a scrape that
takes longer than the interpreter lets a thread run (5 ms) is interrupted by every thread that is at work.
tests/unit/test_exposition.py holds it to the library's own encoders, byte for byte.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

from prometheus_client.exposition import choose_encoder
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric
    from prometheus_client.samples import Exemplar

_OPENMETRICS: Final = "application/openmetrics-text"
# The other ways spell names otherwise that are plain already; who wants them may have them from the library.
_PLAIN_WAYS: Final = ("", "underscores", "allow-utf-8")
# The series and the numbers of some workers' worth; what falls out is spelled again.
_KEPT: Final = 8192


def exposition(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """Return the series in the format that an Accept header asks for, and its content type."""
    encode, content_type = choose_encoder(accept)
    if content_type.partition("; escaping=")[2] not in _PLAIN_WAYS:
        return encode(registry), content_type
    is_open = content_type.startswith(_OPENMETRICS)
    lines: list[str] = []
    for family in registry.collect():
        lines.append(_heading(family.name, family.type, family.documentation, is_open=is_open))
        lines.extend(_samples(family, is_open=is_open))
    if is_open:
        lines.append("# EOF\n")
    return "".join(lines).encode(), content_type


def _samples(family: Metric, *, is_open: bool) -> list[str]:
    return [
        f"{_series(name, *labels.items())}{_number(value)}{_exemplar(exemplar) if exemplar and is_open else ''}\n"
        for name, labels, value, _, exemplar, _ in family.samples
    ]


@functools.lru_cache(_KEPT)
def _heading(name: str, kind: str, documentation: str, *, is_open: bool) -> str:
    told = _escaped(documentation) if is_open else documentation.replace("\\", r"\\").replace("\n", r"\n")
    if not is_open:  # the older format has a counter's and an info's ending in the name, and no infos
        name += {"counter": "_total", "info": "_info"}.get(kind, "")
        kind = "gauge" if kind == "info" else kind
    return f"# HELP {name} {told}\n# TYPE {name} {kind}\n"


@functools.lru_cache(_KEPT)
def _series(name: str, *labels: tuple[str, str]) -> str:
    told = ",".join(f'{label}="{_escaped(value)}"' for label, value in sorted(labels))
    return f"{name}{{{told}}} " if told else f"{name} "


def _number(value: float) -> str:
    # Not kept: a zero's text, as 0.0 and -0.0 are one key.
    return _kept_number(value) if value else repr(float(value))


@functools.lru_cache(_KEPT)
def _kept_number(value: float) -> str:  # most that are not zero were the same last time
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]


def _exemplar(exemplar: Exemplar) -> str:
    told = ",".join(f'{label}="{_escaped(value)}"' for label, value in sorted(exemplar.labels.items()))
    return f" # {{{told}}} {_number(exemplar.value)} {exemplar.timestamp}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
