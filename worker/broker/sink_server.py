"""The process behind `SinkProcess`: `python -m worker.broker.sink_server`."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from worker.broker.incarnation import Membership
from worker.broker.link import KafkaLink
from worker.broker.sink_process import KINDS, Opening, Prepare, Rebuilding, Rejected, Request, Write, Written
from worker.process import logs
from worker.process.child import Frames, GoneError, reply, served

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.pipeline.ports import GroupMetadata, Sink

_opening: Final = msgspec.msgpack.Decoder(Opening)
_request: Final[msgspec.msgpack.Decoder[Request]] = msgspec.msgpack.Decoder(Prepare | Write)
_encode: Final = msgspec.msgpack.Encoder().encode

_PR_SET_PDEATHSIG: Final = 1

log = structlog.get_logger()


def serve() -> None:
    """Prepare and write until there is nothing more to."""
    _end_with_the_worker()
    with served() as requests, contextlib.ExitStack() as open_things:
        _serve(requests, open_things)


def _end_with_the_worker() -> None:
    """At once, where the system can do so: what begins anew under the worker's name would fence the next worker.

    Elsewhere a worker that is gone is noticed as soon as there is anything to tell it, of which that is the first.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _serve(requests: Frames, open_things: contextlib.ExitStack) -> None:
    opening = _opening.decode(requests.next())
    if os.getppid() != opening.worker:  # it had ended before this could be bound to it
        return
    logs.configure(opening.terms.log_level, opening.terms.log_format)
    try:
        sink = opening.terms.sink(_link(opening.link), lambda: reply(_encode(Rebuilding())))
    except Exception as error:  # noqa: BLE001 told to the worker, which refuses to start by it
        reply(_encode(_refusal(error)))
        return
    open_things.callback(sink.close)
    gc.collect()
    gc.freeze()
    reply(_encode(Written(sink.transaction_version)))
    failure: Rejected | None = None
    while True:
        request = _request.decode(requests.next())
        metadata = Membership(*request.metadata)
        if isinstance(request, Prepare):
            failure = _prepared(sink, metadata)
        else:
            reply(_encode(failure or _written(sink, request, metadata)))
            failure = None


def _prepared(sink: Sink, metadata: GroupMetadata) -> Rejected | None:
    """Prepare; return the answer to the write that follows if this has failed."""
    try:
        sink.prepare(metadata)
    except Exception as error:  # noqa: BLE001 told to the worker
        return _refusal(error)
    return None


def _written(sink: Sink, request: Write, metadata: GroupMetadata) -> Written | Rejected:
    positions = {(topic, partition): offset for topic, partition, offset in request.positions}
    try:
        sink.write(request.verdicts, request.dead_letters, positions, metadata)
    except GoneError:
        raise
    except Exception as error:  # noqa: BLE001 raised again by the worker
        return _refusal(error)
    return Written(sink.transaction_version)


def _refusal(error: Exception) -> Rejected:
    kind = type(error).__name__
    if kind in KINDS:
        log.debug("refused", kind=kind, exc_info=error)
    else:
        log.error("the sink failed", exc_info=error)
    return Rejected(kind, str(error) if kind in KINDS else "")


def _link(plain: Mapping[str, Any]) -> KafkaLink:
    fields: dict[str, Any] = {
        name: Path(value) if value and name.startswith("tls_") else value for name, value in plain.items()
    }
    return KafkaLink(**fields)


if __name__ == "__main__":
    serve()
