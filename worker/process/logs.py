"""Logs: JSON lines for machines, coloured lines on a terminal; facts as fields, never a message's text or a number."""

from __future__ import annotations

import logging
import re
import sys
import time
from typing import Final, TextIO

import structlog

from worker.process.streams import LogStream

# Of a broker that is away the Kafka client says several lines for each attempt, from several loggers. Ours say it once:
# worker/process/outage.py. These are the beginnings of the client's templates.
OF_OUTAGES: Final = (
    "Connection failed: %s",
    "%s: Connection lost: %s",
    "%s: Request timed out after %d ms",
    "%s: socket disconnected",
    "%s: Abort (%s)",
    "%s: Error receiving network data",
    "%s: Error sending request data",
    "Bootstrap %s not ready",
    "Bootstrap connection to %s failed",
    "Bootstrap attempt to ",
    "Bootstrap failed: %s",
    "DNS lookup failed for ",
    "No node available for metadata refresh",
    "Metadata refresh: failed %s",
    "Error sending %s to node %s",
    "Marking the coordinator dead",
    "Heartbeat session expired",
    "Heartbeat failed for group %s: coordinator",
    "Fetch to node %s failed: %s",
    "LeaveGroup request failed: %s",
)
# Whatever else a library repeats is said once in so many seconds.
_REPEAT_EVERY: Final = 60.0
_MOST_TEMPLATES: Final = 1000
# A library that fills in its templates itself repeats a line with other figures and addresses.
_FIGURES: Final = re.compile(r"0x[0-9a-fA-F]+|\d+")


def configure(level: str, style: str) -> None:
    """Send every log line to stderr, ours and the libraries', in one style: `auto`, `json` or `console`."""
    as_console = style == "console" or (style == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    # A traceback's local variables could hold messages: lines and names only, in either style.
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if as_console
        else structlog.processors.JSONRenderer()
    )
    tracebacks = [] if as_console else [structlog.processors.format_exc_info]
    structlog.configure(
        processors=[*shared, *tracebacks, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Lines(sys.stderr),
        cache_logger_on_first_use=True,
    )
    if isinstance(sys.stderr, LogStream):
        sys.stderr.told = lambda count: _rendered([*shared, renderer], event="log lines dropped", count=count)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name, _libraries_in_brief],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *tracebacks, renderer],
        )
    )
    # The libraries' own news is for debugging: at info, what they call a warning is what an operator needs.
    theirs = "WARNING" if level == "info" else level.upper()
    if level != "debug":
        handler.addFilter(_is_no_outage)
        handler.addFilter(_Sparing())
    handler.setLevel(theirs)  # not the root's level alone, which a library's logger with a level of its own passes by
    logging.basicConfig(level=theirs, handlers=[handler], force=True)
    # At debug the client writes its settings, password and all, and every byte that it sends, messages and all.
    logging.getLogger("kafka").setLevel("INFO" if level == "debug" else "WARNING")


class _Lines:
    """A logger of structlog's kind that writes a line at once: two threads must not share one.

    Structlog's own takes a lock, for which a signal's handler would wait for ever within a line that it interrupts.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        """Write it."""
        self._stream.write(line + "\n")

    debug = info = warning = error = critical = exception = msg


def _rendered(processors: list[structlog.typing.Processor], **fields: object) -> str:
    made: object = fields
    for each in processors:
        made = each(None, "warning", made)  # type: ignore[arg-type] # an event, until the last renders it
    return f"{made}\n"


def _libraries_in_brief(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event["library"] = event.pop("logger", None)
    if held_back := getattr(event.get("_record"), "held_back", 0):
        event["held_back"] = held_back
    return event


def _is_no_outage(record: logging.LogRecord) -> bool:
    """Whether a line is not the client's about a broker that is away."""
    return not (record.name.startswith("kafka.") and str(record.msg).startswith(OF_OUTAGES))


class _Sparing(logging.Filter):
    """Passes a library's template once a minute, with how often it was held back since."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is time."""
        template, now = (record.name, record.levelno, _FIGURES.sub("#", str(record.msg))), time.monotonic()
        at, held_back = self._said.get(template, (-_REPEAT_EVERY, 0))
        if now - at < _REPEAT_EVERY:
            self._said[template] = (at, held_back + 1)
            return False
        if len(self._said) >= _MOST_TEMPLATES:
            self._said.clear()
        self._said[template] = (now, 0)
        if held_back:
            record.held_back = held_back
        return True
