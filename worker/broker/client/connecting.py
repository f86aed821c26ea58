"""A client's connections: a start ends when every broker refuses it, and the log says which broker is away."""

from __future__ import annotations

import threading
import time
from typing import Any, Final

from kafka import errors
from kafka.net.compat import KafkaNetClient

from worker.process.outage import Outage

# In OpenSSL's words: a certificate that is expired, or of an authority that we do not trust, or of another host.
UNTRUSTED: Final = "CERTIFICATE_VERIFY_FAILED"


# A broker that was not tried again since is not what is wrong now: it may have left the cluster.
_RECENT: Final = 60.0


class Outages:
    """The brokers of this process's clients that cannot be reached, by address. For any thread."""

    is_logged = True

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._away: dict[str, Outage] = {}
        self._asked: dict[str, str] = {}

    def failed(self, address: str, error: BaseException, brokers: str) -> None:
        """No connection was made, or one that was gave no answer; `brokers` are the addresses that we were given."""
        with self._guard:
            self._asked[address] = brokers
            outage = self._away.setdefault(address, Outage("broker", {"address": address}))
            outage.is_told = not self.is_logged
            outage.goes_on(str(error) or type(error).__name__)

    def connected(self, address: str) -> None:
        """A connection was made."""
        with self._guard:
            self._asked.pop(address, None)
            if outage := self._away.pop(address, None):
                outage.is_over()

    def recent(self, brokers: str) -> dict[str, str]:
        """Return why each broker of that cluster that could not be reached lately could not, by address."""
        since = time.monotonic() - _RECENT
        with self._guard:
            away = {address: each for address, each in self._away.items() if self._asked[address] == brokers}
            return {address: each.cause for address, each in away.items() if each.failed_at >= since}


OUTAGES: Final = Outages()
"""Of the whole process: each broker is in the log once, however many clients it has."""


def is_refusal(error: object) -> bool:
    """Whether a broker, or the check of its certificate, said no: asking again would give the same answer."""
    if isinstance(error, errors.SaslAuthenticationFailedError | errors.UnsupportedSaslMechanismError):
        return True
    return isinstance(error, errors.KafkaConnectionError) and UNTRUSTED in str(error)


def net_client(**configs: Any) -> KafkaNetClient:  # noqa: ANN401 the client's own options are of any kind
    """Return the client's network, whose start ends when every broker has refused us.

    The client itself would ask on, and then report a time-out.
    """
    made = KafkaNetClient(**configs)
    _raise_refusals(made._manager)  # noqa: SLF001
    return made


def _raise_refusals(manager: Any) -> None:  # noqa: ANN401 the client is untyped
    connect, build = manager.get_connection, manager._build_transport  # noqa: SLF001
    refusals: dict[Any, BaseException] = {}

    async def build_transport(*node: Any, **more: Any) -> Any:  # noqa: ANN401
        transport = await build(*node, **more)
        receive = transport._sock_recv  # noqa: SLF001

        def receive_before_the_end() -> tuple[bytes, Any]:
            """A broker says why it refuses and hangs up at once; the client would hear only the latter."""
            received, error = receive()
            return (received, None) if received else (received, error)

        transport._sock_recv = receive_before_the_end  # noqa: SLF001
        return transport

    def get_connection(node_id: Any, **more: Any) -> Any:  # noqa: ANN401
        if len(refusals) >= len(manager.cluster.bootstrap_brokers()) and not manager.bootstrapped:
            raise next(iter(refusals.values()))
        connection = connect(node_id, **more)
        if not connection.init_future.is_done:
            _watch(manager, connection, _address(manager, node_id))
        connection.init_future.add_errback(
            lambda error: refusals.__setitem__(node_id, error) if is_refusal(error) else None
        )
        return connection

    manager.get_connection, manager._build_transport = get_connection, build_transport  # noqa: SLF001


def _address(manager: Any, node_id: Any) -> str:  # noqa: ANN401 the client is untyped
    broker = manager.cluster.broker_metadata(node_id)
    return f"{broker.host}:{broker.port}"


def _watch(manager: Any, connection: Any, address: str) -> None:  # noqa: ANN401 the client is untyped
    """Note what becomes of a connection that is being made. One that is closed while idle is no outage."""

    def failed(error: BaseException) -> None:
        if not manager.closed:  # what is closed by us while it is being made has not failed
            OUTAGES.failed(address, error, ",".join(manager.cluster.config["bootstrap_servers"]))

    connection.init_future.add_callback(lambda _: OUTAGES.connected(address))
    connection.init_future.add_errback(failed)
    connection.close_future.add_errback(
        lambda error: failed(error) if isinstance(error, errors.RequestTimedOutError) else None
    )
