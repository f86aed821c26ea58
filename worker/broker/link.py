"""Connection settings: addresses, security, time-outs and the codec, as every Kafka client here takes them."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from kafka import errors

from worker.broker.batches import missing_package
from worker.broker.client import UnknownClientError, require_known
from worker.broker.client.connecting import OUTAGES, UNTRUSTED, is_refusal, net_client
from worker.broker.client.network import TooLateError, UnknownOutcomeError
from worker.broker.tokens import OAuth, TokenError, Tokens, provider

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# An answer that takes longer is asked for again, perhaps from another broker.
REQUEST_TIMEOUT: Final = 10.0
# After an outage the client must not sleep half a minute before it notices that all is well again.
_LONGEST_RECONNECT: Final = 1.0
_RECONNECT: Final = 0.2
# How soon a new partition, a topic that was created again, or a moved leader that nobody complained of, is seen. The
# client's own default is five minutes; a request of some hundred bytes every few seconds is nothing to a broker.
_METADATA_AGE: Final = 10.0


_REPLAY, _NO_REPLAY = "replay", "%72eplay"
_REPLICAS: Final = "fewer brokers hold the topic in sync than its min.insync.replicas: bring them back"


_UNRESOLVED: Final = "DNS Resolution failure"  # in the client's words
# Of these a broker that cannot be reached may be the cause.
_OF_CONNECTIONS: Final = (
    errors.KafkaConnectionError,
    errors.NodeNotReadyError,
    errors.KafkaTimeoutError,
    errors.RequestTimedOutError,
    errors.CoordinatorNotAvailableError,
    errors.UnknownBrokerIdError,
    UnknownOutcomeError,
)


class BrokerError(Exception):
    """The brokers cannot be worked with; the text says what is wrong and how to fix it."""


@dataclass(frozen=True, slots=True)
class KafkaLink:
    """Addresses, security, time-outs and codec of every client; `patience` is how many seconds an outage may last."""

    brokers: str
    client_id: str = "hamgate"
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    sasl_oauth_command: str | None = None
    sasl_oauth_url: str | None = None
    sasl_oauth_scope: str | None = None
    tls_ca: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    compression: str = "gzip"
    patience: float = 60.0

    def connect(self, kind: Callable[..., Any], *topics: str, **more: Any) -> Any:  # noqa: ANN401 the client is untyped
        """Make a client of some kind; one that cannot connect closes what it opened, as it would not by itself.

        Raises the client's errors, and BrokerError where the installed client is not one that was tested, or lacks the
        codec.
        """
        if package := missing_package(self.compression):
            message = f"HAMGATE_COMPRESSION={self.compression} needs a package: pip install {package}, or choose gzip"
            raise BrokerError(message)
        try:
            require_known()
        except UnknownClientError as error:
            raise BrokerError(str(error)) from error
        opened: list[Any] = []

        def remember(**configs: Any) -> Any:  # noqa: ANN401
            opened.append(net_client(**configs))
            return opened[-1]

        deadline = time.monotonic() + self.patience
        while True:
            try:
                if tokens := self._tokens():
                    tokens.token()  # here, where it can be said what is wrong: the client only knows that it failed
                return kind(*topics, kafka_client=remember, **self.options(**more))
            except BaseException as error:
                for network in opened:
                    with contextlib.suppress(Exception):  # one that was cut short, as by Ctrl-C, may not be able to
                        network.close()
                opened.clear()
                # One broker of several that is gone must not keep a worker from starting; the next try asks another.
                is_lost = isinstance(error, errors.KafkaConnectionError) and not is_refusal(error)
                if not is_lost or time.monotonic() > deadline:
                    raise
                time.sleep(_LONGEST_RECONNECT if isinstance(error, TokenError) else _RECONNECT)

    def options(self, **more: Any) -> dict[str, Any]:  # noqa: ANN401 the client's own options are of any kind
        """Return the client's options, in its names and milliseconds."""
        return {
            "bootstrap_servers": self.brokers.split(","),
            "client_id": self.client_id,
            "security_protocol": self.security_protocol,
            "sasl_mechanism": self.sasl_mechanism,
            "sasl_plain_username": self.sasl_username,
            "sasl_plain_password": self.sasl_password,
            "sasl_oauth_token_provider": self._tokens(),
            "ssl_cafile": self.tls_ca and str(self.tls_ca),
            "ssl_certfile": self.tls_certificate and str(self.tls_certificate),
            "ssl_keyfile": self.tls_key and str(self.tls_key),
            "request_timeout_ms": milliseconds(REQUEST_TIMEOUT),
            "reconnect_backoff_max_ms": milliseconds(_LONGEST_RECONNECT),
            "metadata_max_age_ms": milliseconds(_METADATA_AGE),
            "bootstrap_timeout_ms": milliseconds(self.patience),
        } | more

    def _tokens(self) -> Tokens | None:
        if self.sasl_mechanism != "OAUTHBEARER":
            return None
        who = (self.sasl_username, self.sasl_password)
        return provider(OAuth(self.sasl_oauth_command, self.sasl_oauth_url, *who, self.sasl_oauth_scope))


def milliseconds(seconds: float) -> int:
    """Seconds, which we think in, as the client's milliseconds."""
    return round(seconds * 1000)


def transactional_id(group_id: str, instance_id: str) -> str:
    """Return the name under which an instance writes: the same after a restart, so that it fences what it was.

    No two pairs have one name, and none has that of a replay: behind the last dot stands the instance, without its own
    dots. No setting may contain a percent sign.
    """
    instance = instance_id.replace(".", "%2e")
    return f"{group_id}.{_NO_REPLAY if instance == _REPLAY else instance}"


def replay_name(group_id: str) -> str:
    """Return the transactional id of `hamgate replay` for the workers of this group, and the group of its notes."""
    return f"{group_id}.{_REPLAY}"


@contextlib.contextmanager
def explained(link: KafkaLink, before: BaseException | None = None) -> Iterator[None]:
    """Turn a refusal into what it means and how to fix it; `before` as in `explain`."""
    try:
        yield
    except errors.KafkaError as error:
        raise BrokerError(explain(error, link, before)) from error


def named(error: BaseException) -> str:
    """Name an error once: some of the client's say their name themselves, some do not."""
    name, text = type(error).__name__, str(error)
    return text if name in text else f"{name}: {text}".rstrip(": ")


def explain(error: BaseException, link: KafkaLink, before: BaseException | None = None) -> str:
    """Put a client's error into words an operator can act on. Names topics, groups and addresses; never a secret.

    `before`: what had been refused first, and led to this; it comes with its own remedy.
    """
    if isinstance(error, TokenError):
        return str(error)
    reach = f"check that these are up and reached from here: {link.brokers}"
    remedies = {
        errors.TopicAuthorizationFailedError: "grant this user READ on the input topic and WRITE on the other two",
        errors.GroupAuthorizationFailedError: "grant this user READ on the consumer group",
        errors.TransactionalIdAuthorizationFailedError: "grant this user WRITE on the transactional id",
        errors.MessageSizeTooLargeError: "raise max.message.bytes of the topics written to, as `hamgate check` says",
        errors.InvalidRecordError: "the topic is compacted and takes no record without a key: set its "
        "cleanup.policy to delete, as `hamgate check` says",
        errors.InvalidTimestampError: "set the clocks by NTP, here and at the brokers, or raise the topic's "
        "message.timestamp.after.max.ms, as `hamgate check` says",
        errors.UnsupportedCompressionTypeError: f"{link.brokers} are too old for the compression of what is written",
        errors.NotEnoughReplicasError: _REPLICAS,
        errors.NotEnoughReplicasAfterAppendError: _REPLICAS,
        errors.ConcurrentTransactionsError: f"its last transaction cannot end at {link.brokers}; see Hanging "
        "transactions in docs/operations.md",
        errors.SaslAuthenticationFailedError: "they do not take the access token: check its audience, scope and subject"
        if link.sasl_mechanism == "OAUTHBEARER"
        else "check HAMGATE_SASL_USERNAME and HAMGATE_SASL_PASSWORD",
        errors.UnsupportedSaslMechanismError: "set HAMGATE_SASL_MECHANISM to one of those",
        errors.InconsistentGroupProtocolError: "other members of the group have another HAMGATE_REBALANCE: set one "
        "value for the whole group, or stop those first",
        errors.UnknownTopicOrPartitionError: "the topic, or a partition that it had, is not there: create it, or name "
        "another one in HAMGATE_INPUT_TOPIC, HAMGATE_VERDICT_TOPIC or HAMGATE_DEAD_LETTER_TOPIC",
        errors.InvalidTransactionTimeoutError: "HAMGATE_TRANSACTION_TIMEOUT is above their transaction.max.timeout.ms",
        errors.InvalidSessionTimeoutError: "HAMGATE_SESSION_TIMEOUT is outside their group.min/max.session.timeout.ms",
        TooLateError: f"{reach}, and not overloaded",
        errors.NodeNotReadyError: reach,
        errors.KafkaConnectionError: reach,
        UnknownOutcomeError: reach,
        errors.KafkaTimeoutError: f"check that HAMGATE_BROKERS={link.brokers} is right and that it speaks "
        f"HAMGATE_SECURITY_PROTOCOL={link.security_protocol}",
    }
    remedy = next((remedy for kind, remedy in remedies.items() if isinstance(error, kind)), None)
    text = named(error)
    if isinstance(error, _OF_CONNECTIONS) and (away := OUTAGES.recent(link.brokers)):
        text += f" ({', '.join(f'{address}: {cause}' for address, cause in away.items())})"
        if unresolved := {address for address, cause in away.items() if _UNRESOLVED in cause}:
            advertised = unresolved - set(link.brokers.split(","))
            origin = f"in advertised.listeners of {link.brokers}" if advertised else "in HAMGATE_BROKERS"
            remedy = f"correct this name {origin}, or make it resolvable here"
    if UNTRUSTED in text:
        remedy = (
            "renew the broker's certificate"
            if "expired" in text
            else f"set HAMGATE_TLS_CA to the authority that signed the certificate of {link.brokers}"
        )
    said = f"{text}; {remedy or f'see the log of the brokers, {link.brokers}'}"
    return said if before is None else f"{said}; before that: {explain(before, link)}"
