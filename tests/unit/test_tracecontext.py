"""The parts of a sender's trace context that are passed on, and those that are not."""

from __future__ import annotations

import pytest

from worker.pipeline.tracecontext import carried

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_context_goes_on_as_it_came_without_its_neighbours() -> None:
    headers = (("sender", b"+447700900000"), ("traceparent", PARENT), ("tracestate", b"vendor=1"), ("x", None))

    assert carried(headers) == ((("traceparent", PARENT), ("tracestate", b"vendor=1")), TRACE)


def test_a_later_version_may_have_more_behind_it() -> None:
    later = b"01" + PARENT[2:] + b"-more"

    assert carried((("traceparent", later),)) == ((("traceparent", later),), TRACE)


@pytest.mark.parametrize(
    "parent",
    [
        None,
        b"",
        b"+447700900123",
        PARENT.upper(),
        PARENT + b"-more",
        PARENT[:-1],
        b"ff" + PARENT[2:],
        b"00-" + b"0" * 32 + PARENT[35:],
        PARENT[:36] + b"0" * 16 + PARENT[52:],
        PARENT + b"\n",
        b"01" + PARENT[2:] + b"-" + b"x" * 300,
        b"\xff" * 55,
    ],
)
def test_what_is_no_context_is_not_carried(parent: bytes | None) -> None:
    assert carried((("traceparent", parent), ("tracestate", b"vendor=1"))) == ((), None)


def test_two_parents_are_no_parent() -> None:
    assert carried((("traceparent", PARENT), ("traceparent", PARENT))) == ((), None)


@pytest.mark.parametrize("state", [None, b"", b"x" * 513, b"a\nb", b"\xff"])
def test_a_bad_state_is_left_behind_and_the_parent_goes_on(state: bytes | None) -> None:
    assert carried((("traceparent", PARENT), ("tracestate", state))) == ((("traceparent", PARENT),), TRACE)
