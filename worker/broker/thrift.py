"""How often the client's connections speak to the system: once to send what there is, once to wait, once to receive.

Where threads want one interpreter, whoever lets go of it may wait half a millisecond to have it back, and every call of
the system lets go of it. The client's own way is to wait for room, to send piece by piece, to receive four kilobytes at
a time until there is nothing more, and to tell the system before and after each what it waits for.
"""

from __future__ import annotations

import selectors
import time
import types
from typing import TYPE_CHECKING, Any, Final

from kafka import errors
from kafka.net.transport import KafkaTCPTransport

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

_RECEIVE_BYTES: Final = 1 << 20


class UnhurriedSelector(selectors.PollSelector):
    """Asks the system what has come only when there is nothing else to do, or when told to look.

    Nor does it tell the system each time what is waited for, as epoll must be.
    """

    looks = False

    def get_key(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        """Return its key. Raises KeyError, whose own text describes a socket by asking the system four times."""
        if self.get_map() is None:
            message = "the selector is closed"
            raise RuntimeError(message)
        key: selectors.SelectorKey | None = self._fd_to_key.get(self._fileobj_lookup(fileobj))  # type: ignore[attr-defined]
        if key is None:
            raise KeyError(type(fileobj).__name__)
        return key

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What has come, keys and events; nothing, unasked, where the loop has work and only glances."""
        return super().select(timeout) if self.looks or timeout != 0 else []


async def _send_at_once(transport: KafkaTCPTransport) -> None:
    """In place of its own, which waits for room first and sends piece by piece."""
    try:
        while transport._write_buffer:  # noqa: SLF001
            whole = b"".join(transport._write_buffer)  # noqa: SLF001
            transport._write_buffer.clear()  # noqa: SLF001
            transport._write_buffer.append(whole)  # noqa: SLF001
            _, error = transport._sock_send()  # noqa: SLF001
            if error:
                transport.abort(error=error)
                return
            transport.last_write = time.monotonic()
            if transport._write_buffer:  # noqa: SLF001
                await transport._net.wait_write(transport._sock)  # noqa: SLF001
    finally:
        transport._writing = False  # noqa: SLF001
    if transport._closed:  # noqa: SLF001
        transport._close()  # noqa: SLF001


def _receive_once(transport: KafkaTCPTransport) -> tuple[bytes, BaseException | None]:
    """In place of its own, which asks until there is nothing more."""
    try:
        received = transport._sock.recv(_RECEIVE_BYTES)  # noqa: SLF001
    except (BlockingIOError, InterruptedError):
        return b"", None
    except OSError as error:
        return b"", errors.KafkaConnectionError(error)
    return received, None if received else errors.KafkaConnectionError("socket disconnected")


def be_thrifty(manager: Any) -> None:  # noqa: ANN401 the client is untyped
    """Have a client's connections to come send at once and receive once."""
    build = manager._build_transport  # noqa: SLF001

    async def build_transport(*node: Any, **more: Any) -> Any:  # noqa: ANN401
        transport = await build(*node, **more)
        if type(transport) is KafkaTCPTransport:  # TLS has bytes of its own to keep apart
            transport._write_to_sock = types.MethodType(_send_at_once, transport)  # noqa: SLF001
            transport._sock_recv = types.MethodType(_receive_once, transport)  # noqa: SLF001
        return transport

    manager._build_transport = build_transport  # noqa: SLF001
