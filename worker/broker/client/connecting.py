"""A client's connections, made so that a start ends when every broker refuses it."""

from __future__ import annotations

from typing import Any, Final

from kafka import errors
from kafka.net.compat import KafkaNetClient

# In OpenSSL's words: a certificate that is expired, or of an authority that we do not trust, or of another host.
UNTRUSTED: Final = "CERTIFICATE_VERIFY_FAILED"


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
        connection.init_future.add_errback(
            lambda error: refusals.__setitem__(node_id, error) if is_refusal(error) else None
        )
        return connection

    manager.get_connection, manager._build_transport = get_connection, build_transport  # noqa: SLF001
