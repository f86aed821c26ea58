"""W3C trace context: found in an event's headers, carried to its verdict, shown as an exemplar.

Only what is exactly as the recommendation has it is carried: a header is a stranger's, and a trace id is shown.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from worker.messages import Headers

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"

_VERSION_0: Final = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
# A later version may have more behind a dash; ff is none.
_LATER: Final = re.compile(rb"(?!00|ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-[!-~]{0,200})?")
_STATE: Final = re.compile(rb"[ -~]{1,512}")
_NONE: Final = (b"0" * 32, b"0" * 16)


def carried(headers: Headers) -> tuple[Headers, str | None]:
    """The headers that go with the verdict, and the trace id; () and None when the event has no valid context."""
    parents = [value for name, value in headers if name == TRACEPARENT]
    if len(parents) != 1 or parents[0] is None:  # two parents are no parent
        return (), None
    found = _VERSION_0.fullmatch(parents[0]) or _LATER.fullmatch(parents[0])
    if not found or found[1] == _NONE[0] or found[2] == _NONE[1]:
        return (), None
    states = tuple(
        (name, value) for name, value in headers if name == TRACESTATE and value is not None and _STATE.fullmatch(value)
    )
    return ((TRACEPARENT, parents[0]), *states), found[1].decode()
